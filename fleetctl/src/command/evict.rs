//! `fleetctl evict`

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_client::ClientError;

use super::{Context, Outcome};
use crate::{
    completion,
    error::{Ending, Failure, NOT_FOUND, unsupported},
    machines::{Found, Roster, ambiguous, shown_id},
    output,
};

/// Give up machines that are gone for good
///
/// The cluster holds machines that vanished together, or while etcd was away, for a while, because they are probably
/// well; and units with OnPartition=stop until they have stopped for certain. This says of a machine that nothing runs
/// there any more: its units move at once. Should it be wrong, they run twice until the machine is back, also those
/// that never should. A machine that comes back is a member like any other.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl evict d097a72e")]
pub struct EvictArgs {
    /// Machines that are not there: the beginning of the ID
    #[arg(value_name = "MACHINE", required = true, add = ArgValueCompleter::new(completion::gone_machines))]
    machines: Vec<String>,
}

pub async fn run(context: &Context, args: &EvictArgs) -> Outcome {
    let roster = context.roster().await?;
    let gone =
        gone(context, &roster).await.map_err(|error| error.during("error: cannot tell which machines are gone"))?;
    let machines: Vec<&String> =
        args.machines.iter().map(|word| find(&roster, &gone, word)).collect::<Result<_, _>>()?;
    for machine in machines {
        let evicted = context.client.evict(machine).await;
        let doing = format!("cannot evict {}", shown_id(machine, false));
        evicted.map_err(|error| unsupported(&error, &doing))?;
        output::result(&format!("Machine {} evicted, its units move now", shown_id(machine, false)))?;
    }
    Ok(0)
}

/// The machines that are held, or have units, and are not there.
async fn gone(context: &Context, roster: &Roster) -> Result<BTreeSet<String>, ClientError> {
    let held = context.client.held().await?;
    let held_units = held.units.into_iter().map(|unit| unit.machine_id);
    let mut gone: BTreeSet<String> = held.machines.into_iter().map(|machine| machine.id).chain(held_units).collect();
    gone.extend(context.client.units().await?.into_iter().map(|unit| unit.machine_id));
    gone.retain(|id| !id.is_empty() && !roster.knows(id));
    Ok(gone)
}

fn find<'g>(roster: &Roster, gone: &'g BTreeSet<String>, word: &str) -> Result<&'g String, Failure> {
    let found: Vec<&String> = gone.iter().filter(|id| !word.is_empty() && id.starts_with(word)).collect();
    match (&*found, roster.find(word)) {
        ([machine], _) => Ok(machine),
        ([], Found::One(machine)) => {
            Err(Failure::new(format!("machine {} is alive", roster.legend(&machine.id, false)))
                .hint(format!("`fleetctl drain {word}` moves its units elsewhere")))
        }
        ([], _) => Err(Failure::new(format!("no machine that is gone matches {word}"))
            .hint("`fleetctl list-machines` names those that are held")
            .code(NOT_FOUND)),
        _ => Err(ambiguous(word, found.iter().map(|id| id.as_str()))),
    }
}

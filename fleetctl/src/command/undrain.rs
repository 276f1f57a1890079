//! `fleetctl undrain`

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_core::model::MachineId;

use super::{Context, Outcome};
use crate::{completion, error::unsupported, output};

/// Let machines that were drained have units again
///
/// Nothing moves back by itself: units stay where they fit. A machine that is away is named by its whole ID.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl undrain d097a72e")]
pub struct UndrainArgs {
    /// Machines: host name, address, or the beginning of the ID
    #[arg(value_name = "MACHINE", required = true, add = ArgValueCompleter::new(completion::machines))]
    machines: Vec<String>,
}

pub async fn run(context: &Context, args: &UndrainArgs) -> Outcome {
    let roster = context.roster().await?;
    let mut machines = Vec::new();
    for word in &args.machines {
        // One that is away is in no list; a whole ID needs none.
        if !roster.knows(word) && MachineId::new(word).is_ok() {
            machines.push(word.clone());
        } else {
            let chosen = roster.choose(std::slice::from_ref(word))?;
            machines.extend(chosen.iter().map(|machine| machine.id.clone()));
        }
    }
    for machine in &machines {
        let set = context.client.set_drained(machine, false).await;
        set.map_err(|error| unsupported(&error, "cannot end the drain of the machine"))?;
        output::result(&format!("Machine {} takes units again", roster.legend(machine, false)))?;
    }
    Ok(0)
}

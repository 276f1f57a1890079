//! `fleetctl drain`

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::{Drain, DrainUnit};
use tokio::time::{Instant, sleep};

use super::{Context, Outcome};
use crate::{
    completion,
    error::{FAILED, Failure, unsupported},
    machines::Roster,
    output,
    wait::Patience,
};

/// Between two looks at the machines.
const INTERVAL: Duration = Duration::from_millis(500);
/// As often as this nothing else must be left than units that are stuck: the engine may see what this host does not.
const LOOKS: u32 = 4;
/// As often as this the machine must be told to be in use again: somebody may have read an old picture.
const ENDED: u32 = 2;
/// Without news for so long, it is said what the units wait for.
const QUIET: Duration = Duration::from_secs(10);

/// Move all units off machines, which get no new ones
///
/// A unit starts on another machine before it stops on this one, except with OnPartition=stop, which never runs twice.
/// Units that fit nowhere else stay, and are named; so do global units. Returns when nothing is left to be moved: with 0
/// when only global units are left, with 1 when others are. The machine gets no new units until `fleetctl undrain`, also
/// when it was away.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl drain d097a72e && ssh root@10.82.0.13 reboot
    fleetctl undrain d097a72e")]
pub struct DrainArgs {
    /// Machines: host name, address, or the beginning of the ID
    #[arg(value_name = "MACHINE", required = true, add = ArgValueCompleter::new(completion::machines))]
    machines: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &DrainArgs) -> Outcome {
    let roster = context.roster().await?;
    let machines: Vec<String> = roster.choose(&args.machines)?.into_iter().map(|machine| machine.id.clone()).collect();
    for machine in &machines {
        let drained = context.client.set_drained(machine, true).await;
        drained.map_err(|error| unsupported(&error, "cannot drain the machine"))?;
        if !args.patience.waits() {
            output::result(&format!("Triggered drain of machine {}", roster.legend(machine, false)))?;
        }
    }
    if !args.patience.waits() {
        return Ok(0);
    }
    let deadline = args.patience.deadline();
    let mut left = false;
    for machine in &machines {
        left |= !wait(context, &roster, machine, deadline).await?;
    }
    Ok(if left { FAILED } else { 0 })
}

/// Waits until nothing is left on a machine that could go elsewhere. Whether nothing is left at all.
async fn wait(context: &Context, roster: &Roster, machine: &str, deadline: Option<Instant>) -> Result<bool, Failure> {
    let legend = roster.legend(machine, false);
    let mut units: BTreeMap<String, DrainUnit> = BTreeMap::new();
    // How often in a row nothing but stuck units was left, and how often the machine was not being drained.
    let (mut looks, mut ended) = (0, 0);
    let mut progress = Instant::now();
    let mut told = false;
    loop {
        match context.client.drain(machine).await {
            Ok(status) => {
                let status = status.unwrap_or_default();
                let now: BTreeMap<String, DrainUnit> =
                    status.units.iter().map(|unit| (unit.name.clone(), unit.clone())).collect();
                for unit in units.keys().filter(|unit| !now.contains_key(*unit)) {
                    output::result(&left(context, roster, unit, &legend).await)?;
                }
                let is_stuck = now.values().all(|unit| unit.state == "stuck") && now.keys().eq(units.keys());
                looks = if is_stuck { looks + 1 } else { 0 };
                if now != units {
                    (progress, told) = (Instant::now(), false);
                }
                for unit in now.values().filter(|unit| unit.state == "starting" && !unit.reason.is_empty()) {
                    if units.get(&unit.name).is_none_or(|before| before.reason != unit.reason) {
                        let to = roster.legend(&unit.machine_id, false);
                        output::note(&format!("Unit {} does not start on {to}: {}", unit.name, unit.reason));
                    }
                }
                units = now;
                // A picture from before the drain began says so, too.
                ended = if status.drained || context.client.was_aged() { 0 } else { ended + 1 };
                if ended >= ENDED {
                    return Err(Failure::new(format!("machine {legend} is not being drained any more")));
                }
                if status.drained && (units.is_empty() || looks >= LOOKS) {
                    return Ok(end(&legend, &status));
                }
            }
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(unsupported(&error, "cannot tell how far the machine is")),
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let names: Vec<_> = units.keys().map(String::as_str).collect();
            let has = if names.is_empty() {
                "is not known to be empty".into()
            } else {
                format!("still has {}", names.join(", "))
            };
            return Err(Failure::new(format!("timed out: machine {legend} {has}")));
        }
        if !told && progress.elapsed() >= QUIET {
            told = true;
            explain(context, units.values(), &legend).await;
        }
        sleep(INTERVAL).await;
    }
}

/// Says what units wait for.
async fn explain(context: &Context, units: impl Iterator<Item = &DrainUnit>, legend: &str) {
    for unit in units {
        // A courtesy: without an answer, it goes on all the same.
        if let Ok(Some(why)) = context.client.why(&unit.name).await {
            output::note(&format!("Unit {} is still on {legend}, {}: {}", unit.name, unit.state, why.summary));
        }
    }
}

/// Where a unit is that has left.
async fn left(context: &Context, roster: &Roster, unit: &str, from: &str) -> String {
    // A courtesy: without an answer, it is gone from here all the same.
    let now = context.client.unit(unit).await.ok().flatten().map(|unit| unit.machine_id).unwrap_or_default();
    match now.is_empty() {
        true => format!("Unit {unit} left {from}"),
        false => format!("Unit {unit} moved from {from} to {}", roster.legend(&now, false)),
    }
}

/// Says how it ended. Whether nothing is left but global units.
fn end(legend: &str, status: &Drain) -> bool {
    for unit in &status.units {
        output::note(&format!("Unit {} cannot leave {legend}: {}", unit.name, unit.reason));
    }
    if !status.globals.is_empty() {
        output::note(&format!("Global units stay on {legend}: {}", status.globals.join(", ")));
    }
    if status.units.is_empty() {
        output::note(&format!("Machine {legend} is drained."));
    }
    status.units.is_empty()
}

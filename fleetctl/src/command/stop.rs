//! `fleetctl stop`

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::{Again, Unit};

use super::{Context, Outcome, no_units_given, tell, tell_unknown};
use crate::{
    completion,
    error::Failure,
    output,
    units::{self, Argument},
    watch::{self, Goal, Patience},
};

/// Stop units
///
/// Stops units and leaves them on their machines. Returns when systemd there says that they run no longer. Units that
/// are only loaded are stopped, too, if something else has started them, say a timer.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl stop hello.service")]
pub struct Stop {
    /// Units to stop
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &Stop) -> Outcome {
    if args.units.is_empty() {
        return no_units_given();
    }
    let names = Argument::names(&args.units);
    let units = context.known(&names, "Error stopping units").await?;
    tell_unknown(&names, units.iter().map(|unit| &*unit.name));
    let is_local = |unit: &&Unit| !units::is_global(unit);
    // One that has a machine is on its way there, and can be stopped like any other.
    let is_nowhere = |unit: &&Unit| unit.current_state == "inactive" && unit.machine_id.is_empty();
    if let Some(unit) = units.iter().filter(is_local).find(is_nowhere) {
        let name = &unit.name;
        return Err(match &*unit.desired_state {
            "inactive" => Failure::new(format!("cannot stop {name}: it is inactive, on no machine")),
            _ => Failure::new(format!("cannot stop {name}: it waits for a machine"))
                .hint(format!("`fleetctl unload {name}` calls that off, `fleetctl why {name}` says what it waits for")),
        });
    }
    let asked: Vec<String> = units.iter().map(|unit| unit.name.clone()).collect();
    let setting = context.set_desired(&asked, "loaded", Again::Ensure).await;
    setting.map_err(|error| error.during("Error stopping units"))?;
    for unit in units.iter().filter(|unit| units::is_global(unit)) {
        output::result(&format!("Triggered global unit {} stop", unit.name))?;
    }
    let is_down = |unit: &&Unit| unit.current_state == "loaded" && unit.desired_state != "launched";
    let again: BTreeSet<String> = units.iter().filter(is_local).filter(is_down).map(|unit| unit.name.clone()).collect();
    let stopped = watch::wait_for(context, &asked, &again, Goal::Stopped, "stop", args.patience).await?;
    if args.patience.waits() {
        let (stopped, down): (Vec<_>, Vec<_>) = units
            .into_iter()
            .filter(|unit| is_local(&unit))
            .map(|unit| unit.name)
            .partition(|name| stopped.contains_key(name));
        tell("stopped", &stopped);
        tell("did not run:", &down);
    }
    Ok(0)
}

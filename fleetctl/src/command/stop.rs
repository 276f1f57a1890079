//! `fleetctl stop`

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::{Again, Unit};

use super::{Context, Outcome, no_units_given, verb::Verb};
use crate::{
    completion,
    error::Failure,
    units,
    wait::{Goal, Patience},
};

/// Stop units
///
/// Stops units and leaves them on their machines. Returns when systemd there says that they run no longer. Units that
/// are only loaded are stopped, too, if something else has started them, say a timer.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl stop hello.service")]
pub struct StopArgs {
    /// Units to stop
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &StopArgs) -> Outcome {
    if args.units.is_empty() {
        return no_units_given();
    }
    let verb = Verb { context, name: "stop", doing: "stopping", goal: Goal::Stopped, patience: args.patience };
    let units = verb.known(&args.units).await?;
    let (global, local): (Vec<&Unit>, Vec<&Unit>) = units.iter().partition(|unit| units::is_global(unit));
    // One that has a machine is on its way there, and can be stopped like any other.
    let is_nowhere = |unit: &&&Unit| unit.current_state == "inactive" && unit.machine_id.is_empty();
    if let Some(unit) = local.iter().find(is_nowhere) {
        return Err(on_no_machine(unit));
    }
    let asked: Vec<String> = units.iter().map(|unit| unit.name.clone()).collect();
    verb.set(&asked, "loaded", Again::Ensure).await?;
    global.iter().try_for_each(|unit| verb.triggered(&unit.name))?;
    let is_down = |unit: &&&Unit| unit.current_state == "loaded" && unit.desired_state != "launched";
    let again: BTreeSet<String> = local.iter().filter(is_down).map(|unit| unit.name.clone()).collect();
    let reached = verb.wait(&asked, &again).await?;
    let names = local.into_iter().map(|unit| unit.name.clone());
    let (stopped, down): (Vec<String>, Vec<String>) = names.partition(|name| reached.contains_key(name));
    verb.tell("stopped", &stopped, "did not run:", &down);
    Ok(0)
}

fn on_no_machine(unit: &Unit) -> Failure {
    let name = &unit.name;
    match &*unit.desired_state {
        "inactive" => Failure::new(format!("cannot stop {name}: it is inactive, on no machine")),
        _ => Failure::new(format!("cannot stop {name}: it waits for a machine"))
            .hint(format!("`fleetctl unload {name}` calls that off, `fleetctl why {name}` says what it waits for")),
    }
}

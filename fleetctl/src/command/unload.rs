//! `fleetctl unload`

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::{Again, Unit};

use super::{Context, Outcome, no_units_given, verb::Verb};
use crate::{
    completion, units,
    wait::{Goal, Patience},
};

/// Take units off their machines
///
/// Stops units and takes them off their machines; the cluster still knows them. Returns when that is done.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl unload hello.service")]
pub struct UnloadArgs {
    /// Units to unload
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &UnloadArgs) -> Outcome {
    if args.units.is_empty() {
        return no_units_given();
    }
    let verb = Verb { context, name: "unload", doing: "unloading", goal: Goal::Unloaded, patience: args.patience };
    let (global, local): (Vec<Unit>, Vec<Unit>) =
        verb.known(&args.units).await?.into_iter().partition(units::is_global);
    // One that still waits for a machine is inactive, too, but wanted.
    let is_loaded = |unit: &Unit| unit.current_state != "inactive" || unit.desired_state != "inactive";
    let (loaded, others): (Vec<Unit>, Vec<Unit>) = local.into_iter().partition(is_loaded);
    let names = |units: Vec<Unit>| units.into_iter().map(|unit| unit.name).collect::<Vec<String>>();
    let (global, loaded, others) = (names(global), names(loaded), names(others));
    verb.set(&[&*global, &*loaded].concat(), "inactive", Again::No).await?;
    global.iter().try_for_each(|name| verb.triggered(name))?;
    verb.wait(&loaded, &BTreeSet::new()).await?;
    verb.tell("unloaded", &loaded, "was not loaded:", &others);
    Ok(0)
}

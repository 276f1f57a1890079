//! `fleetctl unload`

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::{Again, Unit};

use super::{Context, Outcome, no_units_given, tell, tell_unknown};
use crate::{
    completion, output,
    units::{self, Argument},
    watch::{self, Goal, Patience},
};

/// Take units off their machines
///
/// Stops units and takes them off their machines; the cluster still knows them. Returns when that is done.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl unload hello.service")]
pub struct Unload {
    /// Units to unload
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &Unload) -> Outcome {
    if args.units.is_empty() {
        return no_units_given();
    }
    let names = Argument::names(&args.units);
    let units = context.known(&names, "Error unloading units").await?;
    tell_unknown(&names, units.iter().map(|unit| &*unit.name));
    let (global, local): (Vec<_>, Vec<_>) = units.into_iter().partition(units::is_global);
    // One that still waits for a machine is inactive, too, but wanted.
    let loaded = |unit: &Unit| unit.current_state != "inactive" || unit.desired_state != "inactive";
    let (unloading, others): (Vec<_>, Vec<_>) = local.into_iter().partition(loaded);
    let names = |units: Vec<Unit>| units.into_iter().map(|unit| unit.name).collect::<Vec<String>>();
    let (unloading, others) = (names(unloading), names(others));
    let global: Vec<String> = global.into_iter().map(|unit| unit.name).collect();
    let setting = context.set_desired(&[&*global, &*unloading].concat(), "inactive", Again::No).await;
    setting.map_err(|error| error.during("Error unloading units"))?;
    for name in &global {
        output::result(&format!("Triggered global unit {name} unload"))?;
    }
    watch::wait_for(context, &unloading, &BTreeSet::new(), Goal::Unloaded, "unload", args.patience).await?;
    if args.patience.waits() {
        tell("unloaded", &unloading);
        tell("was not loaded:", &others);
    }
    Ok(0)
}

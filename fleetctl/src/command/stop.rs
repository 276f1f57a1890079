//! `fleetctl stop`

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_core::model::api::Unit;

use super::{Context, Outcome, no_units_found, no_units_given};
use crate::{
    completion,
    error::Failure,
    output,
    units::{self, Argument},
    watch::{self, Goal, Patience},
};

/// Stop units
///
/// Stops units and leaves them on their machines. Returns when systemd there says that they run no longer.
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
    if units.is_empty() {
        return no_units_found();
    }
    let (global, local): (Vec<_>, Vec<_>) = units.into_iter().partition(units::is_global);
    // One that has a machine is on its way there, and can be stopped like any other.
    if let Some(unit) = local.iter().find(|unit| unit.current_state == "inactive" && unit.machine_id.is_empty()) {
        let failure = Failure::said(format!("Unable to stop unit {} in state inactive", unit.name));
        return Err(match &*unit.desired_state {
            "inactive" => failure,
            _ => failure.hint(format!("it waits for a machine; `fleetctl unload {}` calls that off", unit.name)),
        });
    }
    let running = |unit: &Unit| unit.current_state != "loaded" || unit.desired_state == "launched";
    let stopping: Vec<String> = local.into_iter().filter(running).map(|unit| unit.name).collect();
    let global: Vec<String> = global.into_iter().map(|unit| unit.name).collect();
    let setting = context.set_desired(&[&*global, &*stopping].concat(), "loaded").await;
    setting.map_err(|error| error.during("Error stopping units"))?;
    for name in &global {
        output::result(&format!("Triggered global unit {name} stop"))?;
    }
    watch::wait_for(context, &stopping, Goal::Stopped, "stop", args.patience).await?;
    output::note(&format!("Successfully stopped units [{}].", stopping.join(" ")));
    Ok(0)
}

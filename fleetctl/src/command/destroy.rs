//! `fleetctl destroy`

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::Change;

use super::{Context, Outcome, no_units_given, tell_unknown};
use crate::{
    completion, output,
    units::Argument,
    watch::{self, Goal, Patience},
};

/// Destroy units
///
/// Stops units, takes them off their machines and has the cluster forget them. Returns when they are gone from
/// their machines, so a unit's ExecStop has run.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl destroy hello.service web@{1..3}")]
pub struct Destroy {
    /// Units to destroy
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &Destroy) -> Outcome {
    if args.units.is_empty() {
        return no_units_given();
    }
    let names = Argument::names(&args.units);
    let destroy = |name: &String| Change { name: name.clone(), destroy: true, ..Change::default() };
    let destroyed = context.client.change(names.iter().map(destroy).collect()).await;
    let destroyed = destroyed.map_err(|(_, error)| error.during("Error destroying units"))?;
    let gone: Vec<String> =
        names.iter().zip(destroyed).filter(|(_, existed)| *existed).map(|(name, _)| name.clone()).collect();
    tell_unknown(&names, gone.iter().map(|name| &**name));
    if args.patience.waits() {
        watch::wait_for(context, &gone, &BTreeSet::new(), Goal::Destroyed, "destroy", args.patience).await?;
    } else {
        gone.iter().try_for_each(|name| output::result(&format!("Destroyed {name}")))?;
    }
    Ok(0)
}

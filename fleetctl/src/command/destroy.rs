//! `fleetctl destroy`

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::Change;

use super::{
    Context, Outcome, no_units_given,
    verb::{Verb, tell_unknown},
};
use crate::{
    completion,
    error::Ending,
    output,
    units::Argument,
    wait::{Goal, Patience},
};

/// Destroy units
///
/// Stops units, takes them off their machines and has the cluster forget them. Returns when they are gone from
/// their machines, so a unit's ExecStop has run.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl destroy hello.service web@{1..3}")]
pub struct DestroyArgs {
    /// Units to destroy
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &DestroyArgs) -> Outcome {
    if args.units.is_empty() {
        return no_units_given();
    }
    let verb = Verb { context, name: "destroy", doing: "destroying", goal: Goal::Destroyed, patience: args.patience };
    let names = Argument::names(&args.units);
    let destroy = |name: &String| Change { name: name.clone(), destroy: true, ..Change::default() };
    let existed = context.client.change(names.iter().map(destroy).collect()).await;
    let existed = existed.map_err(|(_, error)| error.during(&verb.failing()))?;
    let destroyed: Vec<String> =
        names.iter().zip(existed).filter(|(_, existed)| *existed).map(|(name, _)| name.clone()).collect();
    tell_unknown(&names, destroyed.iter().map(|name| &**name));
    if args.patience.waits() {
        verb.wait(&destroyed, &BTreeSet::new()).await?;
    } else {
        destroyed.iter().try_for_each(|name| output::result(&format!("Destroyed {name}")))?;
    }
    Ok(0)
}

//! `fleetctl cat`

use clap::Args;

use super::{Context, Outcome};
use crate::{
    error::Failure,
    output,
    units::{self, Argument},
};

/// Print the contents of a unit
///
/// Prints the unit as the cluster knows it, which is also what systemd is given: each section once, no comments.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n    fleetctl cat hello.service > hello.service")]
pub struct Cat {
    #[arg(value_name = "UNIT")]
    units: Vec<String>,
}

pub async fn run(context: &Context, args: &Cat) -> Outcome {
    let [unit] = &*args.units else { return Err(Failure::said("One unit file must be provided")) };
    let name = Argument::new(unit).name;
    let unit = context.client.unit(&name).await.map_err(|error| error.during("Error retrieving Unit"))?;
    let unit = unit.ok_or_else(|| Failure::said(format!("Unit {name} not found")))?;
    let file = units::file_of(&unit)
        .map_err(|error| Failure::new(format!("unit {name} has contents that no unit file can have: {error}")))?;
    output::verbatim(&file.canonical())?;
    Ok(0)
}

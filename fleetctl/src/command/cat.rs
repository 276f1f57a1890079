//! `fleetctl cat`

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::UnitOption;
use serde::Serialize;

use super::{Context, Outcome};
use crate::{
    completion,
    error::{Ending, Failure},
    format::{self, FormatArgs},
    output,
    units::{self, Argument},
};

/// Print the contents of a unit
///
/// Prints the unit as the cluster knows it, which is also what systemd is given: each section once, no comments.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl cat hello.service > hello.service

JSON:
    An object.
    unit      string
    hash      string: SHA-1 of the text
    text      string: what is printed without --output
    options   array of objects {section, name, value}, in order")]
pub struct CatArgs {
    /// The unit
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// A unit's contents.
#[derive(Serialize)]
struct Contents {
    unit: String,
    hash: String,
    text: String,
    options: Vec<PlainOption>,
}

/// The API leaves out empty values, we leave out nothing.
#[derive(Serialize)]
struct PlainOption {
    section: String,
    name: String,
    value: String,
}

impl From<UnitOption> for PlainOption {
    fn from(option: UnitOption) -> Self {
        Self { section: option.section, name: option.name, value: option.value }
    }
}

pub async fn run(context: &Context, args: &CatArgs) -> Outcome {
    let [unit] = &*args.units else { return Err(Failure::said("One unit file must be provided")) };
    let name = Argument::new(unit).name;
    let unit = context.client.unit(&name).await.map_err(|error| error.during("Error retrieving Unit"))?;
    let unit = unit.ok_or_else(|| Failure::said(format!("Unit {name} not found")))?;
    let file = units::file_of(&unit)
        .map_err(|error| Failure::new(format!("unit {name} has contents that no unit file can have: {error}")))?;
    let text = file.canonical();
    if !args.format.is_json() {
        output::verbatim(&text)?;
        return Ok(0);
    }
    let options = unit.options.into_iter().map(Into::into).collect();
    output::verbatim(&format::pretty(&Contents { unit: name, hash: file.hash().to_string(), text, options }))?;
    Ok(0)
}

//! `fleetctl version`

use clap::Args;
use serde::Serialize;

use super::Outcome;
use crate::{
    format::{self, FormatArgs},
    output,
};

/// Print the version
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl version

JSON:
    An object.
    version   string")]
pub struct VersionArgs {
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Answer {
    version: &'static str,
}

pub fn run(args: &VersionArgs) -> Outcome {
    let answer = Answer { version: env!("CARGO_PKG_VERSION") };
    if args.format.is_json() {
        output::verbatim(&format::pretty(&answer))?;
    } else {
        output::result(&format!("fleetctl version {}", answer.version))?;
    }
    Ok(0)
}

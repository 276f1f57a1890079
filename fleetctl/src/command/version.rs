//! `fleetctl version`

use clap::Args;

use super::Outcome;
use crate::output;

/// Print the version
#[derive(Args, Debug)]
#[command(after_help = "Example:\n    fleetctl version")]
pub struct Version {}

pub fn run() -> Outcome {
    output::result(concat!("fleetctl version ", env!("CARGO_PKG_VERSION")))?;
    Ok(0)
}

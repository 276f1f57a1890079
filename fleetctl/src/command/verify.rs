//! `fleetctl verify`, which is no more.

use clap::Args;

use crate::{error::USAGE, output};

/// DEPRECATED - No longer works
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl cat hello.service      # what the cluster has")]
pub struct Verify {
    /// Units, which are ignored
    #[arg(value_name = "UNIT")]
    _units: Vec<String>,
}

pub fn run() -> u8 {
    output::note("Command \"verify\" is deprecated, DEPRECATED - No longer works");
    output::note("WARNING: The signed/verified units feature is DEPRECATED and cannot be used.");
    USAGE
}

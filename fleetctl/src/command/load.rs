//! `fleetctl load`

use clap::Args;

use super::{Context, Outcome, no_units_given, start::bring, submit::FileArgs};
use crate::watch::{Goal, Patience};

/// Put units on machines without starting them
///
/// Creates units that do not exist yet, as `fleetctl submit` does, has a machine chosen for each, and puts its file
/// there. A unit that is launched is stopped.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl load hello.service")]
pub struct Load {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &Load) -> Outcome {
    if args.files.units.is_empty() {
        return no_units_given();
    }
    let intent = args.files.intent("loaded", &["inactive", "loaded"]);
    bring(context, &args.files.units, intent, Goal::Loaded, "load", args.patience).await?;
    Ok(0)
}

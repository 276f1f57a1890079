//! `fleetctl load`

use clap::Args;

use super::{Context, Outcome, no_units_given, start::bring, submit::FileArgs, verb::Verb};
use crate::wait::{Goal, Patience};

/// Put units on machines without starting them
///
/// Creates units that do not exist yet, as `fleetctl submit` does, has a machine chosen for each, and puts its file
/// there. A unit that is launched is stopped.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl load hello.service")]
pub struct LoadArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &LoadArgs) -> Outcome {
    if args.files.units.is_empty() {
        return no_units_given();
    }
    let intent = args.files.intent("loaded", &["inactive", "loaded"]);
    let verb = Verb { context, name: "load", doing: "loading", goal: Goal::Loaded, patience: args.patience };
    bring(&verb, &args.files.units, intent).await?;
    Ok(0)
}

//! `fleetctl start`, and what it shares with `load`.

use clap::Args;
use tokio::time::Instant;

use super::{
    Context, Outcome, no_units_given,
    submit::{self, FileArgs, Intent},
};
use crate::{
    error::Failure,
    output, trace,
    watch::{self, Goal, Patience, Reached},
};

/// Start units on machines of the cluster
///
/// Creates units that do not exist yet, as `fleetctl submit` does, and has each started on the machine that suits
/// it best. Returns when systemd there says that it is active, or as soon as it is known to have failed, with the
/// end of its journal. While no machine can take a unit, says why.
#[derive(Args, Debug)]
#[command(
    after_help = "EXAMPLES:\n    fleetctl start hello.service\n    fleetctl start web@{1..3}\n    fleetctl start --trace hello.service"
)]
pub struct Start {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    patience: Patience,
    /// Say how long each stage of the start took
    #[arg(long, conflicts_with = "no_block")]
    trace: bool,
}

pub async fn run(context: &Context, args: &Start) -> Outcome {
    if args.files.units.is_empty() {
        return no_units_given();
    }
    let began = Instant::now();
    let intent = args.files.intent("launched", &["inactive", "loaded", "launched"]);
    let reached = bring(context, &args.files.units, intent, Goal::Launched, "start", args.patience).await?;
    if args.trace {
        trace::show(context, began, &reached).await?;
    }
    Ok(0)
}

/// Brings units to where the command wants them, and waits for those that were not there yet.
///
/// # Errors
/// A unit cannot be created or changed, or does not get there.
pub async fn bring(
    context: &Context,
    texts: &[String],
    intent: Intent,
    goal: Goal,
    verb: &str,
    patience: Patience,
) -> Result<Reached, Failure> {
    let units = submit::create(context, texts, intent).await?;
    let lacking: Vec<String> =
        units.iter().filter(|unit| unit.desired != intent.desired).map(|unit| unit.name.clone()).collect();
    let setting = context.set_desired(&lacking, intent.desired).await;
    setting.map_err(|error| error.during(&format!("Error {verb}ing units")))?;
    let mut awaited = Vec::new();
    for unit in units.into_iter().filter(|unit| unit.changed || lacking.contains(&unit.name)) {
        if unit.global {
            output::result(&format!("Triggered global unit {} {verb}", unit.name))?;
        } else {
            awaited.push(unit.name);
        }
    }
    watch::wait_for(context, &awaited, goal, verb, patience).await
}

//! `fleetctl start`, and what it shares with `load`.

use std::collections::BTreeSet;

use clap::Args;
use fleet_api::Again;
use tokio::time::Instant;

use super::{
    Context, Outcome, no_units_given,
    submit::{self, Created, FileArgs, Intent},
    verb::Verb,
};
use crate::{
    error::Failure,
    trace,
    wait::{Goal, Patience, Reached},
};

/// Start units on machines of the cluster
///
/// Creates units that do not exist yet, as `fleetctl submit` does, and has each started on the machine that suits
/// it best. Returns when systemd there says that it is active, or as soon as it is known to have failed, with the
/// end of its journal. While no machine can take a unit, says why. A unit that was started before and does not run is
/// started again where it is, a global unit on the machines where it does not run; what runs is left alone, and so is a
/// oneshot that has succeeded.
#[derive(Args, Debug)]
#[command(
    after_help = "EXAMPLES:\n    fleetctl start hello.service\n    fleetctl start web@{1..3}\n    fleetctl start --trace hello.service"
)]
pub struct StartArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    patience: Patience,
    /// Say how long each stage of the start took
    #[arg(long, conflicts_with = "no_block")]
    trace: bool,
}

pub async fn run(context: &Context, args: &StartArgs) -> Outcome {
    if args.files.units.is_empty() {
        return no_units_given();
    }
    let began = Instant::now();
    let intent = args.files.intent("launched", &["inactive", "loaded", "launched"]);
    let verb = Verb { context, name: "start", doing: "starting", goal: Goal::Launched, patience: args.patience };
    let reached = bring(&verb, &args.files.units, intent).await?;
    if args.trace {
        trace::show(context, began, &reached).await?;
    }
    Ok(0)
}

/// Brings units to where the command wants them, and waits for those that were not there yet.
///
/// # Errors
/// A unit cannot be created or changed, or does not get there.
pub async fn bring(verb: &Verb<'_>, texts: &[String], intent: Intent) -> Result<Reached, Failure> {
    let units = submit::create(verb.context, texts, intent).await?;
    // To start what was started before starts what does not run; to load what is loaded asks for nothing.
    let ensures = verb.goal == Goal::Launched;
    let is_new = |unit: &Created| unit.changed || unit.desired != intent.desired;
    let asked = units.iter().filter(|unit| unit.desired != intent.desired || ensures && !unit.changed);
    let asked: Vec<String> = asked.map(|unit| unit.name.clone()).collect();
    verb.set(&asked, intent.desired, if ensures { Again::Ensure } else { Again::No }).await?;
    let mut awaited = Vec::new();
    let mut again = BTreeSet::new();
    for unit in units {
        match (is_new(&unit), unit.global) {
            (true, true) => verb.triggered(&unit.name)?,
            (true, false) => awaited.push(unit.name),
            (false, _) if ensures => {
                again.insert(unit.name.clone());
                awaited.push(unit.name);
            }
            (false, _) => {}
        }
    }
    verb.wait(&awaited, &again).await
}

//! `fleetctl restart`

mod rolling;

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::Again;
use fleet_client::Rolling;

use super::{
    Context, Outcome, no_units_given,
    submit::{self, Intent},
    verb::Verb,
};
use crate::{
    completion,
    error::{Ending, Failure},
    output, units,
    wait::{Goal, Patience},
};

/// Restart units on the machines where they are
///
/// Restarts units one after the other: the next only when systemd says that the last is active again, so that
/// instances of one service never are away all at once. Units that are only loaded are started. A global unit is
/// restarted on one machine after the other, with --no-block on all at once.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl restart web@{1..3}")]
pub struct RestartArgs {
    /// Units to restart
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &RestartArgs) -> Outcome {
    if args.units.is_empty() {
        return no_units_given();
    }
    submit::create(context, &args.units, Intent { desired: "inactive", replaceable: None }).await?;
    let verb = Verb { context, name: "restart", doing: "restarting", goal: Goal::Launched, patience: args.patience };
    for unit in verb.known(&args.units).await? {
        // A global unit has as many states as machines.
        let global = units::is_global(&unit);
        let state = if global { &unit.desired_state } else { &unit.current_state };
        match (&**state, global) {
            ("launched", true) if args.patience.waits() => rolling::roll(&verb, &unit.name).await?,
            // CoreOS fleet says nothing of them.
            ("launched", true) => ask(&verb, &unit.name, &Rolling::default()).await?,
            ("launched", false) => {
                ask(&verb, &unit.name, &Rolling::default()).await?;
                verb.wait(&[unit.name], &BTreeSet::new()).await?;
            }
            // Something else may have started it.
            ("loaded", false) => {
                let names = [unit.name];
                verb.set(&names, "launched", Again::Restart).await?;
                verb.wait(&names, &BTreeSet::new()).await?;
            }
            (state, _) => output::note(&format!(
                "warning: {name} was not restarted: it is {state}, `fleetctl start {name}` starts it",
                name = unit.name
            )),
        }
    }
    Ok(0)
}

/// Asks for one restart of a unit.
async fn ask(verb: &Verb<'_>, name: &str, rolling: &Rolling) -> Result<(), Failure> {
    verb.context.client.restart(name, rolling).await.map_err(|error| {
        let failure = error.during(&verb.failing());
        if error.is_unsupported() {
            failure.hint("this fleetd cannot restart units: upgrade it, or use `fleetctl stop` and `fleetctl start`")
        } else {
            failure
        }
    })
}

//! `fleetctl restart`

use std::collections::BTreeSet;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::Again;

use super::{
    Context, Outcome, no_units_given,
    submit::{self, Intent},
};
use crate::{
    client::Rolling,
    completion,
    error::{ClientError, Failure},
    output,
    units::{self, Argument},
    watch::{self, Goal, Patience},
};

/// Restart units on the machines where they are
///
/// Restarts units one after the other: the next only when systemd says that the last is active again, so that
/// instances of one service never are away all at once. Units that are only loaded are started. A global unit is
/// restarted on one machine after the other, with --no-block on all at once.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl restart web@{1..3}")]
pub struct Restart {
    /// Units to restart
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

pub async fn run(context: &Context, args: &Restart) -> Outcome {
    if args.units.is_empty() {
        return no_units_given();
    }
    submit::create(context, &args.units, Intent { desired: "inactive", replaceable: None }).await?;
    let names = Argument::names(&args.units);
    let known = context.known(&names, "Error restarting units").await?;
    for unit in known {
        // A global unit has as many states as machines.
        let global = units::is_global(&unit);
        let state = if global { &unit.desired_state } else { &unit.current_state };
        match (&**state, global) {
            ("launched", true) if args.patience.waits() => watch::roll(context, &unit.name, args.patience).await?,
            // CoreOS fleet says nothing of them.
            ("launched", true) => restarted(context, &unit.name).await?,
            ("launched", false) => restart(context, unit.name, args.patience).await?,
            ("loaded", false) => start(context, unit.name, args.patience).await?,
            (state, _) => output::note(&format!(
                "warning: {name} was not restarted: it is {state}, `fleetctl start {name}` starts it",
                name = unit.name
            )),
        }
    }
    Ok(0)
}

async fn restart(context: &Context, name: String, patience: Patience) -> Result<(), Failure> {
    restarted(context, &name).await?;
    watch::wait_for(context, &[name], &BTreeSet::new(), Goal::Launched, "restart", patience).await.map(drop)
}

/// Asks for a restart on all machines at once.
async fn restarted(context: &Context, name: &str) -> Result<(), Failure> {
    context.client.restart(name, &Rolling::default()).await.map_err(|error| restarting(&error))
}

/// The end of a command that could not restart a unit.
pub fn restarting(error: &ClientError) -> Failure {
    let failure = error.during("Error restarting units");
    match error {
        ClientError::Api { code: 404 | 405, message } if message != "unit does not exist" => {
            failure.hint("this fleetd cannot restart units: upgrade it, or use `fleetctl stop` and `fleetctl start`")
        }
        _ => failure,
    }
}

/// Of a unit that is only loaded; something else may have started it.
async fn start(context: &Context, name: String, patience: Patience) -> Result<(), Failure> {
    let names = [name];
    context
        .set_desired(&names, "launched", Again::Restart)
        .await
        .map_err(|error| error.during("Error restarting units"))?;
    watch::wait_for(context, &names, &BTreeSet::new(), Goal::Launched, "restart", patience).await.map(drop)
}

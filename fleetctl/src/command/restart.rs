//! `fleetctl restart`

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::{
    Context, Outcome, no_units_given,
    submit::{self, Intent},
};
use crate::{
    completion,
    error::{ClientError, Failure},
    output,
    units::{self, Argument},
    watch::{self, Goal, Patience},
};

/// Restart units on the machines where they are
///
/// Restarts units one after the other: the next only when systemd says that the last is active again, so that
/// instances of one service never are away all at once. Units that are only loaded are started.
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
        // CoreOS fleet passes over global units without a word, and so do we.
        if units::is_global(&unit) {
            continue;
        }
        match &*unit.current_state {
            "launched" => restart(context, unit.name, args.patience).await?,
            "loaded" => start(context, unit.name, args.patience).await?,
            state => output::note(&format!("Unable to restart unit {} in state {state}", unit.name)),
        }
    }
    Ok(0)
}

async fn restart(context: &Context, name: String, patience: Patience) -> Result<(), Failure> {
    context.client.restart(&name).await.map_err(|error| {
        let failure = error.during("Error restarting units");
        match error {
            ClientError::Api { code: 404 | 405, message } if message != "unit does not exist" => failure
                .hint("this fleetd cannot restart units: upgrade it, or use `fleetctl stop` and `fleetctl start`"),
            _ => failure,
        }
    })?;
    watch::wait_for(context, std::slice::from_ref(&name), Goal::Launched, "restart", patience).await?;
    if patience.waits() {
        output::note(&format!("{name} was restarted"));
    }
    Ok(())
}

async fn start(context: &Context, name: String, patience: Patience) -> Result<(), Failure> {
    let names = [name];
    context.set_desired(&names, "launched").await.map_err(|error| error.during("Error restarting units"))?;
    watch::wait_for(context, &names, Goal::Launched, "restart", patience).await.map(drop)
}

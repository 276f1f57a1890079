//! `fleetctl undrain`

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::{Context, Outcome};
use crate::{completion, machines::unknown_route, output};

/// Let machines that were drained have units again
///
/// Nothing moves back by itself: units stay where they fit.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl undrain d097a72e")]
pub struct Undrain {
    /// Machines: host name, address, or the beginning of the ID
    #[arg(value_name = "MACHINE", required = true, add = ArgValueCompleter::new(completion::machines))]
    machines: Vec<String>,
}

pub async fn run(context: &Context, args: &Undrain) -> Outcome {
    let roster = context.roster().await?;
    for machine in roster.choose(&args.machines)? {
        let set = context.client.set_drained(&machine.id, false).await;
        set.map_err(|error| unknown_route(&error, "cannot end the drain of the machine"))?;
        output::result(&format!("Machine {} takes units again", roster.legend(&machine.id, false)))?;
    }
    Ok(0)
}

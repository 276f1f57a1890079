//! `fleetctl why`

use clap::Args;
use fleet_core::model::api::{MachineVerdict, Why as Answer};

use super::{Context, Outcome};
use crate::{
    error::{ClientError, Failure, NOT_FOUND},
    machines::legend,
    output,
    table::Table,
    units::Argument,
};

/// Say where a unit runs or could run, and what is in the way elsewhere
///
/// Exits with 0 when the unit has a machine or could have one, with 3 when no machine can take it. With a MACHINE,
/// the question is about that one only.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n    fleetctl why web@4\n    fleetctl why web@4 d097")]
pub struct Why {
    /// The unit
    #[arg(value_name = "UNIT")]
    unit: String,
    /// One machine: its address or the beginning of its ID
    #[arg(value_name = "MACHINE")]
    machine: Option<String>,
}

pub async fn run(context: &Context, args: &Why) -> Outcome {
    let name = Argument::new(&args.unit).name;
    let answer = context.client.why(&name).await.map_err(|error| match error {
        ClientError::Api { code: 404 | 405, .. } => {
            Failure::new(format!("cannot tell why of {name}: this fleetd does not know the question"))
                .hint("CoreOS fleet's fleetd does not; connect to a newer one with --endpoint")
        }
        error => error.during(&format!("error: cannot tell why of {name}")),
    })?;
    let mut answer = answer.ok_or_else(|| Failure::said(format!("Unit {name} does not exist.")))?;
    if let Some(machine) = &args.machine {
        answer.machines.retain(|verdict| names(verdict, machine));
        if answer.machines.is_empty() {
            return Err(Failure::new(format!("no machine matches {machine}"))
                .hint("see the machines that are alive with `fleetctl list-machines`"));
        }
    }
    output::result(&answer.summary)?;
    if !answer.machines.is_empty() {
        table(&answer).print()?;
    }
    let somewhere = answer.machines.iter().any(|verdict| verdict.fits || verdict.id == answer.machine_id);
    let placed = args.machine.is_none() && !answer.machine_id.is_empty();
    Ok(if somewhere || placed { 0 } else { NOT_FOUND })
}

fn names(verdict: &MachineVerdict, machine: &str) -> bool {
    verdict.id.starts_with(machine) || verdict.primary_ip == machine
}

fn table(answer: &Answer) -> Table {
    let mut table = Table::new(["machine", "fits", "reason"], true);
    for verdict in &answer.machines {
        let fits = if verdict.fits { "yes" } else { "no" };
        table.row(vec![legend(&verdict.id, &verdict.primary_ip, false), fits.into(), verdict.reason.clone()]);
    }
    table
}

//! `fleetctl why`

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::{FailedUnit, FileWarning, MachineVerdict, Why};
use serde::Serialize;

use super::{Context, Outcome};
use crate::{
    completion,
    error::{Ending, Failure, NOT_FOUND, unsupported},
    format::{self, FormatArgs, member},
    machines::legend,
    output,
    table::Table,
    units::Argument,
};

/// Say where a unit runs or could run, and what is in the way elsewhere
///
/// Says how it is on its machine, a global unit on each. Exits with 0 when the unit has a machine or could have one,
/// with 3 when no machine can take it. With a MACHINE, the question is about that one only. Without a UNIT, lists the
/// units that are wanted and do not run, with the reasons.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl why
    fleetctl why web@4
    fleetctl why web@4 d097

JSON:
    An object.
    unit        string
    summary     string: the whole answer in one sentence
    machineID   string, or null: the machine it is scheduled to
    machines    array of objects {machineID, primaryIP, fits, reason}, by machineID
    warnings    array of objects {line, message, hint}: what its file says and cannot mean
    Without a UNIT: an array of objects {unit, machineID, reason}, by unit, then machineID. machineID is null while
    the unit has no machine.")]
pub struct WhyArgs {
    /// The unit; without, all that are wanted and do not run
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    unit: Option<String>,
    /// One machine: its address or the beginning of its ID
    #[arg(value_name = "MACHINE", add = ArgValueCompleter::new(completion::machine_ids))]
    machine: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// The answer with every member in its place.
#[derive(Serialize)]
struct Plain<'a> {
    unit: &'a str,
    summary: &'a str,
    #[serde(rename = "machineID")]
    machine_id: Option<String>,
    machines: Vec<PlainVerdict<'a>>,
    warnings: Vec<PlainWarning<'a>>,
}

#[derive(Serialize)]
struct PlainVerdict<'a> {
    #[serde(rename = "machineID")]
    machine_id: &'a str,
    #[serde(rename = "primaryIP")]
    primary_ip: Option<String>,
    fits: bool,
    reason: &'a str,
}

/// A unit that should run and does not.
#[derive(Serialize)]
struct PlainFailed<'a> {
    unit: &'a str,
    #[serde(rename = "machineID")]
    machine_id: Option<String>,
    reason: &'a str,
}

impl<'a> From<&'a FailedUnit> for PlainFailed<'a> {
    fn from(failed: &'a FailedUnit) -> Self {
        Self { unit: &failed.name, machine_id: member(&failed.machine_id), reason: &failed.reason }
    }
}

#[derive(Serialize)]
struct PlainWarning<'a> {
    line: u32,
    message: &'a str,
    hint: Option<String>,
}

impl<'a> From<&'a Why> for Plain<'a> {
    fn from(answer: &'a Why) -> Self {
        let verdict = |verdict: &'a MachineVerdict| PlainVerdict {
            machine_id: &verdict.id,
            primary_ip: member(&verdict.primary_ip),
            fits: verdict.fits,
            reason: &verdict.reason,
        };
        let warning = |warning: &'a FileWarning| PlainWarning {
            line: warning.line,
            message: &warning.message,
            hint: member(&warning.hint),
        };
        Self {
            unit: &answer.name,
            summary: &answer.summary,
            machine_id: member(&answer.machine_id),
            machines: answer.machines.iter().map(verdict).collect(),
            warnings: answer.warnings.iter().map(warning).collect(),
        }
    }
}

pub async fn run(context: &Context, args: &WhyArgs) -> Outcome {
    match &args.unit {
        Some(unit) => one(context, args, unit).await,
        None => all(context, args).await,
    }
}

/// Lists the units that should run and do not.
async fn all(context: &Context, args: &WhyArgs) -> Outcome {
    let failed = context.client.failed().await;
    let failed = failed.map_err(|error| unsupported(&error, "cannot tell which units do not run"))?;
    if args.format.is_json() {
        let plain: Vec<_> = failed.iter().map(PlainFailed::from).collect();
        output::verbatim(&format::pretty(&plain))?;
        return Ok(0);
    }
    if failed.is_empty() {
        output::note("all units that are wanted run");
        return Ok(0);
    }
    let roster = context.roster().await?;
    let mut table = Table::new(["unit", "machine", "reason"], true);
    for FailedUnit { name, machine_id, reason } in failed {
        table.row(vec![name, roster.legend(&machine_id, false), reason]);
    }
    table.print()?;
    Ok(0)
}

/// Explains one unit.
async fn one(context: &Context, args: &WhyArgs, unit: &str) -> Outcome {
    let name = Argument::new(unit).name;
    let answer = context.client.why(&name).await.map_err(|error| match error.is_unsupported() {
        true => Failure::new(format!("cannot tell why of {name}: this fleetd does not know the question"))
            .hint("CoreOS fleet's fleetd does not; connect to a newer one with --endpoint"),
        false => error.during(&format!("error: cannot tell why of {name}")),
    })?;
    let mut answer = answer.ok_or_else(|| Failure::said(format!("Unit {name} does not exist.")))?;
    if let Some(machine) = &args.machine {
        answer.machines.retain(|verdict| names(verdict, machine));
        if answer.machines.is_empty() {
            return Err(Failure::new(format!("no machine matches {machine}"))
                .hint("see the machines that are alive with `fleetctl list-machines`"));
        }
    }
    if args.format.is_json() {
        output::verbatim(&format::pretty(&Plain::from(&answer)))?;
    } else {
        output::result(&answer.summary)?;
        if !answer.machines.is_empty() {
            table(&answer).print()?;
        }
        for FileWarning { line, message, hint } in &answer.warnings {
            output::note(&format!("warning: {name}:{line}: {message}"));
            if !hint.is_empty() {
                output::note(&format!("hint: {hint}"));
            }
        }
    }
    let somewhere = answer.machines.iter().any(|verdict| verdict.fits || verdict.id == answer.machine_id);
    let placed = args.machine.is_none() && !answer.machine_id.is_empty();
    Ok(if somewhere || placed { 0 } else { NOT_FOUND })
}

fn names(verdict: &MachineVerdict, machine: &str) -> bool {
    verdict.id.starts_with(machine) || verdict.primary_ip == machine
}

fn table(answer: &Why) -> Table {
    let mut table = Table::new(["machine", "fits", "reason"], true);
    for verdict in &answer.machines {
        let fits = if verdict.fits { "yes" } else { "no" };
        table.row(vec![legend(&verdict.id, &verdict.primary_ip, false), fits.into(), verdict.reason.clone()]);
    }
    table
}

//! `fleetctl journal`

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::{Context, Outcome};
use crate::{
    completion,
    error::{Ending, Failure},
    remote,
    units::{self, Argument},
};

/// Show the journal of a unit
///
/// Runs `journalctl --unit UNIT` on the machine of the unit: here, or over SSH.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl journal --lines=100 --follow hello.service")]
pub struct JournalArgs {
    /// The unit
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    /// How many of the last lines to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: u32,
    /// Go on showing lines as they come
    #[arg(short = 'f', long, alias = "f")]
    follow: bool,
    /// The form of the lines, see journalctl(1)
    #[arg(long, value_name = "FORMAT", default_value = "short")]
    output: String,
    /// Run journalctl as root
    #[arg(long)]
    sudo: bool,
    /// Port of the SSH server of the machine
    #[arg(long, value_name = "PORT")]
    ssh_port: Option<u16>,
}

pub async fn run(context: &Context, args: &JournalArgs) -> Outcome {
    let [unit] = &*args.units else { return Err(Failure::said("One unit file must be provided.")) };
    let name = Argument::new(unit).name;
    let unit = context.client.unit(&name).await.map_err(|error| error.during("Error retrieving unit"))?;
    let unit = unit.ok_or_else(|| Failure::said(format!("Unit {name} does not exist.")))?;
    if units::is_global(&unit) {
        return Err(Failure::said(format!("Unable to retrieve journal of global unit {name}.")));
    }
    if unit.current_state == "inactive" || unit.machine_id.is_empty() {
        return Err(Failure::said(format!("Unit {name} does not appear to be running.")));
    }
    let lines = args.lines.to_string();
    let shown = ["--no-pager", "-n", &lines, "--output", &args.output];
    let mut argv = context.remote.journalctl(&name, &shown);
    if args.follow {
        argv.push("-f");
    }
    if args.sudo {
        argv.insert(0, "sudo");
    }
    let roster = context.roster().await?;
    let command = context.remote.command_on(&unit.machine_id, &argv, &roster, args.ssh_port).await?;
    remote::run(command).await
}

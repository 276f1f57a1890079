//! `fleetctl status`

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::{Context, Outcome};
use crate::{
    completion,
    error::{Ending, Failure},
    output, remote,
    units::{self, Argument},
};

/// Show what systemd says of units
///
/// Runs `systemctl status -l UNIT` on the machine of each unit: here, or over SSH. Its exit code is passed on. Of a global
/// unit it says on standard error how it is on each machine.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl status hello.service")]
pub struct StatusArgs {
    /// Units to show
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    units: Vec<String>,
    /// Port of the SSH server of the machines
    #[arg(long, value_name = "PORT")]
    ssh_port: Option<u16>,
}

pub async fn run(context: &Context, args: &StatusArgs) -> Outcome {
    let mut roster = None;
    for (i, name) in Argument::names(&args.units).iter().enumerate() {
        let unit = context.client.unit(name).await.map_err(|error| error.during("Error retrieving unit"))?;
        let unit = unit.ok_or_else(|| Failure::said(format!("Unit {name} does not exist.")))?;
        if units::is_global(&unit) {
            tell_global(context, name).await?;
            continue;
        }
        if unit.current_state == "inactive" || unit.machine_id.is_empty() {
            return Err(Failure::said(format!("Unit {name} does not appear to be loaded.")));
        }
        if i > 0 {
            output::result("")?;
        }
        let roster = match &roster {
            Some(roster) => roster,
            None => roster.insert(context.roster().await?),
        };
        let argv = context.remote.systemctl(&["status", "-l", name]);
        let command = context.remote.command_on(&unit.machine_id, &argv, roster, args.ssh_port).await?;
        let code = remote::run(command).await?;
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

/// Says of a global unit how it is on each machine. On standard output CoreOS fleet says nothing of it.
async fn tell_global(context: &Context, name: &str) -> Result<(), Failure> {
    let states = context.client.states_of(name).await.map_err(|error| error.during("Error retrieving unit"))?;
    let roster = context.roster().await?;
    if states.is_empty() {
        output::note(&format!("{name} is on no machine"));
    }
    for state in states {
        let legend = roster.legend(&state.machine_id, false);
        let (active, sub) = (&state.systemd_active_state, &state.systemd_sub_state);
        output::note(&format!("{name} on {legend}: {active} ({sub})"));
    }
    Ok(())
}

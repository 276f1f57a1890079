//! `fleetctl ssh`

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_client::ClientError;

use super::{Context, Outcome};
use crate::{
    completion,
    error::{Ending, Failure},
    machines::{Found, Roster, shown_id},
    remote,
    units::{self, Argument},
};

/// Open a shell, or run a command, on a machine or on the machine of a unit
///
/// Machines go by their address, their host name, or the beginning of their ID. The exit code of the remote
/// command is passed on.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl ssh d097 uptime\n    fleetctl ssh --unit hello.service")]
pub struct SshArgs {
    /// A machine or a unit; with --machine or --unit, the first word of the command
    #[arg(value_name = "MACHINE|UNIT", add = ArgValueCompleter::new(completion::machines_and_units))]
    target: Option<String>,
    /// What to run there; a shell if nothing
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Go to this machine
    #[arg(long, value_name = "MACHINE", add = ArgValueCompleter::new(completion::machines))]
    machine: Option<String>,
    /// Go to the machine of this unit
    #[arg(long, value_name = "UNIT", add = ArgValueCompleter::new(completion::units))]
    unit: Option<String>,
    /// Let the machine use your ssh-agent
    #[arg(short = 'A', long, alias = "A")]
    forward_agent: bool,
    /// Port of the SSH server of the machine
    #[arg(long, value_name = "PORT")]
    ssh_port: Option<u16>,
}

pub async fn run(context: &Context, args: &SshArgs) -> Outcome {
    let mut words = args.target.iter().chain(&args.command).collect::<Vec<_>>();
    let address = match (&args.machine, &args.unit) {
        (Some(_), Some(_)) => {
            return Err(Failure::said("Both machine and unit flags provided, please specify only one."));
        }
        (Some(machine), None) => {
            of_machine(&context.roster().await?, machine)?.ok_or_else(|| unable("machine does not exist"))?
        }
        (None, Some(unit)) => {
            of_unit(context, &context.roster().await?, unit).await?.ok_or_else(|| unable("unit does not exist"))?
        }
        (None, None) => {
            if words.is_empty() {
                return Err(unable("one machine or unit must be provided"));
            }
            let target = words.remove(0);
            let roster = context.roster().await?;
            let found = match of_machine(&roster, target)? {
                Some(address) => Some(address),
                None => of_unit(context, &roster, target).await?,
            };
            found.ok_or_else(|| unable("could not find matching unit or machine"))?
        }
    };
    let mut command = context.remote.ssh.to(&address, args.ssh_port, args.forward_agent).await;
    command.args(words);
    remote::run(command).await
}

fn of_machine(roster: &Roster, word: &str) -> Result<Option<String>, Failure> {
    match roster.find(word) {
        Found::None => Ok(None),
        Found::One(machine) if machine.primary_ip.is_empty() => {
            Err(unable(&format!("machine {} has no address", shown_id(&machine.id, false))))
        }
        Found::One(machine) => Ok(Some(machine.primary_ip.clone())),
        Found::Several(machines) => {
            let ids: Vec<_> = machines.iter().map(|machine| &*machine.id).collect();
            Err(unable("found more than one machine").hint(format!("`{word}` may be any of {}", ids.join(", "))))
        }
    }
}

async fn of_unit(context: &Context, roster: &Roster, word: &str) -> Result<Option<String>, Failure> {
    let name = Argument::new(word).name;
    let failure = |error: ClientError| error.during("Unable to proceed: error retrieving unit");
    let Some(unit) = context.client.unit(&name).await.map_err(failure)? else { return Ok(None) };
    if units::is_global(&unit) {
        return Err(unable(&format!("global unit {name} is on many machines"))
            .hint("name one of them; `fleetctl list-units` shows where it runs"));
    }
    if unit.machine_id.is_empty() {
        return Err(unable(&format!("unit {name} is on no machine")).hint(format!("`fleetctl why {name}` says why")));
    }
    let gone =
        || unable(&format!("machine {} of unit {name} is not in the cluster", shown_id(&unit.machine_id, false)));
    roster.address(&unit.machine_id).map(|address| Some(address.to_owned())).ok_or_else(gone)
}

fn unable(why: &str) -> Failure {
    Failure::said(format!("Unable to proceed: {why}"))
}

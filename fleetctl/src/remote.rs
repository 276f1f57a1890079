//! Work on other machines, done by the user's own OpenSSH: its configuration, keys, agent and known hosts count.

use std::{
    fs,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use fleet_client::{Ssh, os_message};
use tokio::process::Command;

use crate::{error::Failure, machines::Roster};

/// How long an unasked-for look at another machine may take.
const GLANCE: Duration = Duration::from_secs(5);
/// The journal of the last run of unit `$1`, what systemd wrote of it included. By the time at which it began: journald
/// does not know in which run a process was that has ended before it looked. A systemd before 248 does not tell the time
/// so exactly, and lines of earlier runs come along. `$2` and `$3` are `--user` and `user-` for a user's own unit.
const LAST_RUN: &str = "\
    began=$(systemctl $2 show --timestamp=us --property=InactiveExitTimestamp --value -- \"$1\" 2>/dev/null); \
    exec journalctl -q --no-pager -n 10 --output short \"--$3unit\" \"$1\" ${began:+--since \"$began\"}";

/// The way to the machines, and to the units on them.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// What the command line says about SSH.
    pub ssh: Ssh,
    /// Units run in the user's own systemd: the cluster is this user's `fleetd dev`.
    pub user_units: bool,
}

impl Remote {
    /// `systemctl`, for the systemd that units run in.
    pub fn systemctl<'a>(&self, rest: &[&'a str]) -> Vec<&'a str> {
        let scope = if self.user_units { &["--user"][..] } else { &[] };
        [&["systemctl"], scope, rest].concat()
    }

    /// `journalctl` for one unit, in the systemd that units run in.
    pub fn journalctl<'a>(&self, unit: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
        // Quiet, or it tells each time that there are messages of others.
        let of_unit = if self.user_units { &["-q", "--user-unit"][..] } else { &["--unit"] };
        [&["journalctl"], of_unit, &[unit], rest].concat()
    }

    /// `argv`, to be run on the machine `id`: here if this is that machine, else over SSH.
    ///
    /// # Errors
    /// The machine has gone, so there is no address.
    pub async fn command_on(
        &self,
        id: &str,
        argv: &[&str],
        roster: &Roster,
        port: Option<u16>,
    ) -> Result<Command, Failure> {
        if local_machine_id().as_deref() == Some(id) {
            let mut command = Command::new(argv[0]);
            command.args(&argv[1..]);
            return Ok(command);
        }
        let address = roster.address(id).ok_or_else(|| {
            Failure::new(format!("machine {id} is not in the cluster, or has no address"))
                .hint("see the machines that are alive with `fleetctl list-machines`")
        })?;
        let mut command = self.ssh.to(address, port, false).await;
        // The remote shell takes the line apart once more.
        command.arg(argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "));
        Ok(command)
    }

    /// The last lines of the journal of a unit's last run, if they can be had at once and without asking anybody
    /// anything.
    pub async fn journal_tail(&self, id: &str, unit: &str, roster: &Roster) -> Option<String> {
        let glance = Self { ssh: Ssh { timeout: GLANCE / 2, batch: true, ..self.ssh.clone() }, ..*self };
        let (scope, prefix) = if self.user_units { ("--user", "user-") } else { ("", "") };
        let argv = ["/bin/sh", "-c", LAST_RUN, "sh", unit, scope, prefix];
        let mut command = glance.command_on(id, &argv, roster, None).await.ok()?;
        command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(GLANCE, command.output()).await.ok()?.ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    }
}

/// Runs a command on our terminal. Its exit code becomes ours.
///
/// # Errors
/// It cannot be started.
pub async fn run(mut command: Command) -> Result<u8, Failure> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let status = command.status().await.map_err(|error| {
        let failure = Failure::new(format!("cannot run {program}: {}", os_message(&error)));
        if program == "ssh" { failure.hint("install OpenSSH's client") } else { failure }
    })?;
    Ok(exit_code(status))
}

/// This machine's ID; `None` where there is none, as in many containers.
fn local_machine_id() -> Option<String> {
    let id = fs::read_to_string("/etc/machine-id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// A process that a signal ended counts as 128 + signal, as in a shell.
fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// A word that a POSIX shell reads back as it is. Unit names may hold backslashes.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_remote_shell() {
        assert_eq!(quote("web@1.service"), "web@1.service");
        assert_eq!(quote(r"dev-sda\x2d1.device"), r"'dev-sda\x2d1.device'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}

//! Work on other machines, done by the user's own OpenSSH: its configuration, keys, agent and known hosts count.

use std::{
    fs,
    net::IpAddr,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::process::Command;

use crate::{
    error::{Failure, os_message},
    machines::Roster,
};

/// How long an unasked-for look at another machine may take.
const GLANCE: Duration = Duration::from_secs(5);
/// How long the look-up of a host's name may take.
const LOOKUP: Duration = Duration::from_secs(1);

/// What the command line says about SSH. Whatever it leaves open is `ssh_config(5)`'s to say.
#[derive(Clone, Debug, Default)]
pub struct Ssh {
    /// Log in as this user.
    pub user: Option<String>,
    /// Give up connecting after this time.
    pub timeout: Duration,
    /// Where host keys are kept.
    pub known_hosts: Option<String>,
    /// Whether unknown host keys are asked about, or taken.
    pub strict: Option<bool>,
    /// Go through this machine.
    pub tunnel: Option<HostPort>,
    /// Fail instead of asking for a password or about a host key.
    pub batch: bool,
    /// Units run in the user's own systemd: the cluster is this user's `fleetd dev`.
    pub user_units: bool,
}

/// `systemctl`, for the systemd that units run in.
pub fn systemctl<'a>(ssh: &Ssh, rest: &[&'a str]) -> Vec<&'a str> {
    let scope = if ssh.user_units { &["--user"][..] } else { &[] };
    [&["systemctl"], scope, rest].concat()
}

/// `journalctl` for one unit, in the systemd that units run in.
pub fn journalctl<'a>(ssh: &Ssh, unit: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    // Quiet, or it tells each time that there are messages of others.
    let of_unit = if ssh.user_units { &["-q", "--user-unit"][..] } else { &["--unit"] };
    [&["journalctl"], of_unit, &[unit], rest].concat()
}

/// `HOST[:PORT]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or address, without brackets.
    pub host: String,
    /// The port, when it was given.
    pub port: Option<u16>,
}

impl HostPort {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a bare IPv6 address.
    ///
    /// # Errors
    /// No host, or a port that is no number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not HOST[:PORT]");
        let (host, port) = match text.strip_prefix('[') {
            Some(inner) => {
                let (host, rest) = inner.split_once(']').ok_or_else(bad)?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) })
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(bad());
        }
        let port = port.map(|port| port.parse().map_err(|_| bad())).transpose()?;
        Ok(Self { host: host.into(), port })
    }

    /// `HOST:PORT`, with brackets where an IPv6 address needs them.
    pub fn authority(&self, default_port: u16) -> String {
        format!("{}:{}", self.bracketed(), self.port.unwrap_or(default_port))
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl Ssh {
    /// `ssh` to a machine of the cluster, through the tunnel when there is one. Append what is to run there.
    ///
    /// A tunnel that ends on that machine is the way there: OpenSSH does not go through a host to the same host, and for
    /// one that goes by two names it would log in twice.
    pub async fn to(&self, host: &str, port: Option<u16>, forward_agent: bool) -> Command {
        let options = if forward_agent { &["-A"][..] } else { &[] };
        let Some(tunnel) = &self.tunnel else { return self.directly(options, host, port) };
        if self.far_end(tunnel).await.is(host, port).await {
            return self.to_tunnel(tunnel, options);
        }
        let jump = self.jump(tunnel);
        self.directly(&[options, &["-J", &jump]].concat(), host, port)
    }

    fn directly(&self, options: &[&str], host: &str, port: Option<u16>) -> Command {
        let mut command = self.base();
        command.args(options);
        finish(&mut command, host, port);
        command
    }

    /// Where the tunnel ends, as far as ssh's configuration tells.
    async fn far_end(&self, tunnel: &HostPort) -> FarEnd {
        let mut ask = self.to_tunnel(tunnel, &["-G"]);
        ask.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let answer = tokio::time::timeout(GLANCE, ask.output()).await.ok().and_then(Result::ok);
        let answer = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned());
        FarEnd::read(tunnel, &answer.unwrap_or_default())
    }

    /// `ssh` to the tunnel's machine, with `options` of ssh for it. Append what is to run there.
    pub fn to_tunnel(&self, tunnel: &HostPort, options: &[&str]) -> Command {
        let mut command = self.base();
        command.args(options);
        finish(&mut command, &tunnel.host, tunnel.port);
        command
    }

    fn base(&self) -> Command {
        let mut command = Command::new("ssh");
        let option = |command: &mut Command, key: &str, value: &str| {
            command.arg("-o").arg(format!("{key}={value}"));
        };
        option(&mut command, "ConnectTimeout", &self.timeout.as_secs().max(1).to_string());
        if self.batch {
            option(&mut command, "BatchMode", "yes");
        }
        if let Some(file) = &self.known_hosts {
            option(&mut command, "UserKnownHostsFile", file);
        }
        if let Some(strict) = self.strict {
            option(&mut command, "StrictHostKeyChecking", if strict { "ask" } else { "no" });
        }
        if let Some(user) = &self.user {
            command.args(["-l", user]);
        }
        command
    }

    /// `-l` is not handed on to a jump host: the user stands before it.
    fn jump(&self, tunnel: &HostPort) -> String {
        let user = self.user.as_ref().filter(|_| !tunnel.host.contains('@'));
        let user = user.map_or_else(String::new, |user| format!("{user}@"));
        let port = tunnel.port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{user}{}{port}", tunnel.bracketed())
    }
}

/// The host and port that a tunnel ends on.
#[derive(Debug, PartialEq, Eq)]
struct FarEnd {
    /// The user's name for the host.
    given: String,
    /// The name or address that ssh's configuration has for that.
    host: String,
    port: u16,
}

impl FarEnd {
    /// Reads what `ssh -G` says of the tunnel's host.
    fn read(tunnel: &HostPort, configuration: &str) -> Self {
        let set = |key: &str| configuration.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let given = tunnel.host.rsplit_once('@').map_or(&*tunnel.host, |(_, host)| host);
        Self {
            given: given.to_lowercase(),
            host: set("hostname").unwrap_or(given).to_lowercase(),
            port: tunnel.port.or_else(|| set("port")?.parse().ok()).unwrap_or(22),
        }
    }

    /// Whether that is this host, at this port if one is asked for.
    async fn is(&self, host: &str, port: Option<u16>) -> bool {
        if port.is_some_and(|port| port != self.port) {
            return false;
        }
        let host = host.to_lowercase();
        if [&self.given, &self.host].contains(&&host) {
            return true;
        }
        let (ours, theirs) = tokio::join!(addresses(&self.host), addresses(&host));
        ours.iter().any(|address| theirs.contains(address))
    }
}

/// The addresses of a host; none when its name says nothing, or not soon.
async fn addresses(host: &str) -> Vec<IpAddr> {
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, 0))).await;
    found.ok().and_then(Result::ok).into_iter().flatten().map(|address| address.ip().to_canonical()).collect()
}

/// `--` before the host: nothing behind it is an option of ssh, be it a host or a word of the remote command.
fn finish(command: &mut Command, host: &str, port: Option<u16>) {
    if let Some(port) = port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("--").arg(host);
}

/// `argv`, to be run on the machine `id`: here if this is that machine, else over SSH.
///
/// # Errors
/// The machine has gone, so there is no address.
pub async fn command_on(
    id: &str,
    argv: &[&str],
    roster: &Roster,
    ssh: &Ssh,
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
    let mut command = ssh.to(address, port, false).await;
    // The remote shell takes the line apart once more.
    command.arg(argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "));
    Ok(command)
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

/// The journal of the last run of unit `$1`, what systemd wrote of it included. By the time at which it began: journald
/// does not know in which run a process was that has ended before it looked. A systemd before 248 does not tell the time
/// so exactly, and lines of earlier runs come along. `$2` and `$3` are `--user` and `user-` for a user's own unit.
const LAST_RUN: &str = "\
    began=$(systemctl $2 show --timestamp=us --property=InactiveExitTimestamp --value -- \"$1\" 2>/dev/null); \
    exec journalctl -q --no-pager -n 10 --output short \"--$3unit\" \"$1\" ${began:+--since \"$began\"}";

/// The last lines of the journal of a unit's last run, if they can be had at once and without asking anybody anything.
pub async fn journal_tail(id: &str, unit: &str, roster: &Roster, ssh: &Ssh) -> Option<String> {
    let glance = Ssh { timeout: GLANCE / 2, batch: true, ..ssh.clone() };
    let (scope, prefix) = if ssh.user_units { ("--user", "user-") } else { ("", "") };
    let argv = ["/bin/sh", "-c", LAST_RUN, "sh", unit, scope, prefix];
    let mut command = command_on(id, &argv, roster, &glance, None).await.ok()?;
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(GLANCE, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
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

    fn words(command: &Command) -> String {
        let words: Vec<_> = command.as_std().get_args().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[tokio::test]
    async fn ssh_is_told_only_what_the_user_said() {
        let ssh = Ssh { timeout: Duration::from_secs(10), ..Ssh::default() };
        assert_eq!(words(&ssh.to("10.0.0.1", None, false).await), "-o ConnectTimeout=10 -- 10.0.0.1");
        let ssh = Ssh {
            user: Some("core".into()),
            known_hosts: Some("/k".into()),
            strict: Some(false),
            tunnel: Some(HostPort::parse("gate:2222").unwrap()),
            ..ssh
        };
        assert_eq!(
            words(&ssh.to("10.0.0.1", Some(23), false).await),
            "-o ConnectTimeout=10 -o UserKnownHostsFile=/k -o StrictHostKeyChecking=no -l core -J core@gate:2222 -p 23 -- 10.0.0.1"
        );
        let tunnel = ssh.tunnel.clone().unwrap();
        assert!(words(&ssh.to_tunnel(&tunnel, &["-W", "10.0.0.2:80"])).ends_with("-W 10.0.0.2:80 -p 2222 -- gate"));
        let batch = Ssh { batch: true, ..Ssh::default() };
        assert_eq!(words(&batch.to("h", None, true).await), "-o ConnectTimeout=1 -o BatchMode=yes -A -- h");
    }

    #[tokio::test]
    async fn tunnel_that_ends_on_a_machine_is_known_by_name_address_and_configuration() {
        for (tunnel, configuration, host, port, same) in [
            ("10.0.0.1", "", "10.0.0.1", None, true),
            ("core@10.0.0.1", "", "10.0.0.1", None, true),
            ("10.0.0.1:2222", "port 22\n", "10.0.0.1", None, true),
            ("10.0.0.1:2222", "", "10.0.0.1", Some(2222), true),
            ("10.0.0.1", "port 2222\n", "10.0.0.1", Some(2222), true),
            ("10.0.0.1", "", "10.0.0.1", Some(22), true),
            ("gate", "user me\nhostname 10.0.0.1\nport 22\n", "10.0.0.1", None, true),
            ("Gate.example", "", "gate.EXAMPLE", None, true),
            ("[0:0::1]", "", "::1", None, true),
            ("[::ffff:10.0.0.1]:22", "", "10.0.0.1", None, true),
            ("10.0.0.1", "", "10.0.0.2", None, false),
            ("10.0.0.1:2222", "", "10.0.0.1", Some(22), false),
            ("gate", "hostname 10.0.0.1\n", "10.0.0.2", None, false),
            ("10.0.0.1", "hostnames 10.0.0.2\n", "10.0.0.2", None, false),
        ] {
            let end = FarEnd::read(&HostPort::parse(tunnel).unwrap(), configuration);
            assert_eq!(end.is(host, port).await, same, "{tunnel} {configuration:?} {host} {port:?}");
        }
    }

    #[test]
    fn hosts_and_ports_come_apart() {
        for (text, host, port) in [
            ("h", "h", None),
            ("h:22", "h", Some(22)),
            ("[::1]:22", "::1", Some(22)),
            ("[::1]", "::1", None),
            ("fe80::1", "fe80::1", None),
        ] {
            assert_eq!(HostPort::parse(text), Ok(HostPort { host: host.into(), port }), "{text}");
        }
        for bad in ["", ":22", "h:x", "h:70000", "[::1", "[::1]22"] {
            assert!(HostPort::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(HostPort::parse("::1").unwrap().authority(80), "[::1]:80");
    }

    #[test]
    fn words_survive_the_remote_shell() {
        assert_eq!(quote("web@1.service"), "web@1.service");
        assert_eq!(quote(r"dev-sda\x2d1.device"), r"'dev-sda\x2d1.device'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}

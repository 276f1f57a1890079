//! How the user's own OpenSSH is called: its configuration, keys, agent and known hosts count.

use std::{net::IpAddr, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::HostPort;

/// How long ssh may take to tell its configuration.
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
}

//! The command line: global flags and their `FLEETCTL_*` variables.

use std::{ffi::OsString, time::Duration};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, builder::BoolishValueParser};

use crate::{
    client::Client,
    command::{self, Command},
    error::Failure,
    help,
    remote::{HostPort, Ssh},
    transport::{DEFAULT_ENDPOINT, Endpoint, Transport},
};

/// Controls a cluster of hosts that run fleet
#[derive(Parser, Debug)]
#[command(
    name = "fleetctl",
    // What `--version` prints is `fleetctl version X`.
    version = concat!("version ", env!("CARGO_PKG_VERSION")),
    disable_version_flag = true,
    disable_help_flag = true,
    after_help = help::ROOT_SECTIONS,
    max_term_width = 110
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command; without one, the help is shown.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print the version and exit
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// Flags that may stand before or after any command.
#[derive(Args, Debug)]
#[command(next_help_heading = "GLOBAL OPTIONS")]
pub struct Global {
    /// Where fleetd listens: `unix:///PATH` or `http://IP:PORT`. Of several with commas between, the first counts
    #[arg(long, global = true, value_name = "URL", env = "FLEETCTL_ENDPOINT", default_value = DEFAULT_ENDPOINT)]
    endpoint: String,
    /// Reach fleetd and all machines by SSH through this machine
    #[arg(long, global = true, value_name = "HOST[:PORT]", env = "FLEETCTL_TUNNEL")]
    tunnel: Option<String>,
    /// Seconds that a single request may take
    #[arg(long, global = true, value_name = "SECONDS", env = "FLEETCTL_REQUEST_TIMEOUT", default_value = "3", value_parser = seconds)]
    request_timeout: Duration,
    /// Seconds that an SSH connection may take to come about
    #[arg(long, global = true, value_name = "SECONDS", env = "FLEETCTL_SSH_TIMEOUT", default_value = "10", value_parser = seconds)]
    ssh_timeout: Duration,
    /// Log in as this user, instead of as your ssh configuration says
    #[arg(long, global = true, value_name = "USER", env = "FLEETCTL_SSH_USERNAME")]
    ssh_username: Option<String>,
    /// Keep host keys in this file, instead of where your ssh configuration says
    #[arg(long, global = true, value_name = "FILE", env = "FLEETCTL_KNOWN_HOSTS_FILE")]
    known_hosts_file: Option<String>,
    /// Ask about unknown host keys; with `=false`, take them
    #[arg(long, global = true, value_name = "BOOL", env = "FLEETCTL_STRICT_HOST_KEY_CHECKING",
          num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    strict_host_key_checking: Option<bool>,
    /// Say on stderr what is asked of fleetd
    #[arg(long, global = true, env = "FLEETCTL_DEBUG", value_parser = BoolishValueParser::new())]
    debug: bool,
    /// How to reach the cluster; `API` is the only way left
    #[arg(long, global = true, value_name = "DRIVER", env = "FLEETCTL_DRIVER", default_value = "API", hide = true)]
    driver: String,
    /// Print this help and exit
    #[arg(short, long, alias = "h", global = true, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    _retired: Retired,
}

/// Flags of CoreOS fleet that are accepted and have no effect. TLS and etcd are fleetd's own business now.
#[derive(Args, Debug)]
struct Retired {
    #[arg(long, global = true, hide = true, env = "FLEETCTL_CA_FILE")]
    ca_file: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_CERT_FILE")]
    cert_file: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_KEY_FILE")]
    key_file: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_ETCD_CAFILE")]
    etcd_cafile: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_ETCD_CERTFILE")]
    etcd_certfile: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_ETCD_KEYFILE")]
    etcd_keyfile: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_ETCD_KEY_PREFIX")]
    etcd_key_prefix: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_EXPERIMENTAL_API",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    experimental_api: Option<String>,
}

impl Global {
    /// The client that these flags describe. Nothing is connected yet.
    ///
    /// # Errors
    /// The flags describe none.
    pub fn client(&self) -> Result<Client, Failure> {
        let unable = |message: &str| Failure::said(format!("Unable to initialize client: {message}"));
        match &*self.driver.to_lowercase() {
            "api" => {}
            "etcd" => {
                return Err(unable("driver \"etcd\" is no longer supported")
                    .hint("leave out --driver, and name a fleetd with --endpoint"));
            }
            _ => return Err(unable(&format!("unrecognized driver {:?}", self.driver))),
        }
        let endpoint = self.endpoint().map_err(|message| unable(&message))?;
        Ok(Client::new(Transport::new(endpoint, self.ssh()?), self.request_timeout, self.debug))
    }

    /// Where fleetd listens.
    fn endpoint(&self) -> Result<Endpoint, String> {
        let text = if self.endpoint.is_empty() { DEFAULT_ENDPOINT } else { &self.endpoint };
        let endpoint = Endpoint::parse(text)?;
        // At the far end of a tunnel is another machine.
        Ok(if given(&self.tunnel).is_none() { endpoint.or_own() } else { endpoint })
    }

    /// What these flags say about SSH.
    ///
    /// # Errors
    /// The tunnel is no host.
    pub fn ssh(&self) -> Result<Ssh, Failure> {
        let tunnel = given(&self.tunnel).map(|tunnel| HostPort::parse(&tunnel)).transpose();
        Ok(Ssh {
            user: given(&self.ssh_username),
            timeout: self.ssh_timeout,
            known_hosts: given(&self.known_hosts_file),
            strict: self.strict_host_key_checking,
            tunnel: tunnel.map_err(|why| Failure::said(format!("Unable to initialize client: tunnel {why}")))?,
            batch: false,
            user_units: given(&self.tunnel).is_none() && self.endpoint().is_ok_and(|endpoint| endpoint.is_own()),
        })
    }
}

/// A value, unless it is that of a variable which was set to nothing.
fn given(value: &Option<String>) -> Option<String> {
    value.clone().filter(|value| !value.is_empty())
}

/// Reads the command line. Ends the process for help, the version and bad usage.
pub fn parse() -> Cli {
    let mut command = help::styled(definition());
    let matches = command.try_get_matches_from_mut(normalized(std::env::args_os()));
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches)).unwrap_or_else(|error| error.exit());
    if cli.command.is_none() {
        // That nobody reads it is no failure.
        let _ = help::shortened(command).print_help();
        std::process::exit(0);
    }
    cli
}

/// The commands and flags, as they are defined.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Spells switches the way clap knows them, where Go also takes `--full=true` and `--full=false`.
///
/// Words after `ssh` are left alone: they may be another program's.
fn normalized(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut normalized: Vec<OsString> = Vec::new();
    let mut foreign = false;
    for arg in args {
        let text = arg.to_str().unwrap_or_default();
        foreign |= matches!(text, "ssh" | "--");
        let switch = text.split_once('=').filter(|(flag, _)| command::SWITCHES.contains(flag));
        match switch {
            Some((flag, value)) if !foreign => match value {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => normalized.push(flag.into()),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => {}
                // Clap knows best how to refuse it.
                _ => normalized.push(arg),
            },
            _ => normalized.push(arg),
        }
    }
    normalized
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "want a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        let words = std::iter::once("fleetctl").chain(line.split_whitespace()).map(OsString::from);
        help::styled(definition())
            .try_get_matches_from(normalized(words))
            .and_then(|matches| Cli::from_arg_matches(&matches))
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_definition() {
        help::styled(definition()).debug_assert();
    }

    #[test]
    fn every_flag_without_a_value_is_a_known_switch() {
        let mut root = definition();
        root.build();
        let takes_none = |arg: &&clap::Arg| matches!(arg.get_action(), ArgAction::SetTrue);
        for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
            for arg in command.get_arguments().filter(takes_none) {
                let flag = format!("--{}", arg.get_long().unwrap());
                assert!(command::SWITCHES.contains(&&*flag) || flag == "--forward-agent", "{flag}");
            }
        }
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in [
            "--endpoint=http://h:1 list-units -l",
            "list-units --endpoint http://h:1 --full=true --no-legend=false",
            "list-units --l=true --endpoint=http://h:1 --experimental-api=false --etcd-key-prefix=/x/ --ca-file=x",
        ] {
            let cli = parsed(line).unwrap();
            assert_eq!(cli.global.endpoint, "http://h:1", "{line}");
            assert!(matches!(cli.command, Some(Command::ListUnits(list)) if list.full() && list.legend()), "{line}");
        }
    }

    #[test]
    fn strict_host_key_checking_is_unset_until_given() {
        for (line, strict) in [
            ("version", None),
            ("version --strict-host-key-checking", Some(true)),
            ("--strict-host-key-checking=false version", Some(false)),
        ] {
            assert_eq!(parsed(line).unwrap().global.ssh().unwrap().strict, strict, "{line}");
        }
    }

    #[test]
    fn words_of_a_remote_command_are_not_touched() {
        let words = ["fleetctl", "ssh", "h", "ls", "--full=false", "--h"].map(OsString::from);
        assert_eq!(normalized(words.clone()), words);
    }

    #[test]
    fn unknown_commands_and_flags_are_bad_usage() {
        for line in ["bogus", "list-machines --bogusflag", "list-units --full=maybe"] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), i32::from(crate::error::USAGE), "{line}");
        }
    }

    #[test]
    fn clients_that_cannot_be_are_refused_in_known_words() {
        for (line, message) in [
            ("--driver=bogus list-units", "Unable to initialize client: unrecognized driver \"bogus\""),
            ("--endpoint=foo list-units", "Unable to initialize client: URL scheme undefined"),
        ] {
            assert_eq!(parsed(line).unwrap().global.client().err().unwrap().lines()[0], message);
        }
    }
}

//! The command line: global flags and their `FLEETCTL_*` variables.

mod spelling;

use std::{
    env,
    ffi::{OsStr, OsString},
    time::Duration,
};

use clap::{
    ArgAction, Args, CommandFactory, FromArgMatches, Parser,
    builder::{BoolishValueParser, Resettable},
    error::{ContextKind, ContextValue},
};
use fleet_core::unit::parse_span;

pub use self::spelling::normalized;
use crate::{
    client::Client,
    command::Command,
    error::Failure,
    help, output,
    remote::{HostPort, Ssh},
    transport::{DEFAULT_ENDPOINT, Endpoint, Transport},
};

/// Longer than anybody waits.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// What a single request may take: seconds, or a time such as 500ms or 1m30s
    #[arg(long, global = true, value_name = "TIME", env = "FLEETCTL_REQUEST_TIMEOUT", default_value = "3", value_parser = time,
          allow_hyphen_values = true)]
    request_timeout: Duration,
    /// What an SSH connection may take to come about, in the same form
    #[arg(long, global = true, value_name = "TIME", env = "FLEETCTL_SSH_TIMEOUT", default_value = "10", value_parser = time,
          allow_hyphen_values = true)]
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
    let mut command = without_empty(help::styled(definition()), |name| env::var_os(name));
    let words = normalized(&command, env::args_os());
    let matches = command.try_get_matches_from_mut(words);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches)).unwrap_or_else(|error| {
        // That nobody reads it is no failure, here and below.
        let _ = error.print();
        if let Some(variable) = culprit(&error, &command, |name| env::var_os(name)) {
            output::note(&format!("hint: the value is that of the variable {variable}"));
        }
        std::process::exit(error.exit_code());
    });
    if cli.command.is_none() {
        let _ = help::shortened(command).print_help();
        std::process::exit(0);
    }
    cli
}

/// The commands and flags, as they are defined.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Takes variables away from options that they would set to nothing: to CoreOS fleet, those were not set.
pub fn without_empty(command: clap::Command, variable: impl Fn(&OsStr) -> Option<OsString>) -> clap::Command {
    let is_empty = |name: &OsStr| variable(name).is_some_and(|value| value.is_empty());
    command.mut_args(|arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    })
}

/// The variable that a refused value comes from, when it is one.
fn culprit(
    error: &clap::Error,
    command: &clap::Command,
    variable: impl Fn(&OsStr) -> Option<OsString>,
) -> Option<String> {
    let told = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    };
    let (arg, value) = (told(ContextKind::InvalidArg)?, told(ContextKind::InvalidValue)?);
    // `--request-timeout <TIME>`
    let flag = arg.strip_prefix("--")?.split([' ', '[', '=']).next();
    let refused = command.get_arguments().find(|known| known.get_long() == flag)?;
    let name = refused.get_env().filter(|name| variable(name).is_some_and(|set| set == **value))?;
    Some(name.to_string_lossy().into_owned())
}

/// Reads a time that somebody may wait: seconds, or with a unit.
fn time(text: &str) -> Result<Duration, String> {
    let time = parse_span(text).ok().flatten().filter(|time| !time.is_zero() && *time <= DAY);
    time.ok_or_else(|| "expect more than 0 seconds, and at most a day: 3, 0.5, 500ms or 1m30s".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        let words = std::iter::once("fleetctl").chain(line.split_whitespace()).map(OsString::from);
        let command = help::styled(definition());
        let words = normalized(&command, words);
        command.try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches))
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_definition() {
        help::styled(definition()).debug_assert();
    }

    #[test]
    fn variable_set_to_nothing_is_not_set() {
        let variables = |command: &clap::Command| -> Vec<OsString> {
            command.get_arguments().filter_map(clap::Arg::get_env).map(OsStr::to_owned).collect()
        };
        let all = variables(&definition());
        assert!(all.len() > 15 && all.contains(&"FLEETCTL_DEBUG".into()), "{all:?}");
        assert_eq!(variables(&without_empty(definition(), |_| None)), all);
        assert_eq!(variables(&without_empty(definition(), |_| Some("x".into()))), all);
        assert!(variables(&without_empty(definition(), |_| Some(OsString::new()))).is_empty());
        let below = definition().get_subcommands().flat_map(variables).count();
        assert_eq!(below, 0, "no command has variables of its own");
    }

    #[test]
    fn variable_with_a_value_that_is_refused_is_named() {
        let culprit = |line: &str, variable: &str| {
            culprit(&parsed(line).err().unwrap(), &definition(), |name| (name == variable).then(|| "-1".into()))
        };
        let (line, variable) = ("--request-timeout=-1 version", "FLEETCTL_REQUEST_TIMEOUT");
        assert_eq!(culprit(line, variable).as_deref(), Some(variable));
        assert_eq!(culprit(line, "FLEETCTL_SSH_TIMEOUT"), None);
        assert_eq!(culprit("--request-timeout=-2 version", variable), None, "it is set, but the flag counts");
        assert_eq!(culprit("version --bogus=-1", variable), None);
    }

    #[test]
    fn times_are_seconds_or_have_units() {
        for (text, seconds) in
            [("3", 3.0), ("0.5", 0.5), ("2s", 2.0), ("500ms", 0.5), ("1m30s", 90.0), ("1.5h", 5400.0), ("24h", 86400.0)]
        {
            for flag in ["--request-timeout", "-ssh-timeout"] {
                let global = parsed(&format!("{flag} {text} version")).unwrap().global;
                let time = if flag == "-ssh-timeout" { global.ssh_timeout } else { global.request_timeout };
                assert_eq!(time, Duration::from_secs_f64(seconds), "{flag} {text}");
            }
        }
        for text in ["-1", "-1s", "0", "0s", "soon", "1e3", "infinity", "25h", "5apples", "nan"] {
            let error = parsed(&format!("version --request-timeout={text}")).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(crate::error::USAGE), "{text}");
            assert!(error.to_string().contains("expect more than 0 seconds, and at most a day"), "{error}");
        }
        assert!(parsed("--request-timeout -1 version").unwrap_err().to_string().contains("expect more than 0 seconds"));
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

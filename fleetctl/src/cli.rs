//! The command line: what it may say, and how it is read.

mod spelling;

use std::{
    env,
    ffi::{OsStr, OsString},
};

use clap::{
    ArgAction, CommandFactory, FromArgMatches, Parser,
    builder::Resettable,
    error::{ContextKind, ContextValue},
};

use self::spelling::normalized;
use crate::{command::Command, global::Global, help, output};

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

/// The global flags of a line that is still being typed, as far as they can be told.
pub fn unfinished(words: impl Iterator<Item = OsString>) -> Option<Global> {
    let definition = without_empty(definition(), |name| env::var_os(name));
    let words = normalized(&definition, words);
    let matches = definition.ignore_errors(true).try_get_matches_from(words).ok()?;
    Global::from_arg_matches(&matches).ok()
}

/// Takes variables away from options that they would set to nothing: to CoreOS fleet, those were not set.
fn without_empty(command: clap::Command, variable: impl Fn(&OsStr) -> Option<OsString>) -> clap::Command {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

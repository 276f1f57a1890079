//! How long stopping a unit takes at most.

use std::time::Duration;

use thiserror::Error;

use super::{UnitFile, span};

/// What systemd allows each part of a stop when the unit does not say (`DefaultTimeoutStopSec=`).
const DEFAULT: Duration = Duration::from_secs(90);

/// The sections whose unit types have processes to stop.
const SECTIONS: [&str; 5] = ["Service", "Socket", "Mount", "Swap", "Scope"];

/// Why no time can be named after which a unit is down for certain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unbounded {
    /// `infinity`, or 0, which means the same.
    #[error("{option}={value} lets a stop take for ever: give a finite time")]
    Endless {
        /// `TimeoutStopSec` or `TimeoutSec`.
        option: String,
        /// As written.
        value: String,
    },
    /// Systemd passes over what it cannot read, and what it makes of this is not known here.
    #[error("{option}={value} is not a time span: write for example 90 or 1min 30s")]
    Unreadable {
        /// `TimeoutStopSec` or `TimeoutSec`.
        option: String,
        /// As written.
        value: String,
    },
    /// Processes may outlive the stop.
    #[error("{option}={value} leaves processes running after a stop: remove it")]
    Leftovers {
        /// `KillMode` or `SendSIGKILL`.
        option: String,
        /// As written.
        value: String,
    },
}

/// The time after which systemd has brought a unit down for certain, once it was told to.
///
/// Each `ExecStop=` and `ExecStopPost=` may take the whole of `TimeoutStopSec=`. So may the processes, from SIGTERM
/// until they are killed, and once more those that an `ExecStopPost=` leaves.
pub(super) fn stop_bound(file: &UnitFile) -> Result<Duration, Unbounded> {
    let mut timeout = DEFAULT;
    let mut endless = None;
    for option in file.options().iter().filter(|option| SECTIONS.contains(&&*option.section)) {
        let (name, value) = (option.name.clone(), option.unfolded());
        match &*name {
            "TimeoutStopSec" | "TimeoutSec" => match span::parse(&value) {
                Ok(Some(span)) if !span.is_zero() => (timeout, endless) = (span, None),
                Ok(_) => endless = Some(Unbounded::Endless { option: name, value }),
                Err(_) => return Err(Unbounded::Unreadable { option: name, value }),
            },
            "KillMode" if value.eq_ignore_ascii_case("none") || value.eq_ignore_ascii_case("process") => {
                return Err(Unbounded::Leftovers { option: name, value });
            }
            "SendSIGKILL" if ["no", "n", "false", "f", "0", "off"].contains(&&*value.to_lowercase()) => {
                return Err(Unbounded::Leftovers { option: name, value });
            }
            _ => {}
        }
    }
    if let Some(endless) = endless {
        return Err(endless);
    }
    let commands = |name: &str| {
        let lines = SECTIONS.iter().flat_map(|section| file.values(section, name));
        // One line may hold several commands.
        lines.map(|line| 1 + line.split_whitespace().filter(|word| *word == ";").count()).sum::<usize>()
    };
    let (stop, post) = (commands("ExecStop") + commands("ExecStopPre"), commands("ExecStopPost"));
    let parts = 1 + stop + post + usize::from(post > 0);
    let bound = u32::try_from(parts).ok().and_then(|parts| timeout.checked_mul(parts));
    Ok(bound.unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(options: &str) -> Result<Duration, String> {
        let file = UnitFile::parse(&format!("[Service]\nExecStart=/bin/a\n{options}\n")).unwrap();
        stop_bound(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn every_part_of_a_stop_may_take_the_whole_time() {
        for (options, seconds) in [
            ("", 90),
            ("TimeoutStopSec=5", 5),
            ("TimeoutStopSec=1min 30s\nTimeoutStopSec=2", 2),
            ("TimeoutStopSec=infinity\nTimeoutSec=3s", 3),
            ("TimeoutStartSec=infinity\nTimeoutStopSec=4", 4),
            ("TimeoutStopSec=5\nExecStop=/bin/b", 10),
            ("TimeoutStopSec=5\nExecStop=/bin/b\nExecStop=/bin/c ; /bin/d", 20),
            ("TimeoutStopSec=5\nExecStop=/bin/b\nExecStop=", 5),
            ("TimeoutStopSec=5\nExecStop=/bin/b\nExecStopPost=/bin/c", 20),
            ("ExecStop=/bin/b \\\n  -t\nTimeoutStopSec=7\nKillMode=mixed", 14),
            ("[Socket]\nTimeoutSec=6\nExecStopPre=/bin/b", 12),
        ] {
            assert_eq!(bound(options), Ok(Duration::from_secs(seconds)), "{options}");
        }
    }

    #[test]
    fn stop_without_end_is_said_with_its_option() {
        for (options, message) in [
            ("TimeoutStopSec=infinity", "TimeoutStopSec=infinity lets a stop take for ever: give a finite time"),
            ("TimeoutSec=0", "TimeoutSec=0 lets a stop take for ever: give a finite time"),
            ("TimeoutStopSec=soon", "TimeoutStopSec=soon is not a time span: write for example 90 or 1min 30s"),
            ("KillMode=none", "KillMode=none leaves processes running after a stop: remove it"),
            ("SendSIGKILL=No", "SendSIGKILL=No leaves processes running after a stop: remove it"),
        ] {
            assert_eq!(bound(options), Err(message.into()));
        }
    }
}

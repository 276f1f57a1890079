//! How long stopping a unit takes at most.

use std::time::Duration;

use thiserror::Error;

use super::{UnitFile, UnitName, UnitOption, span};

/// What systemd allows each part of a stop when the unit does not say (`DefaultTimeoutStopSec=`).
const DEFAULT: Duration = Duration::from_secs(90);

/// Why no time can be named after which a unit is down for certain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unbounded {
    /// `infinity`, or 0, which means the same.
    #[error("{option}={value} lets a stop take for ever: give a finite time")]
    Endless {
        /// `TimeoutStopSec`, `TimeoutSec` or `TimeoutAbortSec`.
        option: String,
        /// As written.
        value: String,
    },
    /// Systemd passes over what it cannot read, and what it makes of this is not known here.
    #[error("{option}={value} is not a time span: write for example 90 or 1min 30s")]
    Unreadable {
        /// `TimeoutStopSec`, `TimeoutSec` or `TimeoutAbortSec`.
        option: String,
        /// As written.
        value: String,
    },
    /// Processes may outlive the stop.
    #[error("{option}={value} leaves processes running after a stop: remove it")]
    Leftovers {
        /// `KillMode`, `SendSIGKILL` or `FinalKillSignal`.
        option: String,
        /// As written.
        value: String,
    },
}

/// The time after which systemd has brought a unit down for certain, once it was told to.
///
/// Each `ExecStop=` and `ExecStopPost=` may take the whole of `TimeoutStopSec=`. So may the processes, from SIGTERM
/// until they are killed, and once more those that an `ExecStopPost=` leaves. A service that its watchdog is just
/// aborting has `TimeoutAbortSec=` instead.
///
/// Only what the file says counts. What is not in it is not known: a service that extends its time by
/// `EXTEND_TIMEOUT_USEC=`, a host's own `DefaultTimeoutStopSec=`, and drop-ins on a host.
pub(super) fn stop_bound(file: &UnitFile, unit: &UnitName) -> Result<Duration, Unbounded> {
    // Systemd passes over the sections of other types.
    let section = match unit.as_str().rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("service") => "Service",
        Some("socket") => "Socket",
        Some("mount") => "Mount",
        Some("swap") => "Swap",
        // It has no processes.
        _ => return Ok(DEFAULT),
    };
    let is_service = section == "Service";
    let (mut stop, mut abort) = (Ok(DEFAULT), Ok(Duration::ZERO));
    for UnitOption { name, value, .. } in file.settings().into_iter().filter(|option| option.section == section) {
        match &*name {
            "TimeoutSec" => stop = timeout(name, value),
            "TimeoutStopSec" if is_service => stop = timeout(name, value),
            // Empty, it is what the other one is.
            "TimeoutAbortSec" if is_service && value.is_empty() => abort = Ok(Duration::ZERO),
            "TimeoutAbortSec" if is_service => abort = timeout(name, value),
            "KillMode" if value.eq_ignore_ascii_case("none") || value.eq_ignore_ascii_case("process") => {
                return Err(Unbounded::Leftovers { option: name, value });
            }
            "SendSIGKILL" if ["no", "n", "false", "f", "0", "off"].contains(&&*value.to_lowercase()) => {
                return Err(Unbounded::Leftovers { option: name, value });
            }
            "FinalKillSignal" if !["SIGKILL", "KILL", "9", ""].contains(&&*value) => {
                return Err(Unbounded::Leftovers { option: name, value });
            }
            _ => {}
        }
    }
    let longest = stop?.max(abort?);
    // One line may hold several commands.
    let commands_in = |line: &str| 1 + line.split_whitespace().filter(|word| *word == ";").count();
    let commands = |name: &str| file.values(section, name).into_iter().map(|line| commands_in(&line)).sum::<usize>();
    let (before, after) = (commands(if is_service { "ExecStop" } else { "ExecStopPre" }), commands("ExecStopPost"));
    let parts = 1 + before + after + usize::from(after > 0);
    let bound = u32::try_from(parts).ok().and_then(|parts| longest.checked_mul(parts));
    Ok(bound.unwrap_or(Duration::MAX))
}

fn timeout(option: String, value: String) -> Result<Duration, Unbounded> {
    match span::parse(&value) {
        Ok(Some(span)) if !span.is_zero() => Ok(span),
        Ok(_) => Err(Unbounded::Endless { option, value }),
        Err(_) => Err(Unbounded::Unreadable { option, value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound_of(unit: &str, options: &str) -> Result<Duration, String> {
        let file = UnitFile::parse(&format!("[Service]\nExecStart=/bin/a\n{options}\n")).unwrap();
        stop_bound(&file, &UnitName::new(unit).unwrap()).map_err(|error| error.to_string())
    }

    fn bound(options: &str) -> Result<Duration, String> {
        bound_of("a.service", options)
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
            ("TimeoutStopSec=5\nTimeoutAbortSec=1min", 60),
            ("TimeoutAbortSec=infinity\nTimeoutAbortSec=\nTimeoutStopSec=5", 5),
            ("TimeoutStopSec=5\nFinalKillSignal=SIGKILL", 5),
        ] {
            assert_eq!(bound(options), Ok(Duration::from_secs(seconds)), "{options}");
        }
    }

    #[test]
    fn sections_of_other_types_do_not_count() {
        let socket = "TimeoutStopSec=2\n[Socket]\nTimeoutSec=6\nExecStopPre=/bin/b";
        assert_eq!(bound_of("a.socket", socket), Ok(Duration::from_secs(12)));
        assert_eq!(bound_of("a.service", socket), Ok(Duration::from_secs(2)));
        assert_eq!(bound("TimeoutStopSec=300\n[Mount]\nTimeoutSec=1"), Ok(Duration::from_secs(300)));
        assert_eq!(bound("TimeoutStopSec=5\n[Mount]\nTimeoutSec=infinity"), Ok(Duration::from_secs(5)));
        assert_eq!(bound_of("a.socket", "[Socket]\nTimeoutStopSec=5"), Ok(DEFAULT), "a socket has no such option");
        assert_eq!(bound_of("a.timer", "TimeoutStopSec=5"), Ok(DEFAULT));
    }

    #[test]
    fn stop_without_end_is_said_with_its_option() {
        for (options, message) in [
            ("TimeoutStopSec=infinity", "TimeoutStopSec=infinity lets a stop take for ever: give a finite time"),
            ("TimeoutSec=0", "TimeoutSec=0 lets a stop take for ever: give a finite time"),
            ("TimeoutStopSec=soon", "TimeoutStopSec=soon is not a time span: write for example 90 or 1min 30s"),
            ("KillMode=none", "KillMode=none leaves processes running after a stop: remove it"),
            ("TimeoutAbortSec=0", "TimeoutAbortSec=0 lets a stop take for ever: give a finite time"),
            ("FinalKillSignal=SIGQUIT", "FinalKillSignal=SIGQUIT leaves processes running after a stop: remove it"),
            ("SendSIGKILL=No", "SendSIGKILL=No leaves processes running after a stop: remove it"),
        ] {
            assert_eq!(bound(options), Err(message.into()));
        }
    }
}

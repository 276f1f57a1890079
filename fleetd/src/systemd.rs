//! The host's systemd.
//!
//! [`Systemd`] is all that the agent asks of it; [`dbus`] implements it over D-Bus. Truth is always
//! [`Systemd::list`]; signals only say which units to look at ([`Dirty`]). `memory` is its twin for the simulation.

pub mod dbus;
mod dirty;
mod links;
#[cfg(any(test, feature = "twins"))]
pub mod memory;

use std::{collections::BTreeMap, future::Future, path::PathBuf};

pub use dbus::{Bus, Dbus};
pub use dirty::{Dirty, Ended};
use fleet_core::{host::Runtime, unit::UnitName};
use thiserror::Error;

/// Where PID 1 looks for units that last until the next boot.
pub const SYSTEM_UNITS: &str = "/run/systemd/system";

/// Why systemd did not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SystemdError {
    /// It did not answer: the bus or PID 1 is away or was re-executed. What was asked may or may not have happened.
    #[error("systemd does not answer")]
    Unavailable(#[source] zbus::Error),
    /// It answered no.
    #[error("systemd refused to {what}")]
    Refused {
        /// What was attempted, and on which unit.
        what: String,
        /// Its answer.
        #[source]
        source: Answer,
    },
}

/// What systemd answers when it says no: a D-Bus error, shown as its text alone.
#[derive(Debug, Error)]
#[error("{}", text(.0))]
pub struct Answer(pub zbus::Error);

fn text(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(_, Some(text), _) => text.trim_end_matches('.').into(),
        other => other.to_string(),
    }
}

impl SystemdError {
    /// Whether systemd says that it has no such unit, or no such unit file.
    #[must_use]
    pub fn is_no_such_unit(&self) -> bool {
        let Self::Refused { source: Answer(zbus::Error::MethodError(name, ..)), .. } = self else { return false };
        name.as_str() == "org.freedesktop.systemd1.NoSuchUnit"
    }
}

/// A job that systemd is asked to do with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `StartUnit`
    Start,
    /// `StopUnit`
    Stop,
    /// `RestartUnit`
    Restart,
}

impl Verb {
    /// The word for a log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// What the agent asks of systemd. Handles are cheap to clone.
pub trait Systemd: Clone + Send + Sync + 'static {
    /// The present state of these units. One that systemd cannot find has the load state `not-found`.
    fn list(
        &self,
        units: &[UnitName],
    ) -> impl Future<Output = Result<BTreeMap<UnitName, Runtime>, SystemdError>> + Send;

    /// The present state of those of these units that systemd has loaded. Unlike `list`, this makes it load none.
    fn loaded(
        &self,
        units: &[UnitName],
    ) -> impl Future<Output = Result<BTreeMap<UnitName, Runtime>, SystemdError>> + Send;

    /// Queues a job for a unit, replacing one that contradicts it. Returns its number when it is queued, not when it is
    /// done. Jobs that are queued because of it have greater numbers.
    fn queue(&self, verb: Verb, unit: &str) -> impl Future<Output = Result<u32, SystemdError>> + Send;

    /// Keeps a unit loaded, so that what became of its start can be asked for.
    fn hold(&self, unit: &UnitName) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Takes back `hold`.
    fn release(&self, unit: &UnitName) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// The conditions and assertions that kept a held unit from its last start, as they would stand in its file.
    fn unmet(&self, unit: &UnitName) -> impl Future<Output = Result<Vec<String>, SystemdError>> + Send;

    /// Why a unit failed, in words; `None` when it has not, or systemd does not tell.
    fn failure(&self, unit: &UnitName) -> impl Future<Output = Result<Option<String>, SystemdError>> + Send;

    /// Forgets that a unit failed, so that systemd can unload it, and how often it was started lately.
    fn reset_failed(&self, unit: &UnitName) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Makes unit files outside the search path known until the next boot.
    fn link(&self, files: &[PathBuf]) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Carries out the `[Install]` sections of unit files until the next boot, and makes the files known.
    fn enable(&self, files: &[PathBuf]) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Takes back `link` and `enable`.
    fn disable(&self, units: &[UnitName]) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// Whether systemd still holds an older version of this unit's file.
    fn needs_reload(&self, unit: &UnitName) -> impl Future<Output = Result<bool, SystemdError>> + Send;

    /// Reads all unit files anew. Dear: PID 1 does nothing else meanwhile.
    fn reload(&self) -> impl Future<Output = Result<(), SystemdError>> + Send;

    /// The directories that units are searched in, most important first.
    fn unit_path(&self) -> impl Future<Output = Result<Vec<PathBuf>, SystemdError>> + Send;

    /// The directory among them for what lasts until the next boot.
    fn runtime_units(&self) -> PathBuf {
        SYSTEM_UNITS.into()
    }

    /// The units that something happened to since they were last looked at.
    fn dirty(&self) -> &Dirty;
}

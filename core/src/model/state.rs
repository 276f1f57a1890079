//! What an agent reports of a unit on its machine.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Desired, Unknown, record::record};
use crate::unit::UnitHash;

/// How far an agent brought a unit: the target it last carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Its file is in place.
    Loaded,
    /// It was started. Whether it still runs is systemd's to say.
    Launched,
}

impl Target {
    /// The word of the HTTP API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Launched => "launched",
        }
    }
}

impl From<Target> for Desired {
    fn from(target: Target) -> Self {
        match target {
            Target::Loaded => Self::Loaded,
            Target::Launched => Self::Launched,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Systemd's word for whether it could read a unit's file.
pub type LoadState = String;

macro_rules! active_states {
    ($($variant:ident $word:literal,)+) => {
        /// Systemd's active state of a unit (`org.freedesktop.systemd1(5)`).
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum ActiveState {
            $(#[doc = concat!("`", $word, "`")] $variant,)+
            /// One that is not known here, by systemd's word.
            Other(Box<str>),
        }

        impl ActiveState {
            /// Systemd's word.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for ActiveState {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.into()),
                }
            }
        }
    };
}

active_states! {
    Active "active",
    Reloading "reloading",
    Refreshing "refreshing",
    Inactive "inactive",
    Failed "failed",
    Activating "activating",
    Deactivating "deactivating",
    Maintenance "maintenance",
}

impl From<String> for ActiveState {
    fn from(word: String) -> Self {
        (&*word).into()
    }
}

impl From<ActiveState> for String {
    fn from(state: ActiveState) -> Self {
        state.as_str().into()
    }
}

impl fmt::Display for ActiveState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an agent reports of a unit: the value of `state/<machine>/<name>`, which lives as long as the host's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    /// The contents that are in place on the host.
    pub hash: UnitHash,
    /// Systemd's load state: `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load: LoadState,
    /// Systemd's active state.
    pub active: ActiveState,
    /// Systemd's sub state, which depends on the unit's type: `running`, `dead`, `exited`, `listening`, ...
    pub sub: String,
    /// How far the agent brought the unit; `inactive` while it could not even put the file in place.
    pub current: Desired,
    /// The generation that the agent carried out.
    #[serde(default)]
    pub generation: u64,
    /// The request that the agent carried out; absent from an agent that knows of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// Something had to be done for that: the unit was started or stopped, not found as it should be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acted: bool,
    /// It has ended as it should, and is not to run again: a oneshot that succeeded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// A condition of its own kept it from its last start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// A systemd job for the unit is still unfinished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub job: bool,
    /// When the unit came into this state, in seconds since 1970.
    pub since: u64,
    /// What keeps the agent from doing what is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What is to be known of it though nothing is in the way, say a condition that kept it from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// The unit is down and removed, as a schedule with `inactive` has told this machine: the revision of that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<i64>,
    /// How its last start went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartSteps>,
    /// What is not known here.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// How a start went on its machine: when each step was done, by that machine's own clock, in microseconds since what
/// asks for the start had come there. So no clocks of two hosts are ever compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartSteps {
    /// The modification revision of the `sched` or `global` that asks for it.
    pub revision: i64,
    /// The agent took it up.
    pub noticed: u64,
    /// Its file was in place; absent when that was there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed: Option<u64>,
    /// Systemd had taken the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
    /// It was seen active; absent when it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<u64>,
    /// It had stayed so, or was known to have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
}

record!(StateRecord: version 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;

    #[test]
    fn words_of_a_newer_systemd_survive() {
        let value = |active: &str| {
            let hash = UnitHash::of("");
            format!(
                r#"{{"v":1,"hash":"{hash}","load":"loaded","active":"{active}","sub":"s","current":"launched","generation":0,"since":1}}"#
            )
        };
        for (word, state) in [("active", ActiveState::Active), ("dozing", ActiveState::Other("dozing".into()))] {
            let record = StateRecord::decode(value(word).as_bytes()).unwrap();
            assert_eq!(record.active, state);
            assert_eq!(String::from_utf8(record.encode()).unwrap(), value(word));
        }
    }
}

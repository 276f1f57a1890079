//! What is wanted of a unit.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{MachineId, Unknown, record::record};
use crate::unit::UnitHash;

/// What a user wants of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Known to the cluster, on no machine.
    Inactive,
    /// On a machine and known to its systemd, not started.
    Loaded,
    /// Started.
    Launched,
}

impl Desired {
    /// The word of the HTTP API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Loaded => "loaded",
            Self::Launched => "launched",
        }
    }
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Desired {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "inactive" => Ok(Self::Inactive),
            "loaded" => Ok(Self::Loaded),
            "launched" => Ok(Self::Launched),
            other => Err(format!("invalid desiredState {other:?}: expect inactive, loaded or launched")),
        }
    }
}

/// What is wanted of a unit: the value of `unit/<name>` and `global/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// Its contents, stored under `file/<hash>`.
    pub hash: UnitHash,
    /// What is wanted.
    pub desired: Desired,
    /// Counts the restarts asked for. An agent that sees it grow restarts the unit.
    #[serde(default)]
    pub generation: u64,
    /// Counts how often somebody asked once more for what was wanted already. An agent that sees it grow brings the unit
    /// to `desired` again: what is launched and does not run is started, what is loaded and runs is stopped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub request: u64,
    /// Of a global unit that is being restarted on one machine after the other: `generation` counts on machines up to
    /// this ID, others keep what they have. Absent: it counts everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_to: Option<Box<MachineId>>,
    /// What is not known here.
    #[serde(skip)]
    pub unknown: Unknown,
}

impl UnitRecord {
    /// A record of contents that are wanted so.
    #[must_use]
    pub fn new(hash: UnitHash, desired: Desired, generation: u64) -> Self {
        Self { hash, desired, generation, request: 0, restarted_to: None, unknown: Unknown::default() }
    }

    /// The same, with one restart more asked for, everywhere at once.
    #[must_use]
    pub fn restarted(&self) -> Self {
        // Any other number asks for a restart; the greatest may stand there when others write, too.
        Self { generation: self.generation.wrapping_add(1), restarted_to: None, ..self.clone() }
    }

    /// The same, asked for once more.
    #[must_use]
    pub fn asked_again(&self) -> Self {
        Self { request: self.request.wrapping_add(1), ..self.clone() }
    }
}

record!(UnitRecord: version 1);

pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

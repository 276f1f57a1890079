//! Values in etcd: JSON objects with `"v":1`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{HeldRecord, MachineId, MachineRecord, MetadataEdits, StateRecord, json};
use crate::unit::UnitHash;

/// The version of the schema that this code writes, and the newest that it reads.
pub const SCHEMA: u32 = 1;

/// A type that is the value of a key.
///
/// Members that a reader does not know are passed over, so new optional members need no new version.
pub trait Record: Serialize + DeserializeOwned {
    /// The value as bytes.
    #[must_use]
    fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Versioned<'r, T> {
            v: u32,
            #[serde(flatten)]
            record: &'r T,
        }
        serde_json::to_vec(&Versioned { v: SCHEMA, record: self }).expect("records are plain JSON objects")
    }

    /// Reads a value.
    ///
    /// # Errors
    /// It is no JSON of this shape, or from a newer version of fleet.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = json::from_slice(bytes).map_err(DecodeError::Shape)?;
        if v > SCHEMA {
            return Err(DecodeError::Newer(v));
        }
        // The version is a member of the same object; `Self` passes over it.
        json::from_slice(bytes).map_err(DecodeError::Shape)
    }
}

/// Why a value cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not the JSON that belongs here.
    #[error("not a value of this key's shape")]
    Shape(#[source] serde_json::Error),
    /// Written by a newer fleet.
    #[error("written with schema version {0}, this fleet reads up to {SCHEMA}: upgrade it")]
    Newer(u32),
}

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

/// What is wanted of a unit: the value of `unit/<name>` and `global/<name>`, and what counts of
/// `sched/<machine>/<name>`.
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
}

impl UnitRecord {
    /// A record of contents that are wanted so.
    #[must_use]
    pub fn new(hash: UnitHash, desired: Desired, generation: u64) -> Self {
        Self { hash, desired, generation, request: 0, restarted_to: None }
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

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// All of the value of `sched/<machine>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledRecord {
    /// What is wanted of the unit there.
    #[serde(flatten)]
    pub unit: UnitRecord,
    /// The canonical text of the contents, when it was at hand and is small: the machine need not ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Record for UnitRecord {}
impl Record for ScheduledRecord {}
impl Record for HeldRecord {}
impl Record for MachineRecord {}
impl Record for MetadataEdits {}
impl Record for StateRecord {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_carry_their_version_and_pass_over_unknown_members() {
        let record = UnitRecord::new(UnitHash::of(""), Desired::Launched, 2);
        let text = String::from_utf8(record.encode()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"hash":"da39a3ee5e6b4b0d3255bfef95601890afd80709","desired":"launched","generation":2}"#
        );
        assert_eq!(UnitRecord::decode(text.as_bytes()).unwrap(), record);
        let extended = text.replace(r#""v":1"#, r#""v":1,"later":[1]"#);
        assert_eq!(UnitRecord::decode(extended.as_bytes()).unwrap(), record);
    }

    #[test]
    fn scheduled_value_is_that_of_its_unit_with_or_without_the_file() {
        let unit = UnitRecord::new(UnitHash::of(""), Desired::Launched, 2);
        let without = ScheduledRecord { unit: unit.clone(), file: None };
        assert_eq!(without.encode(), unit.encode());
        let with = ScheduledRecord { file: Some("[Unit]\n".into()), ..without };
        assert_eq!(ScheduledRecord::decode(&with.encode()).unwrap(), with);
        assert_eq!(UnitRecord::decode(&with.encode()).unwrap(), unit);
    }

    #[test]
    fn values_of_wrong_shape_or_newer_version_are_errors() {
        for bad in ["", "null", "[]", "{}", r#"{"v":1}"#, r#"{"v":"1"}"#, r#"{"v":1,"hash":"x","desired":"launched"}"#]
        {
            assert!(matches!(UnitRecord::decode(bad.as_bytes()), Err(DecodeError::Shape(_))), "{bad}");
        }
        assert!(matches!(UnitRecord::decode(br#"{"v":2}"#), Err(DecodeError::Newer(2))));
    }
}

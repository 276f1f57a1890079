//! Where a unit runs or could run, and what is in the way; the units that do not run.

use fleet_core::unit::Warning;
use serde::{Deserialize, Serialize};

/// Added: `GET /fleet/v1/units/NAME/why`: where a unit runs or could run, and what is in the way elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Why {
    /// The unit.
    pub name: String,
    /// The whole answer in one sentence.
    pub summary: String,
    /// The machine it is scheduled to.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// Machine by machine, by ID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<MachineVerdict>,
    /// What its file says and cannot mean, by line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<FileWarning>,
}

/// Something in a unit's file that its author can hardly have meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileWarning {
    /// The line of the unit's text, from 1.
    pub line: u32,
    /// What does not do what it seems to.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl From<Warning> for FileWarning {
    fn from(Warning { line, message, hint }: Warning) -> Self {
        Self { line, message, hint: hint.unwrap_or_default() }
    }
}

/// Whether one machine can take a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineVerdict {
    /// The machine.
    pub id: String,
    /// Its address.
    #[serde(rename = "primaryIP")]
    pub primary_ip: String,
    /// Whether the unit fits on it.
    pub fits: bool,
    /// Why, or why not.
    pub reason: String,
}

/// Added: `GET /fleet/v1/failed`: units that should run and do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failed {
    /// The units, by name and machine ID.
    pub units: Vec<FailedUnit>,
}

/// A unit that should run and does not, on one machine or on none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailedUnit {
    /// The unit.
    pub name: String,
    /// The machine; absent while it has none.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// Why, in words.
    pub reason: String,
}

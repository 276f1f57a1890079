//! Units: their contents and desired states.

use fleet_core::unit::{UnitFile, UnitOption as FileOption};
use serde::{Deserialize, Serialize};

/// `GET /fleet/v1/units`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitPage {
    /// The units, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
    /// Asks for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A unit: its contents, its desired state and how far the cluster has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Unit {
    /// How far the cluster brought it: `inactive`, `loaded` or `launched`; absent for global units.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub current_state: String,
    /// The desired state: `inactive`, `loaded` or `launched`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub desired_state: String,
    /// The machine it is scheduled to.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its contents, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<UnitOption>,
}

/// One `Name=Value` of a unit file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitOption {
    /// The key.
    pub name: String,
    /// The section.
    pub section: String,
    /// The value as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

impl From<&FileOption> for UnitOption {
    fn from(option: &FileOption) -> Self {
        Self { name: option.name.clone(), section: option.section.clone(), value: option.value.clone() }
    }
}

impl From<UnitOption> for FileOption {
    fn from(option: UnitOption) -> Self {
        Self { section: option.section, name: option.name, value: option.value, line: 0 }
    }
}

/// The contents of a file as the API carries them.
#[must_use]
pub fn options_of(file: &UnitFile) -> Vec<UnitOption> {
    file.options().iter().map(UnitOption::from).collect()
}

//! The states of units, as agents report them.

use serde::{Deserialize, Serialize};

/// `GET /fleet/v1/state`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitStatePage {
    /// The states, by unit name and machine ID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<UnitState>,
    /// Asks for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// The state of a unit on one machine, as its agent reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitState {
    /// The contents that are in place.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// The machine.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// The unit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Systemd's active state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub systemd_active_state: String,
    /// Systemd's load state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub systemd_load_state: String,
    /// Systemd's sub state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub systemd_sub_state: String,
}

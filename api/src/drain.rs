//! How far a machine is from being empty.

use serde::{Deserialize, Serialize};

/// Added: `GET /fleet/v1/machines/ID/drain`: how far a machine is from being empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// The machine.
    #[serde(rename = "machineID")]
    pub machine_id: String,
    /// Whether it is to be emptied.
    pub drained: bool,
    /// The units that it still has, by name.
    pub units: Vec<DrainUnit>,
    /// The global units that run on it, and stay.
    pub globals: Vec<String>,
}

/// A unit that a machine still has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainUnit {
    /// The unit.
    pub name: String,
    /// `waiting` until its way is decided, `starting` on another machine, `stopping` before it starts on another, or
    /// `stuck`.
    pub state: String,
    /// Where it is starting.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// Why it is stuck, or what keeps it from its start on the other machine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

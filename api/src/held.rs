//! What the engine holds back, and until when.

use fleet_core::model::{HeldMachineRecord, HeldRecord, HeldUnitRecord};
use serde::{Deserialize, Serialize};

/// Added: `GET /fleet/v1/held`: what the engine holds back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    /// Machines that vanished, and whose units stay where they are for now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<HeldMachine>,
    /// Units that stay on a machine that is gone until they are down there for certain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<HeldUnit>,
}

/// A machine that vanished and may come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeldMachine {
    /// The machine.
    pub id: String,
    /// When it was found gone, as in RFC 3339.
    pub since: String,
    /// When its units move if nothing else happens; absent while nobody can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why, in words.
    pub reason: String,
}

/// A unit that may still run on a machine that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeldUnit {
    /// The unit.
    pub name: String,
    /// The machine.
    #[serde(rename = "machineID")]
    pub machine_id: String,
    /// When the machine was found gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it is down for certain; absent when that is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl From<HeldRecord> for Held {
    fn from(record: HeldRecord) -> Self {
        let machine = |held: HeldMachineRecord| HeldMachine {
            id: held.id.into(),
            since: held.since,
            until: held.until,
            reason: held.reason,
        };
        let unit = |held: HeldUnitRecord| HeldUnit {
            name: held.name.to_string(),
            machine_id: held.machine.into(),
            since: held.since,
            until: held.until,
        };
        Self {
            machines: record.machines.into_iter().map(machine).collect(),
            units: record.units.into_iter().map(unit).collect(),
        }
    }
}

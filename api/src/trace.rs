//! When a start went through the cluster.

use fleet_core::model::StartSteps;
use serde::{Deserialize, Serialize};

/// Added: `GET /fleet/v1/units/NAME/trace`: when a unit's last start went through the cluster. The times are microseconds
/// of the clock of the fleetd that answers, which is the one of `Fleet-Received` and `Fleet-Checked`; those in `start`
/// have passed on its machine since the schedule had come there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Trace {
    /// The unit.
    pub name: String,
    /// The machine it was started on.
    #[serde(rename = "machineID")]
    pub machine_id: String,
    /// This fleetd saw what is wanted of it in etcd.
    pub wanted: i64,
    /// It saw the engine's decision there.
    pub scheduled: i64,
    /// It saw the machine's report there.
    pub reported: i64,
    /// What happened on the machine.
    pub start: StartSteps,
}

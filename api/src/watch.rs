//! The status of units as it changes: lines of an answer without end.

use serde::{Deserialize, Serialize};

/// Added: one line of `GET /fleet/v1/watch?unit=NAME&unit=NAME`, newline-delimited JSON without end.
/// Each unit asked for comes at once, then again whenever something below changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitStatus {
    /// The unit.
    pub name: String,
    /// Whether the cluster knows it. When not, everything below but `reports` is empty.
    pub exists: bool,
    /// Whether it runs on every machine that fits.
    pub global: bool,
    /// The desired contents.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// The desired state: `inactive`, `loaded` or `launched`.
    pub desired_state: String,
    /// How far the cluster brought it: `inactive`, `loaded` or `launched`; empty for global units.
    pub current_state: String,
    /// The machine it is scheduled to.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// The restart that is asked for.
    pub generation: u64,
    /// How often somebody asked for the desired state once more.
    pub request: u64,
    /// What agents report of it, by machine ID. A machine that it has left may still be stopping it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<UnitReport>,
}

/// What one agent reports of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitReport {
    /// The machine.
    #[serde(rename = "machineID")]
    pub machine_id: String,
    /// The contents that are in place.
    pub hash: String,
    /// How far the agent brought it: `loaded` or `launched`.
    pub current_state: String,
    /// The restart that was carried out.
    pub generation: u64,
    /// The request that was carried out; absent from an agent that knows of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// Something had to be done for that: the unit was started or stopped, not found as it should be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub acted: bool,
    /// It has ended as it should, and is not to run again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// Systemd still has a job for it to finish.
    pub job: bool,
    /// Systemd's load state.
    pub load: String,
    /// Systemd's active state.
    pub active: String,
    /// Systemd's sub state.
    pub sub: String,
    /// When it came into this state, in seconds since 1970.
    pub since: u64,
    /// What keeps the agent from the desired state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What is to be known of it though nothing is in the way, say a condition that kept it from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
}

//! The bodies of the HTTP API, version 1: CoreOS fleet's, member for member, and what was added.
//!
//! Empty members are left out. Additions are new resources or new optional members.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{HeldMachineRecord, HeldRecord, HeldUnitRecord, StartSteps};
use crate::unit::{UnitFile, UnitOption as FileOption, Warning};

/// `GET /fleet/v1/machines`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachinePage {
    /// The machines, by ID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<Machine>,
    /// Asks for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A machine that is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    /// Its machine ID.
    pub id: String,
    /// Its metadata, edits included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The address at which others reach it.
    #[serde(rename = "primaryIP", skip_serializing_if = "String::is_empty")]
    pub primary_ip: String,
    /// Added: its host name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Added: it is to be emptied, and gets no new units.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}

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

/// A unit: its contents, what is wanted of it and how far that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Unit {
    /// How far the cluster brought it: `inactive`, `loaded` or `launched`; absent for global units.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub current_state: String,
    /// What is wanted: `inactive`, `loaded` or `launched`.
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

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntity {
    /// The error.
    pub error: ErrorBody,
}

/// An error: the HTTP status again, and a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The HTTP status.
    pub code: u16,
    /// What went wrong.
    pub message: String,
}

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
    /// The contents that are wanted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// What is wanted: `inactive`, `loaded` or `launched`.
    pub desired_state: String,
    /// How far the cluster brought it: `inactive`, `loaded` or `launched`; empty for global units.
    pub current_state: String,
    /// The machine it is scheduled to.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// The restart that is asked for.
    pub generation: u64,
    /// How often somebody asked once more for what was wanted already.
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
    /// What keeps the agent from doing what is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What is to be known of it though nothing is in the way, say a condition that kept it from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
}

/// Added: the body of `POST /fleet/v1/changes`: what is wanted of many units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Changes {
    /// The changes, of each unit one at most.
    pub changes: Vec<Change>,
}

/// What a `PUT` or a `DELETE` of one unit would say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Change {
    /// The unit.
    pub name: String,
    /// What is wanted: `inactive`, `loaded` or `launched`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub desired_state: String,
    /// Its contents, in order; none leave them as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<UnitOption>,
    /// What is asked for also if the state was wanted before.
    #[serde(skip_serializing_if = "Again::is_no")]
    pub again: Again,
    /// The unit is to be forgotten.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub destroy: bool,
}

/// What a request asks for although the unit was wanted so before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Again {
    /// Nothing.
    #[default]
    No,
    /// What is launched and does not run is started, what is loaded and runs is stopped.
    Ensure,
    /// The unit is run anew, also if it was wanted otherwise for a moment.
    Restart,
}

impl Again {
    fn is_no(&self) -> bool {
        *self == Self::No
    }
}

/// The answer: how each change went, in the order of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangesMade {
    /// The outcomes.
    pub results: Vec<ChangeMade>,
}

/// How one change went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangeMade {
    /// The unit.
    pub name: String,
    /// The HTTP status that the same would have had alone.
    pub code: u16,
    /// What went wrong, if something did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

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

/// Added: `GET /fleet/v1/failed`: units that are wanted and do not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failed {
    /// The units, by name and machine ID.
    pub units: Vec<FailedUnit>,
}

/// A unit that is wanted and does not run, on one machine or on none.
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

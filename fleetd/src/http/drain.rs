//! `/machines/{id}/drain`: emptying a machine.

use std::collections::BTreeMap;

use axum::{extract::State, http::StatusCode, response::Response};
use fleet_api::{Drain, DrainUnit};
use fleet_core::{
    model::{MachineId, Placement},
    ops::{Operation, Refusal},
    unit::UnitName,
};

use super::{Api, ApiError, Shared, aged, peer::By, request::Name, status_of, why};
use crate::registry::{Store, view::Reading};

/// The state of a unit on whose way nothing is decided.
const WAITING: &str = "waiting";

/// `PUT /machines/{id}/drain`
pub(super) async fn drain<S: Store>(
    State(api): Shared<S>,
    By(actor): By,
    Name(id): Name,
) -> Result<StatusCode, ApiError> {
    let id = MachineId::new(&id).map_err(|_| Refusal::MachineMissing)?;
    api.carry_out(&actor, &Operation::Drain(id)).await.map(status_of)
}

/// `DELETE /machines/{id}/drain`
pub(super) async fn undrain<S: Store>(
    State(api): Shared<S>,
    By(actor): By,
    Name(id): Name,
) -> Result<StatusCode, ApiError> {
    let id = MachineId::new(&id).map_err(|_| Refusal::MachineMissing)?;
    api.carry_out(&actor, &Operation::Undrain(id)).await.map(status_of)
}

/// `GET /machines/{id}/drain`
pub(super) async fn progress<S: Store>(State(api): Shared<S>, Name(id): Name) -> Result<Response, ApiError> {
    let id = MachineId::new(&id).map_err(|_| Refusal::MachineMissing)?;
    let reading = api.view.read().await?;
    let cluster = &reading.cluster;
    if !cluster.machines.contains_key(&id) && !cluster.metadata.contains_key(&id) {
        return Err(Refusal::MachineMissing.into());
    }
    let here: BTreeMap<&UnitName, &Placement> = cluster
        .scheduled
        .iter()
        .filter(|((machine, _), placement)| *machine == id && !placement.record.global)
        .map(|((_, unit), scheduled)| (unit, &*scheduled.record))
        .collect();
    let elsewhere: BTreeMap<&UnitName, &MachineId> = cluster
        .scheduled
        .iter()
        .filter(|((machine, unit), other)| *machine != id && !other.record.is_recall() && here.contains_key(unit))
        .map(|((machine, unit), _)| (unit, machine))
        .collect();
    // What keeps the new copy from its start.
    let problem = |unit: &UnitName, machine: &MachineId| {
        let state = cluster.states.get(&(machine.clone(), unit.clone()));
        state.and_then(|state| state.record.problem.clone()).unwrap_or_default()
    };
    let mut units: Vec<DrainUnit> = Vec::new();
    for (unit, scheduled) in &here {
        let to = elsewhere.get(unit).copied();
        let reason = to.map(|machine| problem(unit, machine)).unwrap_or_default();
        units.push(DrainUnit { reason, ..state(unit, scheduled, to) });
    }
    if units.iter().any(|unit| unit.state == WAITING) {
        explain(&api, &reading, &id, &mut units).await?;
    }
    let globals = cluster.states.keys().filter(|(machine, unit)| *machine == id && cluster.globals.contains_key(unit));
    let body = Drain {
        machine_id: id.to_string(),
        drained: cluster.drains(&id),
        units,
        globals: globals.map(|(_, unit)| unit.to_string()).collect(),
    };
    Ok(aged(body, reading.age))
}

/// How far a unit is on its way to another machine.
fn state(unit: &UnitName, scheduled: &Placement, elsewhere: Option<&MachineId>) -> DrainUnit {
    let unit_state = |state: &str| DrainUnit { name: unit.to_string(), state: state.into(), ..DrainUnit::default() };
    if scheduled.is_recall() {
        unit_state("stopping")
    } else if let Some(machine) = elsewhere {
        DrainUnit { machine_id: machine.to_string(), ..unit_state("starting") }
    } else {
        unit_state(WAITING)
    }
}

/// Says which of the units that wait are stuck, and why.
async fn explain<S: Store>(
    api: &Api<S>,
    reading: &Reading,
    id: &MachineId,
    units: &mut [DrainUnit],
) -> Result<(), ApiError> {
    let cluster = &reading.cluster;
    let held = why::known_held(api, reading).await;
    let mut stuck = api.explainer.at(cluster, &held).await?.stuck_on(id);
    if !cluster.machines.contains_key(id) {
        for unit in units.iter().filter_map(|unit| UnitName::new(&unit.name).ok()) {
            let reason = format!("the machine is away; `fleetctl why {unit}` says when it moves");
            stuck.entry(unit).or_insert(reason);
        }
    }
    for unit in units.iter_mut().filter(|unit| unit.state == WAITING) {
        if let Some(reason) = stuck.remove(unit.name.as_str()) {
            unit.state = "stuck".into();
            unit.reason = reason;
        }
    }
    Ok(())
}

//! `/machines/{id}/drain`: emptying a machine.

use std::collections::BTreeMap;

use axum::{
    extract::{Path, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use fleet_core::{
    model::{
        Desired, MachineId, UnitRecord,
        api::{Drain, DrainUnit},
    },
    unit::UnitName,
};

use super::{Api, ApiError, Shared, aged, machines::change, status};
use crate::registry::{Cluster, Store};

/// `GET`, `PUT` and `DELETE /machines/{id}/drain`
pub(super) async fn drain<S: Store>(
    State(api): Shared<S>,
    method: Method,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = MachineId::new(&id).map_err(|_| missing())?;
    match method {
        Method::GET => get(&api, &id).await,
        Method::PUT => {
            if !api.view.read().await?.cluster.machines.contains_key(&id) {
                return Err(missing());
            }
            change(&api, &id, &[], |edits| edits.drain = true).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Method::DELETE => {
            // Also of a machine that is gone for now: it is to take units when it is back.
            let cluster = api.view.read().await?.cluster;
            if !cluster.machines.contains_key(&id) && !cluster.metadata.contains_key(&id) {
                return Err(missing());
            }
            change(&api, &id, &[], |edits| edits.drain = false).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(ApiError::method_not_allowed("only GET, PUT and DELETE supported against this resource")),
    }
}

async fn get<S: Store>(api: &Api<S>, id: &MachineId) -> Result<Response, ApiError> {
    let reading = api.view.read().await?;
    let cluster = &reading.cluster;
    if !cluster.machines.contains_key(id) && !cluster.metadata.contains_key(id) {
        return Err(missing());
    }
    let planner = status::planner(api, &reading).await?;
    let stuck = planner.stuck().filter(|(_, on, _)| *on == id);
    let stuck: BTreeMap<&UnitName, String> = stuck.map(|(unit, _, reason)| (unit, reason.to_string())).collect();
    let here = cluster.scheduled.iter().filter(|((machine, _), _)| machine == id);
    let units = here.map(|((_, unit), scheduled)| DrainUnit {
        name: unit.to_string(),
        ..state(unit, &scheduled.record, id, cluster, &stuck)
    });
    let globals = cluster.states.keys().filter(|(machine, unit)| machine == id && cluster.globals.contains_key(unit));
    let body = Drain {
        machine_id: id.to_string(),
        drained: cluster.metadata.get(id).is_some_and(|edits| edits.record.drain),
        units: units.collect(),
        globals: globals.map(|(_, unit)| unit.to_string()).collect(),
    };
    Ok(aged(body, reading.age))
}

/// How far a unit is on its way from a machine.
fn state(
    unit: &UnitName,
    scheduled: &UnitRecord,
    from: &MachineId,
    cluster: &Cluster,
    stuck: &BTreeMap<&UnitName, String>,
) -> DrainUnit {
    let elsewhere = cluster
        .scheduled
        .iter()
        .find(|((machine, name), other)| name == unit && machine != from && other.record.desired != Desired::Inactive);
    let unit_state = |state: &str| DrainUnit { state: state.into(), ..DrainUnit::default() };
    if scheduled.desired == Desired::Inactive {
        unit_state("stopping")
    } else if let Some(((machine, _), _)) = elsewhere {
        DrainUnit { machine_id: machine.to_string(), ..unit_state("starting") }
    } else if let Some(reason) = stuck.get(unit) {
        DrainUnit { reason: reason.clone(), ..unit_state("stuck") }
    } else {
        unit_state("waiting")
    }
}

fn missing() -> ApiError {
    ApiError::not_found("machine does not exist")
}

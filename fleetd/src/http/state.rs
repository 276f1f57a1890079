//! `/state`: what agents report.

use axum::{
    extract::{Path, Query, State},
    http::Method,
    response::Response,
};
use fleet_core::{
    model::{
        MachineId, StateRecord,
        api::{UnitState, UnitStatePage},
    },
    unit::UnitName,
};
use serde::Deserialize;

use super::{ApiError, Shared, aged, only, page::page};
use crate::registry::{Cluster, Store};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    next_page_token: Option<String>,
    #[serde(rename = "machineID")]
    machine_id: Option<String>,
    unit_name: Option<String>,
}

/// `GET /state`
pub(super) async fn collection<S: Store>(
    State(api): Shared<S>,
    method: Method,
    Query(filter): Query<Filter>,
) -> Result<Response, ApiError> {
    only(&method, &[Method::GET], "GET")?;
    let reading = api.view.read().await?;
    let given = |filter: &Option<String>| filter.clone().filter(|filter| !filter.is_empty());
    let (machine, unit) = (given(&filter.machine_id), given(&filter.unit_name));
    let mut states = states(&reading.cluster);
    states.retain(|state| {
        machine.as_ref().is_none_or(|machine| *machine == state.machine_id)
            && unit.as_ref().is_none_or(|unit| *unit == state.name)
    });
    let (states, next_page_token) = page(states, filter.next_page_token.as_deref(), api.token_limit)?;
    Ok(aged(UnitStatePage { states, next_page_token }, reading.age))
}

/// `GET /state/{name}`
pub(super) async fn one<S: Store>(
    State(api): Shared<S>,
    method: Method,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    only(&method, &[Method::GET], "GET")?;
    let reading = api.view.read().await?;
    let found = states(&reading.cluster).into_iter().find(|state| state.name == name);
    found.map(|state| aged(state, reading.age)).ok_or_else(|| ApiError::not_found("unit state does not exist"))
}

/// The states of all units, by name and then machine.
fn states(cluster: &Cluster) -> Vec<UnitState> {
    let states = cluster.states.iter();
    let mut states: Vec<UnitState> =
        states.map(|((machine, unit), value)| state(machine, unit, &value.record)).collect();
    states.sort_by(|a, b| (&a.name, &a.machine_id).cmp(&(&b.name, &b.machine_id)));
    states
}

fn state(machine: &MachineId, unit: &UnitName, state: &StateRecord) -> UnitState {
    UnitState {
        hash: state.hash.to_string(),
        machine_id: machine.to_string(),
        name: unit.to_string(),
        systemd_active_state: state.active.clone(),
        systemd_load_state: state.load.clone(),
        systemd_sub_state: state.sub.clone(),
    }
}

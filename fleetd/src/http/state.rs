//! `/state`: what agents report.

use axum::{extract::State, response::Response};
use fleet_api::{Reason, UnitState, UnitStatePage};
use fleet_core::{
    model::{MachineId, Snapshot, StateRecord},
    unit::UnitName,
};

use super::{
    ApiError, Shared, aged,
    page::page,
    request::{Name, Query},
};
use crate::registry::Store;

/// `GET /state`
pub(super) async fn list<S: Store>(State(api): Shared<S>, query: Query) -> Result<Response, ApiError> {
    let reading = api.view.read().await?;
    let given = |name| query.get(name).filter(|filter| !filter.is_empty());
    let (machine, unit) = (given("machineID"), given("unitName"));
    let mut places = places(&reading.cluster);
    places.retain(|(name, id, _)| {
        machine.as_ref().is_none_or(|machine| *machine == id.as_str())
            && unit.as_ref().is_none_or(|unit| *unit == name.as_str())
    });
    let (places, next_page_token) = page(places, &query, api.token_limit)?;
    let states = places.into_iter().map(state).collect();
    Ok(aged(UnitStatePage { states, next_page_token }, reading.age))
}

/// `GET /state/{name}`
pub(super) async fn one<S: Store>(State(api): Shared<S>, Name(name): Name) -> Result<Response, ApiError> {
    let reading = api.view.read().await?;
    let found = places(&reading.cluster).into_iter().find(|(unit, _, _)| unit.as_str() == name);
    found
        .map(|place| aged(state(place), reading.age))
        .ok_or_else(|| ApiError::new(Reason::StateNotFound, "unit state does not exist"))
}

/// A unit on a machine, and how it is there.
type Place<'c> = (&'c UnitName, &'c MachineId, &'c StateRecord);

/// All that is reported, by name and then machine.
fn places(cluster: &Snapshot) -> Vec<Place<'_>> {
    let states = cluster.states.iter();
    let mut places: Vec<Place<'_>> = states.map(|((machine, unit), value)| (unit, machine, &*value.record)).collect();
    places.sort_unstable_by_key(|(unit, machine, _)| (*unit, *machine));
    places
}

fn state((unit, machine, state): Place<'_>) -> UnitState {
    UnitState {
        hash: state.hash.to_string(),
        machine_id: machine.to_string(),
        name: unit.to_string(),
        systemd_active_state: state.active.to_string(),
        systemd_load_state: state.load.clone(),
        systemd_sub_state: state.sub.clone(),
    }
}

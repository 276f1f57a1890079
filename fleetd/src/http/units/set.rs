//! `PUT` and `DELETE /units/{name}`.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use fleet_api::Unit;
use fleet_core::{
    model::{Desired, Snapshot, Standing},
    ops::{Operation, Refusal, SetUnit, WhenSame},
    unit::{UnitName, UnitOption},
};
use tokio::time::Instant;

use super::standing;
use crate::{
    http::{
        ApiError, Shared, body, go_client,
        peer::By,
        request::{Name, Whole, json_only},
        status_of,
        trace::times,
    },
    registry::Store,
};

/// `PUT /units/{name}`
pub async fn put<S: Store>(
    State(api): Shared<S>,
    By(actor): By,
    Name(name): Name,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, ApiError> {
    let received = Instant::now();
    json_only(&headers)?;
    let unit: Unit = body::decode(&body)
        .map_err(|error| ApiError::bad_request(&format!("unable to decode body: {}", error.of_go("schema.Unit"))))?;
    if !unit.name.is_empty() && unit.name != name {
        return Err(ApiError::bad_request(&format!(
            "name in URL {name:?} differs from unit name in request body {:?}",
            unit.name
        )));
    }
    let options: Vec<UnitOption> = unit.options.into_iter().map(Into::into).collect();
    let mut request = SetUnit::read(&name, &unit.desired_state, &options)?;
    let (name, desired) = (request.name.clone(), request.desired);
    let cluster = api.view.read().await?.cluster;
    let before = go_client::is(&headers).then(|| standing(&cluster, &name));
    request.when_same = match desired {
        desired if before.is_some() && api.go_clients.is_restart(&name, desired, received) => WhenSame::Restart,
        // Programs say again and again what they want: that is to cost no write while it is so.
        Some(Desired::Launched) if is_off(&cluster, &name) => WhenSame::Ensure,
        _ => WhenSame::Nothing,
    };
    let done = api.carry_out(&actor, &Operation::Set(request)).await?;
    if let Some(before) = before {
        api.go_clients.take_note(&name, desired, &before, Instant::now());
    }
    Ok((times(received, done.checked), status_of(done)).into_response())
}

/// Whether a unit that is wanted launched is known not to run on a machine where it should.
fn is_off(cluster: &Snapshot, name: &UnitName) -> bool {
    let states = cluster.machines.keys().filter_map(|machine| cluster.states.get(&(machine.clone(), name.clone())));
    states.into_iter().any(|state| Standing::of(Desired::Launched, &state.record) == Standing::Off)
}

/// `DELETE /units/{name}`
pub async fn delete<S: Store>(State(api): Shared<S>, By(actor): By, Name(name): Name) -> Result<StatusCode, ApiError> {
    let name = UnitName::new(&name).map_err(|_| Refusal::UnitMissing)?;
    api.carry_out(&actor, &Operation::Destroy(name)).await.map(status_of)
}

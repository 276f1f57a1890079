//! `/machines/{id}/evict` and `/held`: machines that vanished, and may have to be given up.

use axum::{
    extract::State,
    http::{Method, StatusCode},
    response::Response,
};
use fleet_api as api;
use fleet_core::model::{HeldRecord, Key, MachineId, Record};

use super::{Api, ApiError, Shared, aged, machines::change, only, request::Name};
use crate::registry::{Guard, Store, StoreError};

/// `PUT /machines/{id}/evict`
pub(super) async fn evict<S: Store>(
    State(api): Shared<S>,
    method: Method,
    Name(id): Name,
) -> Result<StatusCode, ApiError> {
    only(&method, &[Method::PUT], "PUT")?;
    let missing = || ApiError::not_found("machine does not exist");
    let id = MachineId::new(&id).map_err(|_| missing())?;
    let key = api.keys.format(&Key::Machine(id.clone()));
    if !api.store.get(std::slice::from_ref(&key)).await?.entries.is_empty() {
        return Err(ApiError::conflict("machine is alive: drain it, or stop its fleetd"));
    }
    let cluster = api.view.read().await?.cluster;
    let is_held = || async { Ok::<_, StoreError>(held(&api).await?.machines.iter().any(|held| held.id == id)) };
    if !cluster.scheduled.keys().any(|(machine, _)| *machine == id) && !is_held().await? {
        return Err(missing());
    }
    change(&api, &id, &[Guard::Unchanged(key, 0)], |edits| edits.evicted = true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /held`
pub(super) async fn list<S: Store>(State(api): Shared<S>, method: Method) -> Result<Response, ApiError> {
    only(&method, &[Method::GET], "GET")?;
    Ok(aged(api::Held::from(held(&api).await?), None))
}

/// What the engine holds back.
pub(super) async fn held<S: Store>(api: &Api<S>) -> Result<HeldRecord, StoreError> {
    let stored = api.store.get(&[api.keys.held()]).await?.entries.pop();
    // What cannot be read was written by a newer fleet; nothing is known of it here.
    Ok(stored.and_then(|stored| HeldRecord::decode(&stored.value).ok()).unwrap_or_default())
}

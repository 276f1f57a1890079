//! `/machines/{id}/evict` and `/held`: machines that vanished, and may have to be given up.

use axum::{extract::State, http::StatusCode, response::Response};
use fleet_api::Held;
use fleet_core::{
    model::{HeldRecord, Key, MachineId, Record},
    ops::{Operation, Refusal},
};

use super::{Api, ApiError, Shared, aged, peer::By, request::Name, status_of};
use crate::registry::{Store, StoreError};

/// `PUT /machines/{id}/evict`
pub(super) async fn evict<S: Store>(
    State(api): Shared<S>,
    By(actor): By,
    Name(id): Name,
) -> Result<StatusCode, ApiError> {
    let machine = MachineId::new(&id).map_err(|_| Refusal::MachineMissing)?;
    let cluster = api.view.read().await?.cluster;
    let is_known = cluster.scheduled.keys().any(|(other, _)| *other == machine)
        || held(&api).await?.machines.iter().any(|held| held.id == machine);
    api.carry_out(&actor, &Operation::Evict { machine, is_known }).await.map(status_of)
}

/// `GET /held`
pub(super) async fn list<S: Store>(State(api): Shared<S>) -> Result<Response, ApiError> {
    Ok(aged(Held::from(held(&api).await?), None))
}

/// What the engine holds back.
pub(super) async fn held<S: Store>(api: &Api<S>) -> Result<HeldRecord, StoreError> {
    let stored = api.store.get(&[api.keys.format(&Key::Held)]).await?.entries.pop();
    // What cannot be read was written by a newer fleet; nothing is known of it here.
    Ok(stored.and_then(|stored| HeldRecord::decode(&stored.value).ok()).unwrap_or_default())
}

//! `/units`: what is wanted of units.

pub(super) mod restart;
pub(super) mod set;

use std::collections::HashSet;

use axum::{extract::State, http::HeaderMap, response::Response};
use fleet_api::{Unit, UnitPage, UnitStatus, options_of};
use fleet_core::{
    model::Snapshot,
    ops::Refusal,
    unit::{UnitHash, UnitName},
};
use tokio::time::Instant;

use super::{
    Api, ApiError, Shared, aged, go_client,
    page::page,
    request::{Name, Query},
    status::Index,
    watch::asked,
};
use crate::registry::Store;

/// `GET /units`
pub(super) async fn list<S: Store>(State(api): Shared<S>, query: Query) -> Result<Response, ApiError> {
    let asked = asked(&query)?;
    let reading = api.view.read().await?;
    let cluster = &reading.cluster;
    if !asked.is_empty() {
        // No more than can be named in a request, so on one page.
        let known = |name: &&UnitName| cluster.units.contains_key(*name) || cluster.globals.contains_key(*name);
        let mut names: Vec<&UnitName> = asked.iter().filter(known).collect();
        names.sort_unstable();
        let units = units(&api, cluster, &names).await?;
        return Ok(aged(UnitPage { units, next_page_token: None }, reading.age));
    }
    let mut names: Vec<&UnitName> = cluster.units.keys().chain(cluster.globals.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let (names, next_page_token) = page(names, &query, api.token_limit)?;
    let units = units(&api, cluster, &names).await?;
    if next_page_token.is_none() {
        let records = cluster.units.values().chain(cluster.globals.values());
        let used: HashSet<UnitHash> = records.map(|record| record.record.hash).collect();
        api.files.retain(|hash| used.contains(hash));
    }
    Ok(aged(UnitPage { units, next_page_token }, reading.age))
}

/// `GET /units/{name}`
pub(super) async fn one<S: Store>(
    State(api): Shared<S>,
    Name(name): Name,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let name = UnitName::new(&name).map_err(|_| Refusal::UnitMissing)?;
    let reading = api.view.read().await?;
    let known = reading.cluster.units.contains_key(&name) || reading.cluster.globals.contains_key(&name);
    if !known {
        return Err(Refusal::UnitMissing.into());
    }
    let mut unit = units(&api, &reading.cluster, &[&name]).await?.pop().ok_or(Refusal::UnitMissing)?;
    if go_client::is(&headers) {
        unit.current_state = api.go_clients.shown(&name, &standing(&reading.cluster, &name), Instant::now());
    }
    Ok(aged(unit, reading.age))
}

/// How one unit stands.
fn standing(cluster: &Snapshot, name: &UnitName) -> UnitStatus {
    Index::new(cluster, Some(&[name.clone()].into())).status(name)
}

/// Units with their contents.
async fn units<S: Store>(api: &Api<S>, cluster: &Snapshot, names: &[&UnitName]) -> Result<Vec<Unit>, ApiError> {
    let asked: HashSet<UnitName> = names.iter().map(|name| (*name).clone()).collect();
    let index = Index::new(cluster, Some(&asked));
    let record =
        |name: &UnitName| cluster.units.get(name).or_else(|| cluster.globals.get(name)).map(|value| &value.record);
    let files = api.files.get(names.iter().filter_map(|name| record(name)).map(|record| record.hash)).await?;
    let unit = |name: &UnitName| {
        let status = index.status(name);
        Unit {
            current_state: status.current_state,
            desired_state: status.desired_state,
            machine_id: status.machine_id,
            options: record(name)
                .and_then(|record| files.get(&record.hash))
                .map(|file| options_of(file))
                .unwrap_or_default(),
            name: status.name,
        }
    };
    Ok(names.iter().map(|name| unit(name)).collect())
}

//! `POST /changes`: what is wanted of many units at once.
//!
//! In: changes, each of which could be a `PUT` or a `DELETE` of one unit. Out: the status of each, which is the one that
//! it would have had alone.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use fleet_api::{Again, Change, ChangeMade, Changes, ChangesMade};
use fleet_core::{
    ops::{Operation, Refusal, SetUnit, WhenSame},
    unit::{UnitName, UnitOption},
};
use tokio::time::Instant;
use tracing::info;

use super::{
    ApiError, Shared, body,
    error::tell,
    peer::By,
    request::{Whole, json_only},
    status_of,
    trace::times,
};
use crate::registry::{
    Store,
    commit::{Carried, Done, Failure, carry_out_many},
};

/// `POST /changes`
pub(super) async fn changes<S: Store>(
    State(api): Shared<S>,
    By(actor): By,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, ApiError> {
    let received = Instant::now();
    json_only(&headers)?;
    let Changes { changes } =
        body::decode(&body).map_err(|error| ApiError::bad_request(&format!("unable to decode body: {error}")))?;
    let mut names = BTreeSet::new();
    if let Some(twice) = changes.iter().find(|change| !names.insert(change.name.clone())) {
        return Err(ApiError::bad_request(&format!("unit {:?} stands in the request twice", twice.name)));
    }
    let names: Vec<String> = changes.iter().map(|change| change.name.clone()).collect();
    let mut operations = Vec::new();
    // A change that makes no sense by itself is no operation.
    let read: Vec<Result<(), Refusal>> =
        changes.into_iter().map(|change| read(change).map(|operation| operations.push(operation))).collect();
    let reading = api.view.read().await?;
    let cluster = reading.age.is_none().then_some(&reading.cluster);
    let Carried { outcomes, checked } = carry_out_many(&api.store, &api.keys, cluster, &operations).await?;
    if let Some(written) = outcomes.iter().flatten().filter(|done| done.has_written).map(|done| done.revision).max() {
        api.view.seen(written).await;
    }
    // Once for all units that share it.
    if let Some(Failure::Store(error)) = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).find(is_of_store)
    {
        tell(error);
    }
    let changed = outcomes.iter().flatten().filter(|done| done.has_written).count();
    if changed > 0 {
        info!(%actor, changed, of = names.len(), "units changed");
    }
    let mut outcomes = outcomes.into_iter();
    let mut next = || outcomes.next().expect("each operation has an outcome");
    let results = names.into_iter().zip(read).map(|(name, read)| match read {
        Ok(()) => made(name, next().map_err(ApiError::from)),
        Err(refusal) => made(name, Err(refusal.into())),
    });
    Ok((times(received, checked), Json(ChangesMade { results: results.collect() })).into_response())
}

fn read(change: Change) -> Result<Operation, Refusal> {
    let Change { name, desired_state, options, again, destroy } = change;
    if destroy {
        if !options.is_empty() || !desired_state.is_empty() {
            return Err(Refusal::DestroyedAndSet);
        }
        return UnitName::new(&name).map(Operation::Destroy).map_err(|_| Refusal::UnitMissing);
    }
    let options: Vec<UnitOption> = options.into_iter().map(Into::into).collect();
    let request = SetUnit::read(&name, &desired_state, &options)?;
    let when_same = match again {
        Again::No => WhenSame::Nothing,
        Again::Ensure => WhenSame::Ensure,
        Again::Restart => WhenSame::Restart,
    };
    Ok(Operation::Set(SetUnit { when_same, ..request }))
}

fn made(name: String, outcome: Result<Done, ApiError>) -> ChangeMade {
    match outcome {
        Ok(done) => ChangeMade { name, code: status_of(done).as_u16(), ..ChangeMade::default() },
        Err(error) => ChangeMade {
            name,
            code: error.status().as_u16(),
            message: error.message().into(),
            reason: Some(error.reason().clone()),
        },
    }
}

fn is_of_store(failure: &&Failure) -> bool {
    matches!(failure, Failure::Store(_))
}

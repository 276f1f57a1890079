//! `POST /changes`: what is wanted of many units at once.
//!
//! In: changes, each of which could be a `PUT` or a `DELETE` of one unit. Out: the status of each, which is the one that
//! it would have had alone. What was there is taken from the view of the cluster instead of being read unit by unit,
//! and guarded; many units share a transaction, and several are under way at a time. The units of one that is refused,
//! because one of them has changed meanwhile, are then changed one by one.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use fleet_api::{Change, ChangeMade, Changes, ChangesMade};
use fleet_core::{
    model::{Key, Snapshot},
    unit::UnitName,
};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::{
    Api, ApiError, Shared, body, only,
    request::Whole,
    trace::times,
    units::{Present, Wish, delete, json_only, missing, next, set, transaction},
};
use crate::registry::{MAX_OPERATIONS, Revision, Store, Transaction, Write};

/// Most bytes of values in a transaction: etcd takes 1.5 MB in a request.
const MAX_BYTES: usize = 1 << 20;
/// Transactions, or single units, under way at a time.
const IN_FLIGHT: usize = 8;

/// What is to become of one unit.
enum Asked {
    Set(Wish),
    Destroy(UnitName),
}

type Outcome = Result<StatusCode, ApiError>;

/// `POST /changes`
pub(super) async fn changes<S: Store>(
    State(api): Shared<S>,
    method: Method,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, ApiError> {
    let received = Instant::now();
    only(&method, &[Method::POST], "POST")?;
    json_only(&headers)?;
    let Changes { changes } =
        body::decode(&body).map_err(|error| ApiError::bad_request(&format!("unable to decode body: {error}")))?;
    let mut names = BTreeSet::new();
    if let Some(twice) = changes.iter().find(|change| !names.insert(change.name.clone())) {
        return Err(ApiError::bad_request(&format!("unit {:?} stands in the request twice", twice.name)));
    }
    let names: Vec<String> = changes.iter().map(|change| change.name.clone()).collect();
    let asked: Vec<Result<Asked, ApiError>> = changes.into_iter().map(read).collect();
    let reading = api.view.read().await?;
    let cluster = reading.age.is_none().then_some(&reading.cluster);
    // Of the present, as the generation of a new unit tells it from those of its name that went before.
    let revision = api.store.get(&[api.keys.format(&Key::Leader)]).await?.revision;
    let checked = Instant::now();
    let outcomes = carry_out(&api, asked, cluster, revision).await;
    let made = |(name, outcome): (String, Outcome)| match outcome {
        Ok(status) => ChangeMade { name, code: status.as_u16(), ..ChangeMade::default() },
        Err(error) => ChangeMade { name, code: error.status().as_u16(), message: error.message().into(), reason: None },
    };
    let results = names.into_iter().zip(outcomes).map(made).collect();
    Ok((times(received, checked), Json(ChangesMade { results })).into_response())
}

fn read(change: Change) -> Result<Asked, ApiError> {
    if !change.destroy {
        let wish = Wish::read(&change.name, &change.desired_state, change.options);
        return wish.map(|wish| Asked::Set(Wish { again: change.again, ..wish }));
    }
    if !change.options.is_empty() || !change.desired_state.is_empty() {
        return Err(ApiError::bad_request("what is to be destroyed has neither options nor a desired state"));
    }
    UnitName::new(&change.name).map(Asked::Destroy).map_err(|_| missing())
}

/// Carries out all changes. The outcomes are in their order.
async fn carry_out<S: Store>(
    api: &Api<S>,
    asked: Vec<Result<Asked, ApiError>>,
    cluster: Option<&Snapshot>,
    revision: Revision,
) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = Vec::new();
    let mut single = Vec::new();
    let mut pack = Pack::default();
    for (place, asked) in asked.iter().enumerate() {
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => {
                outcomes.push(Some(Err(error.clone())));
                continue;
            }
        };
        match cluster.and_then(|cluster| plan(api, asked, cluster, revision)) {
            Some(Ok((status, transaction))) if transaction.writes.is_empty() => outcomes.push(Some(Ok(status))),
            Some(Ok((status, transaction))) => {
                pack.add(place, status, transaction);
                outcomes.push(None);
            }
            Some(Err(error)) => outcomes.push(Some(Err(error))),
            None => {
                single.push(place);
                outcomes.push(None);
            }
        }
    }
    let commit = |batch: Batch| async move { (batch.units, api.store.commit(batch.transaction).await) };
    let mut committed = stream::iter(pack.close()).map(commit).buffer_unordered(IN_FLIGHT);
    let mut last: Revision = 0;
    while let Some((units, outcome)) = committed.next().await {
        let outcome = outcome.map_err(ApiError::from);
        for (place, status) in units {
            match &outcome {
                Ok(Some(revision)) => {
                    last = last.max(*revision);
                    outcomes[place] = Some(Ok(status));
                }
                Ok(None) => single.push(place),
                Err(error) => outcomes[place] = Some(Err(error.clone())),
            }
        }
    }
    if last > 0 {
        api.view.seen(last).await;
    }
    let alone = |place: usize| {
        let asked = &asked[place];
        async move {
            let outcome = match asked {
                Ok(Asked::Set(wish)) => set(api, wish).await.map(|(status, _)| status),
                Ok(Asked::Destroy(name)) => delete(api, name.as_str()).await,
                Err(error) => Err(error.clone()),
            };
            (place, outcome)
        }
    };
    let mut alone = stream::iter(single).map(alone).buffer_unordered(IN_FLIGHT);
    while let Some((place, outcome)) = alone.next().await {
        outcomes[place] = Some(outcome);
    }
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(ApiError::internal("not carried out")))).collect()
}

/// What a change writes, going by a picture of the cluster; `None` when that is not enough to go by.
fn plan<S: Store>(
    api: &Api<S>,
    asked: &Asked,
    cluster: &Snapshot,
    revision: Revision,
) -> Option<Result<(StatusCode, Transaction), ApiError>> {
    let name = match asked {
        Asked::Set(wish) => &wish.name,
        Asked::Destroy(name) => name,
    };
    let present = present(cluster, name, revision)?;
    let wish = match asked {
        Asked::Set(wish) => wish,
        Asked::Destroy(_) if !present.exists() => return Some(Err(missing())),
        Asked::Destroy(_) => {
            return Some(Ok((StatusCode::NO_CONTENT, transaction(&api.keys, name, &present, None, None))));
        }
    };
    let (record, global, status) = match next(wish, &present) {
        Ok(next) => next,
        Err(error) => return Some(Err(error)),
    };
    if present.is(&record, global) {
        // Whether its file is stored, too, the picture does not show.
        return wish.new.is_none().then(|| Ok((StatusCode::NO_CONTENT, Transaction::default())));
    }
    Some(Ok((status, transaction(&api.keys, name, &present, Some((&record, global)), wish.new.as_ref()))))
}

/// A unit as a picture of the cluster shows it; `None` when there is something of it that cannot be read.
fn present(cluster: &Snapshot, name: &UnitName, revision: Revision) -> Option<Present> {
    let keys = [Key::Unit(name.clone()), Key::Global(name.clone())];
    if keys.iter().any(|key| cluster.unreadable.contains(key)) {
        return None;
    }
    let (ordinary, global) = (cluster.units.get(name), cluster.globals.get(name));
    let record = global.map(|value| (value, true)).or(ordinary.map(|value| (value, false)));
    Some(Present {
        record: record.map(|(value, is_global)| ((*value.record).clone(), is_global)),
        ordinary: ordinary.map_or(0, |value| value.revision),
        global: global.map_or(0, |value| value.revision),
        has_file: false,
        revision,
    })
}

/// A transaction, and the units in it with their statuses.
#[derive(Default)]
struct Batch {
    transaction: Transaction,
    units: Vec<(usize, StatusCode)>,
    bytes: usize,
}

/// Packs units into few transactions.
#[derive(Default)]
struct Pack {
    full: Vec<Batch>,
    open: Batch,
    /// The files that the open one has already: etcd takes a key once.
    files: BTreeSet<String>,
}

impl Pack {
    fn add(&mut self, place: usize, status: StatusCode, unit: Transaction) {
        let size = |write: &Write| match write {
            Write::Put { value, .. } => value.len(),
            Write::Delete { .. } | Write::DeleteRange { .. } => 0,
        };
        let bytes: usize = unit.writes.iter().map(size).sum();
        let open = &self.open.transaction;
        let is_full = open.guards.len() + unit.guards.len() > MAX_OPERATIONS
            || open.writes.len() + unit.writes.len() > MAX_OPERATIONS
            || self.open.bytes + bytes > MAX_BYTES;
        if is_full && !self.open.units.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
            self.files.clear();
        }
        self.open.transaction.guards.extend(unit.guards);
        for write in unit.writes {
            if self.files.insert(write.key().to_owned()) {
                self.open.transaction.writes.push(write);
            }
        }
        self.open.units.push((place, status));
        self.open.bytes += bytes;
    }

    fn close(mut self) -> Vec<Batch> {
        if !self.open.units.is_empty() {
            self.full.push(self.open);
        }
        self.full
    }
}

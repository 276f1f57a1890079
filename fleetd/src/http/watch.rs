//! `GET /watch`: how units stand, again and again.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use fleet_api::UnitStatus;
use fleet_core::{
    model::{Delta, MachineId, Snapshot},
    unit::UnitName,
};
use futures_util::stream;
use tokio::sync::watch::Receiver;

use super::{ApiError, Shared, request::Query, status::Index};
use crate::registry::{Store, view::Running};

/// The present status of each unit asked for, then a line for each change, until the client goes away.
pub(super) async fn watch<S: Store>(State(api): Shared<S>, query: Query) -> Result<Response, ApiError> {
    let units = asked(&query)?;
    if units.is_empty() {
        return Err(ApiError::bad_request("name the units to watch: ?unit=NAME"));
    }
    api.view.read().await?;
    let (running, cluster) = api.view.open();
    let ending = api.ending.clone();
    let watcher = Watcher {
        _running: running,
        cluster,
        units,
        seen: Snapshot::default(),
        places: HashMap::new(),
        shown: HashMap::new(),
        pending: VecDeque::new(),
        first: true,
    };
    let lines = stream::unfold(watcher, move |mut watcher| {
        let ending = ending.clone();
        async move {
            let line = ending.run_until_cancelled_owned(watcher.next()).await??;
            Some((Ok::<_, std::convert::Infallible>(line), watcher))
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// The units that a query names: `unit=NAME&unit=NAME`.
pub(super) fn asked(query: &Query) -> Result<HashSet<UnitName>, ApiError> {
    let names = query.all("unit").map(|name| UnitName::new(&name));
    names.collect::<Result<_, _>>().map_err(|error| ApiError::bad_request(&format!("unit in query: {error}")))
}

struct Watcher {
    _running: Arc<Running>,
    cluster: Receiver<Snapshot>,
    units: HashSet<UnitName>,
    /// The cluster as it was when it was last looked at; before that, nothing.
    seen: Snapshot,
    /// The machines on which there may be something of each unit.
    places: HashMap<UnitName, BTreeSet<MachineId>>,
    shown: HashMap<UnitName, UnitStatus>,
    pending: VecDeque<UnitStatus>,
    first: bool,
}

impl Watcher {
    /// The next line; `None` when the view is no more.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(status) = self.pending.pop_front() {
                let mut line = serde_json::to_vec(&status).expect("a plain struct");
                line.push(b'\n');
                return Some(line.into());
            }
            if !std::mem::take(&mut self.first) {
                self.cluster.changed().await.ok()?;
            }
            self.compare();
        }
    }

    /// Queues what is not as it was shown last. Looks only at units of which something has changed since.
    fn compare(&mut self) {
        let cluster = self.cluster.borrow_and_update().clone();
        let Self { units, seen, places, .. } = self;
        let delta = Delta::between(seen, &cluster);
        let named = delta.units().chain(delta.globals()).filter(|diff| units.contains(diff.key));
        let mut changed: HashSet<UnitName> = named.map(|diff| diff.key.clone()).collect();
        let placed = delta.scheduled().map(|diff| diff.key).chain(delta.states().map(|diff| diff.key));
        for (machine, unit) in placed.filter(|(_, unit)| units.contains(unit)) {
            places.entry(unit.clone()).or_default().insert(machine.clone());
            changed.insert(unit.clone());
        }
        // The first look tells of all, and of two machines one counts unless it is being drained.
        if self.shown.is_empty() || delta.metadata().next().is_some() {
            changed.clone_from(units);
        }
        let index = Index::at(&cluster, &changed, places);
        for unit in changed {
            let status = index.status(&unit);
            if self.shown.get(&unit) != Some(&status) {
                self.pending.push_back(status.clone());
                self.shown.insert(unit, status);
            }
        }
        self.seen = cluster;
    }
}

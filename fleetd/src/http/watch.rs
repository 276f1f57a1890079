//! `GET /watch`: how units stand, again and again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::{Method, header},
    response::{IntoResponse, Response},
};
use fleet_core::{model::api::UnitStatus, unit::UnitName};
use futures_util::stream;
use tokio::sync::watch::Receiver;

use super::{ApiError, Shared, only, status::Index};
use crate::registry::{Cluster, Store, view::Running};

/// The present status of each unit asked for, then a line for each change, until the client goes away.
pub(super) async fn watch<S: Store>(
    State(api): Shared<S>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    only(&method, &[Method::GET], "GET")?;
    let query = query.unwrap_or_default();
    let pairs = form_urlencoded::parse(query.as_bytes());
    let names = pairs.filter(|(key, _)| key == "unit").map(|(_, name)| UnitName::new(&name));
    let units: HashSet<UnitName> =
        names.collect::<Result<_, _>>().map_err(|error| ApiError::bad_request(&format!("unit in query: {error}")))?;
    if units.is_empty() {
        return Err(ApiError::bad_request("name the units to watch: ?unit=NAME"));
    }
    api.view.read().await?;
    let (running, cluster) = api.view.open();
    let ending = api.ending.clone();
    let watcher =
        Watcher { _running: running, cluster, units, shown: HashMap::new(), pending: VecDeque::new(), first: true };
    let lines = stream::unfold(watcher, move |mut watcher| {
        let ending = ending.clone();
        async move {
            let line = ending.run_until_cancelled_owned(watcher.next()).await??;
            Some((Ok::<_, std::convert::Infallible>(line), watcher))
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

struct Watcher {
    _running: Arc<Running>,
    cluster: Receiver<Cluster>,
    units: HashSet<UnitName>,
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

    /// Queues what is not as it was shown last.
    fn compare(&mut self) {
        let cluster = self.cluster.borrow_and_update().clone();
        let index = Index::new(&cluster, Some(&self.units));
        for unit in &self.units {
            let status = index.status(unit);
            if self.shown.get(unit) != Some(&status) {
                self.shown.insert(unit.clone(), status.clone());
                self.pending.push_back(status);
            }
        }
    }
}

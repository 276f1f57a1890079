//! `GET /version`: which fleetd answers, which is the oldest of the cluster, and what waits for that one.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use fleet_api::{Older, Version};
use fleet_core::model::{Features, Kind, MachineId, Snapshot, features::SWITCHED_OVER};

use super::{Shared, aged};
use crate::registry::Store;

/// `GET /version`
pub(super) async fn version<S: Store>(State(api): Shared<S>) -> Response {
    // Also while nothing is known of the cluster: somebody may want to know why.
    let reading = api.view.read().await.ok();
    let cluster = reading.as_ref().map(|reading| &reading.cluster);
    let version = Version {
        version: env!("CARGO_PKG_VERSION").into(),
        features: Features::of_this_daemon().words().map(Into::into).collect(),
        schema: Kind::newest_version(),
        oldest: cluster.and_then(Snapshot::oldest_version).map(Into::into),
        in_use: cluster.map(in_use).unwrap_or_default(),
        waits_for: cluster.map(waits_for).unwrap_or_default(),
    };
    aged(version, reading.and_then(|reading| reading.age))
}

/// What the cluster uses that hosts have to understand.
fn in_use(cluster: &Snapshot) -> Vec<String> {
    cluster.in_use.values().flat_map(|in_use| in_use.record.features.words()).map(Into::into).collect()
}

/// What it does not use yet, and the machines for which that waits.
fn waits_for(cluster: &Snapshot) -> BTreeMap<String, Vec<Older>> {
    let unused = SWITCHED_OVER.iter().filter(|feature| !cluster.uses(feature));
    let waits = unused.map(|feature| {
        let machines = cluster.without(feature).into_iter().map(|id| older(cluster, id)).collect();
        ((*feature).into(), machines)
    });
    waits.filter(|(_, machines): &(_, Vec<_>)| !machines.is_empty()).collect()
}

fn older(cluster: &Snapshot, id: &MachineId) -> Older {
    let machine = cluster.machines.get(id).map(|machine| &*machine.record);
    Older {
        id: id.as_str().into(),
        hostname: machine.map(|machine| machine.hostname.clone()).unwrap_or_default(),
        version: machine.map(|machine| machine.version.clone()).unwrap_or_default(),
    }
}

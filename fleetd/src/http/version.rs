//! `GET /version`: which fleetd answers, and which is the oldest of the cluster.

use axum::{extract::State, response::Response};
use fleet_api::Version;
use fleet_core::model::{Features, Kind};

use super::{Shared, aged};
use crate::registry::Store;

/// `GET /version`
pub(super) async fn version<S: Store>(State(api): Shared<S>) -> Response {
    // Also while nothing is known of the cluster: somebody may want to know why.
    let reading = api.view.read().await.ok();
    let oldest = reading.as_ref().and_then(|reading| reading.cluster.oldest_version());
    let version = Version {
        version: env!("CARGO_PKG_VERSION").into(),
        features: Features::of_this_daemon().words().map(Into::into).collect(),
        schema: Kind::newest_version(),
        oldest: oldest.map(Into::into),
    };
    aged(version, reading.and_then(|reading| reading.age))
}

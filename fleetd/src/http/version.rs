//! `GET /version`: which fleetd answers, and which is the oldest of the cluster.

use axum::{extract::State, response::Response};
use fleet_api::Version;
use fleet_core::model::Kind;

use super::{Shared, aged};
use crate::registry::Store;

/// `GET /version`
pub(super) async fn version<S: Store>(State(api): Shared<S>) -> Response {
    // Also while nothing is known of the cluster: somebody may want to know why.
    let reading = api.view.read().await.ok();
    let machines = reading.iter().flat_map(|reading| reading.cluster.machines.values());
    let version = Version {
        version: env!("CARGO_PKG_VERSION").into(),
        schema: Kind::newest_version(),
        oldest: oldest(machines.map(|machine| &*machine.record.version)).map(Into::into),
        ..Version::default()
    };
    aged(version, reading.and_then(|reading| reading.age))
}

/// The oldest of versions, which are numbers with dots between them.
fn oldest<'v>(versions: impl Iterator<Item = &'v str>) -> Option<&'v str> {
    let numbers = |version: &str| -> Vec<u64> {
        // Before a release of a number come those of it with a name, as in 1.2.0-rc1.
        version.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
    };
    versions.min_by_key(|version| (numbers(version), !version.contains('-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (versions, expected) in [
            (&["0.10.0", "0.9.1", "0.9.10"][..], Some("0.9.1")),
            (&["1.0.0", "1.0.0-rc1"], Some("1.0.0-rc1")),
            (&["1.0.0", "unknown"], Some("unknown")),
            (&[], None),
        ] {
            assert_eq!(oldest(versions.iter().copied()), expected, "{versions:?}");
        }
    }
}

//! `GET /units/NAME/trace`: when a unit's last start went through the cluster.
//!
//! Every time is one at which this fleetd saw something in etcd, by this fleetd's own clock; what happened on the
//! unit's machine is told by that machine as time that passed there. So nothing depends on whether the clocks of hosts
//! agree. A `PUT` says in its answer when it came and when it was written, by the same clock.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue},
    response::Response,
};
use fleet_api::{Reason, Trace, headers};
use fleet_core::{ops::Refusal, unit::UnitName};
use tokio::time::Instant;

use super::{ApiError, Shared, aged, request::Name, status::Index};
use crate::{clock::monotonic_at, registry::Store};

/// When a request came, and when what it wants had been compared with what was there.
static RECEIVED: HeaderName = HeaderName::from_static(headers::RECEIVED);
static CHECKED: HeaderName = HeaderName::from_static(headers::CHECKED);

/// A moment of the process's clock, in microseconds.
fn micros(at: Duration) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

/// The headers of an answer to something that was written.
pub(super) fn times(received: Instant, checked: Instant) -> [(HeaderName, HeaderValue); 2] {
    let value = |at| HeaderValue::from(micros(monotonic_at(at)));
    [(RECEIVED.clone(), value(received)), (CHECKED.clone(), value(checked))]
}

/// `GET /units/{name}/trace`
pub(super) async fn trace<S: Store>(State(api): Shared<S>, Name(name): Name) -> Result<Response, ApiError> {
    let name = UnitName::new(&name).map_err(|_| Refusal::UnitMissing)?;
    let reading = api.view.read().await?;
    let cluster = &reading.cluster;
    let wanted = cluster.units.get(&name).ok_or_else(|| match cluster.globals.contains_key(&name) {
        true => ApiError::new(Reason::IsGlobal, "a global unit has a start on each machine"),
        false => Refusal::UnitMissing.into(),
    })?;
    let not_yet = || ApiError::new(Reason::NotStarted, "no start of what is wanted now has been reported");
    let asked = [name.clone()].into();
    let machine = Index::new(cluster, Some(&asked)).machine(&name).ok_or_else(not_yet)?;
    let place = (machine.clone(), name.clone());
    let scheduled = cluster.scheduled.get(&place).ok_or_else(not_yet)?;
    let reported = cluster.states.get(&place).ok_or_else(not_yet)?;
    let start = reported.record.start.filter(|start| start.revision == scheduled.revision).ok_or_else(not_yet)?;
    let trace = Trace {
        name: name.to_string(),
        machine_id: machine.to_string(),
        wanted: micros(wanted.seen),
        scheduled: micros(scheduled.seen),
        reported: micros(reported.seen),
        start,
    };
    Ok(aged(trace, reading.age))
}

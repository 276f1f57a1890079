//! The engine: decides which machine runs which unit. One leads; the others wait to.
//!
//! In: the view of the cluster. Out: transactions on `sched/`, `engine/held` and `leader`, which nothing else writes, on
//! what stands in `metadata/` of an eviction, and on files that nothing uses. Each is guarded by the leader's key in the
//! election, so one whose leadership is over cannot write, however late its packets arrive; and by the revisions that its
//! decisions rest on, so a decision about what has changed meanwhile is dropped and made again.
//!
//! ```text
//!  campaign ──term──▶ driver ── Facts ──▶ controllers (fleet_core::control)
//!                              │ ▲                    │
//!     recent machines ─────────┘ └──── Outcome ◀──────┘        writers: which controller writes which kind
//!     missed keepalives, registry::contents: what is asked of the store
//!                              │
//!                              ├─▶ committer   what snapshots show: waited for
//!                              └─▶ beside      files, what is held: goes on meanwhile
//! ```
//!
//! Policy is in the controllers; what is here feeds them and carries out what they want. A new one is put into
//! `writers.rs` and into the driver's list.

mod beside;
mod campaign;
mod commit;
mod driver;
mod log;
mod missed_keepalives;
mod recent_machines;
mod writers;

use std::time::Duration;

use fleet_core::model::{Keys, MachineId};
use tokio::sync::watch;

use crate::{
    membership::Registration,
    metrics::Metrics,
    registry::{files::Files, view::View},
};

/// A candidate, and the engine while it leads.
pub struct Engine<S> {
    /// The registry.
    pub store: S,
    /// The keys in it.
    pub keys: Keys,
    /// The view of the cluster.
    pub view: View<S>,
    /// Unit files.
    pub files: Files<S>,
    /// This host.
    pub machine: MachineId,
    /// Whether this host is a member.
    pub registered: watch::Receiver<Option<Registration>>,
    /// How long a machine, and a leader, may be silent before it counts as dead.
    pub ttl: Duration,
    /// Counters.
    pub metrics: Metrics,
}

#[cfg(test)]
mod tests;

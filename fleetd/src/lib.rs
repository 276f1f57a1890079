//! The daemon of fleet: on every host an agent, a candidate for the engine's election, and the HTTP API.
//!
//! Decisions are made in `fleet-core`, by pure functions of a snapshot. What is here feeds them and carries out
//! what they say:
//!
//! ```text
//!            etcd                                       systemd
//!   registry │ mirror ──▶ engine ──▶ transactions         │ D-Bus
//!            │ mirror ──▶ agent ───────────────────────▶ jobs
//!            │ lease  ◀── membership   agent ──▶ states   │
//!            │ mirror ──▶ http ◀── fleetctl               │
//! ```
//!
//! # The loops
//!
//! [`node`] starts them and joins them in the end; [`daemon`] runs a member together with the API.
//!
//! | loop | goes in | comes out |
//! |---|---|---|
//! | [`membership`] | this host's own description, answers of etcd | its entry and lease; the registration, and the proof of how long the lease lives |
//! | [`membership::proof`] | the proof | a file that outlives the process |
//! | [`registry::mirror`] of this host's keys | `sched/` and `metadata/` of this host, `in-use`; `global/` while global units are not placed | a snapshot for the agent |
//! | [`node::last_good`] | the agent's snapshot | the same on disk; at a start without etcd a snapshot from there |
//! | [`agent`] | that snapshot, the fence, the signals of systemd | files, jobs of systemd, the states of units |
//! | [`agent::publish`] | the states of units | `state/` of this host |
//! | [`engine`]: campaign | who else stands for election | a term |
//! | [`engine`]: driver | the snapshot of the whole cluster, the machines that may have missed a keepalive | the transactions of its controllers |
//! | [`registry::view`] | all keys of the cluster, while the engine or the API needs them | their snapshot |
//! | [`http`] | requests | answers, and what they change |
//!
//! # Who writes which kind of key
//!
//! | kind | writer |
//! |---|---|
//! | `unit/`, `global/`, and `file/` together with them | the API, and `fleetd cloud-config`: what `fleet_core::ops` decides |
//! | `cloud-config/` | `fleetd cloud-config` |
//! | `metadata/` | the API; of an eviction that is over the engine's `Evictions` |
//! | `machine/` | the machine, by [`membership`]; a host that leaves takes away its `sched/` as well |
//! | `state/` | the machine, by [`agent::publish`] |
//! | `sched/` | the engine's `Scheduler` |
//! | `in-use` | the engine's `InUse` |
//! | `engine/held` | the engine's `HeldBack` |
//! | `file/` that nothing uses | the engine's `Collection` deletes it |
//! | `leader`, `election/` | the engine |

pub mod agent;
pub mod backoff;
pub mod clock;
pub mod cloud_config;
pub mod config;
pub mod daemon;
pub mod dev;
pub mod engine;
pub mod filesystem;
pub mod http;
pub mod membership;
pub mod metrics;
pub mod network;
pub mod node;
pub mod pace;
pub mod registry;
pub mod systemd;

/// An error and all of its causes in one line, for a log.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some libraries repeat the source in their own text.
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

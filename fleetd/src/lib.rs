//! The daemon of fleet: on every host an agent, a candidate for the engine's election, and the HTTP API.
//!
//! Decisions are made in `fleet-core`, by pure functions of a snapshot. What is here feeds them and carries out
//! what they say:
//!
//! ```text
//!            etcd                                       systemd
//!   registry │ mirror ──▶ engine ──▶ transactions         │ D-Bus
//!            │ mirror ──▶ agent ───────────────────────▶ jobs
//!            │ lease  ◀── node         agent ──▶ states   │
//!            │ mirror ──▶ http ◀── fleetctl               │
//! ```

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

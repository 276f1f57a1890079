//! Whole clusters of fleet in one process, on a clock that jumps from one event to the next.
//!
//! ```text
//!  seed ──▶ script ──▶ world ──────────────▶ record ──▶ invariants ──▶ violations
//!                       │ members of fleetd
//!                       └ etcd, systemd and files in memory
//! ```
//!
//! The members are what a host runs ([`fleetd::node`]); around them are the twins. A script says who is there and
//! what happens, and what all that is left to chance is drawn with: it can be played again. A seed draws a script. One
//! that found a fault is kept as text in `scripts/`, as a seed means another script once there is a new kind of event.

pub mod invariants;
pub mod record;
pub mod script;
pub mod units;
pub mod world;

pub use record::Record;
pub use script::{Scenario, Script};

use invariants::Violation;

/// What became of a script.
pub struct Outcome {
    /// What happened.
    pub record: Record,
    /// What should not have.
    pub violations: Vec<Violation>,
}

/// Plays a script.
#[must_use]
pub fn play(script: &Script) -> Outcome {
    let record = world::play(script);
    let violations = invariants::check(&record);
    Outcome { record, violations }
}

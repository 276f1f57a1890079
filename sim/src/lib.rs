//! Whole clusters of fleet in one process, on a clock that jumps from one event to the next.
//!
//! ```text
//!  seed ──▶ units, script ──▶ world ──────────────▶ record ──▶ invariants ──▶ violations
//!                              │ members of fleetd
//!                              └ etcd, systemd and files in memory
//! ```
//!
//! The members are what a host runs ([`fleetd::node`]); around them are the twins. Everything that is left to chance
//! comes from the seed, so a seed is a scenario: it can be run again, and one that found a fault is kept as a test.

pub mod invariants;
pub mod record;
pub mod script;
pub mod units;
pub mod world;

pub use record::Record;

pub use world::Scenario;

use invariants::Violation;

/// What became of a seed.
pub struct Outcome {
    /// What happened.
    pub record: Record,
    /// What should not have.
    pub violations: Vec<Violation>,
}

/// Runs the scenario of a seed.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    run_as(Scenario::Faults, seed)
}

/// Runs a scenario of this kind.
#[must_use]
pub fn run_as(scenario: Scenario, seed: u64) -> Outcome {
    let record = world::run(scenario, seed);
    let violations = invariants::check(&record);
    Outcome { record, violations }
}

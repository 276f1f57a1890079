//! A lease that can be kept is kept: a store that elects one leader after the other, with time between, ends none.

use fleet_core::model::Key;

use super::{Violation, copies::runs, touched};
use crate::{record::Record, script::Scenario};

/// While nothing happens but elections, and a member that ails, every host stays a member, and no unit is stopped.
pub fn elections_end_no_lease_and_stop_no_unit(record: &Record) -> Vec<Violation> {
    if record.scenario != Scenario::Elections {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let mut violation = |at, how| violations.push(Violation { invariant: "leases", at: Some(at), how });
    for commit in record.commits.iter().filter(|commit| commit.changes.iter().any(|change| change.after.is_none())) {
        for key in touched(record, commit) {
            if let Key::Machine(machine) = key {
                violation(commit.at, format!("revision {}: {machine} is no member any more", commit.revision));
            }
        }
    }
    let ends_itself =
        |unit: &str| ["flapping", "once", "failing", "foreign", "fleet-batch"].iter().any(|n| unit.starts_with(n));
    for run in runs(record).into_iter().filter(|run| !ends_itself(run.unit)) {
        if let Some(ended) = run.ended {
            violation(ended, format!("{} on {} is stopped", run.unit, run.host));
        }
    }
    violations
}

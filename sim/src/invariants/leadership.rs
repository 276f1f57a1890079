//! I2: no write of a deposed engine lands.

use std::collections::BTreeSet;

use fleet_core::model::{Key, Kind};
use fleetd::registry::{Guard, memory::Commit};

use super::{Past, Violation, touched};
use crate::record::Record;

/// Every transaction on `sched/` is guarded by the key of the candidate that stood first then; but a host that leaves
/// takes away what is scheduled to it.
pub fn no_deposed_leader_writes(record: &Record) -> Vec<Violation> {
    let mut past = Past::new(record);
    let mut violations = Vec::new();
    let (from, to) = record.keys.of(Kind::Candidate);
    for commit in &record.commits {
        if touched(record, commit).any(|key| matches!(key, Key::Sched(..))) && !is_departure(record, commit) {
            let candidates = past.keys.iter().filter(|(key, _)| *from <= ***key && ***key < *to);
            let first = candidates.min_by_key(|(_, stored)| stored.create_revision);
            let guarded = commit.guards.iter().any(|guard| match (guard, first) {
                (Guard::CreatedAt(key, revision), Some((first, stored))) => {
                    key == first && *revision == stored.create_revision
                }
                _ => false,
            });
            if !guarded {
                violations.push(Violation {
                    invariant: "I2",
                    at: Some(commit.at),
                    how: format!("revision {} of {} is not the leader's", commit.revision, commit.author),
                });
            }
        }
        past.apply(commit);
    }
    violations
}

/// Whether a host takes its entry away, with all that is scheduled to it and nothing else.
pub(super) fn is_departure(record: &Record, commit: &Commit) -> bool {
    let goes = touched(record, commit).any(|key| matches!(key, Key::Machine(_)));
    let machines: BTreeSet<_> = touched(record, commit)
        .map(|key| match key {
            Key::Machine(id) | Key::Sched(id, _) => Some(id),
            _ => None,
        })
        .collect();
    goes && machines.len() == 1 && commit.changes.iter().all(|change| change.after.is_none())
}

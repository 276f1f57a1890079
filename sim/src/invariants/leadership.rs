//! I2: no write of a deposed engine lands.

use fleetd::registry::Guard;

use super::{Past, Violation, touched};
use crate::record::Record;
use fleet_core::model::Key;

/// Every transaction on `sched/` is guarded by the key of the candidate that stood first then.
pub fn no_deposed_leader_writes(record: &Record) -> Vec<Violation> {
    let mut past = Past::new(record);
    let mut violations = Vec::new();
    let (from, to) = record.keys.under("election/engine/");
    for commit in &record.commits {
        if touched(record, commit).any(|key| matches!(key, Key::Sched(..))) {
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

//! What must be so in every run, whatever happens in it (DESIGN.md, section 9).
//!
//! Each judge is a pure function of the record.

mod calm;
mod copies;
mod end_state;
mod entries;
mod files;
mod globals;
mod leadership;
mod leases;
mod placement;

use std::{collections::BTreeMap, fmt};

use fleet_core::{
    model::{Key, Kind, MachineId, Placement, Record as _},
    unit::UnitName,
};
use fleetd::registry::{Stored, memory::Commit};
use tokio::time::Instant;

use crate::record::Record;

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which: `I1` to `I8`, or in words.
    pub invariant: &'static str,
    /// When, if at a certain moment.
    pub at: Option<Instant>,
    /// How.
    pub how: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.how)
    }
}

/// All promises that a run has broken.
#[must_use]
pub fn check(record: &Record) -> Vec<Violation> {
    let broken = record.broken.iter().map(|how| Violation { invariant: "panic", at: None, how: how.clone() });
    let judges: [fn(&Record) -> Vec<Violation>; 17] = [
        end_state::every_wanted_unit_runs_where_it_should,
        end_state::nothing_is_left_of_units_that_are_gone,
        leadership::no_deposed_leader_writes,
        placement::no_constraint_is_violated,
        copies::strict_units_run_once,
        calm::nothing_happens_when_nothing_should,
        end_state::mirror_equals_the_store,
        calm::foreign_units_are_left_alone,
        end_state::all_hosts_are_members,
        files::no_unused_file_is_left,
        copies::nothing_is_stopped_without_reason,
        placement::nothing_moves_from_a_host_that_is_well,
        leases::elections_end_no_lease_and_stop_no_unit,
        globals::no_fault_starts_or_stops_a_global_unit,
        entries::entries_change_for_a_reason,
        entries::entries_are_those_of_the_rule,
        entries::nothing_is_missing_when_they_come_into_use,
    ];
    broken.chain(judges.iter().flat_map(|judge| judge(record))).collect()
}

/// The store as it was after each transaction.
struct Past<'r> {
    record: &'r Record,
    keys: BTreeMap<&'r str, &'r Stored>,
}

impl<'r> Past<'r> {
    fn new(record: &'r Record) -> Self {
        Self { record, keys: BTreeMap::new() }
    }

    fn apply(&mut self, commit: &'r Commit) {
        for change in &commit.changes {
            match &change.after {
                Some(stored) => drop(self.keys.insert(&change.key, stored)),
                None => drop(self.keys.remove(&*change.key)),
            }
        }
    }

    /// Where units are scheduled.
    fn scheduled(&self) -> impl Iterator<Item = (MachineId, UnitName, Placement)> {
        let (from, to) = self.record.keys.of(Kind::Sched);
        let entries = self.keys.iter().filter(move |(key, _)| *from <= ***key && ***key < *to);
        entries.filter_map(|(key, stored)| match self.record.keys.parse(key)? {
            Key::Sched(machine, unit) => Some((machine, unit, Placement::decode(&stored.value).ok()?)),
            _ => None,
        })
    }
}

/// Keys of the schema that a transaction changes.
fn touched<'r>(record: &'r Record, commit: &'r Commit) -> impl Iterator<Item = Key> + 'r {
    commit.changes.iter().filter_map(|change| record.keys.parse(&change.key))
}

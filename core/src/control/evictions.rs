//! When the eviction of a machine is over: when it is there again, or has nothing left to be moved.

use std::{collections::BTreeSet, time::Duration};

use super::{Answer, Change, Controller, Event, Facts, Outcome, facts::is_present};
use crate::{
    model::{Key, Kind, MachineId, MetadataEdits, Record},
    ops::{Guard, Write, WriteSet},
    sched::Planner,
};

/// Takes evictions back. See the [module](self).
#[derive(Debug, Default)]
pub struct Evictions {
    /// The machines that an operator has evicted.
    evicted: BTreeSet<MachineId>,
    /// Those of them of which the log was told that it is over.
    logged: BTreeSet<MachineId>,
}

impl Controller for Evictions {
    fn follows(&self) -> &'static [Kind] {
        &[Kind::Machine, Kind::Metadata, Kind::Sched]
    }

    fn reconcile(&mut self, facts: &Facts<'_>, _: &mut Planner) -> Outcome {
        for diff in facts.delta.metadata() {
            if diff.after.is_some_and(|edits| edits.record.evicted) {
                self.evicted.insert(diff.key.clone());
            } else {
                self.evicted.remove(diff.key);
                self.logged.remove(diff.key);
            }
        }
        let mut outcome = Outcome::default();
        let snapshot = facts.snapshot();
        for machine in &self.evicted {
            let Some(edits) = snapshot.metadata.get(machine) else { continue };
            let there = is_present(snapshot, machine);
            let placements = facts.known.placements;
            let has_globals = || placements.globals().any(|(_, on)| on.contains(machine));
            if !there && (placements.has_any(machine) || has_globals()) {
                continue;
            }
            let key = Key::Metadata(machine.clone());
            let record = MetadataEdits { evicted: false, ..(*edits.record).clone() };
            let guards = vec![Guard { key: key.clone(), revision: edits.revision }];
            let writes = vec![Write::Put(key, record.encode())];
            outcome.changes.push(Change { set: WriteSet { guards, writes }, ..Change::default() });
            if self.logged.insert(machine.clone()) {
                outcome.events.push(Event::EvictionOver { machine: machine.clone(), there });
            }
        }
        outcome
    }

    /// One that is refused has changed meanwhile, which is news; one that the store does not answer is tried again.
    fn answered(&mut self, _: &Change, _: Answer, _: Duration) {}
}

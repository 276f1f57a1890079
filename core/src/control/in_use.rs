//! What the cluster uses of what not every fleet understands: said once all understand it, and for good.
//!
//! Of global placements that is when the entries are there: from then on hosts go by these alone.

use std::{collections::BTreeSet, time::Duration};

use super::{Answer, Change, Controller, Event, Facts, Outcome, globals::Globals};
use crate::{
    model::{InUseRecord, Key, Kind, MachineId, Record, features::GLOBAL_PLACEMENTS},
    ops::{Guard, Write, WriteSet},
    sched::Planner,
};

/// Most global units whose records are looked at again in the moment of the write: a transaction has room for few.
const GUARDS: usize = 100;

/// Says what is in use. See the [module](self).
#[derive(Debug, Default)]
pub struct InUse {
    /// The machines of which the log was told that they are waited for.
    waiting: BTreeSet<MachineId>,
}

impl Controller for InUse {
    fn follows(&self) -> &'static [Kind] {
        &[Kind::Global, Kind::InUse, Kind::Leader, Kind::Machine, Kind::Sched]
    }

    fn reconcile(&mut self, facts: &Facts<'_>, planner: &mut Planner) -> Outcome {
        let snapshot = facts.snapshot();
        let mut outcome = Outcome::default();
        if snapshot.uses(GLOBAL_PLACEMENTS) || snapshot.unreadable.contains(&Key::InUse) {
            return outcome;
        }
        let machines = snapshot.machines.iter().filter(|(_, machine)| !machine.record.features.has(GLOBAL_PLACEMENTS));
        let waiting: BTreeSet<MachineId> = machines.map(|(id, _)| id.clone()).collect();
        if waiting != self.waiting && !waiting.is_empty() {
            let machines = waiting.iter().cloned().collect();
            outcome.events.push(Event::WaitsFor { feature: GLOBAL_PLACEMENTS, machines });
        }
        self.waiting = waiting;
        if facts.at_rest && snapshot.all_understand(GLOBAL_PLACEMENTS) && Globals::are_placed(planner, facts) {
            outcome.changes.push(begin(facts));
        }
        outcome
    }

    /// What did not go through is decided anew with the next snapshot.
    fn answered(&mut self, _: &Change, _: Answer, _: Duration) {}
}

/// The change that says so, if no global unit has changed since the snapshot: hosts that run one that has no entry yet
/// would stop it.
fn begin(facts: &Facts<'_>) -> Change {
    let snapshot = facts.snapshot();
    let before = snapshot.in_use.get(&());
    let mut record = before.map_or_else(InUseRecord::default, |before| (*before.record).clone());
    record.features = record.features.words().chain([GLOBAL_PLACEMENTS]).collect();
    let globals = snapshot.globals.iter().take(GUARDS);
    let globals = globals.map(|(unit, value)| Guard { key: Key::Global(unit.clone()), revision: value.revision });
    let in_use = Guard { key: Key::InUse, revision: before.map_or(0, |before| before.revision) };
    let writes = vec![Write::Put(Key::InUse, record.encode())];
    Change {
        set: WriteSet { guards: globals.chain([in_use]).collect(), writes },
        none_after: Some((Kind::Global, snapshot.revision)),
        ..Change::default()
    }
}

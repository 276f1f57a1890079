//! Where units go: the planner decides, the hand-over makes orders of its decisions, and global units go where these leave
//! them room.
//!
//! In: a planner that knows units, machines and placements, states of units that are being moved, and the machines that
//! count as lost. Out: the changes of `sched/`. What did not go through is decided again.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Answer, Change, Controller, Facts, Outcome,
    globals::Globals,
    handover::{Handover, outdated},
};
use crate::{
    model::{Key, Kind},
    sched::Planner,
    unit::UnitName,
};

/// Places units. See the [module](self).
#[derive(Debug, Default)]
pub struct Scheduler {
    handover: Handover,
    globals: Globals,
    /// Units of changes that did not go through.
    unwritten: BTreeSet<UnitName>,
    /// Whether a move waits for what machines say of units.
    waits_for_states: bool,
}

impl Controller for Scheduler {
    fn follows(&self) -> &'static [Kind] {
        const ALWAYS: &[Kind] = &[Kind::Global, Kind::InUse, Kind::Machine, Kind::Metadata, Kind::Sched, Kind::Unit];
        const WITH_STATES: &[Kind] =
            &[Kind::Global, Kind::InUse, Kind::Machine, Kind::Metadata, Kind::Sched, Kind::Unit, Kind::State];
        if self.waits_for_states { WITH_STATES } else { ALWAYS }
    }

    fn reconcile(&mut self, facts: &Facts<'_>, planner: &mut Planner) -> Outcome {
        let mut touched = std::mem::take(&mut self.unwritten);
        touched.iter().for_each(|unit| planner.refused(unit));
        touched.extend(facts.news.units.iter().cloned());
        let mut outcome = Outcome::default();
        self.handover.prepare(planner, facts);
        let decisions = planner.plan();
        let mut orders = self.handover.orders(decisions, planner, facts, &mut outcome.events);
        for order in &orders {
            touched.remove(&order.unit);
        }
        orders.extend(touched.into_iter().filter_map(|unit| outdated(unit, facts)));
        outcome.changes = orders.iter().map(|order| order.change(facts.snapshot())).collect();
        outcome.changes.extend(self.globals.changes(planner, &orders, facts, &mut outcome.events));
        outcome.wake_at = self.handover.due(facts.now).into_iter().chain(self.globals.due(facts.now)).min();
        self.waits_for_states = self.handover.is_waiting(facts);
        outcome
    }

    fn answered(&mut self, change: &Change, answer: Answer, _: Duration) {
        if answer == Answer::Done {
            return;
        }
        for write in &change.set.writes {
            if let Key::Sched(machine, unit) = write.key() {
                self.globals.refused(machine, unit);
                self.unwritten.insert(unit.clone());
            }
        }
    }
}

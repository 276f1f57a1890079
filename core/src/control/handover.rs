//! The hand-over of units from one machine to another: from the planner's decisions to orders, which say what copy of a
//! unit goes before the next one comes, and which after.
//!
//! * Usually both at once, in one transaction.
//! * **Away from a machine that is being drained** the new copy comes first. The old one goes when the new one runs, or
//!   has failed, or patience is over: [`Overlap`]. Until then the store shows both, which is all that the next leader
//!   needs.
//! * **Strict units** (`OnPartition=stop`) are *recalled*: the schedule of a machine tells it to give the unit up, and
//!   only when it says that it has, or can be running it no more, the unit is scheduled elsewhere. A recall stands in
//!   the store as well. A copy is also recalled before it gets contents by which it would seem to be down sooner.

mod order;
mod overlap;

use std::{collections::BTreeSet, time::Duration};

pub use self::order::Order;
use self::overlap::Overlap;
use super::{Event, Facts};
use crate::{
    model::{Desired, Key, MachineId},
    sched::{Decision, Planner},
    unit::UnitName,
};

/// What is under way.
#[derive(Debug, Default)]
pub struct Handover {
    /// Old copies that wait for the new ones.
    overlap: Overlap,
    /// Copies that are known to be down, and whose entry goes with the next order for the unit.
    given_up: BTreeSet<(UnitName, MachineId)>,
}

impl Handover {
    /// Whether states of units matter now.
    pub fn is_waiting(&self, facts: &Facts<'_>) -> bool {
        self.overlap.units().next().is_some() || facts.known.placements.recalled().next().is_some()
    }

    /// When to look again though nothing may have happened.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        self.overlap.due(now)
    }

    /// Tells the planner what has become of moves, before it plans.
    pub fn prepare(&mut self, planner: &mut Planner, facts: &Facts<'_>) {
        // The old copy is where the store has it, until it is gone: if the new one fails, it is what is left.
        self.overlap.units().for_each(|unit| planner.refused(unit));
        self.given_up.clear();
        for (unit, machine) in facts.known.placements.recalled() {
            if facts.is_down(unit, machine) || facts.is_global(unit) {
                // One that was recalled only for its new contents gets them where it is, if it still fits there.
                if !facts.is_there(machine) || !facts.hides_copy(unit, machine) {
                    planner.given_up(unit, machine);
                }
                self.given_up.insert((unit.clone(), machine.clone()));
            }
        }
    }

    /// What is to be done now about these decisions. What cannot be done yet is taken back from the planner, or
    /// decided again when it is prepared next.
    pub fn orders(
        &mut self,
        decisions: Vec<Decision>,
        planner: &mut Planner,
        facts: &Facts<'_>,
        events: &mut Vec<Event>,
    ) -> Vec<Order> {
        let overlap = self.overlap.next(&decisions, facts);
        let mut orders: Vec<Order> = Vec::new();
        for decision in decisions {
            if facts.known.is_frozen(&decision.unit) {
                planner.refused(&decision.unit);
                continue;
            }
            let to = decision.to.clone().filter(|to| self.may_come(&decision.unit, to, &decision.from, facts));
            if to != decision.to {
                planner.refused(&decision.unit);
            } else if !self.overlap.contains(&decision.unit) {
                let (unit, reason) = (decision.unit.clone(), decision.reason.clone());
                events.push(match to.clone() {
                    Some(machine) => Event::Scheduled { unit, machine, reason },
                    None => Event::Unscheduled { unit, from: decision.from.clone(), reason },
                });
            }
            let keeps = overlap.keeps(&decision.unit, facts.now);
            let leaves = decision.from.into_iter().filter(|machine| !keeps || !facts.is_there(machine));
            let order = self.order(decision.unit, leaves.collect(), to, facts);
            if !order.is_done(facts.snapshot()) {
                orders.push(order);
            }
        }
        self.overlap = overlap;
        let named: BTreeSet<UnitName> = orders.iter().map(|order| order.unit.clone()).collect();
        // Those that go nowhere, at least for now.
        let idle = |unit: &UnitName| !named.contains(unit) && !facts.known.is_frozen(unit);
        for (unit, machine) in self.given_up.iter().filter(|(unit, _)| idle(unit)) {
            let from = vec![machine.clone()];
            orders.push(Order { unit: unit.clone(), from, recall: Vec::new(), to: None, strict: true });
        }
        orders
    }

    /// Whether a unit that leaves some machines may come to another one now.
    fn may_come(&self, unit: &UnitName, to: &MachineId, leaves: &[MachineId], facts: &Facts<'_>) -> bool {
        if !facts.is_strict(unit) {
            return true;
        }
        let is_gone = |machine: &MachineId| {
            self.is_given_up(unit, machine) || leaves.contains(machine) && self.may_go(unit, machine, facts)
        };
        facts.known.placements.of(unit).filter(|other| *other != to).all(is_gone)
            && (!facts.hides_copy(unit, to) || self.is_given_up(unit, to))
    }

    /// Whether the entry of a unit on a machine may be deleted without more ado.
    fn may_go(&self, unit: &UnitName, machine: &MachineId, facts: &Facts<'_>) -> bool {
        !facts.must_be_down(unit, machine)
            || self.is_given_up(unit, machine)
            || !facts.is_there(machine) && facts.is_down(unit, machine)
    }

    fn is_given_up(&self, unit: &UnitName, machine: &MachineId) -> bool {
        self.given_up.contains(&(unit.clone(), machine.clone()))
    }

    /// The order for one unit that leaves these machines.
    fn order(&self, unit: UnitName, leaves: Vec<MachineId>, to: Option<MachineId>, facts: &Facts<'_>) -> Order {
        let strict = facts.is_strict(&unit);
        let (mut from, recall): (Vec<_>, Vec<_>) =
            leaves.into_iter().partition(|machine| self.may_go(&unit, machine, facts));
        let given_up = facts.known.placements.of(&unit).filter(|machine| {
            Some(*machine) != to.as_ref() && self.is_given_up(&unit, machine) && !from.contains(machine)
        });
        let given_up: Vec<MachineId> = given_up.cloned().collect();
        from.extend(given_up);
        Order { unit, from, recall, to, strict }
    }
}

/// The order for a unit that stays where it is while what is wanted of it changed: its machine is told, and when it has
/// to be down for that, it is told so first. A strict unit whose machine is away is left alone: what the store says of
/// it has to tell how long it may still be running.
pub fn outdated(unit: UnitName, facts: &Facts<'_>) -> Option<Order> {
    let snapshot = facts.snapshot();
    let wanted = &snapshot.units.get(&unit)?.record;
    if wanted.desired == Desired::Inactive || facts.known.is_frozen(&unit) {
        return None;
    }
    let places = facts
        .known
        .placements
        .of(&unit)
        .filter(|machine| facts.scheduled(&unit, machine).is_some_and(|scheduled| !scheduled.record.is_recall()));
    // Of two, the one on a machine that is being drained is on its way out.
    let machine = places.min_by_key(|machine| snapshot.drains(machine))?.clone();
    if snapshot.unreadable.contains(&Key::Machine(machine.clone())) {
        return None;
    }
    let strict = facts.is_strict(&unit);
    if strict && !snapshot.machines.contains_key(&machine) {
        return None;
    }
    let (recall, to) =
        if facts.hides_copy(&unit, &machine) { (vec![machine], None) } else { (Vec::new(), Some(machine)) };
    let order = Order { unit, from: Vec::new(), recall, to, strict };
    (!order.is_done(snapshot)).then_some(order)
}

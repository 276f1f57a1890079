//! From the planner's decisions to orders: which copy of a unit goes before the next one comes, and which after.
//!
//! * Usually both at once, in one transaction.
//! * **Away from a machine that is being drained** the new copy comes first. The old one goes when the new one runs, or
//!   has failed, or patience is over: [`Overlap`]. Until then the store shows both, which is all that the next leader
//!   needs.
//! * **Strict units** (`OnPartition=stop`) are *recalled*: the schedule of a machine tells it to give the unit up, and
//!   only when it says that it has, or can be running it no more, the unit is scheduled elsewhere. A recall stands in
//!   the store as well. A copy is also recalled before it gets contents by which it would seem to be down sooner.

use std::collections::BTreeSet;

use fleet_core::{
    model::{Desired, Key, MachineId},
    sched::{Decision, Planner},
    unit::UnitName,
};
use tokio::time::Instant;
use tracing::info;

use super::{overlap::Overlap, placements::Placements, situation::Situation, translate::Order};

/// What is under way.
#[derive(Default)]
pub struct Moves {
    /// Old copies that wait for the new ones.
    overlap: Overlap,
    /// Copies that are known to be down, and whose entry goes with the next order for the unit.
    given_up: BTreeSet<(UnitName, MachineId)>,
}

impl Moves {
    /// Whether states of units matter now.
    pub fn is_waiting(&self, placements: &Placements) -> bool {
        self.overlap.units().next().is_some() || placements.recalled().next().is_some()
    }

    /// When to look again though nothing may have happened.
    pub fn due(&self) -> Option<Instant> {
        self.overlap.due()
    }

    /// Tells the planner what has become of moves, before it plans.
    pub fn prepare(&mut self, planner: &mut Planner, situation: &Situation<'_>) {
        // The old copy is where the store has it, until it is gone: if the new one fails, it is what is left.
        self.overlap.units().for_each(|unit| planner.refused(unit));
        self.given_up.clear();
        for (unit, machine) in situation.placements.recalled() {
            if situation.is_down(unit, machine) || situation.is_global(unit) {
                // One that was recalled only for its new contents gets them where it is, if it still fits there.
                if !situation.is_there(machine) || !situation.hides_copy(unit, machine) {
                    planner.given_up(unit, machine);
                }
                self.given_up.insert((unit.clone(), machine.clone()));
            }
        }
    }

    /// What is to be done now about these decisions. What cannot be done yet is taken back from the planner, or
    /// decided again when it is prepared next.
    pub fn orders(&mut self, decisions: Vec<Decision>, planner: &mut Planner, situation: &Situation<'_>) -> Vec<Order> {
        let overlap = self.overlap.next(&decisions, situation);
        let mut orders: Vec<Order> = Vec::new();
        for decision in decisions {
            if situation.is_frozen(&decision.unit) {
                planner.refused(&decision.unit);
                continue;
            }
            let to = decision.to.clone().filter(|to| self.may_come(&decision.unit, to, &decision.from, situation));
            if to != decision.to {
                planner.refused(&decision.unit);
            } else if !self.overlap.contains(&decision.unit) {
                let (unit, reason) = (&decision.unit, &decision.reason);
                match &to {
                    Some(machine) => info!(%unit, %machine, %reason, "unit scheduled"),
                    None => info!(%unit, from = ?decision.from, %reason, "unit unscheduled"),
                }
            }
            let keeps = overlap.keeps(&decision.unit);
            let leaves = decision.from.into_iter().filter(|machine| !keeps || !situation.is_there(machine));
            let order = self.order(decision.unit, leaves.collect(), to, situation);
            if !order.is_done(situation.current) {
                orders.push(order);
            }
        }
        self.overlap = overlap;
        let named: BTreeSet<UnitName> = orders.iter().map(|order| order.unit.clone()).collect();
        // Those that go nowhere, at least for now.
        let idle = |unit: &UnitName| !named.contains(unit) && !situation.is_frozen(unit);
        for (unit, machine) in self.given_up.iter().filter(|(unit, _)| idle(unit)) {
            let from = vec![machine.clone()];
            orders.push(Order { unit: unit.clone(), from, recall: Vec::new(), to: None, strict: true });
        }
        orders
    }

    /// Whether a unit that leaves some machines may come to another one now.
    fn may_come(&self, unit: &UnitName, to: &MachineId, leaves: &[MachineId], situation: &Situation<'_>) -> bool {
        if !situation.is_strict(unit) {
            return true;
        }
        let is_gone = |machine: &MachineId| {
            self.is_given_up(unit, machine) || leaves.contains(machine) && self.may_go(unit, machine, situation)
        };
        situation.placements.of(unit).filter(|other| *other != to).all(is_gone)
            && (!situation.hides_copy(unit, to) || self.is_given_up(unit, to))
    }

    /// Whether the entry of a unit on a machine may be deleted without more ado.
    fn may_go(&self, unit: &UnitName, machine: &MachineId, situation: &Situation<'_>) -> bool {
        !situation.must_be_down(unit, machine)
            || self.is_given_up(unit, machine)
            || !situation.is_there(machine) && situation.is_down(unit, machine)
    }

    fn is_given_up(&self, unit: &UnitName, machine: &MachineId) -> bool {
        self.given_up.contains(&(unit.clone(), machine.clone()))
    }

    /// The order for one unit that leaves these machines.
    fn order(&self, unit: UnitName, leaves: Vec<MachineId>, to: Option<MachineId>, situation: &Situation<'_>) -> Order {
        let strict = situation.is_strict(&unit);
        let (mut from, recall): (Vec<_>, Vec<_>) =
            leaves.into_iter().partition(|machine| self.may_go(&unit, machine, situation));
        let given_up = situation.placements.of(&unit).filter(|machine| {
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
pub fn outdated(unit: UnitName, situation: &Situation<'_>) -> Option<Order> {
    let current = situation.current;
    let wanted = &current.units.get(&unit)?.record;
    if wanted.desired == Desired::Inactive || situation.is_frozen(&unit) {
        return None;
    }
    let places = situation
        .placements
        .of(&unit)
        .filter(|machine| situation.scheduled(&unit, machine).is_some_and(|scheduled| !scheduled.record.is_recall()));
    // Of two, the one on a machine that is being drained is on its way out.
    let machine = places.min_by_key(|machine| current.drains(machine))?.clone();
    if current.unreadable.contains(&Key::Machine(machine.clone())) {
        return None;
    }
    let strict = situation.is_strict(&unit);
    if strict && !current.machines.contains_key(&machine) {
        return None;
    }
    let (recall, to) =
        if situation.hides_copy(&unit, &machine) { (vec![machine], None) } else { (Vec::new(), Some(machine)) };
    let order = Order { unit, from: Vec::new(), recall, to, strict };
    (!order.is_done(current)).then_some(order)
}

//! From the planner's decisions to orders: which copy of a unit goes before the next one comes, and which after.
//!
//! * Usually both at once, in one transaction.
//! * **Away from a machine that is being drained** the new copy comes first. The old one goes when the new one runs, or
//!   has failed, or [`PATIENCE`] is over. Until then the store shows both, which is all that the next leader needs.
//! * **Strict units** (`OnPartition=stop`) are *recalled*: the schedule of a machine tells it to give the unit up, and
//!   only when it says that it has, or can be running it no more, the unit is scheduled elsewhere. A recall stands in
//!   the store as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_core::{
    model::{Desired, Key, MachineId},
    sched::{Cause, Decision, Losses, Planner},
    unit::{OnPartition, UnitName},
};
use tokio::time::Instant;
use tracing::info;

use super::{
    contents::{Contents, Copies},
    placements::{Placements, is_recall},
    translate::Order,
};
use crate::registry::Cluster;

/// How long the old copy of a unit waits for the new one.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is under way, and what decides how it goes on.
#[derive(Default)]
pub struct Moves {
    /// Units with an old copy that waits for the new one, and since when.
    waiting: BTreeMap<UnitName, Instant>,
    /// Copies that are known to be down, and whose entry goes with the next order for the unit.
    given_up: BTreeSet<(UnitName, MachineId)>,
}

/// What a move rests on.
pub struct Situation<'s> {
    /// The cluster as it is.
    pub current: &'s Cluster,
    /// Where units are.
    pub placements: &'s Placements,
    /// What they ask for.
    pub contents: &'s Contents,
    /// Which machines are gone.
    pub losses: &'s Losses,
    /// The leader's time.
    pub now: Duration,
}

impl Situation<'_> {
    /// Whether no second copy may run of what is scheduled there.
    fn is_strict(&self, unit: &UnitName, machine: &MachineId) -> bool {
        let scheduled = self.current.scheduled.get(&(machine.clone(), unit.clone()));
        scheduled.is_some_and(|scheduled| self.contents.copies(scheduled.record.hash) != Copies::Any)
    }

    /// Whether no second copy may run of a unit, as it is wanted or as it is scheduled anywhere.
    pub fn is_unit_strict(&self, unit: &UnitName) -> bool {
        let wanted = self.contents.of(unit);
        wanted.is_some_and(|wanted| wanted.on_partition == OnPartition::Stop)
            || self.placements.of(unit).any(|machine| self.is_strict(unit, machine))
    }

    /// Whether something of a unit cannot be read here, so that nothing is to be decided about it.
    pub fn is_frozen(&self, unit: &UnitName) -> bool {
        let concerns = |key: &Key| matches!(key, Key::Unit(name) | Key::Sched(_, name) if name == unit);
        self.current.unreadable.iter().any(concerns)
    }

    /// When the copy of a unit on a machine that is gone can be running no more; `None` when nobody knows.
    pub fn down_at(&self, unit: &UnitName, machine: &MachineId) -> Option<Duration> {
        let scheduled = self.current.scheduled.get(&(machine.clone(), unit.clone()));
        match scheduled.map_or(Copies::Any, |scheduled| self.contents.copies(scheduled.record.hash)) {
            Copies::Any => Some(Duration::ZERO),
            Copies::One(bound) => self.losses.down_at(machine, bound),
        }
    }

    /// Whether the machine is there, as far as one can tell.
    fn is_there(&self, machine: &MachineId) -> bool {
        self.losses.is_dead(machine).is_none()
    }

    /// Whether a machine that is gone for good, or said so itself, cannot be running the unit any more.
    fn is_down(&self, unit: &UnitName, machine: &MachineId) -> bool {
        let entry = (machine.clone(), unit.clone());
        if let Some(dead) = self.losses.is_dead(machine) {
            return dead && self.down_at(unit, machine).is_some_and(|at| at <= self.now);
        }
        let Some(scheduled) = self.current.scheduled.get(&entry) else { return true };
        let released = self.current.states.get(&entry).and_then(|state| state.record.released);
        is_recall(&scheduled.record) && released == Some(scheduled.revision)
    }

    /// Whether the copy of a unit on a machine is as far as it will come.
    fn is_settled(&self, unit: &UnitName, machine: &MachineId) -> bool {
        let Some(wanted) = self.current.units.get(unit).map(|value| &value.record) else { return true };
        if wanted.desired != Desired::Launched {
            return true;
        }
        let state = self.current.states.get(&(machine.clone(), unit.clone())).map(|value| &value.record);
        state.is_some_and(|state| {
            let at_rest = ["active", "failed", "inactive"].contains(&&*state.active) && !state.job;
            state.hash == wanted.hash && state.current == Desired::Launched && at_rest
        })
    }
}

impl Moves {
    /// Whether states of units matter now.
    pub fn is_waiting(&self, placements: &Placements) -> bool {
        !self.waiting.is_empty() || placements.recalled().next().is_some()
    }

    /// When to look again though nothing may have happened.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.values().min().map(|since| *since + PATIENCE)
    }

    /// Tells the planner what has become of moves, before it plans.
    pub fn prepare(&mut self, planner: &mut Planner, situation: &Situation<'_>) {
        // The old copy is where the store has it, until it is gone: if the new one fails, it is what is left.
        self.waiting.keys().for_each(|unit| planner.refused(unit));
        self.given_up.clear();
        for (unit, machine) in situation.placements.recalled() {
            if situation.is_down(unit, machine) {
                planner.given_up(unit, machine);
                self.given_up.insert((unit.clone(), machine.clone()));
            }
        }
    }

    /// What is to be done now about these decisions. What cannot be done yet is taken back from the planner, or
    /// decided again when it is prepared next.
    pub fn orders(&mut self, decisions: Vec<Decision>, planner: &mut Planner, situation: &Situation<'_>) -> Vec<Order> {
        let waiting = std::mem::take(&mut self.waiting);
        let unsettled = unsettled(&decisions, situation);
        let mut orders: Vec<Order> = Vec::new();
        for decision in decisions {
            let Decision { unit, from, to, reason } = decision;
            if situation.is_frozen(&unit) {
                planner.refused(&unit);
                continue;
            }
            if !waiting.contains_key(&unit) {
                match &to {
                    Some(machine) => info!(%unit, %machine, %reason, "unit scheduled"),
                    None => info!(%unit, ?from, %reason, "unit unscheduled"),
                }
            }
            let mut order = self.order(unit, from, to, situation);
            let may_overlap = reason.left == Some(Cause::Draining) || waiting.contains_key(&order.unit);
            let since = waiting.get(&order.unit).copied().unwrap_or_else(Instant::now);
            if order.strict {
                let others = situation.placements.of(&order.unit);
                let mut others =
                    others.filter(|other| Some(*other) != order.to.as_ref() && !order.from.contains(other));
                if order.to.is_some() && others.next().is_some() {
                    planner.refused(&order.unit);
                    order.to = None;
                }
            } else if may_overlap && unsettled.contains(&order.unit) && since.elapsed() < PATIENCE {
                order.from.retain(|machine| !situation.is_there(machine));
                self.waiting.insert(order.unit.clone(), since);
            }
            if !order.is_done(situation.current) {
                orders.push(order);
            }
        }
        let named: BTreeSet<UnitName> = orders.iter().map(|order| order.unit.clone()).collect();
        // Those that go nowhere, at least for now.
        let idle = |unit: &UnitName| !named.contains(unit) && !situation.is_frozen(unit);
        for (unit, machine) in self.given_up.iter().filter(|(unit, _)| idle(unit)) {
            let from = vec![machine.clone()];
            orders.push(Order { unit: unit.clone(), from, recall: Vec::new(), to: None, strict: true });
        }
        orders
    }

    /// The order for one unit, as if it need not wait for its new copy.
    fn order(&self, unit: UnitName, leaves: Vec<MachineId>, to: Option<MachineId>, situation: &Situation<'_>) -> Order {
        let mut strict = situation.is_unit_strict(&unit);
        let (mut from, mut recall) = (Vec::new(), Vec::new());
        for machine in leaves {
            if !situation.is_strict(&unit, &machine) {
                from.push(machine);
                continue;
            }
            strict = true;
            if !situation.is_there(&machine) && situation.is_down(&unit, &machine) {
                from.push(machine);
            } else {
                recall.push(machine);
            }
        }
        let given_up = situation.placements.of(&unit).filter(|machine| {
            Some(*machine) != to.as_ref() && self.given_up.contains(&(unit.clone(), (*machine).clone()))
        });
        let given_up: Vec<MachineId> = given_up.filter(|machine| !from.contains(machine)).cloned().collect();
        from.extend(given_up);
        Order { unit, from, recall, to, strict }
    }
}

/// The units whose new copy is not as far as it will come, and those that such a unit must be with: of units that must
/// be together none loses its old copy alone.
fn unsettled(decisions: &[Decision], situation: &Situation<'_>) -> BTreeSet<UnitName> {
    let moving: BTreeMap<UnitName, &MachineId> =
        decisions.iter().filter_map(|decision| Some((decision.unit.clone(), decision.to.as_ref()?))).collect();
    let open = moving.iter().filter(|(unit, machine)| !situation.is_settled(unit, machine));
    let mut open: Vec<&UnitName> = open.map(|(unit, _)| unit).collect();
    let mut unsettled: BTreeSet<UnitName> = open.iter().map(|unit| (*unit).clone()).collect();
    while let Some(unit) = open.pop() {
        let targets = situation.contents.of(unit).into_iter().flat_map(|wanted| &wanted.machine_of);
        let targets = targets.filter_map(|target| Some(moving.get_key_value(target.as_str())?.0));
        open.extend(targets.filter(|target| unsettled.insert((*target).clone())));
    }
    unsettled
}

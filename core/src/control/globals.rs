//! Where global units are told to be: an entry of the schedule for each machine where one belongs.
//!
//! In: where [`GlobalJudge`] says that global units belong, and the entries there are. Out: what makes these equal. What is
//! looked at is what has changed, and the machines on which ordinary units come and go.
//!
//! Nothing is written for a machine that is away: it runs what it ran, and is told what differs when it is back. Its
//! entries go when it is gone for good, or so is the unit.
//!
//! As long as a host is there that decides by itself about its global units, there are no entries at all: see
//! [`GLOBAL_PLACEMENTS`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Change, Event, Facts, facts::is_present, handover::Order};
use crate::{
    model::{
        Desired, Key, MachineId, MachineRecord, Placement, Record, UnitRecord, Versioned, features::GLOBAL_PLACEMENTS,
    },
    ops::{Guard, Write, WriteSet},
    sched::{GlobalJudge, Planner},
    unit::UnitName,
};

/// How long the entries of a machine stay that is away.
const AWAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Most entries that one pass writes: what else is to be decided waits for them.
const MOST: usize = 2000;

/// What is to be looked at. See the [module](self).
#[derive(Debug, Default)]
pub struct Globals {
    /// Whether entries are written.
    places: bool,
    /// Global units, on all machines.
    units: BTreeSet<UnitName>,
    /// Machines, for all global units.
    machines: BTreeSet<MachineId>,
    /// Single entries.
    entries: BTreeSet<(MachineId, UnitName)>,
    /// Since when machines have been away that have entries.
    away: BTreeMap<MachineId, Duration>,
}

impl Globals {
    /// The changes that are to be made now, given what the planner has decided and which `orders` carry that out.
    pub fn changes(
        &mut self,
        planner: &Planner,
        orders: &[Order],
        facts: &Facts<'_>,
        events: &mut Vec<Event>,
    ) -> Vec<Change> {
        self.follow(orders, facts);
        let mut changes = Vec::new();
        if self.places {
            for (machine, unit) in std::mem::take(&mut self.entries) {
                changes.extend(self.change(&unit, &machine, planner.global(&unit).as_ref(), facts));
            }
            self.of_units(planner, facts, &mut changes, events);
            self.of_machines(planner, facts, &mut changes);
        }
        changes
    }

    /// Looks at units on all machines, as long as there is room for changes.
    fn of_units(&mut self, planner: &Planner, facts: &Facts<'_>, changes: &mut Vec<Change>, events: &mut Vec<Event>) {
        let machines = &facts.snapshot().machines;
        while changes.len() < MOST
            && let Some(unit) = self.units.pop_first()
        {
            let before = changes.len();
            let judge = planner.global(&unit);
            let away = facts.known.placements.of_global(&unit).filter(|id| !machines.contains_key(*id));
            let of_unit = machines.keys().chain(away).filter_map(|on| self.change(&unit, on, judge.as_ref(), facts));
            changes.extend(of_unit.take(MOST - before));
            events.extend(told(&unit, &changes[before..]));
            if changes.len() == MOST {
                self.units.insert(unit);
            }
        }
    }

    /// Looks at machines for all units, as long as there is room for changes.
    fn of_machines(&mut self, planner: &Planner, facts: &Facts<'_>, changes: &mut Vec<Change>) {
        if self.machines.is_empty() {
            return;
        }
        let judges: BTreeMap<&UnitName, Option<GlobalJudge<'_>>> =
            known(facts).map(|unit| (unit, planner.global(unit))).collect();
        while changes.len() < MOST
            && let Some(machine) = self.machines.pop_first()
        {
            let judges = judges.iter();
            changes.extend(judges.filter_map(|(unit, judge)| self.change(unit, &machine, judge.as_ref(), facts)));
        }
    }

    /// When to look again though nothing may have happened.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        let is_behind = !self.units.is_empty() || !self.machines.is_empty();
        let away = self.away.values().map(|since| *since + AWAY).filter(|at| *at > now).min();
        if is_behind && self.places { Some(now) } else { away }
    }

    /// A change of an entry did not go through.
    pub fn refused(&mut self, machine: &MachineId, unit: &UnitName) {
        self.entries.insert((machine.clone(), unit.clone()));
        // It may have been an ordinary unit's, which has kept a global one off.
        self.machines.insert(machine.clone());
    }

    /// Whether each machine has the entries that it is to have, and no other.
    pub fn are_placed(planner: &Planner, facts: &Facts<'_>) -> bool {
        let globals = Self::default();
        known(facts).all(|unit| {
            let judge = planner.global(unit);
            let mut machines = facts.snapshot().machines.keys();
            machines.all(|machine| globals.change(unit, machine, judge.as_ref(), facts).is_none())
        })
    }

    /// Takes note of what is to be looked at.
    fn follow(&mut self, orders: &[Order], facts: &Facts<'_>) {
        let (snapshot, placements) = (facts.snapshot(), facts.known.placements);
        let has_entries = |id: &MachineId| placements.globals().any(|(_, on)| on.contains(id));
        let placed = self.places;
        self.places = snapshot.uses(GLOBAL_PLACEMENTS) || snapshot.all_understand(GLOBAL_PLACEMENTS);
        if !self.places {
            *self = Self::default();
            return;
        }
        if !placed {
            self.units.extend(known(facts).cloned());
        }
        self.units.extend(facts.news.globals.iter().cloned());
        self.entries.extend(facts.news.places.iter().cloned());
        for diff in facts.delta.machines() {
            if diff.after.is_none() && has_entries(diff.key) {
                self.away.entry(diff.key.clone()).or_insert(facts.now);
            }
            self.machines.insert(diff.key.clone());
        }
        if facts.delta.is_listed_anew() {
            let away = placements.globals().flat_map(|(_, on)| on).filter(|id| !is_present(snapshot, id));
            let new = away.filter(|id| !self.away.contains_key(*id)).map(|id| (id.clone(), facts.now));
            let new: Vec<_> = new.collect();
            self.away.extend(new);
        }
        self.away.retain(|id, _| !is_present(snapshot, id) && has_entries(id));
        self.machines.extend(facts.delta.metadata().map(|diff| diff.key.clone()));
        self.machines
            .extend(self.away.iter().filter(|(_, since)| **since + AWAY <= facts.now).map(|(id, _)| id.clone()));
        if !snapshot.globals.is_empty() {
            let ordinary = facts.delta.scheduled().filter(|diff| {
                let is_ordinary = |it: &&Versioned<Placement>| !it.record.global;
                diff.before.as_ref().is_some_and(is_ordinary) || diff.after.as_ref().is_some_and(is_ordinary)
            });
            self.machines.extend(ordinary.map(|diff| diff.key.0.clone()));
            // Also where they are, if they are only wanted otherwise, and where they go.
            self.machines.extend(facts.news.units.iter().flat_map(|unit| placements.of(unit)).cloned());
            self.machines.extend(orders.iter().flat_map(|order| order.from.iter().chain(&order.to)).cloned());
        }
    }

    /// What is to be done about one entry. Where nobody knows what the unit asks for, or what stands there, it is left.
    fn change(
        &self,
        unit: &UnitName,
        machine: &MachineId,
        judge: Option<&GlobalJudge<'_>>,
        facts: &Facts<'_>,
    ) -> Option<Change> {
        let snapshot = facts.snapshot();
        let (key, global) = (Key::Sched(machine.clone(), unit.clone()), Key::Global(unit.clone()));
        let there = facts.scheduled(unit, machine);
        // One of an ordinary unit is the planner's, and goes first.
        let is_others = there.is_some_and(|there| !there.record.global);
        if is_others || snapshot.unreadable.contains(&key) || snapshot.unreadable.contains(&global) {
            return None;
        }
        let wanted = snapshot.globals.get(unit).filter(|wanted| wanted.record.desired != Desired::Inactive);
        let revision = snapshot.globals.get(unit).map_or(0, |wanted| wanted.revision);
        let guards = vec![
            Guard { key: global, revision },
            Guard { key: key.clone(), revision: there.map_or(0, |there| there.revision) },
        ];
        let change = |write, more: Option<Guard>| {
            let guards = guards.into_iter().chain(more).collect();
            Change { set: WriteSet { guards, writes: vec![write] }, ..Change::default() }
        };
        let machine_is = |revision| Guard { key: Key::Machine(machine.clone()), revision };
        let Some(wanted) = wanted else { return there.map(|_| change(Write::Delete(key), None)) };
        let Some(known) = snapshot.machines.get(machine) else {
            let is_over = there.is_some() && self.is_gone(machine, facts);
            return is_over.then(|| change(Write::Delete(key), Some(machine_is(0))));
        };
        if !understands(&known.record) {
            return None;
        }
        if judge?.on(machine)?.is_err() {
            return there.map(|_| change(Write::Delete(key), None));
        }
        let placement = placement(&wanted.record, machine, there.map(|there| &*there.record), facts, unit)?;
        // One that has an entry keeps it, even if it has gone meanwhile.
        let new = there.is_none().then(|| machine_is(known.revision));
        Some(change(Write::Put(key, placement.encode()), new))
    }

    /// Whether a machine that is not there will not be back with what it runs.
    fn is_gone(&self, machine: &MachineId, facts: &Facts<'_>) -> bool {
        let snapshot = facts.snapshot();
        let evicted = snapshot.metadata.get(machine).is_some_and(|edits| edits.record.evicted);
        let is_long_away = self.away.get(machine).is_some_and(|since| *since + AWAY <= facts.now);
        !is_present(snapshot, machine) && (evicted || snapshot.left_in_order(machine) || is_long_away)
    }
}

/// The global units that are wanted or were, and those that have an entry.
fn known<'f>(facts: &Facts<'f>) -> impl Iterator<Item = &'f UnitName> {
    let submitted = facts.snapshot().globals.keys().filter(|unit| !unit.is_template());
    submitted.chain(facts.known.placements.globals().map(|(unit, _)| unit))
}

/// Whether a host goes by the entries of global units.
fn understands(machine: &MachineRecord) -> bool {
    machine.features.has(GLOBAL_PLACEMENTS)
}

/// What is to be written for a machine that is to run a global unit; `None` when it stands there.
fn placement(
    wanted: &UnitRecord,
    machine: &MachineId,
    there: Option<&Placement>,
    facts: &Facts<'_>,
    unit: &UnitName,
) -> Option<Placement> {
    let mut placement = Placement::of(wanted)?.everywhere();
    // A restart that goes from machine to machine has not come here yet.
    if wanted.restarted_to.as_deref().is_some_and(|last| machine > last) {
        let reported = || facts.state(unit, machine).map(|state| state.generation);
        placement.generation = there.map(|there| there.generation).or_else(reported).unwrap_or(placement.generation);
    }
    match there {
        Some(there) if placement.is_as(there) => None,
        Some(there) => Some(placement.instead_of(there)),
        None => Some(placement),
    }
}

/// What the log is told of a unit's changes.
fn told(unit: &UnitName, changes: &[Change]) -> Option<Event> {
    let deleted = changes.iter().filter(|change| matches!(change.set.writes[..], [Write::Delete(_)])).count();
    let placed = changes.len() - deleted;
    (!changes.is_empty()).then(|| Event::Global { unit: unit.clone(), placed, deleted })
}

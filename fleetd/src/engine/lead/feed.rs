//! What the planner is told before it plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    model::{Delta, Desired, HeldUnitRecord, Key, MachineId, Snapshot, apply_edits},
    unit::{OnPartition, Requirements, UnitName},
};
use tracing::{info, warn};

use super::{
    super::{changes::Changes, contents::Copies, situation::Situation},
    Leader,
};
use crate::registry::Store;

impl<S: Store> Leader<'_, S> {
    /// Returns the machines that something is newly scheduled to, or scheduled otherwise.
    pub(super) fn feed_placements(
        &mut self,
        delta: Delta<'_>,
        touched: &mut BTreeSet<UnitName>,
    ) -> BTreeSet<MachineId> {
        let mut concerned = BTreeSet::new();
        for diff in delta.scheduled() {
            let (machine, unit) = diff.key;
            touched.insert(unit.clone());
            match diff.after {
                None => {
                    self.placements.remove(unit, machine);
                    self.planner.removed(unit, machine);
                }
                Some(new) => {
                    concerned.insert(machine.clone());
                    self.placements.set(unit, machine, &new.record);
                    if new.record.is_recall() {
                        self.planner.recalled(unit.clone(), machine.clone());
                    } else {
                        self.planner.placed(unit.clone(), machine.clone());
                    }
                }
            }
        }
        concerned
    }

    pub(super) fn feed_units(&mut self, changes: Changes, current: &Snapshot, touched: &mut BTreeSet<UnitName>) {
        self.unused.follow(&changes);
        let mut doubtful: BTreeSet<UnitName> = changes.scheduled.into_iter().map(|(unit, _)| unit).collect();
        for (unit, _) in changes.removed {
            self.planner.remove_unit(&unit);
            // Unless it has become global, or is no longer.
            if !current.units.contains_key(&unit) && !current.globals.contains_key(&unit) {
                self.contents.remove(&unit);
            }
            doubtful.insert(unit);
        }
        for (unit, global, record) in changes.set {
            let wanted = record.desired != Desired::Inactive;
            if global {
                match self.contents.of(&unit).map(Arc::clone) {
                    Some(requirements) => self.planner.set_global(unit, requirements, wanted),
                    None if wanted => {}
                    None => self.planner.set_global(unit, Arc::default(), wanted),
                }
            } else {
                self.set_unit(&unit, current);
                touched.insert(unit);
            }
        }
        // What is scheduled of a unit may make it strict although it is not any more, until that is gone.
        doubtful.extend(touched.iter().cloned());
        for unit in &doubtful {
            self.set_unit_if_formerly_strict(unit, current);
        }
    }

    fn set_unit(&mut self, unit: &UnitName, current: &Snapshot) {
        let Some(record) = current.units.get(unit).map(|value| &value.record) else { return };
        let wanted = record.desired != Desired::Inactive;
        let requirements = match self.contents.of(unit) {
            Some(requirements) => self.with_scheduled(unit, requirements, current),
            // It is frozen: whatever it asks for, it stays where it is, and others keep to it there.
            None if wanted && (self.planner.knows(unit) || self.placements.of(unit).next().is_none()) => return,
            None if wanted => Arc::default(),
            None => Arc::default(),
        };
        self.planner.set_unit(unit.clone(), requirements, wanted);
    }

    fn set_unit_if_formerly_strict(&mut self, unit: &UnitName, current: &Snapshot) {
        let is_so = self.scheduled_bound(unit, current).is_some()
            && self.contents.of(unit).is_some_and(|wanted| wanted.on_partition != OnPartition::Stop);
        let was_so = if is_so { !self.formerly_strict.insert(unit.clone()) } else { self.formerly_strict.remove(unit) };
        if is_so != was_so {
            self.set_unit(unit, current);
        }
    }

    /// What a unit asks for, and that it be down before it starts elsewhere when any copy that is scheduled asks that.
    fn with_scheduled(&self, unit: &UnitName, wanted: &Arc<Requirements>, current: &Snapshot) -> Arc<Requirements> {
        match self.scheduled_bound(unit, current) {
            Some(stop_bound) if wanted.on_partition != OnPartition::Stop => {
                let on_partition = OnPartition::Stop;
                Arc::new(Requirements { on_partition, stop_bound, ..(**wanted).clone() })
            }
            _ => Arc::clone(wanted),
        }
    }

    /// The time that a strict copy of a unit, as it is scheduled somewhere, may take to stop.
    fn scheduled_bound(&self, unit: &UnitName, current: &Snapshot) -> Option<Option<Duration>> {
        self.placements.of(unit).find_map(|machine| {
            let scheduled = current.scheduled.get(&(machine.clone(), unit.clone()))?;
            match self.contents.copies(scheduled.record.hash) {
                Copies::Any => None,
                Copies::One(bound) => Some(bound),
            }
        })
    }

    /// `scheduled_to` are the machines of which something has changed in the schedule.
    pub(super) fn feed_machines(
        &mut self,
        delta: Delta<'_>,
        mut scheduled_to: BTreeSet<MachineId>,
        touched: &mut BTreeSet<UnitName>,
    ) {
        let Delta { before, after: current } = delta;
        let now = self.now();
        for diff in delta.machines() {
            let id = diff.key;
            if diff.after.is_some() {
                self.set_machine(id, current);
                // While it was away nobody told it what is wanted of them now.
                touched.extend(self.placements.on(id).cloned());
            } else {
                self.losses.gone(id, current.departures_of(id), now);
                if current.left_in_order(id) {
                    info!(machine = %id, "machine has left");
                    self.losses.left(id);
                } else {
                    warn!(machine = %id, "machine is gone");
                }
            }
        }
        for diff in delta.metadata() {
            self.set_machine(diff.key, current);
            if diff.after.is_some_and(|edits| edits.record.evicted) {
                self.evicted.insert(diff.key.clone());
            } else {
                self.evicted.remove(diff.key);
            }
        }
        // Also one that is known from before: no transaction that gives it a unit would find its entry unchanged.
        for key in &current.unreadable {
            if let Key::Machine(id) = key {
                self.losses.back(id);
                self.planner.hold_machine(id.clone());
            }
        }
        let is_there = |machine: &MachineId| {
            current.machines.contains_key(machine) || current.unreadable.contains(&Key::Machine(machine.clone()))
        };
        for key in &before.unreadable {
            if let Key::Machine(id) = key
                && !is_there(id)
            {
                self.losses.gone(id, current.departures_of(id), now);
            }
        }
        // Those that are not there though units are on them. What was found gone stays so until it is seen again, which
        // its departures tell even if it was not there for long, or until it may have been there unseen.
        if delta.is_listed_anew() {
            scheduled_to.extend(self.placements.machines().cloned());
        }
        scheduled_to.extend(delta.departed().cloned());
        let scheduled_to = scheduled_to.iter().filter(|machine| self.placements.on(machine).next().is_some());
        let witnessed = std::mem::take(&mut self.witnessed);
        for machine in scheduled_to.chain(&witnessed).filter(|machine| !is_there(machine)) {
            self.losses.gone(machine, current.departures_of(machine), now);
        }
    }

    fn set_machine(&mut self, id: &MachineId, current: &Snapshot) {
        let Some(machine) = current.machines.get(id) else { return };
        let edits = current.metadata.get(id).map(|edits| &*edits.record);
        let metadata = apply_edits(machine.record.metadata.clone(), edits);
        self.losses.back(id);
        if edits.is_some_and(|edits| edits.drain) {
            self.planner.drain_machine(id.clone(), metadata);
        } else {
            self.planner.set_machine(id.clone(), metadata);
        }
    }

    /// Has the planner hold the machines that are gone, and their units, for as long as they are to be held. Returns
    /// the units that wait on machines that are gone until they are down, and when to look at them again.
    pub(super) fn feed_losses(
        &mut self,
        current: &Snapshot,
        silent: usize,
        now: Duration,
    ) -> Vec<(HeldUnitRecord, Option<Duration>)> {
        let gone: Vec<MachineId> = self.losses.machines().map(|(machine, _)| machine.clone()).collect();
        for machine in &gone {
            let evicted = current.metadata.get(machine).is_some_and(|edits| edits.record.evicted);
            self.losses.set_evicted(machine, evicted);
        }
        let dead_before: BTreeSet<MachineId> =
            self.losses.machines().filter(|(_, dead)| *dead).map(|(machine, _)| machine.clone()).collect();
        let placements = &self.placements;
        self.losses.step(now, current.machines.len(), silent, |machine| placements.on(machine).next().is_some());
        let situation = Situation { current, placements, contents: &self.contents, losses: &self.losses, now };
        let mut held = Vec::new();
        let shown = self.losses.held(now).into_iter().filter(|held| self.held.machine(held).is_some());
        let waiting: BTreeMap<MachineId, Option<Duration>> = shown.map(|held| (held.machine, held.until)).collect();
        for (machine, dead) in self.losses.machines() {
            let since = self.losses.gone_since(machine).map(|since| self.held.time(since));
            if !dead {
                self.planner.hold_machine(machine.clone());
                if let Some(until) = waiting.get(machine) {
                    // They may have to be waited for longer than the machine.
                    let strict = placements.on(machine).filter(|unit| situation.must_be_down(unit, machine));
                    held.extend(strict.map(|unit| {
                        let at = until.zip(situation.down_at(unit, machine)).map(|(until, down)| until.max(down));
                        let until = at.map(|at| self.held.time(at));
                        let since = since.clone();
                        (HeldUnitRecord { name: unit.clone(), machine: machine.clone(), since, until }, None)
                    }));
                }
                continue;
            }
            if !dead_before.contains(machine) {
                info!(%machine, "machine counts as dead, its units move");
            }
            for unit in placements.on(machine) {
                let at = situation.down_at(unit, machine);
                if at.is_some_and(|at| at <= now) {
                    self.planner.release_unit(unit, machine);
                } else {
                    self.planner.hold_unit(unit, machine);
                    let until = at.map(|at| self.held.time(at));
                    let (name, machine, since) = (unit.clone(), machine.clone(), since.clone());
                    let record = HeldUnitRecord { name, machine, since, until };
                    held.push((record, at));
                }
            }
            self.planner.remove_machine(machine);
        }
        held
    }
}

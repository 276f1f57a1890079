//! What the planner is told of the cluster: built from a snapshot, and kept up to date by what differs in the next.
//!
//! The engine, what explains its decisions and the judges of the simulation feed their planners here and nowhere else,
//! and so cannot differ. In go snapshots, the files whose contents they name, and what is held; out comes a planner that
//! knows all of it, with the indexes that it rests on. Where an input comes to depends on the last snapshot only, not on
//! those before it.
//!
//! ```text
//!  unread(snapshot) ──→ hashes ──→ files, from the store ──→ read(hash, file) ──→ apply(snapshot) ──→ hold(held)
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smallvec::SmallVec;

use super::{
    contents::{Contents, Copies, Fault},
    placements::Placements,
    planner::Planner,
    verdict::Explanation,
};
use crate::{
    model::{Delta, Desired, Key, MachineId, Placement, Snapshot, Versioned, apply_edits},
    unit::{OnPartition, Requirements, UnitFile, UnitHash, UnitName},
};

/// The planner's input. See the [module](self).
#[derive(Default)]
pub struct Input {
    snapshot: Snapshot,
    planner: Planner,
    contents: Contents,
    placements: Placements,
    /// Units of which more is known than when the planner was told of them.
    news: BTreeSet<UnitName>,
    /// Machines that are not there and that the planner is to be told of.
    away: BTreeSet<MachineId>,
    /// The units that the planner has been told to leave on machines that are not there.
    held: BTreeSet<(UnitName, MachineId)>,
}

/// Contents that are to be read before a snapshot is applied, and who has them.
#[derive(Debug, Default)]
pub struct Unread {
    users: BTreeMap<UnitHash, BTreeSet<UnitName>>,
    /// Those that are scheduled somewhere.
    scheduled: BTreeSet<UnitHash>,
}

impl Unread {
    /// The contents.
    #[must_use]
    pub fn hashes(&self) -> Vec<UnitHash> {
        self.users.keys().copied().collect()
    }

    /// Those that are wanted, and new to machines.
    pub fn unscheduled(&self) -> impl Iterator<Item = UnitHash> {
        self.users.keys().filter(|hash| !self.scheduled.contains(hash)).copied()
    }
}

/// What of machines that are not there is to stay as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Machines that may come back. All others count as dead.
    pub machines: BTreeSet<MachineId>,
    /// Units that may still run on machines that are not there.
    pub units: BTreeSet<(UnitName, MachineId)>,
}

/// What a snapshot has brought.
#[derive(Debug, Default)]
pub struct Applied {
    /// Units for one machine that are wanted or scheduled otherwise, of which more is known, or whose machine is other
    /// than it was.
    pub units: BTreeSet<UnitName>,
    /// Global units that are wanted otherwise, of which more is known, or that are in conflict with such.
    pub globals: BTreeSet<UnitName>,
    /// Entries of other global units that are otherwise than they were.
    pub places: BTreeSet<(MachineId, UnitName)>,
}

/// What an input knows.
#[derive(Clone, Copy)]
pub struct Known<'i> {
    /// The snapshot that was applied last.
    pub snapshot: &'i Snapshot,
    /// What units ask for.
    pub contents: &'i Contents,
    /// Where units are.
    pub placements: &'i Placements,
}

impl Input {
    /// The contents that have to be read before a snapshot is applied. Those that were missing are asked for again.
    #[must_use]
    pub fn unread(&self, current: &Snapshot) -> Unread {
        let delta = Delta::between(&self.snapshot, current);
        let mut unread = Unread::default();
        let mut add = |unit: &UnitName, hash: Option<UnitHash>, is_scheduled: bool| {
            let Some(hash) = hash else { return };
            if self.contents.is_unread(unit, hash) {
                unread.users.entry(hash).or_default().insert(unit.clone());
                if is_scheduled {
                    unread.scheduled.insert(hash);
                }
            }
        };
        for diff in delta.units().chain(delta.globals()).filter(|diff| !diff.key.is_template()) {
            // Also of one that is global no more, and of which nothing else has changed.
            add(diff.key, current.units.get(diff.key).map(|unit| unit.record.hash), false);
            add(diff.key, current.globals.get(diff.key).map(|unit| unit.record.hash), false);
        }
        for diff in delta.scheduled() {
            // What a global unit asks for is the same everywhere.
            let placed = diff.after.filter(|placement| !placement.record.global);
            add(&diff.key.1, placed.map(|placement| placement.record.hash), true);
        }
        for (hash, units) in self.contents.missing() {
            unread.users.entry(*hash).or_default().extend(units.iter().cloned());
        }
        unread
    }

    /// Takes a file that was asked for, or that the store does not have it. Returns what is wrong with it and was not
    /// before, for each unit that has it.
    pub fn read(&mut self, unread: &Unread, hash: UnitHash, file: Option<&UnitFile>) -> Vec<(UnitName, Fault)> {
        let mut faults = Vec::new();
        for unit in unread.users.get(&hash).into_iter().flatten() {
            if file.is_some() {
                self.news.insert(unit.clone());
            }
            faults.extend(self.contents.read(unit, hash, file).err().map(|fault| (unit.clone(), fault)));
        }
        faults
    }

    /// Tells the planner what is otherwise than in the snapshot before.
    pub fn apply(&mut self, current: &Snapshot) -> Applied {
        let before = std::mem::replace(&mut self.snapshot, current.clone());
        let delta = Delta::between(&before, current);
        let mut applied = Applied::default();
        let mut changed = std::mem::take(&mut self.news);
        applied.units.extend(changed.iter().cloned());
        let globals = delta.globals().map(|diff| diff.key).filter(|unit| !unit.is_template()).cloned();
        applied.globals.extend(globals);
        applied.globals.extend(changed.iter().filter(|unit| current.globals.contains_key(*unit)).cloned());
        for diff in delta.scheduled() {
            let (machine, unit) = diff.key;
            match diff.after {
                None => self.placements.remove(unit, machine),
                Some(scheduled) => self.placements.set(unit, machine, &scheduled.record),
            }
            let is_global = |placement: &&Versioned<Placement>| placement.record.global;
            if diff.before.into_iter().chain(diff.after).any(|placement| is_global(&placement))
                && !applied.globals.contains(unit)
            {
                applied.places.insert(diff.key.clone());
            }
            let ordinary =
                |placement: Option<&'_ Versioned<Placement>>| placement.filter(|it| !is_global(it)).is_some();
            match diff.after.filter(|after| !is_global(after)) {
                None if !ordinary(diff.before) => continue,
                None => self.planner.removed(unit, machine),
                Some(scheduled) if scheduled.record.is_recall() => {
                    self.planner.recalled(unit.clone(), machine.clone());
                }
                Some(_) => self.planner.placed(unit.clone(), machine.clone()),
            }
            applied.units.insert(unit.clone());
            changed.insert(unit.clone());
        }
        for diff in delta.units().filter(|diff| !diff.key.is_template()) {
            applied.units.insert(diff.key.clone());
            changed.insert(diff.key.clone());
        }
        changed.extend(applied.globals.iter().cloned());
        // Those in conflict with a global unit as it was, and as it is.
        let rivals = |planner: &Planner, globals: &BTreeSet<UnitName>| {
            globals.iter().flat_map(|unit| planner.rivals_of(unit)).collect::<BTreeSet<UnitName>>()
        };
        let mut decided = rivals(&self.planner, &applied.globals);
        for unit in &changed {
            self.tell_unit(unit);
        }
        decided.extend(rivals(&self.planner, &applied.globals));
        applied.globals.extend(decided);
        for machine in self.changed_machines(delta) {
            self.tell_machine(&machine);
        }
        for diff in delta.machines().filter(|diff| diff.after.is_some()) {
            // While it was away nobody told it what is wanted of them now.
            applied.units.extend(self.placements.on(diff.key).cloned());
        }
        applied
    }

    /// Tells the planner what of machines that are not there stays as it is. Nothing of others does.
    pub fn hold(&mut self, held: &Held) {
        let away = std::mem::take(&mut self.away);
        let absent: Vec<MachineId> = away.union(&held.machines).filter(|id| !self.is_there(id)).cloned().collect();
        let units: BTreeSet<_> = held.units.iter().filter(|(_, id)| !self.is_there(id)).cloned().collect();
        for (unit, machine) in self.held.difference(&units) {
            self.planner.release_unit(unit, machine);
        }
        for (unit, machine) in &units {
            self.planner.hold_unit(unit, machine);
        }
        self.held = units;
        for id in absent {
            if held.machines.contains(&id) {
                self.planner.hold_machine(id.clone());
                self.away.insert(id);
            } else {
                self.planner.remove_machine(&id);
            }
        }
    }

    /// Why a unit is, or is not, where it is; and what of it cannot be read, which leaves it as it is.
    ///
    /// An input that explains makes no decisions: what is to be decided is left to another.
    pub fn explain(&mut self, unit: &UnitName) -> Explanation {
        self.planner.settle();
        let mut explanation = self.planner.explain(unit);
        if let Some(fault) = self.fault(unit) {
            explanation.summary = match &explanation.placed {
                Some(_) => format!("{}; {fault}", explanation.summary),
                None => format!("not placed: {fault}"),
            };
        }
        explanation
    }

    /// The units that stay on a machine that is being drained, each with the reason.
    pub fn stuck_on(&mut self, machine: &MachineId) -> BTreeMap<UnitName, String> {
        self.planner.settle();
        let stuck = self.planner.stuck_on(machine).into_iter();
        let mut stuck: BTreeMap<UnitName, String> = stuck.map(|(unit, reason)| (unit, reason.to_string())).collect();
        for unit in self.placements.on(machine) {
            if let Some(fault) = self.fault(unit) {
                stuck.insert(unit.clone(), fault.to_owned());
            }
        }
        stuck
    }

    /// What it knows.
    #[must_use]
    pub fn known(&self) -> Known<'_> {
        Known { snapshot: &self.snapshot, contents: &self.contents, placements: &self.placements }
    }

    /// The planner, which who decides asks for decisions, and what it knows.
    pub fn parts(&mut self) -> (&mut Planner, Known<'_>) {
        let known = Known { snapshot: &self.snapshot, contents: &self.contents, placements: &self.placements };
        (&mut self.planner, known)
    }

    /// What of a unit cannot be read, so that nothing is decided about it.
    fn fault(&self, unit: &UnitName) -> Option<&'static str> {
        let known = self.known();
        if known.is_unreadable(unit) {
            Some("what etcd has of it cannot be read")
        } else if known.is_wanted(unit) && self.contents.of(unit).is_none() {
            Some("its file in etcd is missing or cannot be read: submit it again")
        } else {
            None
        }
    }

    fn is_there(&self, machine: &MachineId) -> bool {
        self.snapshot.machines.contains_key(machine)
            || self.snapshot.unreadable.contains(&Key::Machine(machine.clone()))
    }

    fn changed_machines(&self, delta: Delta<'_>) -> BTreeSet<MachineId> {
        let unreadable = |snapshot: &Snapshot| -> Vec<MachineId> {
            let machines = snapshot.unreadable.iter().filter_map(|key| match key {
                Key::Machine(id) => Some(id.clone()),
                _ => None,
            });
            machines.collect()
        };
        let machines = delta.machines().map(|diff| diff.key).chain(delta.metadata().map(|diff| diff.key)).cloned();
        machines.chain(unreadable(delta.before)).chain(unreadable(delta.after)).collect()
    }

    fn tell_machine(&mut self, id: &MachineId) {
        // Also one that is known from before: no transaction that gives it a unit would find its entry unchanged.
        if self.snapshot.unreadable.contains(&Key::Machine(id.clone())) {
            return self.planner.hold_machine(id.clone());
        }
        let Some(machine) = self.snapshot.machines.get(id) else {
            self.away.insert(id.clone());
            return;
        };
        let edits = self.snapshot.metadata.get(id).map(|edits| &*edits.record);
        let metadata = apply_edits(machine.record.metadata.clone(), edits);
        if edits.is_some_and(|edits| edits.drain) {
            self.planner.drain_machine(id.clone(), metadata);
        } else {
            self.planner.set_machine(id.clone(), metadata);
        }
    }

    fn tell_unit(&mut self, unit: &UnitName) {
        let global = self.snapshot.globals.get(unit).map(|value| &value.record);
        let single = self.snapshot.units.get(unit).map(|value| &value.record);
        let scheduled = self.known().scheduled(unit).map(|record| record.hash);
        let scheduled: SmallVec<[UnitHash; 2]> = scheduled.collect();
        self.contents.set_used(unit, global.or(single).map(|record| record.hash), &scheduled);
        if let Some(record) = global {
            match self.contents.of(unit) {
                Some(requirements) => {
                    self.planner.set_global(
                        unit.clone(),
                        Arc::clone(requirements),
                        record.desired != Desired::Inactive,
                    );
                }
                None => self.planner.remove_unit(unit),
            }
        } else if let Some(record) = single {
            let wanted = record.desired != Desired::Inactive;
            let requirements = match self.contents.of(unit) {
                Some(requirements) => Some(self.with_scheduled(unit, requirements, &scheduled)),
                None if wanted => scheduled.first().map(|hash| Arc::new(self.frozen(unit, *hash))),
                None => Some(Arc::default()),
            };
            match requirements {
                Some(requirements) => self.planner.set_unit(unit.clone(), requirements, wanted),
                None => self.planner.remove_unit(unit),
            }
        } else {
            self.planner.remove_unit(unit);
        }
    }

    /// What is to be kept of a unit that is scheduled with these contents, while nobody can read what is wanted of it: it
    /// stays where it is, and others keep to it there.
    fn frozen(&self, unit: &UnitName, hash: UnitHash) -> Requirements {
        let Some(asked) = self.contents.by(unit, hash) else { return Requirements::default() };
        let Requirements { conflicts, on_partition, stop_bound, .. } = (**asked).clone();
        Requirements { conflicts, on_partition, stop_bound, ..Requirements::default() }
    }

    /// What a unit asks for, and that it be down before it starts elsewhere when any copy that is scheduled asks that.
    fn with_scheduled(&self, unit: &UnitName, wanted: &Arc<Requirements>, scheduled: &[UnitHash]) -> Arc<Requirements> {
        if wanted.on_partition == OnPartition::Stop {
            return Arc::clone(wanted);
        }
        let bound = scheduled.iter().find_map(|hash| match self.contents.copies(unit, *hash) {
            Copies::Any => None,
            Copies::One(bound) => Some(bound),
        });
        bound.map_or_else(
            || Arc::clone(wanted),
            |stop_bound| Arc::new(Requirements { on_partition: OnPartition::Stop, stop_bound, ..(**wanted).clone() }),
        )
    }
}

impl<'i> Known<'i> {
    /// What is scheduled of a unit, by machine.
    pub fn scheduled(self, unit: &UnitName) -> impl Iterator<Item = &'i Placement> {
        let entry = |machine: &MachineId| self.snapshot.scheduled.get(&(machine.clone(), unit.clone()));
        let places: SmallVec<[&Placement; 2]> =
            self.placements.of(unit).filter_map(entry).map(|entry| &*entry.record).collect();
        places.into_iter()
    }

    /// Whether something that etcd has of a unit cannot be read.
    #[must_use]
    pub fn is_unreadable(self, unit: &UnitName) -> bool {
        let concerns = |key: &Key| matches!(key, Key::Unit(name) | Key::Sched(_, name) if name == unit);
        self.snapshot.unreadable.iter().any(concerns)
    }

    /// Whether a unit for one machine is wanted.
    #[must_use]
    pub fn is_wanted(self, unit: &UnitName) -> bool {
        self.snapshot.units.get(unit).is_some_and(|wanted| wanted.record.desired != Desired::Inactive)
    }

    /// Whether something of a unit cannot be read here, so that nothing is to be decided about it.
    #[must_use]
    pub fn is_frozen(self, unit: &UnitName) -> bool {
        self.is_wanted(unit) && self.contents.of(unit).is_none() || self.is_unreadable(unit)
    }
}

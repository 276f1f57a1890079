//! The units, how they hang together, and where they are.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Index,
    sync::Arc,
};

use smallvec::SmallVec;

use super::{
    conflicts::Party,
    hint::ConflictHint,
    keys::{MachineKey, UnitKey},
    names::Names,
};
use crate::unit::{OnPartition, Requirements, UnitName};

/// Machines on which a unit is: one, as a rule, and so kept in the unit itself.
pub(super) type Places = SmallVec<[MachineKey; 2]>;

/// What a name stands for. Two are compared in the order of their fields: what is cheap to tell comes first.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Role {
    /// Nothing that the planner was told of: somebody's target, or a placement left over.
    Absent,
    /// A unit that runs on one machine.
    Single { wanted: bool, requirements: Arc<Requirements> },
    /// A unit that runs on every machine that fits.
    Global { wanted: bool, requirements: Arc<Requirements> },
}

impl Role {
    /// Takes over whether a unit for one machine is wanted, when it asks for the same as before. Whether it does: then
    /// all that rests on its requirements stands, and none of it need be touched.
    pub fn take_wanted(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Single { wanted, requirements }, Self::Single { wanted: is_wanted, requirements: wants })
                if requirements == wants =>
            {
                *wanted = *is_wanted;
                true
            }
            _ => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct UnitSlot {
    pub name: UnitName,
    pub role: Role,
    /// The units of its `MachineOf`, itself left out.
    pub targets: Vec<UnitKey>,
    /// The units in whose `MachineOf` it is.
    pub followers: BTreeSet<UnitKey>,
    /// Where it is scheduled, as far as the planner is concerned. More than one is a fault to be mended.
    pub at: Places,
    /// Where the store has it.
    pub stored: Places,
    /// The decisions that the store has not shown yet, oldest first. While there are any, `at` is their outcome;
    /// else it is the same as `stored`, or the unit is dirty.
    pub under_way: VecDeque<Vec<PlacementChange>>,
    /// The machines that were told to give it up, by the store, and have not said that they did.
    pub recalled: BTreeSet<MachineKey>,
    /// Those and the ones that a decision under way tells so: it may run there still, and so can go nowhere else.
    pub leaving: BTreeSet<MachineKey>,
    /// Machines on which it stays though they are gone.
    pub held: BTreeSet<MachineKey>,
}

/// A placement that is to be written, or to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlacementChange {
    pub machine: MachineKey,
    pub placed: bool,
}

impl UnitSlot {
    /// Its requirements, when it is a unit for one machine.
    pub fn single(&self) -> Option<&Arc<Requirements>> {
        match &self.role {
            Role::Single { requirements, .. } => Some(requirements),
            _ => None,
        }
    }

    /// Its requirements, when it is a unit for one machine and should be on one.
    pub fn wanted(&self) -> Option<&Arc<Requirements>> {
        self.single().filter(|_| matches!(self.role, Role::Single { wanted: true, .. }))
    }

    /// Whether it may start on a machine only when it is down on all others.
    pub fn is_strict(&self) -> bool {
        self.single().is_some_and(|requirements| requirements.on_partition == OnPartition::Stop)
    }

    /// Name and requirements, when it is a unit for one machine.
    pub fn party(&self) -> Option<Party<'_>> {
        self.single().map(|requirements| (&self.name, &**requirements))
    }

    /// What its name and its patterns look like at first sight.
    pub fn conflict_hint(&self) -> ConflictHint {
        ConflictHint::of(&self.name, self.single().map(|requirements| &**requirements))
    }

    /// Strikes off a change that the store has shown; whether it was part of a decision under way.
    ///
    /// The store may show the net effect of several decisions only: what comes before a change that it has shown, and
    /// what is as it should be with nothing before it, will not be shown any more.
    pub fn strike_off(&mut self, change: PlacementChange) -> bool {
        let Some(shown) = self.under_way.iter().position(|decision| decision.contains(&change)) else { return false };
        self.under_way.drain(..shown);
        while let Some(decision) = self.under_way.front_mut() {
            decision.retain(|change| self.stored.contains(&change.machine) != change.placed);
            if !decision.is_empty() {
                break;
            }
            self.under_way.pop_front();
        }
        if self.under_way.is_empty() {
            // Gives back its memory: most units are at rest most of the time.
            self.under_way = VecDeque::new();
        }
        true
    }

    fn is_unused(&self) -> bool {
        self.role == Role::Absent
            && self.followers.is_empty()
            && self.at.is_empty()
            && self.stored.is_empty()
            && self.under_way.is_empty()
            && self.recalled.is_empty()
            && self.leaving.is_empty()
            && self.held.is_empty()
    }
}

/// All units by name and by key.
#[derive(Debug, Default)]
pub(super) struct Units {
    slots: Vec<UnitSlot>,
    names: Names,
    free: Vec<UnitKey>,
    /// Those that may have become unused.
    maybe_unused: Vec<UnitKey>,
}

impl Units {
    pub fn intern(&mut self, name: UnitName) -> UnitKey {
        if let Some(key) = self.key(name.as_str()) {
            return key;
        }
        let unit = UnitSlot {
            name: name.clone(),
            role: Role::Absent,
            targets: Vec::new(),
            followers: BTreeSet::new(),
            at: Places::new(),
            stored: Places::new(),
            under_way: VecDeque::new(),
            recalled: BTreeSet::new(),
            leaving: BTreeSet::new(),
            held: BTreeSet::new(),
        };
        let key = match self.free.pop() {
            Some(key) => {
                self.slots[key.index()] = unit;
                key
            }
            None => {
                self.slots.push(unit);
                UnitKey::from_index(self.slots.len() - 1)
            }
        };
        self.names.insert(name, key);
        key
    }

    pub fn key(&self, name: &str) -> Option<UnitKey> {
        self.names.get(name)
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn get_mut(&mut self, key: UnitKey) -> &mut UnitSlot {
        &mut self.slots[key.index()]
    }

    /// Sets what the name stands for, and ties it to its targets.
    pub fn set_role(&mut self, key: UnitKey, role: Role) {
        for target in std::mem::take(&mut self.get_mut(key).targets) {
            self.get_mut(target).followers.remove(&key);
            self.mark_maybe_unused(target);
        }
        if let Role::Single { requirements, .. } = &role {
            // What is no unit name has no key; the requirement is checked by its text.
            let names = requirements.machine_of.iter().filter_map(|target| UnitName::new(target).ok());
            let targets: Vec<UnitKey> = names.map(|name| self.intern(name)).filter(|&target| target != key).collect();
            for &target in &targets {
                self.get_mut(target).followers.insert(key);
            }
            self.get_mut(key).targets = targets;
        }
        self.get_mut(key).role = role;
        self.mark_maybe_unused(key);
    }

    /// Notes what the store shows; whether that is news.
    pub fn set_stored(&mut self, key: UnitKey, PlacementChange { machine, placed }: PlacementChange) -> bool {
        self.mark_maybe_unused(key);
        let unit = self.get_mut(key);
        let known = unit.stored.contains(&machine);
        if placed && !known {
            unit.stored.push(machine);
        } else if !placed {
            unit.stored.retain(|other| *other != machine);
        }
        known != placed
    }

    /// Whether `unit` must be where `target` is, through whatever others.
    pub fn follows(&self, unit: UnitKey, target: UnitKey) -> bool {
        self.reach(unit, |unit| unit.targets.iter().copied()).contains(&target)
    }

    /// All that must be where `unit` is, through whatever others.
    pub fn followers(&self, unit: UnitKey) -> BTreeSet<UnitKey> {
        self.reach(unit, |unit| unit.followers.iter().copied())
    }

    /// The unit and all that must be where it is, or where it must be, through whatever others; only through those
    /// for which `counts` holds.
    pub fn colocated(&self, unit: UnitKey, counts: impl Fn(&UnitSlot) -> bool) -> BTreeSet<UnitKey> {
        let related = |unit: &'_ UnitSlot| {
            let related = unit.targets.iter().chain(&unit.followers).copied();
            related.filter(|&key| counts(&self[key])).collect::<Vec<_>>().into_iter()
        };
        let mut colocated = self.reach(unit, related);
        colocated.insert(unit);
        colocated
    }

    fn reach<'u, I: Iterator<Item = UnitKey>>(
        &'u self,
        from: UnitKey,
        edges: impl Fn(&'u UnitSlot) -> I,
    ) -> BTreeSet<UnitKey> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(key) = open.pop() {
            open.extend(edges(&self[key]).filter(|&next| reached.insert(next)));
        }
        reached
    }

    /// Notes that nothing holds a unit any more that may be unused.
    pub fn mark_maybe_unused(&mut self, key: UnitKey) {
        if self[key].role == Role::Absent {
            self.maybe_unused.push(key);
        }
    }

    /// Gives back the slots of names that stand for nothing any more.
    pub fn sweep(&mut self) {
        for key in std::mem::take(&mut self.maybe_unused) {
            if self[key].is_unused() && self.key(self[key].name.as_str()) == Some(key) {
                self.names.remove(&self.slots[key.index()].name);
                self.free.push(key);
            }
        }
    }
}

impl Index<UnitKey> for Units {
    type Output = UnitSlot;

    fn index(&self, key: UnitKey) -> &UnitSlot {
        &self.slots[key.index()]
    }
}

//! Where units are in the store: an index of `sched/`.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::{
    model::{MachineId, Placement},
    unit::UnitName,
};

/// The keys of `sched/`, by unit and by machine.
#[derive(Default)]
pub struct Placements {
    by_unit: BTreeMap<UnitName, BTreeSet<MachineId>>,
    by_machine: BTreeMap<MachineId, BTreeSet<UnitName>>,
    recalled: BTreeSet<(UnitName, MachineId)>,
}

impl Placements {
    /// The store has this.
    pub fn set(&mut self, unit: &UnitName, machine: &MachineId, scheduled: &Placement) {
        self.by_unit.entry(unit.clone()).or_default().insert(machine.clone());
        self.by_machine.entry(machine.clone()).or_default().insert(unit.clone());
        let entry = (unit.clone(), machine.clone());
        if scheduled.is_recall() {
            self.recalled.insert(entry);
        } else {
            self.recalled.remove(&entry);
        }
    }

    /// The store has it no more.
    pub fn remove(&mut self, unit: &UnitName, machine: &MachineId) {
        fn take<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, member: &V) {
            if let Some(set) = sets.get_mut(key) {
                set.remove(member);
                if set.is_empty() {
                    sets.remove(key);
                }
            }
        }
        take(&mut self.by_unit, unit, machine);
        take(&mut self.by_machine, machine, unit);
        self.recalled.remove(&(unit.clone(), machine.clone()));
    }

    /// The machines that have an entry for a unit, in order.
    pub fn of(&self, unit: &UnitName) -> impl Iterator<Item = &MachineId> {
        self.by_unit.get(unit).into_iter().flatten()
    }

    /// The units that have an entry for a machine, in order.
    pub fn on(&self, machine: &MachineId) -> impl Iterator<Item = &UnitName> {
        self.by_machine.get(machine).into_iter().flatten()
    }

    /// The machines that have an entry for any unit.
    pub fn machines(&self) -> impl Iterator<Item = &MachineId> {
        self.by_machine.keys()
    }

    /// The units that a machine was told to give up.
    pub fn recalled(&self) -> impl Iterator<Item = &(UnitName, MachineId)> {
        self.recalled.iter()
    }
}

//! Where units are in the store: an index of `sched/`.

use std::collections::{BTreeMap, BTreeSet};

use super::conflicts::remove_from;
use crate::{
    model::{MachineId, Placement},
    unit::UnitName,
};

/// The keys of `sched/`: of ordinary units by unit and by machine, of global ones by unit.
#[derive(Debug, Default)]
pub struct Placements {
    by_unit: BTreeMap<UnitName, BTreeSet<MachineId>>,
    by_machine: BTreeMap<MachineId, BTreeSet<UnitName>>,
    recalled: BTreeSet<(UnitName, MachineId)>,
    global: BTreeMap<UnitName, BTreeSet<MachineId>>,
}

impl Placements {
    /// The store has this.
    pub(super) fn set(&mut self, unit: &UnitName, machine: &MachineId, scheduled: &Placement) {
        if scheduled.global {
            self.remove_ordinary(unit, machine);
            self.global.entry(unit.clone()).or_default().insert(machine.clone());
            return;
        }
        remove_from(&mut self.global, unit, machine);
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
    pub(super) fn remove(&mut self, unit: &UnitName, machine: &MachineId) {
        self.remove_ordinary(unit, machine);
        remove_from(&mut self.global, unit, machine);
    }

    fn remove_ordinary(&mut self, unit: &UnitName, machine: &MachineId) {
        remove_from(&mut self.by_unit, unit, machine);
        remove_from(&mut self.by_machine, machine, unit);
        self.recalled.remove(&(unit.clone(), machine.clone()));
    }

    /// The machines that have an entry for a unit as a global one, in order.
    pub fn of_global(&self, unit: &UnitName) -> impl Iterator<Item = &MachineId> {
        self.global.get(unit).into_iter().flatten()
    }

    /// The units that have an entry as global ones, and on which machines.
    pub fn globals(&self) -> impl Iterator<Item = (&UnitName, &BTreeSet<MachineId>)> {
        self.global.iter()
    }

    /// The machines that have an entry for a unit as an ordinary one, in order.
    pub fn of(&self, unit: &UnitName) -> impl Iterator<Item = &MachineId> {
        self.by_unit.get(unit).into_iter().flatten()
    }

    /// The ordinary units that have an entry for a machine, in order.
    pub fn on(&self, machine: &MachineId) -> impl Iterator<Item = &UnitName> {
        self.by_machine.get(machine).into_iter().flatten()
    }

    /// Whether a machine has an entry for any ordinary unit.
    #[must_use]
    pub fn has_any(&self, machine: &MachineId) -> bool {
        self.by_machine.contains_key(machine)
    }

    /// The machines that have an entry for any ordinary unit.
    pub fn machines(&self) -> impl Iterator<Item = &MachineId> {
        self.by_machine.keys()
    }

    /// The units that a machine was told to give up.
    pub fn recalled(&self) -> impl Iterator<Item = &(UnitName, MachineId)> {
        self.recalled.iter()
    }
}

//! How the units of two snapshots differ.

use std::{collections::BTreeSet, sync::Arc};

use fleet_core::{
    model::{Delta, Placement, Snapshot, UnitRecord, Versioned},
    unit::{UnitHash, UnitName},
};

/// The difference, in order of names.
#[derive(Default)]
pub struct Changes {
    /// New and changed units, whether they are global, and their record. Templates are not among them.
    pub set: Vec<(UnitName, bool, Arc<UnitRecord>)>,
    /// Units that are gone, and whether they were global.
    pub removed: Vec<(UnitName, bool)>,
    /// Contents that a unit, or what is scheduled of one, has now and had not before; as often as that is so.
    pub taken: Vec<UnitHash>,
    /// Contents that a unit, or what is scheduled of one, does not have any more; as often as that is so.
    pub dropped: Vec<UnitHash>,
    /// What is newly scheduled of units, or scheduled otherwise.
    pub scheduled: Vec<(UnitName, Arc<Placement>)>,
}

impl Changes {
    /// What has changed from one snapshot to the other.
    pub fn of(delta: Delta<'_>) -> Self {
        let mut changes = Self::default();
        let units = delta.units().map(|diff| (false, diff));
        for (global, diff) in units.chain(delta.globals().map(|diff| (true, diff))) {
            changes.count(diff.before.map(|old| old.record.hash), diff.after.map(|new| new.record.hash));
            match diff.after {
                Some(new) => changes.set(diff.key, global, new),
                None => changes.removed.push((diff.key.clone(), global)),
            }
        }
        for diff in delta.scheduled() {
            changes.count(diff.before.map(|old| old.record.hash), diff.after.map(|new| new.record.hash));
            if let Some(new) = diff.after {
                changes.scheduled.push((diff.key.1.clone(), Arc::clone(&new.record)));
            }
        }
        changes
    }

    /// Looks again at what uses these contents: what they are was not known.
    pub fn add_users(&mut self, hashes: &BTreeSet<UnitHash>, current: &Snapshot) {
        if hashes.is_empty() {
            return;
        }
        for (global, units) in [(false, &current.units), (true, &current.globals)] {
            for (unit, value) in units.iter().filter(|(_, value)| hashes.contains(&value.record.hash)) {
                self.set(unit, global, value);
            }
        }
        for ((_, unit), value) in current.scheduled.iter().filter(|(_, value)| hashes.contains(&value.record.hash)) {
            self.scheduled.push((unit.clone(), Arc::clone(&value.record)));
        }
    }

    fn count(&mut self, old: Option<UnitHash>, new: Option<UnitHash>) {
        if old != new {
            self.dropped.extend(old);
            self.taken.extend(new);
        }
    }

    fn set(&mut self, unit: &UnitName, global: bool, value: &Versioned<UnitRecord>) {
        if !unit.is_template() {
            self.set.push((unit.clone(), global, Arc::clone(&value.record)));
        }
    }
}

//! How the units of two pictures of the cluster differ.

use std::{collections::BTreeSet, sync::Arc};

use fleet_core::{
    model::UnitRecord,
    unit::{UnitHash, UnitName},
};
use imbl::ordmap::DiffItem;

use crate::registry::{Cluster, Versioned};

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
    pub scheduled: Vec<(UnitName, Arc<UnitRecord>)>,
}

impl Changes {
    /// What has changed from one picture to the other.
    pub fn between(before: &Cluster, current: &Cluster) -> Self {
        let mut changes = Self::default();
        for (global, before, current) in
            [(false, &before.units, &current.units), (true, &before.globals, &current.globals)]
        {
            for item in before.diff(current) {
                changes.count(&item);
                match item {
                    DiffItem::Add(unit, new) | DiffItem::Update { new: (unit, new), .. } => {
                        changes.set(unit, global, new);
                    }
                    DiffItem::Remove(unit, _) => changes.removed.push((unit.clone(), global)),
                }
            }
        }
        for item in before.scheduled.diff(&current.scheduled) {
            changes.count(&item);
            if let DiffItem::Add((_, unit), new) | DiffItem::Update { new: ((_, unit), new), .. } = item {
                changes.scheduled.push((unit.clone(), Arc::clone(&new.record)));
            }
        }
        changes
    }

    /// Looks again at what uses these contents: what they are was not known.
    pub fn add_users(&mut self, hashes: &BTreeSet<UnitHash>, current: &Cluster) {
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

    fn count<K>(&mut self, item: &DiffItem<'_, '_, K, Versioned<UnitRecord>>) {
        let (old, new) = match item {
            DiffItem::Add(_, new) => (None, Some(new.record.hash)),
            DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old.record.hash), Some(new.record.hash)),
            DiffItem::Remove(_, old) => (Some(old.record.hash), None),
        };
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

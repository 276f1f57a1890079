//! How the units of two pictures of the cluster differ.

use std::sync::Arc;

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
    /// Contents that a unit does not have any more.
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
                match item {
                    DiffItem::Add(unit, new) => changes.set(unit, global, new),
                    DiffItem::Update { old: (_, old), new: (unit, new) } => {
                        changes.set(unit, global, new);
                        if old.record.hash != new.record.hash {
                            changes.dropped.push(old.record.hash);
                        }
                    }
                    DiffItem::Remove(unit, old) => {
                        changes.removed.push((unit.clone(), global));
                        changes.dropped.push(old.record.hash);
                    }
                }
            }
        }
        for item in before.scheduled.diff(&current.scheduled) {
            match item {
                DiffItem::Add((_, unit), new) | DiffItem::Update { new: ((_, unit), new), .. } => {
                    changes.scheduled.push((unit.clone(), Arc::clone(&new.record)));
                }
                // A file that only a recalled unit has used.
                DiffItem::Remove(_, old) => changes.dropped.push(old.record.hash),
            }
        }
        changes
    }

    fn set(&mut self, unit: &UnitName, global: bool, value: &Versioned<UnitRecord>) {
        if !unit.is_template() {
            self.set.push((unit.clone(), global, Arc::clone(&value.record)));
        }
    }
}

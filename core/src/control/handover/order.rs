//! What is to become of a unit's entries in `sched/`, and the change that does it.

use crate::{
    control::Change,
    model::{Key, MachineId, Placement, Record, Revision, Snapshot},
    ops::{Guard, Write, WriteSet},
    unit::{UnitHash, UnitName},
};

/// What is to become of one unit's entries in `sched/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The unit.
    pub unit: UnitName,
    /// The machines that it is taken from.
    pub from: Vec<MachineId>,
    /// The machines that are told to give it up.
    pub recall: Vec<MachineId>,
    /// The machine that gets it, or that has it and gets its new record.
    pub to: Option<MachineId>,
    /// No second copy may run: nothing but what is known of its entries may be in the store.
    pub strict: bool,
}

impl Order {
    /// Whether there is nothing to write for it.
    #[must_use]
    pub fn is_done(&self, snapshot: &Snapshot) -> bool {
        let placed = self.to.as_ref().is_none_or(|machine| self.placement(machine, snapshot).is_none());
        self.from.is_empty() && self.recall.is_empty() && placed
    }

    /// What is to be written for the machine that gets the unit, and the contents if they are new to it; `None` when
    /// that is there already.
    fn placement(&self, machine: &MachineId, snapshot: &Snapshot) -> Option<(Placement, Option<UnitHash>)> {
        let wanted = Placement::of(&snapshot.units.get(&self.unit)?.record)?;
        let contents = Some(wanted.hash);
        match snapshot.scheduled.get(&(machine.clone(), self.unit.clone())).map(|scheduled| &*scheduled.record) {
            None => Some((wanted, contents)),
            Some(there) if wanted.is_as(there) => None,
            Some(there) => {
                let contents = contents.filter(|hash| *hash != there.hash);
                Some((wanted.instead_of(there), contents))
            }
        }
    }

    /// The change that carries it out. It is guarded by the unit's record and by the machine that gets the unit, as they
    /// are in the snapshot; and by the absence of those machines that it leaves because they are gone: one that has come
    /// back keeps its units. Of a strict unit every entry that the order is about has to be as it is in the snapshot, so
    /// that of two orders for a unit only one can come to pass.
    #[must_use]
    pub fn change(&self, snapshot: &Snapshot) -> Change {
        let sched = |machine: &MachineId| Key::Sched(machine.clone(), self.unit.clone());
        let entry = |machine: &MachineId| snapshot.scheduled.get(&(machine.clone(), self.unit.clone()));
        let guard = |key: Key, revision: Revision| Guard { key, revision };
        let mut guards = Vec::new();
        let mut writes = Vec::new();
        let mut carries = None;
        for machine in self.from.iter().chain(&self.recall) {
            let key = Key::Machine(machine.clone());
            if !snapshot.machines.contains_key(machine) && !snapshot.unreadable.contains(&key) {
                guards.push(guard(key, 0));
            }
        }
        writes.extend(self.from.iter().map(|machine| Write::Delete(sched(machine))));
        for machine in &self.recall {
            if let Some(scheduled) = entry(machine) {
                writes.push(Write::Put(sched(machine), scheduled.record.recall().encode()));
            }
        }
        if let Some(machine) = &self.to {
            if let Some((placement, contents)) = self.placement(machine, snapshot) {
                carries = contents;
                writes.push(Write::Put(sched(machine), placement.encode()));
            }
            if let Some(known) = snapshot.machines.get(machine) {
                guards.push(guard(Key::Machine(machine.clone()), known.revision));
            }
        }
        let revision = snapshot.units.get(&self.unit).map_or(0, |record| record.revision);
        guards.push(guard(Key::Unit(self.unit.clone()), revision));
        if self.strict {
            let named = self.from.iter().chain(&self.recall).chain(&self.to);
            guards.extend(named.map(|machine| guard(sched(machine), entry(machine).map_or(0, |entry| entry.revision))));
        }
        let once = self.strict && self.to.is_some();
        Change { set: WriteSet { guards, writes }, carries, once, ..Change::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Desired, Features, MachineRecord, UnitRecord, Unknown, Versioned};

    fn machine(n: u32) -> MachineId {
        MachineId::new(&format!("{n:032x}")).unwrap()
    }

    fn at<T>(record: T, revision: Revision) -> Versioned<T> {
        Versioned::new(record, revision, Duration::ZERO)
    }

    /// `a.service` wanted at revision 40, scheduled to machine 1 at 41; machine 2 lives since 30.
    fn snapshot() -> (Snapshot, UnitName, UnitRecord) {
        let unit = UnitName::new("a.service").unwrap();
        let record = UnitRecord::new(UnitHash::of(""), Desired::Launched, 3);
        let host = MachineRecord {
            address: "10.0.0.2".into(),
            hostname: "h2".into(),
            metadata: [].into(),
            version: "1".into(),
            boot_id: "b".into(),
            cpus: 1,
            memory: 1,
            leaving: false,
            features: Features::default(),
            unknown: Unknown::default(),
        };
        let mut snapshot = Snapshot::default();
        snapshot.units.insert(unit.clone(), at(record.clone(), 40));
        snapshot.scheduled.insert((machine(1), unit.clone()), at(Placement::of(&record).unwrap(), 41));
        snapshot.machines.insert(machine(2), at(host, 30));
        (snapshot, unit, record)
    }

    fn sched(n: u32) -> Key {
        Key::Sched(machine(n), UnitName::new("a.service").unwrap())
    }

    fn unchanged(key: Key, revision: Revision) -> Guard {
        Guard { key, revision }
    }

    #[test]
    fn move_from_a_machine_that_is_gone_fails_when_it_is_back() {
        let (snapshot, unit, record) = snapshot();
        let order = Order {
            unit: unit.clone(),
            from: vec![machine(1)],
            recall: Vec::new(),
            to: Some(machine(2)),
            strict: false,
        };
        let guards = vec![
            unchanged(Key::Machine(machine(1)), 0),
            unchanged(Key::Machine(machine(2)), 30),
            unchanged(Key::Unit(unit), 40),
        ];
        let writes = vec![Write::Delete(sched(1)), Write::Put(sched(2), Placement::of(&record).unwrap().encode())];
        let set = WriteSet { guards: guards.clone(), writes };
        let expected = Change { set, carries: Some(record.hash), ..Change::default() };
        assert_eq!(order.change(&snapshot), expected);
        let strict = Order { strict: true, ..order }.change(&snapshot);
        assert!(strict.once);
        assert_eq!(strict.set.guards[..3], guards);
        assert_eq!(strict.set.guards[3..], [unchanged(sched(1), 41), unchanged(sched(2), 0)], "only the known entries");
    }

    #[test]
    fn contents_are_new_to_a_machine_that_has_none_or_others() {
        let (mut snapshot, unit, old) = snapshot();
        let to =
            |n| Order { unit: unit.clone(), from: [].into(), recall: [].into(), to: Some(machine(n)), strict: false };
        snapshot.units.insert(unit.clone(), at(UnitRecord { generation: 4, ..old.clone() }, 50));
        assert_eq!(to(1).change(&snapshot).carries, None);
        assert_eq!(to(2).change(&snapshot).carries, Some(old.hash));
        let hash = UnitHash::of("[Unit]\n");
        snapshot.units.insert(unit.clone(), at(UnitRecord { hash, ..old }, 51));
        assert_eq!(to(1).change(&snapshot).carries, Some(hash));
    }

    #[test]
    fn recall_keeps_the_contents_and_takes_the_wish() {
        let (snapshot, unit, record) = snapshot();
        let order = Order { unit, from: Vec::new(), recall: vec![machine(1)], to: None, strict: true };
        assert!(!order.is_done(&snapshot));
        let recall = Placement::of(&record).unwrap().recall();
        let change = order.change(&snapshot);
        assert!(!change.once);
        assert_eq!(change.set.writes, [Write::Put(sched(1), recall.encode())]);
        assert!(change.set.guards.contains(&unchanged(sched(1), 41)));
    }

    #[test]
    fn what_is_scheduled_already_is_not_written_again() {
        let (mut snapshot, unit, record) = snapshot();
        snapshot.scheduled.insert((machine(2), unit.clone()), at(Placement::of(&record).unwrap(), 42));
        let order = Order { unit, from: vec![machine(1)], recall: Vec::new(), to: Some(machine(2)), strict: false };
        let change = order.change(&snapshot);
        assert_eq!(change.set.writes, [Write::Delete(sched(1))]);
        assert!(change.set.guards.contains(&unchanged(Key::Machine(machine(2)), 30)));
        assert!(Order { from: Vec::new(), ..order }.is_done(&snapshot));
    }
}

//! From decisions to transactions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet_core::{
    model::{Key, Keys, MachineId, Placement, Record, Snapshot},
    unit::{UnitFile, UnitHash, UnitName},
};

use crate::registry::{Guard, Leadership, MAX_OPERATIONS, Revision, Transaction, Write};

/// What is to become of one unit's entry in `sched/`.
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
    pub fn is_done(&self, cluster: &Snapshot) -> bool {
        let placed = self.to.as_ref().is_none_or(|machine| self.placement(machine, cluster).is_none());
        self.from.is_empty() && self.recall.is_empty() && placed
    }

    /// Whether it starts a copy of which there may be one only.
    pub fn starts_strict(&self) -> bool {
        self.strict && self.to.is_some()
    }

    /// The contents that the machine which gets the unit has to come by; `None` when it has them.
    pub fn new_contents(&self, cluster: &Snapshot) -> Option<UnitHash> {
        let (placement, is_new) = self.placement(self.to.as_ref()?, cluster)?;
        is_new.then_some(placement.hash)
    }

    /// What is to be written for the machine that gets the unit, and whether the contents are new to it; `None` when that
    /// is there already.
    fn placement(&self, machine: &MachineId, cluster: &Snapshot) -> Option<(Placement, bool)> {
        let wanted = Placement::of(&cluster.units.get(&self.unit)?.record)?;
        match cluster.scheduled.get(&(machine.clone(), self.unit.clone())).map(|scheduled| &*scheduled.record) {
            None => Some((wanted, true)),
            Some(there) if wanted.is_as(there) => None,
            Some(there) => {
                let is_new = there.hash != wanted.hash;
                Some((wanted.instead_of(there), is_new))
            }
        }
    }
}

/// A transaction, and the orders that it carries out.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The transaction.
    pub transaction: Transaction,
    /// The orders, for the case that it is refused.
    pub orders: Vec<Order>,
}

/// Most units in one transaction.
const UNITS: usize = 100;
/// Most bytes of an entry with a file that is sent along: a full transaction is to stay far below the 1.5 MiB that etcd
/// takes.
const SMALL: usize = 8192;

/// Files by their hashes.
pub type Files = BTreeMap<UnitHash, Arc<UnitFile>>;

/// Packs orders into as few transactions as etcd's limits allow. Each is guarded by the leadership, by the units'
/// records and by the machines that get units, all as they are in `cluster`; and by the absence of those machines that
/// units leave because they are gone: one that has come back keeps its units. Of strict units every entry that an order
/// is about has to be as it is in `cluster`, so that of two orders for a unit only one can come to pass. Of `files` the
/// small ones are sent along.
pub fn translate(
    orders: Vec<Order>,
    cluster: &Snapshot,
    files: &Files,
    keys: &Keys,
    leadership: &Leadership,
) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut open = Open::new(leadership);
    for order in orders {
        let operations = operations(&order, cluster, files, keys);
        if open.is_full(&operations) {
            batches.extend(open.close());
            open = Open::new(leadership);
        }
        open.add(order, operations);
    }
    batches.extend(open.close());
    batches
}

/// What one order needs.
struct Operations {
    guards: Vec<Guard>,
    /// Guards that other orders may have as well.
    machines: Vec<(String, Revision)>,
    writes: Vec<Write>,
}

fn operations(order: &Order, cluster: &Snapshot, files: &Files, keys: &Keys) -> Operations {
    let unit = &order.unit;
    let revision = cluster.units.get(unit).map_or(0, |record| record.revision);
    let mut guards = vec![Guard::Unchanged(keys.format(&Key::Unit(unit.clone())), revision)];
    let mut machines = Vec::new();
    let mut writes = Vec::new();
    let entry = |machine: &MachineId| cluster.scheduled.get(&(machine.clone(), unit.clone()));
    let sched = |machine: &MachineId| keys.format(&Key::Sched(machine.clone(), unit.clone()));
    for machine in order.from.iter().chain(&order.recall) {
        let key = Key::Machine(machine.clone());
        if !cluster.machines.contains_key(machine) && !cluster.unreadable.contains(&key) {
            machines.push((keys.format(&key), 0));
        }
    }
    writes.extend(order.from.iter().map(|machine| Write::Delete { key: sched(machine) }));
    for machine in &order.recall {
        if let Some(scheduled) = entry(machine) {
            writes.push(Write::put(sched(machine), scheduled.record.recall().encode()));
        }
    }
    if let Some(machine) = &order.to {
        if let Some((placement, is_new)) = order.placement(machine, cluster) {
            let file = files.get(&placement.hash).filter(|_| is_new);
            let with_file = file.map(|file| placement.encode_with_file(&file.canonical()));
            let value = with_file.filter(|value| value.len() <= SMALL).unwrap_or_else(|| placement.encode());
            writes.push(Write::put(sched(machine), value));
        }
        if let Some(known) = cluster.machines.get(machine) {
            machines.push((keys.format(&Key::Machine(machine.clone())), known.revision));
        }
    }
    if order.strict {
        let named = order.from.iter().chain(&order.recall).chain(&order.to);
        guards.extend(named.map(|machine| Guard::Unchanged(sched(machine), entry(machine).map_or(0, |e| e.revision))));
    }
    Operations { guards, machines, writes }
}

struct Open {
    batch: Batch,
    machines: BTreeSet<String>,
}

impl Open {
    fn new(leadership: &Leadership) -> Self {
        let transaction = Transaction { guards: vec![leadership.guard()], writes: Vec::new() };
        Self { batch: Batch { transaction, orders: Vec::new() }, machines: BTreeSet::new() }
    }

    /// Whether an order does not fit in any more.
    fn is_full(&self, more: &Operations) -> bool {
        let transaction = &self.batch.transaction;
        let guards = more.guards.len() + more.machines.len();
        !self.batch.orders.is_empty()
            && (self.batch.orders.len() >= UNITS
                || transaction.guards.len() + guards > MAX_OPERATIONS
                || transaction.writes.len() + more.writes.len() > MAX_OPERATIONS)
    }

    fn add(&mut self, order: Order, operations: Operations) {
        let Transaction { guards, writes } = &mut self.batch.transaction;
        for (key, revision) in operations.machines {
            if self.machines.insert(key.clone()) {
                guards.push(Guard::Unchanged(key, revision));
            }
        }
        guards.extend(operations.guards);
        writes.extend(operations.writes);
        self.batch.orders.push(order);
    }

    fn close(self) -> Option<Batch> {
        (!self.batch.orders.is_empty()).then_some(self.batch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet_core::{
        model::{Desired, MachineRecord, UnitRecord, Versioned},
        unit::UnitHash,
    };

    use super::*;

    fn machine(n: u32) -> MachineId {
        MachineId::new(&format!("{n:032x}")).unwrap()
    }

    fn leadership() -> Leadership {
        Leadership { key: "/fleet/election/engine/1".into(), revision: 7 }
    }

    fn at<T>(record: T, revision: Revision) -> Versioned<T> {
        Versioned::new(record, revision, Duration::ZERO)
    }

    /// `a.service` wanted at revision 40, scheduled to machine 1 at 41; machine 2 lives since 30.
    fn cluster() -> (Snapshot, UnitName, UnitRecord) {
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
            features: Default::default(),
            unknown: Default::default(),
        };
        let mut cluster = Snapshot::default();
        cluster.units.insert(unit.clone(), at(record.clone(), 40));
        cluster.scheduled.insert((machine(1), unit.clone()), at(Placement::of(&record).unwrap(), 41));
        cluster.machines.insert(machine(2), at(host, 30));
        (cluster, unit, record)
    }

    fn transaction(order: Order, cluster: &Snapshot) -> Transaction {
        let mut batches = translate(vec![order], cluster, &Files::new(), &Keys::new("fleet"), &leadership());
        assert_eq!(batches.len(), 1);
        batches.remove(0).transaction
    }

    fn sched(n: u32) -> String {
        format!("/fleet/sched/{}/a.service", machine(n))
    }

    #[test]
    fn move_from_a_machine_that_is_gone_fails_when_it_is_back() {
        let (cluster, unit, record) = cluster();
        let order = Order { unit, from: vec![machine(1)], recall: Vec::new(), to: Some(machine(2)), strict: false };
        let unchanged = |key: String, revision| Guard::Unchanged(key, revision);
        let expected = Transaction {
            guards: vec![
                leadership().guard(),
                unchanged(format!("/fleet/machine/{}", machine(1)), 0),
                unchanged(format!("/fleet/machine/{}", machine(2)), 30),
                unchanged("/fleet/unit/a.service".into(), 40),
            ],
            writes: vec![Write::Delete { key: sched(1) }, Write::put(sched(2), record.encode())],
        };
        assert_eq!(transaction(order.clone(), &cluster), expected);
        let strict = transaction(Order { strict: true, ..order }, &cluster).guards;
        assert_eq!(strict[..4], expected.guards);
        assert_eq!(strict[4..], [unchanged(sched(1), 41), unchanged(sched(2), 0)], "no entry but the known ones");
    }

    #[test]
    fn small_file_goes_along_to_a_machine_that_does_not_have_it() {
        let (mut cluster, unit, old) = cluster();
        let order = |machine| Order {
            unit: unit.clone(),
            from: [].into(),
            recall: [].into(),
            to: Some(machine),
            strict: false,
        };
        let mut sent = |text: &str, to: u32| {
            let file = UnitFile::parse(text).unwrap();
            let record = UnitRecord { hash: file.hash(), generation: 4, ..old.clone() };
            cluster.units.insert(unit.clone(), at(record, 50));
            let files = Files::from([(file.hash(), Arc::new(file))]);
            let batches = translate(vec![order(machine(to))], &cluster, &files, &Keys::new("fleet"), &leadership());
            let [Write::Put { value, .. }] = &*batches[0].transaction.writes else { panic!("one entry is written") };
            Placement::file_in(value).map(|(_, text)| text)
        };
        let text = "[Service]\nExecStart=/bin/a\n";
        assert_eq!(sent(text, 2).as_deref(), Some(text), "to another machine");
        assert_eq!(sent(text, 1).as_deref(), Some(text), "instead of other contents");
        assert_eq!(sent("", 1), None, "the machine has these contents");
        assert_eq!(
            sent(&format!("[Service]\n{}", "ExecStartPre=/bin/a\n".repeat(SMALL / 10)), 2),
            None,
            "it is too large"
        );
    }

    #[test]
    fn recall_keeps_the_contents_and_takes_the_wish() {
        let (cluster, unit, record) = cluster();
        let order = Order { unit, from: Vec::new(), recall: vec![machine(1)], to: None, strict: true };
        assert!(!order.is_done(&cluster) && !order.starts_strict());
        let recall = Placement::of(&record).unwrap().recall();
        let transaction = transaction(order, &cluster);
        assert_eq!(transaction.writes, [Write::put(sched(1), recall.encode())]);
        assert!(transaction.guards.contains(&Guard::Unchanged(sched(1), 41)));
    }

    #[test]
    fn what_is_scheduled_already_is_not_written_again() {
        let (mut cluster, unit, record) = cluster();
        cluster.scheduled.insert((machine(2), unit.clone()), at(Placement::of(&record).unwrap(), 42));
        let order = Order { unit, from: vec![machine(1)], recall: Vec::new(), to: Some(machine(2)), strict: false };
        let transaction = transaction(order.clone(), &cluster);
        assert_eq!(transaction.writes, [Write::Delete { key: sched(1) }]);
        assert!(transaction.guards.contains(&Guard::Unchanged(format!("/fleet/machine/{}", machine(2)), 30)));
        assert!(Order { from: Vec::new(), ..order }.is_done(&cluster));
    }

    #[test]
    fn a_thousand_moves_fit_into_transactions_that_etcd_takes() {
        let (keys, leadership) = (Keys::new("fleet"), leadership());
        let mut cluster = Snapshot::default();
        let record = UnitRecord::new(UnitHash::of(""), Desired::Launched, 0);
        let orders: Vec<Order> = (0..1000)
            .map(|n| {
                let unit = UnitName::new(&format!("u{n}.service")).unwrap();
                cluster.units.insert(unit.clone(), at(record.clone(), i64::from(n) + 1));
                Order { unit, from: vec![machine(n)], recall: Vec::new(), to: Some(machine(n + 1)), strict: n % 2 == 0 }
            })
            .collect();
        let batches = translate(orders, &cluster, &Files::new(), &keys, &leadership);
        let mut units = 0;
        for Batch { transaction, orders } in &batches {
            assert_eq!(transaction.guards[0], leadership.guard(), "every transaction is the leader's");
            assert!(transaction.guards.len() <= MAX_OPERATIONS && transaction.writes.len() <= MAX_OPERATIONS);
            assert_eq!(transaction.writes.len(), 2 * orders.len());
            units += orders.len();
        }
        assert_eq!(units, 1000);
        assert!(translate(Vec::new(), &cluster, &Files::new(), &keys, &leadership).is_empty());
    }
}

//! From decisions to transactions.

use std::collections::BTreeSet;

use fleet_core::{
    model::{Key, Keys, MachineId, Record},
    unit::UnitName,
};

use crate::registry::{Cluster, Guard, Leadership, MAX_OPERATIONS, Transaction, Write};

/// What is to become of one unit's entry in `sched/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The unit.
    pub unit: UnitName,
    /// The machines that it is taken from.
    pub from: Vec<MachineId>,
    /// The machine that gets it, or that has it and gets its new record.
    pub to: Option<MachineId>,
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

/// Packs orders into as few transactions as etcd's limits allow. Each is guarded by the leadership, by the units'
/// records and by the machines that get units, all as they are in `cluster`.
pub fn translate(orders: Vec<Order>, cluster: &Cluster, keys: &Keys, leadership: &Leadership) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut open = Open::new(leadership);
    for order in orders {
        let unit = Key::Unit(order.unit.clone());
        let record = cluster.units.get(&order.unit);
        let guard = Guard::Unchanged(keys.format(&unit), record.map_or(0, |record| record.revision));
        let mut writes: Vec<Write> = order
            .from
            .iter()
            .map(|machine| Write::Delete { key: keys.format(&Key::Sched(machine.clone(), order.unit.clone())) })
            .collect();
        let mut machine_guard = None;
        if let (Some(machine), Some(record)) = (&order.to, record) {
            let key = keys.format(&Key::Sched(machine.clone(), order.unit.clone()));
            writes.push(Write::put(key, record.record.encode()));
            machine_guard = cluster.machines.get(machine).map(|entry| (machine.clone(), entry.revision));
        }
        if open.is_full(writes.len()) {
            batches.extend(open.close());
            open = Open::new(leadership);
        }
        if let Some((machine, revision)) = machine_guard
            && open.machines.insert(machine.clone())
        {
            open.batch.transaction.guards.push(Guard::Unchanged(keys.format(&Key::Machine(machine)), revision));
        }
        open.batch.transaction.guards.push(guard);
        open.batch.transaction.writes.extend(writes);
        open.batch.orders.push(order);
    }
    batches.extend(open.close());
    batches
}

struct Open {
    batch: Batch,
    machines: BTreeSet<MachineId>,
}

impl Open {
    fn new(leadership: &Leadership) -> Self {
        let transaction = Transaction { guards: vec![leadership.guard()], writes: Vec::new() };
        Self { batch: Batch { transaction, orders: Vec::new() }, machines: BTreeSet::new() }
    }

    /// Whether an order with this many writes, and up to two more guards, does not fit in any more.
    fn is_full(&self, writes: usize) -> bool {
        let transaction = &self.batch.transaction;
        !self.batch.orders.is_empty()
            && (self.batch.orders.len() >= UNITS
                || transaction.guards.len() + 2 > MAX_OPERATIONS
                || transaction.writes.len() + writes > MAX_OPERATIONS)
    }

    fn close(self) -> Option<Batch> {
        (!self.batch.orders.is_empty()).then_some(self.batch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_core::{
        model::{Desired, UnitRecord},
        unit::UnitHash,
    };

    use super::*;
    use crate::registry::Versioned;

    #[test]
    fn a_thousand_moves_fit_into_transactions_that_etcd_takes() {
        let keys = Keys::new("fleet");
        let leadership = Leadership { key: "/fleet/election/engine/1".into(), revision: 7 };
        let machine = |n: u32| MachineId::new(&format!("{n:032x}")).unwrap();
        let mut cluster = Cluster::default();
        let record = UnitRecord { hash: UnitHash::of(""), desired: Desired::Launched, generation: 0 };
        let orders: Vec<Order> = (0..1000)
            .map(|n| {
                let unit = UnitName::new(&format!("u{n}.service")).unwrap();
                cluster
                    .units
                    .insert(unit.clone(), Versioned { record: Arc::new(record.clone()), revision: i64::from(n) + 1 });
                Order { unit, from: vec![machine(n)], to: Some(machine(n + 1)) }
            })
            .collect();
        let batches = translate(orders, &cluster, &keys, &leadership);
        let mut units = 0;
        for Batch { transaction, orders } in &batches {
            assert_eq!(transaction.guards[0], leadership.guard(), "every transaction is the leader's");
            assert!(transaction.guards.len() <= MAX_OPERATIONS && transaction.writes.len() <= MAX_OPERATIONS);
            assert_eq!(transaction.writes.len(), 2 * orders.len());
            units += orders.len();
        }
        assert_eq!(units, 1000);
        assert!(translate(Vec::new(), &cluster, &keys, &leadership).is_empty());
    }
}

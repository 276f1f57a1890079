//! Packs transactions that belong to different things into few.

use std::collections::BTreeSet;

use crate::registry::{MAX_OPERATIONS, Transaction, Write};

/// Most bytes of values in a transaction: etcd takes 1.5 MB in a request.
const MAX_BYTES: usize = 1 << 20;

/// A transaction, and what it carries out.
#[derive(Clone, Debug)]
pub struct Packed<T> {
    /// The transaction.
    pub transaction: Transaction,
    /// What it carries out, for the case that it is refused.
    pub parts: Vec<T>,
}

/// Packs the transactions of parts into as few as etcd's limits allow. What belongs to one part stays together. A guard
/// that several parts have stands once; so does the write of a key that several have, as it is the same: that of contents
/// under their hash.
pub struct Packer<T> {
    full: Vec<Packed<T>>,
    open: Packed<T>,
    guarded: BTreeSet<String>,
    written: BTreeSet<String>,
    bytes: usize,
}

impl<T> Default for Packer<T> {
    fn default() -> Self {
        Self {
            full: Vec::new(),
            open: Packed { transaction: Transaction::default(), parts: Vec::new() },
            guarded: BTreeSet::new(),
            written: BTreeSet::new(),
            bytes: 0,
        }
    }
}

impl<T> Packer<T> {
    /// Adds what one part needs.
    pub fn add(&mut self, part: T, transaction: Transaction) {
        let bytes = transaction.writes.iter().map(size).sum();
        if !self.open.parts.is_empty() && !self.has_room(&transaction, bytes) {
            self.close_open();
        }
        for guard in transaction.guards {
            if self.guarded.insert(guard.key().to_owned()) {
                self.open.transaction.guards.push(guard);
            }
        }
        for write in transaction.writes {
            if self.written.insert(write.key().to_owned()) {
                self.open.transaction.writes.push(write);
            }
        }
        self.open.parts.push(part);
        self.bytes += bytes;
    }

    /// The transactions, in the order of the parts.
    #[must_use]
    pub fn close(mut self) -> Vec<Packed<T>> {
        self.close_open();
        self.full
    }

    fn has_room(&self, more: &Transaction, bytes: usize) -> bool {
        let Transaction { guards, writes } = &self.open.transaction;
        guards.len() + more.guards.len() <= MAX_OPERATIONS
            && writes.len() + more.writes.len() <= MAX_OPERATIONS
            && self.bytes + bytes <= MAX_BYTES
    }

    fn close_open(&mut self) {
        let full = std::mem::take(self);
        self.full = full.full;
        if !full.open.parts.is_empty() {
            self.full.push(full.open);
        }
    }
}

fn size(write: &Write) -> usize {
    match write {
        Write::Put { value, .. } => value.len(),
        Write::Delete { .. } | Write::DeleteRange { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Guard;

    fn part(number: usize, bytes: usize) -> Transaction {
        let key = |kind: &str| format!("/fleet/{kind}/{number}");
        Transaction {
            guards: vec![Guard::Unchanged(key("unit"), 1), Guard::Unchanged("/fleet/shared".into(), 2)],
            writes: vec![
                Write::put(key("unit"), vec![0; bytes]),
                Write::put("/fleet/file/x".into(), b"x".to_vec()),
                Write::Delete { key: key("global") },
            ],
        }
    }

    #[test]
    fn parts_share_transactions_that_etcd_takes_and_none_is_torn() {
        let mut packer = Packer::default();
        (0..1000).for_each(|number| packer.add(number, part(number, 100)));
        let packed = packer.close();
        let parts: Vec<usize> = packed.iter().flat_map(|packed| packed.parts.clone()).collect();
        assert_eq!(parts, (0..1000).collect::<Vec<_>>(), "all, in order");
        for Packed { transaction: Transaction { guards, writes }, parts } in &packed {
            assert!(guards.len() <= MAX_OPERATIONS && writes.len() <= MAX_OPERATIONS);
            let shared = |key: &str| key == "/fleet/shared" || key == "/fleet/file/x";
            assert_eq!(guards.iter().filter(|guard| shared(guard.key())).count(), 1);
            assert_eq!(writes.iter().filter(|write| shared(write.key())).count(), 1);
            assert_eq!((guards.len(), writes.len()), (parts.len() + 1, 2 * parts.len() + 1));
        }
        assert!(packed.len() <= 17, "{} transactions", packed.len());
        assert!(Packer::<usize>::default().close().is_empty());
    }

    #[test]
    fn transactions_are_bounded_in_bytes_unless_one_part_alone_has_more() {
        let mut packer = Packer::default();
        for (number, bytes) in [MAX_BYTES / 2, MAX_BYTES / 3, MAX_BYTES / 3, 2 * MAX_BYTES, 1].into_iter().enumerate() {
            packer.add(number, part(number, bytes));
        }
        let parts: Vec<Vec<usize>> = packer.close().into_iter().map(|packed| packed.parts).collect();
        assert_eq!(parts, [vec![0, 1], vec![2], vec![3], vec![4]]);
    }
}

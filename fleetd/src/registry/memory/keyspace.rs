//! What a simulated etcd holds: keys with their revisions, the whole history, and leases. No IO; time is an argument.
//!
//! All the rules are etcd's, as they were read or measured: one revision for each transaction that writes, guards
//! that are looked at before anything else, leases that are never shorter than two seconds and that are gone up to
//! half a second late, and revisions that are forgotten with a compaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Duration,
};

use tokio::time::Instant;

use crate::registry::{Guard, LeaseId, MAX_OPERATIONS, Page, Range, Revision, StoreError, Stored, Transaction, Write};

/// The shortest lease: etcd raises any TTL to one and a half election timeouts, in whole seconds.
const SHORTEST: Duration = Duration::from_secs(2);

/// A transaction that wrote something.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its revision.
    pub revision: Revision,
    /// When it was carried out.
    pub at: Instant,
    /// The client that wrote, or `lease` for a lease that ended.
    pub author: String,
    /// The conditions that held.
    pub guards: Vec<Guard>,
    /// What it changed, in order.
    pub changes: Vec<Change>,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// What was there.
    pub before: Option<Stored>,
    /// What is there now.
    pub after: Option<Stored>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    ends: Instant,
    keys: BTreeSet<String>,
}

/// The keys, their history and the leases.
#[derive(Debug)]
pub(super) struct Keyspace {
    revision: Revision,
    compacted: Revision,
    keys: BTreeMap<String, Stored>,
    /// In order; the first has revision 2, as an empty etcd is at 1.
    history: Vec<Commit>,
    leases: BTreeMap<i64, Lease>,
    next_lease: i64,
}

impl Keyspace {
    pub fn new() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            history: Vec::new(),
            leases: BTreeMap::new(),
            // Any will do; these are easily told from revisions.
            next_lease: 0x7000_0000_0000_0001,
        }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn leases(&self) -> BTreeMap<LeaseId, (Duration, Instant)> {
        self.leases.iter().map(|(id, lease)| (LeaseId(*id), (lease.ttl, lease.ends))).collect()
    }

    pub fn get(&self, key: &str) -> Option<&Stored> {
        self.keys.get(key)
    }

    /// Reads a range as it is, or was.
    pub fn list(&self, (from, to): &Range, at: Option<Revision>, limit: usize) -> Result<Page, StoreError> {
        let revision = at.filter(|at| *at > 0).unwrap_or(self.revision);
        // A revision that is yet to come has the same code in etcd as one that is forgotten.
        if revision < self.compacted || revision > self.revision {
            return Err(StoreError::Compacted);
        }
        let mut then: BTreeMap<&str, Option<&Stored>> = BTreeMap::new();
        if from < to {
            then.extend(self.keys.range::<String, _>(from..to).map(|(key, stored)| (key.as_str(), Some(stored))));
        }
        for commit in self.since(revision + 1).iter().rev() {
            for change in commit.changes.iter().rev().filter(|change| *from <= change.key && change.key < *to) {
                then.insert(&change.key, change.before.as_ref());
            }
        }
        let mut entries: Vec<Stored> = then.into_values().flatten().cloned().collect();
        let more = limit > 0 && entries.len() > limit;
        if more {
            entries.truncate(limit);
        }
        Ok(Page { entries, revision, more })
    }

    /// The transactions from `revision` on.
    pub fn since(&self, revision: Revision) -> &[Commit] {
        let first = usize::try_from(revision - 2).unwrap_or(0).min(self.history.len());
        &self.history[first..]
    }

    /// Whether a watch from `revision` comes too late.
    pub fn has_forgotten(&self, revision: Revision) -> bool {
        revision < self.compacted
    }

    /// Whether etcd tells a watch that catches up from history of this change. It does not when the key was deleted
    /// in the very revision that was compacted to.
    pub fn is_remembered(&self, revision: Revision, change: &Change) -> bool {
        revision > self.compacted || change.after.is_some()
    }

    /// Carries out a transaction; `None` when a guard does not hold.
    pub fn commit(
        &mut self,
        author: &str,
        now: Instant,
        transaction: &Transaction,
    ) -> Result<Option<Revision>, StoreError> {
        let Transaction { guards, writes } = transaction;
        if guards.len() > MAX_OPERATIONS || writes.len() > MAX_OPERATIONS {
            return Err(refused("write", "etcdserver: too many operations in txn request"));
        }
        let puts: Vec<&String> = writes.iter().filter_map(|write| put(write).map(|(key, _)| key)).collect();
        let is_deleted = |key: &String| {
            writes.iter().any(|write| match write {
                Write::Put { .. } => false,
                Write::Delete { key: deleted } => deleted == key,
                Write::DeleteRange { range: (from, to) } => (from..to).contains(&key),
            })
        };
        if puts.iter().collect::<BTreeSet<_>>().len() < puts.len() || puts.iter().any(|key| is_deleted(key)) {
            return Err(refused("write", "etcdserver: duplicate key given in txn request"));
        }
        if !guards.iter().all(|guard| self.holds(guard)) {
            return Ok(None);
        }
        let leases = writes.iter().filter_map(|write| put(write)?.1);
        if leases.into_iter().any(|lease| !self.leases.contains_key(&lease.0)) {
            return Err(StoreError::LeaseGone);
        }
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        for write in writes {
            match write {
                Write::Put { key, value, lease } => changes.push(self.put(key, value, *lease, revision)),
                Write::Delete { key } => changes.extend(self.delete(key)),
                Write::DeleteRange { range: (from, to) } => {
                    let keys: Vec<String> =
                        self.keys.range(from.clone()..to.clone()).map(|(key, _)| key.clone()).collect();
                    changes.extend(keys.iter().filter_map(|key| self.delete(key)));
                }
            }
        }
        self.record(author, now, guards.clone(), changes);
        Ok(Some(self.revision))
    }

    fn holds(&self, guard: &Guard) -> bool {
        match guard {
            Guard::Unchanged(key, revision) => self.keys.get(key).map_or(0, |stored| stored.mod_revision) == *revision,
            Guard::CreatedAt(key, revision) => {
                self.keys.get(key).map_or(0, |stored| stored.create_revision) == *revision
            }
            Guard::NotAfter(key, revision) => self.keys.get(key).is_none_or(|stored| stored.mod_revision <= *revision),
            Guard::NoneAfter((from, to), revision) => {
                let mut range = self.keys.range::<str, _>((Bound::Included(&**from), Bound::Excluded(&**to)));
                range.all(|(_, stored)| stored.mod_revision <= *revision)
            }
        }
    }

    fn put(&mut self, key: &str, value: &[u8], lease: Option<LeaseId>, revision: Revision) -> Change {
        let before = self.keys.get(key).cloned();
        self.detach(before.as_ref());
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease.0)) {
            lease.keys.insert(key.into());
        }
        let stored = Stored {
            key: key.into(),
            value: value.into(),
            create_revision: before.as_ref().map_or(revision, |before| before.create_revision),
            mod_revision: revision,
            lease,
        };
        self.keys.insert(key.into(), stored.clone());
        Change { key: key.into(), before, after: Some(stored) }
    }

    fn delete(&mut self, key: &str) -> Option<Change> {
        let before = self.keys.remove(key)?;
        self.detach(Some(&before));
        Some(Change { key: key.into(), before: Some(before), after: None })
    }

    fn detach(&mut self, stored: Option<&Stored>) {
        if let Some(stored) = stored
            && let Some(lease) = stored.lease.and_then(|lease| self.leases.get_mut(&lease.0))
        {
            lease.keys.remove(&stored.key);
        }
    }

    fn record(&mut self, author: &str, at: Instant, guards: Vec<Guard>, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.revision += 1;
        self.history.push(Commit { revision: self.revision, at, author: author.into(), guards, changes });
    }

    pub fn grant(&mut self, now: Instant, ttl: Duration) -> LeaseId {
        let id = self.next_lease;
        self.next_lease += 1;
        let ttl = Duration::from_secs(ttl.as_secs()).max(SHORTEST);
        self.leases.insert(id, Lease { ttl, ends: now + ttl, keys: BTreeSet::new() });
        LeaseId(id)
    }

    /// Prolongs a lease. One whose time is over is over, also when its keys are still there.
    pub fn keep_alive(&mut self, now: Instant, id: LeaseId) -> Result<(), StoreError> {
        let lease = self.leases.get_mut(&id.0).filter(|lease| lease.ends > now);
        let Some(lease) = lease else {
            self.revoke(now, id);
            return Err(StoreError::LeaseGone);
        };
        lease.ends = now + lease.ttl;
        Ok(())
    }

    /// Ends a lease; all of its keys go in one revision.
    pub fn revoke(&mut self, now: Instant, id: LeaseId) {
        let Some(lease) = self.leases.remove(&id.0) else { return };
        let changes = lease.keys.iter().filter_map(|key| self.delete(key)).collect();
        self.record("lease", now, Vec::new(), changes);
    }

    /// When the next lease is over, if there is one.
    pub fn next_end(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.ends).min()
    }

    /// Ends the leases whose time is over.
    pub fn expire(&mut self, now: Instant) {
        let over: Vec<i64> = self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.revoke(now, LeaseId(id)));
    }

    /// What a restart of etcd, or a new leader of it, does to leases: all have their whole time again.
    pub fn renew_all(&mut self, now: Instant) {
        self.leases.values_mut().for_each(|lease| lease.ends = now + lease.ttl);
    }

    /// Forgets what was before `revision`. The history stays for who looks from outside.
    pub fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision.min(self.revision));
    }
}

fn put(write: &Write) -> Option<(&String, Option<LeaseId>)> {
    match write {
        Write::Put { key, lease, .. } => Some((key, *lease)),
        Write::Delete { .. } | Write::DeleteRange { .. } => None,
    }
}

pub(super) fn refused(what: &'static str, answer: &'static str) -> StoreError {
    StoreError::Refused { what, mend: "", source: answer.into() }
}

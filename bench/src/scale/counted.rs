//! A store that counts what is asked of it, and what its watches tell.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fleetd::registry::{
    Detail, Etcd, LeaseId, Origin, Page, Range, Remaining, Revision, Store, StoreError, Transaction, Watch, WatchEvent,
};

/// What a transaction is about, by its first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// What is wanted of units.
    Wanted,
    /// What the engine wants of machines.
    Scheduled,
    /// What agents report.
    Reported,
    /// Anything else.
    Other,
}

/// Who listens to a watch, by its first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Agent,
    Publisher,
    Membership,
    View,
    Candidate,
}

/// Sums of one client.
#[derive(Debug, Default)]
pub struct Counts {
    /// Transactions and the operations in them, by [`Topic`].
    written: [[AtomicU64; 2]; 4],
    /// Requests for single keys and the keys in them: for unit files, for others.
    read: [[AtomicU64; 2]; 2],
    /// Messages and the changes in them, by [`Listener`].
    heard: [[AtomicU64; 2]; 5],
}

/// What was counted up to some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    written: [[u64; 2]; 4],
    read: [[u64; 2]; 2],
    heard: [[u64; 2]; 5],
}

impl Counts {
    fn count(cell: &[AtomicU64; 2], operations: usize) {
        cell[0].fetch_add(1, Ordering::Relaxed);
        cell[1].fetch_add(operations as u64, Ordering::Relaxed);
    }

    /// What was counted until now.
    pub fn tally(&self) -> Tally {
        fn load<const N: usize>(cells: &[[AtomicU64; 2]; N]) -> [[u64; 2]; N] {
            cells.each_ref().map(|row| row.each_ref().map(|cell| cell.load(Ordering::Relaxed)))
        }
        Tally { written: load(&self.written), read: load(&self.read), heard: load(&self.heard) }
    }
}

impl Tally {
    /// What was counted since another moment.
    pub fn since(&self, before: &Self) -> Self {
        self.with(before, |now, before| now - before)
    }

    fn with(&self, other: &Self, combine: impl Fn(u64, u64) -> u64 + Copy) -> Self {
        fn each<const N: usize>(
            one: &[[u64; 2]; N],
            other: &[[u64; 2]; N],
            combine: impl Fn(u64, u64) -> u64,
        ) -> [[u64; 2]; N] {
            std::array::from_fn(|row| std::array::from_fn(|column| combine(one[row][column], other[row][column])))
        }
        Self {
            written: each(&self.written, &other.written, combine),
            read: each(&self.read, &other.read, combine),
            heard: each(&self.heard, &other.heard, combine),
        }
    }

    /// Requests for unit files, and the files in them.
    pub fn files(&self) -> (u64, u64) {
        (self.read[0][0], self.read[0][1])
    }

    /// Requests for single keys that are no unit files.
    pub fn keys(&self) -> u64 {
        self.read[1][0]
    }

    /// Transactions about a topic, and the operations in them.
    pub fn written(&self, topic: Topic) -> (u64, u64) {
        (self.written[topic as usize][0], self.written[topic as usize][1])
    }

    /// How often the agent was woken by the store, and of how many changes it was told.
    pub fn agent(&self) -> (u64, u64) {
        (self.heard[Listener::Agent as usize][0], self.heard[Listener::Agent as usize][1])
    }

    /// How often a candidate that waits was told of another.
    pub fn candidate(&self) -> u64 {
        self.heard[Listener::Candidate as usize][0]
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, tally| sum.with(&tally, |one, other| one + other))
    }
}

/// Etcd, with what is counted of it.
#[derive(Clone)]
pub struct Counted {
    etcd: Etcd,
    counts: Arc<Counts>,
}

impl Counted {
    /// Counts what goes to `etcd` through this handle and its clones.
    pub fn new(etcd: Etcd) -> Self {
        Self { etcd, counts: Arc::default() }
    }

    /// The sums.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    fn count(&self, transaction: &Transaction) {
        let topic = match transaction.writes.first().map(|write| kind(write.key())) {
            Some("file" | "unit" | "global") => Topic::Wanted,
            Some("sched") => Topic::Scheduled,
            Some("state") => Topic::Reported,
            _ => Topic::Other,
        };
        Counts::count(&self.counts.written[topic as usize], transaction.writes.len());
    }

    fn count_read(&self, keys: &[String]) {
        let others = keys.first().is_none_or(|key| kind(key) != "file");
        Counts::count(&self.counts.read[usize::from(others)], keys.len());
    }
}

/// The first part of a key under the prefix.
fn kind(key: &str) -> &str {
    key.split('/').nth(2).unwrap_or_default()
}

impl Store for Counted {
    type Watch = CountedWatch;
    type KeepAlive = <Etcd as Store>::KeepAlive;

    async fn list_in(
        &self,
        detail: Detail,
        range: &Range,
        at: Option<Revision>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.etcd.list_in(detail, range, at, limit).await
    }

    async fn get(&self, keys: &[String]) -> Result<Page, StoreError> {
        self.count_read(keys);
        self.etcd.get(keys).await
    }

    async fn get_immutable(&self, keys: &[String]) -> Result<Page, StoreError> {
        self.count_read(keys);
        self.etcd.get_immutable(keys).await
    }

    async fn watch(&self, range: &Range, from: Revision) -> Result<CountedWatch, StoreError> {
        let listener = match (kind(&range.0), kind(&range.1)) {
            ("election", _) => Listener::Candidate,
            ("machine", _) => Listener::Membership,
            ("global", "unit0") => Listener::View,
            _ => Listener::Agent,
        };
        let watch = self.etcd.watch(range, from).await?;
        Ok(CountedWatch { watch, listener, counts: Arc::clone(&self.counts) })
    }

    async fn watch_deletions(&self, range: &Range, from: Revision) -> Result<CountedWatch, StoreError> {
        let watch = self.etcd.watch_deletions(range, from).await?;
        Ok(CountedWatch { watch, listener: Listener::Publisher, counts: Arc::clone(&self.counts) })
    }

    async fn commit(&self, transaction: Transaction) -> Result<Option<Revision>, StoreError> {
        self.count(&transaction);
        self.etcd.commit(transaction).await
    }

    async fn commit_once(&self, transaction: Transaction) -> Result<Option<Revision>, StoreError> {
        self.count(&transaction);
        self.etcd.commit_once(transaction).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.etcd.grant(ttl).await
    }

    fn members(&self) -> usize {
        self.etcd.members()
    }

    fn nearest(&self) -> usize {
        self.etcd.nearest()
    }

    async fn keep_alive(&self, lease: LeaseId, member: usize) -> Result<Self::KeepAlive, StoreError> {
        self.etcd.keep_alive(lease, member).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.etcd.revoke(lease).await
    }

    async fn remaining(&self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, Remaining>, StoreError> {
        self.etcd.remaining(leases).await
    }
}

/// A watch whose messages are counted.
pub struct CountedWatch {
    watch: <Etcd as Store>::Watch,
    listener: Listener,
    counts: Arc<Counts>,
}

impl Watch for CountedWatch {
    fn origin(&self) -> Origin {
        self.watch.origin()
    }

    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        let event = self.watch.next().await?;
        if let WatchEvent::Changed { changes, .. } = &event
            && !changes.is_empty()
        {
            Counts::count(&self.counts.heard[self.listener as usize], changes.len());
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::model::{Key, Keys, MachineId};
    use fleetd::registry::{Write, etcd::Endpoints};

    use super::*;

    #[tokio::test]
    async fn transactions_are_told_apart_by_what_they_write() {
        // Nobody is there: it is counted what is asked, whatever becomes of it.
        let store = Counted::new(Etcd::new(Endpoints::default()));
        let (keys, machine) = (Keys::new("fleet"), MachineId::new(&"0".repeat(32)).unwrap());
        let put = |key| Write::put(keys.format(&key), Vec::new());
        let name = fleet_core::unit::UnitName::new("a.service").unwrap();
        let writes = vec![put(Key::State(machine.clone(), name.clone())), put(Key::Unit(name.clone()))];
        store.commit(Transaction { guards: Vec::new(), writes }).await.unwrap_err();
        let writes = vec![put(Key::Sched(machine, name))];
        store.commit(Transaction { guards: Vec::new(), writes }).await.unwrap_err();
        let tally = store.counts().tally();
        assert_eq!((tally.written(Topic::Reported), tally.written(Topic::Scheduled)), ((1, 2), (1, 1)));
    }
}

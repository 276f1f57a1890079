//! The store in memory: an etcd for the seeded simulation, with its faults.
//!
//! [`MemoryStore`] is the etcd and the network around it, [`MemoryClient`] one fleetd's handle to it. It behaves as
//! etcd was measured to: a store that is *down* fails calls at once and gives all leases their whole time when it
//! comes back; one that is *frozen* lets calls hang until they are given up, may carry them out all the same when it
//! thaws, and has ended by then all leases whose time is over; a client that is cut off notices by silence. Everything
//! that is left to chance is drawn from one generator, in the order in which clients act, so a run with the same
//! seed on a paused clock and one thread is the same run.
//!
//! It has several members that hold the same: each may be gone, or hang, and they may be without a leader.
//!
//! The same script runs against this and against a real etcd (`tests/tests/twins.rs`).

mod keyspace;
mod network;
mod quorum;
mod watcher;

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use self::{
    keyspace::Keyspace,
    network::{Connection, Network, Way, unavailable},
};
pub use self::{
    keyspace::{Change, Commit},
    network::{Calls, Condition, Faults, Link},
    quorum::{Health, MEMBERS},
    watcher::MemoryWatch,
};
use super::{
    Detail, KeepAlive, LeaseId, MAX_OPERATIONS, Page, Range, Remaining, Revision, Store, StoreError, Stored,
    Transaction,
};

/// How long a request may take, as in the default configuration.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often etcd looks for leases whose time is over.
const SWEEP: Duration = Duration::from_millis(500);

/// A simulated etcd. Cheap to clone.
#[derive(Clone)]
pub struct MemoryStore(Arc<Network>);

impl MemoryStore {
    /// An empty store, and the task that ends its leases; the task runs until the store is dropped.
    pub fn new(rng: fastrand::Rng) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let network = Arc::new(Network::new(rng));
        let lessor = end_leases(Arc::downgrade(&network), network.changes());
        (Self(network), lessor)
    }

    /// The handle of a client. Handles of one name share a connection and its faults.
    #[must_use]
    pub fn client(&self, name: &str) -> MemoryClient {
        MemoryClient { network: Arc::clone(&self.0), name: name.into() }
    }

    /// Freezes, kills, or brings it back.
    pub fn set_condition(&self, condition: Condition) {
        self.0.set_condition(condition);
    }

    /// How it is.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.0.look().condition
    }

    /// Has one of its members hang, kills it, or brings it back. It counts on you to keep a majority.
    pub fn set_health(&self, member: usize, health: Health) {
        self.0.set_health(member % MEMBERS, health);
    }

    /// Cuts a client off, or ends that.
    pub fn set_link(&self, client: &str, link: Link) {
        self.0.set_link(client, link);
    }

    /// What goes wrong by itself, for every client that has no faults of its own.
    pub fn set_faults(&self, faults: Faults) {
        self.0.look().faults = faults;
    }

    /// What goes wrong by itself for one client.
    pub fn set_faults_of(&self, client: &str, faults: Option<Faults>) {
        self.0.look().peer(client).faults = faults;
    }

    /// Breaks all streams of a client.
    pub fn disconnect(&self, client: &str) {
        self.0.change(|state| state.peer(client).connection += 1);
    }

    /// Forgets all revisions before this one.
    pub fn compact(&self, revision: Revision) {
        self.0.change(|state| state.keyspace.compact(revision));
    }

    /// Writes from outside of fleet, past all faults. Returns the revision, or `None` when a guard does not hold.
    ///
    /// # Errors
    /// When etcd would refuse the transaction.
    pub fn write(&self, author: &str, transaction: &Transaction) -> Result<Option<Revision>, StoreError> {
        self.0.change(|state| state.keyspace.commit(author, Instant::now(), transaction))
    }

    /// A range as it is, past all faults.
    #[must_use]
    pub fn entries(&self, range: &Range) -> Vec<Stored> {
        self.0.look().keyspace.list(range, None, 0).map(|page| page.entries).unwrap_or_default()
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.0.look().keyspace.revision()
    }

    /// The transactions from a revision on, also of those that are compacted.
    #[must_use]
    pub fn history(&self, from: Revision) -> Vec<Commit> {
        self.0.look().keyspace.since(from).to_vec()
    }

    /// The leases that live, with their TTLs and when each is over.
    #[must_use]
    pub fn leases(&self) -> BTreeMap<LeaseId, (Duration, Instant)> {
        self.0.look().keyspace.leases()
    }

    /// How much each client has asked for.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, Calls> {
        self.0.look().calls()
    }
}

/// Ends leases as etcd does: it looks twice a second, so their keys go up to half a second late.
async fn end_leases(network: Weak<Network>, mut changes: watch::Receiver<()>) {
    let start = Instant::now();
    loop {
        changes.borrow_and_update();
        let next = {
            let Some(network) = network.upgrade() else { return };
            let now = Instant::now();
            let due = {
                let state = network.look();
                let next = state.keyspace.next_end().filter(|_| state.condition == Condition::Up);
                next.map(|at| {
                    let sweeps = at.duration_since(start).as_millis().div_ceil(SWEEP.as_millis()) as u32;
                    start + SWEEP * sweeps
                })
            };
            if due.is_some_and(|due| due <= now) {
                network.change(|state| state.keyspace.expire(now));
                continue;
            }
            due
        };
        tokio::select! {
            biased;
            () = async { match next { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// A client's handle to a simulated etcd. Cheap to clone.
#[derive(Clone)]
pub struct MemoryClient {
    network: Arc<Network>,
    name: Arc<str>,
}

/// Whether a request changes anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

impl MemoryClient {
    /// Makes a request to the member that answered last, and while those that are asked ail, to the next.
    async fn request<T, F>(&self, kind: Kind, repeats: bool, request: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Keyspace) -> Result<T, StoreError> + Clone + Send + 'static,
    {
        let (network, first) = (&self.network, self.nearest());
        for member in (first..first + MEMBERS).map(|member| member % MEMBERS) {
            // One that hangs is given half of the time.
            let patience = if network.is_well(member) { TIMEOUT } else { TIMEOUT / 2 };
            let outcome = self.ask(member, patience, kind, repeats, request.clone()).await;
            if !matches!(outcome, Err(StoreError::Unavailable(_))) {
                network.prefer(&self.name, member);
                return outcome;
            }
            if network.is_well(member) {
                return outcome;
            }
        }
        Err(unavailable("no member answers"))
    }

    /// Makes a request to one member, with all that can happen to it on the way. `repeats`: the client library sends
    /// it again by itself when the connection breaks.
    async fn ask<T, F>(
        &self,
        member: usize,
        patience: Duration,
        kind: Kind,
        repeats: bool,
        request: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Keyspace) -> Result<T, StoreError> + Clone + Send + 'static,
    {
        let (network, name) = (&self.network, &*self.name);
        let deadline = Some(Instant::now() + patience);
        let connection = network.connection(name, Some(member));
        network.travel(name).await;
        if let Err(error) = network.pass(name, Way::There, connection, deadline).await {
            // A connection that is refused has carried nothing.
            if kind == Kind::Write && network.is_open(name, connection) {
                let late = request.clone();
                network.leave_behind(name, connection, Box::new(move |keyspace| drop(late(keyspace))));
            }
            return Err(error);
        }
        network.lead(name, connection, false, deadline).await?;
        let (refuse, lose, again) = {
            let mut state = network.look();
            let faults = state.faults(name);
            (state.chance(faults.refuse), state.chance(faults.lose_answer), repeats && state.rng.bool())
        };
        if refuse {
            return Err(unavailable("tcp connect error"));
        }
        let mut answer = self.carry_out(kind, &request);
        if lose {
            if !again {
                return Err(unavailable("connection reset"));
            }
            network.travel(name).await;
            network.pass(name, Way::There, connection, deadline).await?;
            network.lead(name, connection, false, deadline).await?;
            answer = self.carry_out(kind, &request);
        }
        network.travel(name).await;
        network.pass(name, Way::Back, connection, deadline).await?;
        answer
    }

    fn carry_out<T>(
        &self,
        kind: Kind,
        request: impl Fn(&mut Keyspace) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match kind {
            Kind::Read => request(&mut self.network.look().keyspace),
            Kind::Write => self.network.change(|state| request(&mut state.keyspace)),
        }
    }

    async fn open(&self, range: &Range, from: Revision, only_deletions: bool) -> Result<MemoryWatch, StoreError> {
        self.count(|calls| calls.watches += 1);
        // A store that is behind the watch counts again from a backup: that is as if it had forgotten.
        let forgotten = self.request(Kind::Read, true, move |keyspace| {
            let revision = keyspace.revision();
            Ok((keyspace.has_forgotten(from) || revision + 1 < from, revision))
        });
        let (forgotten, opened) = forgotten.await?;
        let connection = self.network.connection(&self.name, None);
        let changes = self.network.changes();
        let client = self.clone();
        Ok(MemoryWatch {
            client,
            connection,
            range: range.clone(),
            only_deletions,
            next: from,
            opened,
            forgotten,
            broken: false,
            changes,
        })
    }

    fn count(&self, count: impl FnOnce(&mut Calls)) {
        count(&mut self.network.look().peer(&self.name).calls);
    }
}

impl Store for MemoryClient {
    type Watch = MemoryWatch;
    type KeepAlive = MemoryKeepAlive;

    async fn list_in(
        &self,
        detail: Detail,
        range: &Range,
        at: Option<Revision>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.count(|calls| calls.reads += 1);
        let range = range.clone();
        let mut page = self.request(Kind::Read, true, move |keyspace| keyspace.list(&range, at, limit)).await?;
        if detail == Detail::Keys {
            page.entries.iter_mut().for_each(|stored| stored.value.clear());
        }
        Ok(page)
    }

    async fn get(&self, keys: &[String]) -> Result<Page, StoreError> {
        self.count(|calls| calls.reads += 1);
        let mut page = Page { entries: Vec::new(), revision: 0, more: false };
        for keys in keys.chunks(MAX_OPERATIONS) {
            let keys = keys.to_vec();
            let read = move |keyspace: &mut Keyspace| {
                let entries: Vec<Stored> = keys.iter().filter_map(|key| keyspace.get(key)).cloned().collect();
                Ok((entries, keyspace.revision()))
            };
            let (entries, revision) = self.request(Kind::Read, true, read).await?;
            page.entries.extend(entries);
            page.revision = if page.revision == 0 { revision } else { page.revision };
        }
        Ok(page)
    }

    async fn get_immutable(&self, keys: &[String]) -> Result<Page, StoreError> {
        let behind = {
            let mut state = self.network.look();
            let faults = state.faults(&self.name);
            state.chance(faults.behind)
        };
        self.get(if behind { &[] } else { keys }).await
    }

    async fn watch(&self, range: &Range, from: Revision) -> Result<MemoryWatch, StoreError> {
        self.open(range, from, false).await
    }

    async fn watch_deletions(&self, range: &Range, from: Revision) -> Result<MemoryWatch, StoreError> {
        self.open(range, from, true).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Option<Revision>, StoreError> {
        self.count(|calls| calls.writes += 1);
        let author = Arc::clone(&self.name);
        let commit = move |keyspace: &mut Keyspace| keyspace.commit(&author, Instant::now(), &transaction);
        self.request(Kind::Write, true, commit).await
    }

    async fn commit_once(&self, transaction: Transaction) -> Result<Option<Revision>, StoreError> {
        self.count(|calls| calls.writes += 1);
        let author = Arc::clone(&self.name);
        let commit = move |keyspace: &mut Keyspace| keyspace.commit(&author, Instant::now(), &transaction);
        let member = self.nearest();
        let outcome = self.ask(member, TIMEOUT, Kind::Write, false, commit).await;
        if !self.network.is_well(member) {
            self.network.prefer(&self.name, member + 1);
        }
        outcome
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.count(|calls| calls.writes += 1);
        self.request(Kind::Write, false, move |keyspace| Ok(keyspace.grant(Instant::now(), ttl))).await
    }

    fn members(&self) -> usize {
        MEMBERS
    }

    fn nearest(&self) -> usize {
        self.network.connection(&self.name, None).member
    }

    async fn keep_alive(&self, lease: LeaseId, member: usize) -> Result<MemoryKeepAlive, StoreError> {
        let connection = self.network.connection(&self.name, Some(member));
        let mut stream = MemoryKeepAlive { client: self.clone(), connection, lease };
        // Opening a stream sends the first keepalive. It is bounded, unlike those that follow.
        let sent = tokio::time::timeout(TIMEOUT, stream.send(false)).await;
        sent.unwrap_or_else(|elapsed| Err(StoreError::Unavailable(Box::new(elapsed))))?;
        self.network.prefer(&self.name, member);
        Ok(stream)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.count(|calls| calls.writes += 1);
        let revoke = move |keyspace: &mut Keyspace| {
            keyspace.revoke(Instant::now(), lease);
            Ok(())
        };
        self.request(Kind::Write, false, revoke).await
    }

    async fn remaining(&self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, Remaining>, StoreError> {
        self.count(|calls| calls.reads += 1);
        let leases = leases.to_vec();
        let look = move |keyspace: &mut Keyspace| {
            let now = Instant::now();
            let known = keyspace.leases();
            let of = |lease: &LeaseId| {
                let (ttl, ends) = known.get(lease)?;
                let left = Duration::from_secs(ends.saturating_duration_since(now).as_secs());
                Some((*lease, Remaining { left, granted: *ttl }))
            };
            Ok(leases.iter().filter_map(of).collect())
        };
        self.request(Kind::Read, false, look).await
    }
}

/// Keepalives to a simulated etcd.
pub struct MemoryKeepAlive {
    client: MemoryClient,
    connection: Connection,
    lease: LeaseId,
}

impl MemoryKeepAlive {
    async fn send(&mut self, open: bool) -> Result<(), StoreError> {
        let (network, name) = (&self.client.network, &*self.client.name);
        self.client.count(|calls| calls.beats += 1);
        network.travel(name).await;
        network.pass(name, Way::There, self.connection, None).await?;
        network.lead(name, self.connection, open, None).await?;
        let answer = network.change(|state| state.keyspace.keep_alive(Instant::now(), self.lease));
        network.travel(name).await;
        network.pass(name, Way::Back, self.connection, None).await?;
        answer
    }
}

impl KeepAlive for MemoryKeepAlive {
    async fn beat(&mut self) -> Result<(), StoreError> {
        self.send(true).await
    }
}

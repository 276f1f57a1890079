//! This host as a member of the cluster: its lease and its entry `machine/<id>`.
//!
//! The lease's ID is kept on the host until the next boot, so a fleetd that was restarted or killed takes up its
//! own lease and changes nothing in the store. The entry is only ever created: when another host lives under the
//! same machine ID, registration is refused, and both are named. A member that is reached by another address than before
//! says so in its entry, and nothing else changes.

use std::{future::pending, path::PathBuf, time::Duration};

use fleet_core::model::{Key, Keys, MachineId, MachineRecord, Record};
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::{sync::watch, time::sleep};
use tracing::{debug, error, info, warn};

use crate::{
    backoff::{Backoff, jitter},
    clock::Clock,
    fence::{Proof, proof},
    filesystem::Filesystem,
    registry::{Guard, LeaseId, Revision, Store, StoreError, Stored, Transaction, Watch, WatchEvent, Write, lease},
};

/// How often a member looks whether it is reached by another address, though nothing has told it so: names of members
/// of etcd may have changed.
const RESYNC: Duration = Duration::from_secs(600);

/// Tells what the entry of a host is to say. Given what it says now, if it is there: what is not to be found out at the
/// moment stays.
pub type Describe =
    Box<dyn Fn(Option<&MachineRecord>) -> BoxFuture<'static, anyhow::Result<MachineRecord>> + Send + Sync>;

/// Membership as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The lease that the entry and the states live with.
    pub lease: LeaseId,
    /// The revision that created the entry: guards what is written in this machine's name.
    pub revision: Revision,
}

impl Registration {
    /// The guard that keeps a machine from writing when `entry`, its key, is another's, or gone.
    #[must_use]
    pub fn guard(&self, entry: String) -> Guard {
        Guard::CreatedAt(entry, self.revision)
    }
}

/// Why this host is not a member.
#[derive(Debug, Error)]
enum JoinError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "machine ID {id} is in use by host {} ({}), this host is {} ({}): give one of them an ID of its own \
         (rm /etc/machine-id && systemd-machine-id-setup)",
        theirs.hostname, theirs.address, ours.hostname, ours.address
    )]
    Duplicate { id: MachineId, theirs: Box<MachineRecord>, ours: Box<MachineRecord> },
    #[error("the entry changed while it was written")]
    Raced,
    #[error("cannot tell what this host is")]
    Unknown(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why the API of this host cannot serve, if there is a reason that a person must mend.
pub type Refusal = Option<String>;

/// Keeps this host registered.
pub struct Membership<S, F> {
    /// The registry.
    pub store: S,
    /// The keys in it.
    pub keys: Keys,
    /// This host.
    pub id: MachineId,
    /// Tells what its entry is to say; asked anew each time the host joins, and on `changed`.
    pub describe: Describe,
    /// Tells that the host may be reached by another address.
    pub changed: watch::Receiver<()>,
    /// How long the host may be silent before it counts as dead.
    pub ttl: Duration,
    /// The clock that the lease is judged by.
    pub clock: Clock,
    /// The host's files.
    pub filesystem: F,
    /// Where the lease's ID is kept.
    pub lease_file: PathBuf,
    /// Tells the others how long the lease is proven to live.
    pub proof: watch::Sender<Proof>,
    /// Tells the others of the registration.
    pub registration: watch::Sender<Option<Registration>>,
    /// Tells the API when a person must act.
    pub refusal: watch::Sender<Refusal>,
}

impl<S: Store, F: Filesystem> Membership<S, F> {
    /// Joins, and joins again whenever the lease is lost. Runs until dropped.
    pub async fn run(&self) {
        // Whoever waits longer after an outage than the engine waits for hosts to come back loses its units.
        let mut backoff = Backoff::new(Duration::from_millis(500), self.ttl / 3);
        let mut changed = self.changed.clone();
        let mut known = None;
        let mut told = None;
        loop {
            changed.mark_unchanged();
            match self.join(known.as_ref()).await {
                Ok((record, registration)) => {
                    told = None;
                    self.refusal.send_replace(None);
                    info!(machine = %self.id, address = record.address, "registered");
                    let lease = registration.lease;
                    let entry = known.insert(record);
                    self.registration.send_replace(Some(registration));
                    let proof = || proof(self.clock, self.ttl);
                    tokio::select! {
                        biased;
                        () = lease::keep(&self.store, lease, self.ttl, proof, &self.proof) => {
                            self.proof.send_replace(None);
                            backoff.reset();
                            warn!(machine = %self.id, "lease lost, registering again");
                            // A store that was frozen has lost the leases of all hosts at the same moment.
                            sleep(self.ttl.mul_f64(fastrand::f64() / 20.0)).await;
                        }
                        () = self.mind_entry(entry, lease, &mut changed) => {
                            self.proof.send_replace(None);
                            warn!(machine = %self.id, "entry in etcd gone or overwritten, registering again");
                            // Two hosts that take each other for one would overwrite each other without end.
                            sleep(backoff.delay()).await;
                        }
                    }
                    self.registration.send_replace(None);
                    continue;
                }
                Err(error @ JoinError::Duplicate { .. }) => {
                    let message = error.to_string();
                    let told = self.refusal.send_if_modified(|refusal| {
                        let new = refusal.as_ref() != Some(&message);
                        *refusal = Some(message.clone());
                        new
                    });
                    if told {
                        error!("{message}");
                    }
                }
                // That is told where etcd is asked.
                Err(JoinError::Store(error @ StoreError::Unavailable(_))) => {
                    debug!(error = %crate::chain(&error), "cannot register, trying again");
                }
                Err(error) => {
                    let cause = crate::chain(&error);
                    let for_a_person = matches!(error, JoinError::Store(StoreError::Refused { .. }));
                    if told.as_ref() == Some(&cause) {
                        debug!("still cannot register: {cause}");
                    } else if for_a_person {
                        error!("cannot register, trying again: {cause}");
                    } else {
                        warn!("cannot register, trying again: {cause}");
                    }
                    told = Some(cause);
                }
            }
            sleep(backoff.delay()).await;
        }
    }

    /// Keeps the entry true: has it, and `record`, say so when the host is reached by another address. Returns when
    /// [`entry_lost`](Self::entry_lost) does.
    async fn mind_entry(&self, record: &mut MachineRecord, lease: LeaseId, changed: &mut watch::Receiver<()>) {
        loop {
            let new = tokio::select! {
                biased;
                () = self.entry_lost(record, lease) => return,
                new = self.described_anew(record, changed) => new,
            };
            let mut backoff = Backoff::new(Duration::from_millis(500), self.ttl / 3);
            loop {
                match self.rewrite(record, &new, lease).await {
                    Ok(true) => break,
                    Ok(false) => return,
                    Err(error) => debug!(error = %crate::chain(&error), "own entry cannot be written, trying again"),
                }
                sleep(backoff.delay()).await;
            }
            info!(machine = %self.id, address = new.address, before = record.address, "reached by another address");
            *record = new;
        }
    }

    /// Returns when the host has another address, or another name, than `record` says. What else there is to say, such as
    /// its memory, waits until it joins again.
    async fn described_anew(&self, record: &MachineRecord, changed: &mut watch::Receiver<()>) -> MachineRecord {
        loop {
            let told = async {
                if changed.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = told => {}
                () = sleep(jitter(RESYNC)) => {}
            }
            match (self.describe)(Some(record)).await {
                Ok(MachineRecord { address, hostname, .. }) => {
                    if (&address, &hostname) != (&record.address, &record.hostname) {
                        return MachineRecord { address, hostname, ..record.clone() };
                    }
                }
                Err(error) => debug!(error = %crate::chain(&*error), "cannot tell what this host is"),
            }
        }
    }

    /// Has the entry say `new` where it says `old`, with the same lease. Returns whether it does: not when somebody else
    /// has written it, or taken it away.
    async fn rewrite(&self, old: &MachineRecord, new: &MachineRecord, lease: LeaseId) -> Result<bool, StoreError> {
        let key = self.key();
        let Some(stored) = self.store.get(std::slice::from_ref(&key)).await?.entries.pop() else { return Ok(false) };
        let there = MachineRecord::decode(&stored.value).ok().filter(|_| stored.lease == Some(lease));
        if there.as_ref() == Some(new) {
            // The answer to an earlier try was lost.
            return Ok(true);
        }
        if there.as_ref() != Some(old) {
            return Ok(false);
        }
        let guards = vec![Guard::Unchanged(key.clone(), stored.mod_revision)];
        let writes = vec![Write::Put { key, value: new.encode(), lease: Some(lease) }];
        match self.store.commit(Transaction { guards, writes }).await? {
            Some(_) => Ok(true),
            // Refused, too, when it is tried again though it was written.
            None => Err(StoreError::Unavailable("the entry changed while it was written".into())),
        }
    }

    /// Returns when the entry does not say `record` any more, though the lease may well be alive: only somebody else
    /// can have done that.
    async fn entry_lost(&self, record: &MachineRecord, lease: LeaseId) {
        let mut backoff = Backoff::new(Duration::from_millis(500), self.ttl);
        loop {
            match self.watch_entry(record, lease).await {
                Ok(()) => return,
                Err(error) => debug!(error = %crate::chain(&error), "own entry cannot be watched, trying again"),
            }
            sleep(backoff.delay()).await;
        }
    }

    async fn watch_entry(&self, record: &MachineRecord, lease: LeaseId) -> Result<(), StoreError> {
        let key = self.key();
        let range = (key.clone(), format!("{key}\0"));
        let is_ours = |stored: &Stored| {
            stored.lease == Some(lease) && MachineRecord::decode(&stored.value).is_ok_and(|there| there == *record)
        };
        let page = self.store.list(&range, None, 1).await?;
        if !page.entries.iter().any(is_ours) {
            return Ok(());
        }
        // What the list shows comes again, because of what a mirror says of compaction.
        let mut watch = self.store.watch(&range, page.revision).await?;
        loop {
            match watch.next().await? {
                WatchEvent::Compacted => return Err(StoreError::Compacted),
                WatchEvent::Changed { changes, .. } => {
                    if changes.last().is_some_and(|change| !change.as_ref().is_ok_and(is_ours)) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes the entry away at once, with all that lives with the lease and all that is scheduled to this host. Returns
    /// whether there was one.
    ///
    /// # Errors
    /// When the store does not answer. The entry then goes when its time is over.
    pub async fn leave(&self) -> Result<bool, StoreError> {
        let registered = self.registration.send_replace(None);
        if let Some(registered) = &registered {
            self.say_goodbye(registered).await?;
            self.give_up_units(registered).await?;
            self.store.revoke(registered.lease).await?;
        }
        self.forget();
        Ok(registered.is_some())
    }

    /// Says in the entry that this host goes of its own will and runs nothing any more, so that nobody waits for it.
    async fn say_goodbye(&self, registered: &Registration) -> Result<(), StoreError> {
        let key = self.key();
        let there = self.store.get(std::slice::from_ref(&key)).await?.entries.pop();
        // Without it the host counts as lost, which only takes longer.
        let Some(record) = there.and_then(|stored| MachineRecord::decode(&stored.value).ok()) else { return Ok(()) };
        let guards = vec![registered.guard(key.clone())];
        let value = MachineRecord { leaving: true, ..record }.encode();
        let writes = vec![Write::Put { key, value, lease: Some(registered.lease) }];
        self.store.commit(Transaction { guards, writes }).await.map(drop)
    }

    /// Takes away the entry, and what is scheduled to this host: a leader that was elected too late to hear the goodbye
    /// would take this host for lost, and wait for it.
    async fn give_up_units(&self, registered: &Registration) -> Result<(), StoreError> {
        let key = self.key();
        let guards = vec![registered.guard(key.clone())];
        let range = self.keys.under(&format!("sched/{}/", self.id));
        let writes = vec![Write::Delete { key }, Write::DeleteRange { range }];
        self.store.commit(Transaction { guards, writes }).await.map(drop)
    }

    /// The key of this host's entry.
    fn key(&self) -> String {
        self.keys.format(&Key::Machine(self.id.clone()))
    }

    async fn join(&self, known: Option<&MachineRecord>) -> Result<(MachineRecord, Registration), JoinError> {
        let record = (self.describe)(known).await.map_err(|error| JoinError::Unknown(error.into()))?;
        let key = self.key();
        let current = self.store.get(std::slice::from_ref(&key)).await?.entries.pop();
        if let Some(registration) = self.take_up(current.as_ref(), &record).await? {
            return Ok((record, registration));
        }
        let mut guard = Guard::Unchanged(key.clone(), 0);
        let mut old_lease = None;
        if let Some(stored) = &current {
            let theirs = MachineRecord::decode(&stored.value).ok();
            if let Some(theirs) = theirs.filter(|theirs| !is_same_host(theirs, &record)) {
                let ours = Box::new(record);
                return Err(JoinError::Duplicate { id: self.id.clone(), theirs: Box::new(theirs), ours });
            }
            // This host's entry from before a boot, or before a loss of the lease's ID.
            guard = Guard::Unchanged(key.clone(), stored.mod_revision);
            old_lease = stored.lease;
        }
        let lease = self.store.grant(self.ttl).await?;
        let put = Write::Put { key: key.clone(), value: record.encode(), lease: Some(lease) };
        let written = self.store.commit(Transaction { guards: vec![guard], writes: vec![put] }).await?;
        // A write that was tried again because its answer was lost is refused the second time.
        let written = match written {
            Some(revision) => Some(revision),
            None => self
                .store
                .get(&[key])
                .await?
                .entries
                .pop()
                .filter(|it| it.lease == Some(lease))
                .map(|it| it.mod_revision),
        };
        let Some(revision) = written else {
            self.store.revoke(lease).await?;
            return Err(JoinError::Raced);
        };
        self.remember(lease);
        if let Some(old) = old_lease {
            // With it go the states of before; the entry itself lives with the new lease now.
            self.store.revoke(old).await?;
        }
        let created = current.map_or(revision, |stored| stored.create_revision);
        Ok((record, Registration { lease, revision: created }))
    }

    /// Goes on with the lease of an earlier run of this boot, if it is alive and the entry is still ours.
    async fn take_up(
        &self,
        current: Option<&Stored>,
        record: &MachineRecord,
    ) -> Result<Option<Registration>, StoreError> {
        let Some(stored) = current else { return Ok(None) };
        let kept = self.recall();
        let Some(lease) = kept.filter(|kept| Some(*kept) == stored.lease) else { return Ok(None) };
        match lease::touch(&self.store, lease, self.ttl).await {
            Ok(()) => {}
            Err(StoreError::LeaseGone) => return Ok(None),
            Err(error) => return Err(error),
        }
        if MachineRecord::decode(&stored.value).is_ok_and(|there| there == *record) {
            info!("took up the lease of an earlier run");
            return Ok(Some(Registration { lease, revision: stored.create_revision }));
        }
        // Configured otherwise than before: the entry says so, the lease stays.
        let put = Write::Put { key: stored.key.clone(), value: record.encode(), lease: Some(lease) };
        let guards = vec![Guard::Unchanged(stored.key.clone(), stored.mod_revision)];
        let written = self.store.commit(Transaction { guards, writes: vec![put] }).await?;
        Ok(written.map(|_| Registration { lease, revision: stored.create_revision }))
    }

    /// Writes a lease's ID and TTL down.
    fn remember(&self, lease: LeaseId) {
        let text = format!("{} {}", lease.0, self.ttl.as_secs());
        if let Err(error) = self.filesystem.replace(&self.lease_file, text.as_bytes()) {
            warn!(error = %crate::chain(&error), "lease not remembered: a restart will register anew");
        }
    }

    /// The lease that was written down, if it lives as long as is wanted now: one that was granted for a shorter time
    /// would run out between two keepalives.
    fn recall(&self) -> Option<LeaseId> {
        let text = String::from_utf8(self.filesystem.read(&self.lease_file).ok()??).ok()?;
        let (lease, granted) = text.trim().split_once(' ')?;
        (granted.parse() == Ok(self.ttl.as_secs())).then(|| lease.parse().ok().map(LeaseId))?
    }

    fn forget(&self) {
        if let Err(error) = self.filesystem.remove(&self.lease_file) {
            warn!(error = %crate::chain(&error), "lease not forgotten");
        }
    }
}

/// Whether an entry is of this host: of this boot, or of an earlier one at the same address. Containers on one kernel
/// may share its boot ID, so that alone says nothing.
fn is_same_host(theirs: &MachineRecord, ours: &MachineRecord) -> bool {
    theirs.hostname == ours.hostname && (theirs.boot_id == ours.boot_id || theirs.address == ours.address)
}

#[cfg(test)]
mod tests;

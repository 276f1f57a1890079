//! This host as a member of the cluster: its lease and its entry `machine/<id>`.
//!
//! The lease's ID is kept on the host until the next boot, so a fleetd that was restarted or killed takes up its
//! own lease and changes nothing in the store. The entry is only ever created: when another host lives under the
//! same machine ID, registration is refused, and both are named. A member that is reached by another address than before
//! says so in its entry, and nothing else changes.
//!
//! The other parts of the host know of this by the [`Registration`], the [`proof`] of how long the lease lives, and the
//! [`fence`] around units that rest on it.

mod entry;
pub mod fence;
mod lease_file;
pub mod proof;

use std::{future::pending, time::Duration};

pub use entry::Entry;
use fleet_core::model::{MachineId, MachineRecord, Record};
use futures_util::future::BoxFuture;
pub use lease_file::LeaseFile;
use thiserror::Error;
use tokio::{sync::watch, time::sleep};
use tracing::{debug, error, info, warn};

use self::proof::{Proof, proof};
use crate::{
    backoff::{Backoff, jitter},
    clock::Clock,
    filesystem::Filesystem,
    registry::{Guard, LeaseId, Revision, Store, StoreError, Stored, lease},
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
    /// This host's entry.
    pub entry: Entry<S>,
    /// Tells what its entry is to say; asked anew each time the host joins, and on `changed`.
    pub describe: Describe,
    /// Tells that the host may be reached by another address.
    pub changed: watch::Receiver<()>,
    /// How long the host may be silent before it counts as dead.
    pub ttl: Duration,
    /// The clock that the lease is judged by.
    pub clock: Clock,
    /// Where the lease's ID is kept.
    pub lease_file: LeaseFile<F>,
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
        let mut logged = None;
        loop {
            changed.mark_unchanged();
            match self.join(known.as_ref()).await {
                Ok((record, registration)) => {
                    logged = None;
                    self.refusal.send_replace(None);
                    info!(machine = %self.entry.id, address = record.address, "registered");
                    let lease = registration.lease;
                    let entry = known.insert(record);
                    self.registration.send_replace(Some(registration));
                    let proof = || proof(self.clock, self.ttl);
                    tokio::select! {
                        biased;
                        () = lease::keep(&self.entry.store, lease, self.ttl, proof, &self.proof) => {
                            self.proof.send_replace(None);
                            backoff.reset();
                            warn!(machine = %self.entry.id, "lease lost, registering again");
                            // A store that was frozen has lost the leases of all hosts at the same moment.
                            sleep(self.ttl.mul_f64(fastrand::f64() / 20.0)).await;
                        }
                        () = self.follow_entry(entry, lease, &mut changed) => {
                            self.proof.send_replace(None);
                            warn!(machine = %self.entry.id, "entry in etcd gone or overwritten, registering again");
                            // Two hosts that take each other for one would overwrite each other without end.
                            sleep(backoff.delay()).await;
                        }
                    }
                    self.registration.send_replace(None);
                    continue;
                }
                Err(error @ JoinError::Duplicate { .. }) => {
                    let message = error.to_string();
                    let is_new = self.refusal.send_if_modified(|refusal| {
                        let new = refusal.as_ref() != Some(&message);
                        *refusal = Some(message.clone());
                        new
                    });
                    if is_new {
                        error!("{message}");
                    }
                }
                // That is logged where etcd is asked.
                Err(JoinError::Store(error @ StoreError::Unavailable(_))) => {
                    debug!(error = %crate::chain(&error), "cannot register, trying again");
                }
                Err(error) => {
                    let cause = crate::chain(&error);
                    let for_a_person = matches!(error, JoinError::Store(StoreError::Refused { .. }));
                    if logged.as_ref() == Some(&cause) {
                        debug!("still cannot register: {cause}");
                    } else if for_a_person {
                        error!("cannot register, trying again: {cause}");
                    } else {
                        warn!("cannot register, trying again: {cause}");
                    }
                    logged = Some(cause);
                }
            }
            sleep(backoff.delay()).await;
        }
    }

    /// Keeps the entry true: has it, and `record`, say so when the host is reached by another address. Returns when
    /// [`Entry::lost`] does.
    async fn follow_entry(&self, record: &mut MachineRecord, lease: LeaseId, changed: &mut watch::Receiver<()>) {
        loop {
            let new = tokio::select! {
                biased;
                () = self.entry.lost(record, lease, self.ttl) => return,
                new = self.described_anew(record, changed) => new,
            };
            let mut backoff = Backoff::new(Duration::from_millis(500), self.ttl / 3);
            loop {
                match self.entry.rewrite(record, &new, lease).await {
                    Ok(true) => break,
                    Ok(false) => return,
                    Err(error) => debug!(error = %crate::chain(&error), "own entry cannot be written, trying again"),
                }
                sleep(backoff.delay()).await;
            }
            info!(machine = %self.entry.id, address = new.address, before = record.address, "reached by another address");
            *record = new;
        }
    }

    /// Returns when the host has another address, or another name, than `record` says. What else there is to say, such as
    /// its memory, waits until it joins again.
    async fn described_anew(&self, record: &MachineRecord, changed: &mut watch::Receiver<()>) -> MachineRecord {
        loop {
            let notified = async {
                if changed.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = notified => {}
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

    /// Takes the entry away at once, with all that lives with the lease and all that is scheduled to this host. Returns
    /// whether there was one.
    ///
    /// # Errors
    /// When the store does not answer. The entry then goes when its time is over.
    pub async fn leave(&self) -> Result<bool, StoreError> {
        let registered = self.registration.send_replace(None);
        if let Some(registered) = &registered {
            let guard = || registered.guard(self.entry.key());
            self.entry.say_goodbye(guard(), registered.lease).await?;
            self.entry.delete(guard()).await?;
            self.entry.store.revoke(registered.lease).await?;
        }
        self.lease_file.remove();
        Ok(registered.is_some())
    }

    async fn join(&self, known: Option<&MachineRecord>) -> Result<(MachineRecord, Registration), JoinError> {
        let record = (self.describe)(known).await.map_err(|error| JoinError::Unknown(error.into()))?;
        let current = self.entry.stored().await?;
        if let Some(registration) = self.take_up(current.as_ref(), &record).await? {
            return Ok((record, registration));
        }
        let (mut before, mut old_lease) = (0, None);
        if let Some(stored) = &current {
            let theirs = MachineRecord::decode(&stored.value).ok();
            if let Some(theirs) = theirs.filter(|theirs| !is_same_host(theirs, &record)) {
                let ours = Box::new(record);
                return Err(JoinError::Duplicate { id: self.entry.id.clone(), theirs: Box::new(theirs), ours });
            }
            // This host's entry from before a boot, or before a loss of the lease's ID.
            (before, old_lease) = (stored.mod_revision, stored.lease);
        }
        let lease = self.entry.store.grant(self.ttl).await?;
        let written = match self.entry.write(&record, lease, before).await? {
            Some(revision) => Some(revision),
            // A write that was tried again because its answer was lost is refused the second time.
            None => self.entry.stored().await?.filter(|it| it.lease == Some(lease)).map(|it| it.mod_revision),
        };
        let Some(revision) = written else {
            self.entry.store.revoke(lease).await?;
            return Err(JoinError::Raced);
        };
        self.lease_file.write(lease, self.ttl);
        if let Some(old) = old_lease {
            // With it go the states of before; the entry itself lives with the new lease now.
            self.entry.store.revoke(old).await?;
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
        let kept = self.lease_file.read(self.ttl);
        let Some(lease) = kept.filter(|kept| Some(*kept) == stored.lease) else { return Ok(None) };
        match lease::touch(&self.entry.store, lease, self.ttl).await {
            Ok(()) => {}
            Err(StoreError::LeaseGone) => return Ok(None),
            Err(error) => return Err(error),
        }
        if MachineRecord::decode(&stored.value).is_ok_and(|there| there == *record) {
            info!("took up the lease of an earlier run");
            return Ok(Some(Registration { lease, revision: stored.create_revision }));
        }
        // Configured otherwise than before: the entry says so, the lease stays.
        let written = self.entry.write(record, lease, stored.mod_revision).await?;
        Ok(written.map(|_| Registration { lease, revision: stored.create_revision }))
    }
}

/// Whether an entry is of this host: of this boot, or of an earlier one at the same address. Containers on one kernel
/// may share its boot ID, so that alone says nothing.
fn is_same_host(theirs: &MachineRecord, ours: &MachineRecord) -> bool {
    theirs.hostname == ours.hostname && (theirs.boot_id == ours.boot_id || theirs.address == ours.address)
}

#[cfg(test)]
mod tests;

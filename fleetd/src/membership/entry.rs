//! The key `machine/<id>`: reading and writing it, and noticing that somebody else has.

use std::time::Duration;

use fleet_core::model::{Key, Keys, Kind, MachineId, MachineRecord, Record};
use tokio::time::sleep;
use tracing::debug;

use crate::{
    backoff::Backoff,
    registry::{Guard, LeaseId, Revision, Store, StoreError, Stored, Transaction, Watch, WatchEvent, Write},
};

/// A host's entry in the registry.
pub struct Entry<S> {
    /// The registry.
    pub store: S,
    /// The keys in it.
    pub keys: Keys,
    /// The host.
    pub id: MachineId,
}

impl<S: Store> Entry<S> {
    /// Its key.
    pub(super) fn key(&self) -> String {
        self.keys.format(&Key::Machine(self.id.clone()))
    }

    /// What the store has under it.
    pub(super) async fn stored(&self) -> Result<Option<Stored>, StoreError> {
        Ok(self.store.get(&[self.key()]).await?.entries.pop())
    }

    /// Writes `record` with `lease`, if the key is still as it was at `before`; 0: if there is none. Returns the
    /// revision of the write, unless that was refused.
    pub(super) async fn write(
        &self,
        record: &MachineRecord,
        lease: LeaseId,
        before: Revision,
    ) -> Result<Option<Revision>, StoreError> {
        let guards = vec![Guard::Unchanged(self.key(), before)];
        let writes = vec![Write::Put { key: self.key(), value: record.encode(), lease: Some(lease) }];
        self.store.commit(Transaction { guards, writes }).await
    }

    /// Has it say `new` where it says `old`, with the same lease. Returns whether it does: not when somebody else has
    /// written it, or taken it away.
    pub(super) async fn rewrite(
        &self,
        old: &MachineRecord,
        new: &MachineRecord,
        lease: LeaseId,
    ) -> Result<bool, StoreError> {
        let Some(stored) = self.stored().await? else { return Ok(false) };
        let there = MachineRecord::decode(&stored.value).ok().filter(|_| stored.lease == Some(lease));
        if there.as_ref() == Some(new) {
            // The answer to an earlier try was lost.
            return Ok(true);
        }
        if there.as_ref() != Some(old) {
            return Ok(false);
        }
        match self.write(new, lease, stored.mod_revision).await? {
            Some(_) => Ok(true),
            // Refused, too, when it is tried again though it was written.
            None => Err(StoreError::Unavailable("the entry changed while it was written".into())),
        }
    }

    /// Returns when it does not say `record` any more, though the lease may well be alive: only somebody else can have
    /// done that. `patience` is the longest pause between two tries to find out.
    pub(super) async fn lost(&self, record: &MachineRecord, lease: LeaseId, patience: Duration) {
        let mut backoff = Backoff::new(Duration::from_millis(500), patience);
        loop {
            match self.watch(record, lease).await {
                Ok(()) => return,
                Err(error) => debug!(error = %crate::chain(&error), "own entry cannot be watched, trying again"),
            }
            sleep(backoff.delay()).await;
        }
    }

    async fn watch(&self, record: &MachineRecord, lease: LeaseId) -> Result<(), StoreError> {
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

    /// Has it say that this host goes of its own will and runs nothing any more, so that nobody waits for it.
    pub(super) async fn say_goodbye(&self, guard: Guard, lease: LeaseId) -> Result<(), StoreError> {
        // Without it the host counts as lost, which only takes longer.
        let there = self.stored().await?.and_then(|stored| MachineRecord::decode(&stored.value).ok());
        let Some(record) = there else { return Ok(()) };
        let value = MachineRecord { leaving: true, ..record }.encode();
        let writes = vec![Write::Put { key: self.key(), value, lease: Some(lease) }];
        self.store.commit(Transaction { guards: vec![guard], writes }).await.map(drop)
    }

    /// Deletes it, and what is scheduled to this host: a leader that was elected too late to hear the goodbye would take
    /// this host for lost, and wait for it.
    pub(super) async fn delete(&self, guard: Guard) -> Result<(), StoreError> {
        let range = self.keys.on(Kind::Sched, &self.id);
        let writes = vec![Write::Delete { key: self.key() }, Write::DeleteRange { range }];
        self.store.commit(Transaction { guards: vec![guard], writes }).await.map(drop)
    }
}

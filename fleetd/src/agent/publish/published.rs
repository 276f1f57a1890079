//! What the store has of this host's states.

use std::{collections::BTreeMap, sync::Arc};

use fleet_core::{
    model::{Key, Keys, MachineId, Record, StateRecord},
    unit::UnitName,
};
use tracing::warn;

use crate::registry::{LeaseId, Range, Revision, Store, StoreError, Stored, Watch, WatchEvent};

/// Keys in one page of a list.
const PAGE: usize = 1000;

/// The states of this host as the store has them: listed once, then kept up by what this host writes, and by a watch
/// that tells what others delete. Not by one that tells all: etcd would send back each state that it is sent.
pub(super) struct Published<S: Store> {
    keys: Keys,
    machine: MachineId,
    lease: LeaseId,
    entries: BTreeMap<UnitName, Entry>,
    watch: S::Watch,
}

/// A key as it was written last; `None`: it was deleted, which the watch has not told yet.
struct Entry {
    state: Option<Arc<StateRecord>>,
    revision: Revision,
}

impl<S: Store> Published<S> {
    /// Reads what the store has, and watches it from there. What lives with another lease than this dies with it, and
    /// counts for nothing.
    pub async fn read(store: &S, keys: &Keys, machine: &MachineId, lease: LeaseId) -> Result<Self, StoreError> {
        let range = keys.under(&format!("state/{machine}/"));
        let (mut rest, mut at, mut listed): (Range, _, Vec<Stored>) = (range.clone(), None, Vec::new());
        let revision = loop {
            let page = store.list(&rest, at, PAGE).await?;
            at = Some(page.revision);
            listed.extend(page.entries);
            match listed.last().filter(|_| page.more) {
                Some(last) => rest.0 = format!("{}\0", last.key),
                None => break page.revision,
            }
        };
        let mut entries = BTreeMap::new();
        for stored in listed.iter().filter(|stored| stored.lease == Some(lease)) {
            let Some(Key::State(_, unit)) = keys.parse(&stored.key) else { continue };
            match StateRecord::decode(&stored.value) {
                Ok(state) => {
                    let entry = Entry { state: Some(Arc::new(state)), revision: stored.mod_revision };
                    entries.insert(unit, entry);
                }
                Err(error) => warn!(key = stored.key, error = %crate::chain(&error), "state cannot be read"),
            }
        }
        let watch = store.watch_deletions(&range, revision).await?;
        Ok(Self { keys: keys.clone(), machine: machine.clone(), lease, entries, watch })
    }

    /// The lease that the states live with.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The state of a unit.
    pub fn get(&self, unit: &UnitName) -> Option<&Arc<StateRecord>> {
        self.entries.get(unit)?.state.as_ref()
    }

    /// The units that it has states of.
    pub fn units(&self) -> impl Iterator<Item = &UnitName> {
        self.entries.iter().filter(|(_, entry)| entry.state.is_some()).map(|(unit, _)| unit)
    }

    /// This host has written, or deleted, the state of a unit.
    pub fn wrote(&mut self, unit: &UnitName, state: Option<Arc<StateRecord>>, revision: Revision) {
        self.entries.insert(unit.clone(), Entry { state, revision });
    }

    /// Waits until somebody else has deleted states here. Returns whose. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// The store does not tell any more; then what it has must be read again.
    pub async fn meddled(&mut self) -> Result<Vec<UnitName>, StoreError> {
        loop {
            let (revision, changes) = match self.watch.next().await? {
                WatchEvent::Changed { revision, changes } => (revision, changes),
                WatchEvent::Compacted => return Err(StoreError::Compacted),
            };
            let gone = changes.into_iter().filter_map(Result::err);
            let units: Vec<UnitName> = gone.filter_map(|key| self.deleted(&key, revision)).collect();
            if !units.is_empty() {
                return Ok(units);
            }
        }
    }

    /// A key was deleted at `revision` or before. Returns its unit if that was not known. One that was written again
    /// since may seem to be gone: then it is written once more.
    fn deleted(&mut self, key: &str, revision: Revision) -> Option<UnitName> {
        let Some(Key::State(_, unit)) = self.keys.parse(key) else { return None };
        if self.entries.get(&unit)?.revision > revision {
            return None;
        }
        self.entries.remove(&unit)?.state.map(|_| unit)
    }

    /// The key of a unit's state.
    pub fn key(&self, unit: &UnitName) -> String {
        self.keys.format(&Key::State(self.machine.clone(), unit.clone()))
    }
}

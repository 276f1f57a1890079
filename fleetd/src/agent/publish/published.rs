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
/// that tells what others do to them.
pub(super) struct Published<S: Store> {
    keys: Keys,
    machine: MachineId,
    lease: LeaseId,
    entries: BTreeMap<UnitName, Entry>,
    watch: S::Watch,
}

/// A key as it was written last; `None`: it was deleted, which the watch has not told yet, or is not of this lease.
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
        let watch = store.watch(&range, revision).await?;
        let (keys, machine) = (keys.clone(), machine.clone());
        let mut published = Self { keys, machine, lease, entries: BTreeMap::new(), watch };
        for stored in &listed {
            published.put(stored);
        }
        Ok(published)
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

    /// Waits until somebody else has written or deleted states here. Returns whose. Nothing is lost when the wait is
    /// given up.
    ///
    /// # Errors
    /// The store does not tell any more; then what it has must be read again.
    pub async fn meddled(&mut self) -> Result<Vec<UnitName>, StoreError> {
        loop {
            let (revision, changes) = match self.watch.next().await? {
                WatchEvent::Changed { revision, changes } => (revision, changes),
                WatchEvent::Compacted => return Err(StoreError::Compacted),
            };
            let mut units = Vec::new();
            for change in changes {
                units.extend(match change {
                    Ok(stored) => self.put(&stored),
                    Err(key) => self.deleted(&key, revision),
                });
            }
            if !units.is_empty() {
                return Ok(units);
            }
        }
    }

    /// A key has this value. Returns its unit if that was not known.
    fn put(&mut self, stored: &Stored) -> Option<UnitName> {
        let Some(Key::State(_, unit)) = self.keys.parse(&stored.key) else { return None };
        let known = self.entries.get(&unit);
        // An echo of what this host has written, perhaps of what it has written again since.
        if known.is_some_and(|known| {
            stored.mod_revision < known.revision || (stored.mod_revision == known.revision && known.state.is_some())
        }) {
            return None;
        }
        let state = (stored.lease == Some(self.lease)).then(|| StateRecord::decode(&stored.value));
        let state = match state.transpose() {
            Ok(state) => state,
            Err(error) => {
                warn!(key = stored.key, error = %crate::chain(&error), "state cannot be read");
                None
            }
        };
        self.entries.insert(unit.clone(), Entry { state: state.map(Arc::new), revision: stored.mod_revision });
        Some(unit)
    }

    /// A key is gone since `revision` or before. Returns its unit if that was not known.
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

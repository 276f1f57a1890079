//! What the store has of this host's states.

use std::{collections::BTreeMap, sync::Arc};

use fleet_core::{
    model::{Key, Keys, Kind, MachineId, Record, StateRecord},
    unit::UnitName,
};
use tracing::warn;

use crate::registry::{Detail, LeaseId, Revision, Store, StoreError, Watch, WatchEvent};

/// The states of this host as the store has them: listed once, then kept up by what this host writes, and by a watch
/// that tells what others delete. Not by one that tells all: etcd would send back each state that it is sent.
pub(super) struct Published<S: Store> {
    keys: Keys,
    lease: LeaseId,
    /// With the revisions that they were written at.
    states: BTreeMap<UnitName, (Arc<StateRecord>, Revision)>,
    watch: S::Watch,
}

impl<S: Store> Published<S> {
    /// Reads what the store has, and watches it from there. What lives with another lease than this dies with it, and
    /// counts for nothing.
    pub async fn read(store: &S, keys: &Keys, machine: &MachineId, lease: LeaseId) -> Result<Self, StoreError> {
        let range = keys.on(Kind::State, machine);
        let listed = store.list_all(Detail::Values, &range).await?;
        let mut states = BTreeMap::new();
        for stored in listed.entries.iter().filter(|stored| stored.lease == Some(lease)) {
            let Some(Key::State(_, unit)) = keys.parse(&stored.key) else { continue };
            match StateRecord::decode(&stored.value) {
                Ok(state) => drop(states.insert(unit, (Arc::new(state), stored.mod_revision))),
                Err(error) => warn!(key = stored.key, error = %crate::chain(&error), "state cannot be read"),
            }
        }
        let watch = store.watch_deletions(&range, listed.revision).await?;
        Ok(Self { keys: keys.clone(), lease, states, watch })
    }

    /// The lease that the states live with.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The state of a unit.
    pub fn get(&self, unit: &UnitName) -> Option<&Arc<StateRecord>> {
        self.states.get(unit).map(|(state, _)| state)
    }

    /// The units that it has states of.
    pub fn units(&self) -> impl Iterator<Item = &UnitName> {
        self.states.keys()
    }

    /// This host has written, or deleted, the state of a unit.
    pub fn wrote(&mut self, unit: &UnitName, state: Option<Arc<StateRecord>>, revision: Revision) {
        match state {
            Some(state) => drop(self.states.insert(unit.clone(), (state, revision))),
            None => drop(self.states.remove(unit)),
        }
    }

    /// Waits until somebody else has deleted states here. Returns whose. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// The store does not tell any more; then what it has must be read again.
    pub async fn foreign_deletes(&mut self) -> Result<Vec<UnitName>, StoreError> {
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
        let (_, written) = self.states.get(&unit)?;
        if *written > revision {
            return None;
        }
        self.states.remove(&unit).map(|_| unit)
    }
}

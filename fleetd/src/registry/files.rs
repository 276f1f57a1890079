//! Unit files by their hash.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use fleet_core::{
    model::{Key, Keys},
    unit::{UnitFile, UnitHash},
};
use tracing::warn;

use super::{Store, StoreError};

/// Fetches unit files and keeps them: contents under a hash never change.
#[derive(Clone)]
pub struct Files<S> {
    store: S,
    keys: Keys,
    cache: Arc<Mutex<BTreeMap<UnitHash, Arc<UnitFile>>>>,
}

impl<S: Store> Files<S> {
    /// An empty cache before `store`.
    #[must_use]
    pub fn new(store: S, keys: Keys) -> Self {
        Self { store, keys, cache: Arc::default() }
    }

    /// The files with these hashes. One that is missing in the store, or cannot be read, is left out and logged.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn get(
        &self,
        hashes: impl IntoIterator<Item = UnitHash>,
    ) -> Result<BTreeMap<UnitHash, Arc<UnitFile>>, StoreError> {
        let mut found = BTreeMap::new();
        let mut missing = BTreeSet::new();
        {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            for hash in hashes {
                match cache.get(&hash) {
                    Some(file) => drop(found.insert(hash, Arc::clone(file))),
                    None => drop(missing.insert(hash)),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let wanted: Vec<String> = missing.iter().map(|hash| self.keys.format(&Key::File(*hash))).collect();
        for stored in self.store.get(&wanted).await?.entries {
            let Some(Key::File(hash)) = self.keys.parse(&stored.key) else { continue };
            match UnitFile::parse_bytes(&stored.value) {
                Ok(file) if file.hash() == hash => {
                    missing.remove(&hash);
                    found.insert(hash, Arc::new(file));
                }
                Ok(_) => warn!(%hash, "unit file in the store does not have the contents of its hash"),
                Err(error) => warn!(%hash, line = error.line, %error, "unit file in the store cannot be read"),
            }
        }
        if !missing.is_empty() {
            warn!(hashes = ?missing, "unit files are missing in the store");
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.extend(found.iter().map(|(hash, file)| (*hash, Arc::clone(file))));
        Ok(found)
    }

    /// One file; `None` when the store does not have it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn one(&self, hash: UnitHash) -> Result<Option<Arc<UnitFile>>, StoreError> {
        Ok(self.get([hash]).await?.remove(&hash))
    }

    /// Takes a file that was come by otherwise.
    pub fn insert(&self, file: UnitFile) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(file.hash(), Arc::new(file));
    }

    /// Forgets the files that nothing uses, so that memory follows what the cluster holds now.
    pub fn retain(&self, used: &HashSet<UnitHash>) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).retain(|hash, _| used.contains(hash));
    }
}

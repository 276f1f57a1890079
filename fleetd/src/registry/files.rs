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
    /// What is wrong with files that are not as they should be, as the log was told: they are asked for again and again.
    told: Arc<Mutex<BTreeMap<UnitHash, String>>>,
}

impl<S: Store> Files<S> {
    /// An empty cache before `store`.
    #[must_use]
    pub fn new(store: S, keys: Keys) -> Self {
        Self { store, keys, cache: Arc::default(), told: Arc::default() }
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
        let mut faults: BTreeMap<UnitHash, String> =
            missing.iter().map(|hash| (*hash, "it is not there".to_owned())).collect();
        for stored in self.store.get(&wanted).await?.entries {
            let Some(Key::File(hash)) = self.keys.parse(&stored.key) else { continue };
            match UnitFile::parse_bytes(&stored.value) {
                Ok(file) if file.hash() == hash => {
                    faults.remove(&hash);
                    found.insert(hash, Arc::new(file));
                }
                Ok(_) => drop(faults.insert(hash, "its contents are not those of its hash".into())),
                Err(error) => drop(faults.insert(hash, format!("line {}: {error}", error.line))),
            }
        }
        self.tell(&found, faults);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.extend(found.iter().map(|(hash, file)| (*hash, Arc::clone(file))));
        Ok(found)
    }

    /// Says what is wrong with files, unless that was the last thing said of them.
    fn tell(&self, found: &BTreeMap<UnitHash, Arc<UnitFile>>, faults: BTreeMap<UnitHash, String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|hash, _| !found.contains_key(hash));
        for (hash, fault) in faults {
            if told.get(&hash) != Some(&fault) {
                warn!(%hash, fault, "unit file in etcd cannot be used: submit the unit again");
                told.insert(hash, fault);
            }
        }
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
        self.told.lock().unwrap_or_else(PoisonError::into_inner).retain(|hash, _| used.contains(hash));
    }
}

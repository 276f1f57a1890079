//! Unit files by their hash.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fleet_core::{
    model::{Key, Keys, Placement},
    unit::{UnitFile, UnitHash},
};
use tracing::{debug, warn};

use super::{Page, Store, StoreError};

/// Fetches unit files and keeps them, as contents under a hash never change; until its owner says which it still needs.
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

    /// An empty cache for another part of the daemon. What the log was told by one of them, none says again.
    #[must_use]
    pub fn separate_cache(&self) -> Self {
        Self { cache: Arc::default(), ..self.clone() }
    }

    /// The files with these hashes. One that is missing in the store, or cannot be read, is left out and logged.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn get(
        &self,
        hashes: impl IntoIterator<Item = UnitHash>,
    ) -> Result<BTreeMap<UnitHash, Arc<UnitFile>>, StoreError> {
        let hashes: BTreeSet<UnitHash> = hashes.into_iter().collect();
        let mut found = self.at_hand(hashes.iter().copied());
        let absent = hashes.into_iter().filter(|hash| !found.contains_key(hash));
        let mut faults: BTreeMap<_, _> = absent.map(|hash| (hash, "it is not there".to_owned())).collect();
        if faults.is_empty() {
            return Ok(found);
        }
        let keys = |hashes: &BTreeMap<UnitHash, String>| -> Vec<String> {
            hashes.keys().map(|hash| self.keys.format(&Key::File(*hash))).collect()
        };
        self.take(self.store.get_immutable(&keys(&faults)).await?, &mut found, &mut faults);
        if !faults.is_empty() {
            // A member that is behind has not heard of what was submitted a moment ago.
            self.take(self.store.get(&keys(&faults)).await?, &mut found, &mut faults);
        }
        self.tell(&found, faults);
        self.cache().extend(found.iter().map(|(hash, file)| (*hash, Arc::clone(file))));
        Ok(found)
    }

    /// Those of the files with these hashes that are at hand.
    pub fn at_hand(&self, hashes: impl IntoIterator<Item = UnitHash>) -> BTreeMap<UnitHash, Arc<UnitFile>> {
        let cache = self.cache();
        hashes.into_iter().filter_map(|hash| Some((hash, Arc::clone(cache.get(&hash)?)))).collect()
    }

    /// Whether these are all at hand.
    #[must_use]
    pub fn has<'h>(&self, mut hashes: impl Iterator<Item = &'h UnitHash>) -> bool {
        let cache = self.cache();
        hashes.all(|hash| cache.contains_key(hash))
    }

    /// Takes the files that an answer holds, and what is wrong with others.
    fn take(&self, page: Page, found: &mut BTreeMap<UnitHash, Arc<UnitFile>>, faults: &mut BTreeMap<UnitHash, String>) {
        for stored in page.entries {
            let Some(Key::File(hash)) = self.keys.parse(&stored.key) else { continue };
            match checked(hash, &stored.value) {
                Ok(file) => {
                    faults.remove(&hash);
                    found.insert(hash, Arc::new(file));
                }
                Err(fault) => drop(faults.insert(hash, fault)),
            }
        }
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

    /// Takes a file that was come by otherwise. Returns its hash.
    pub fn insert(&self, file: UnitFile) -> UnitHash {
        let hash = file.hash();
        self.cache().insert(hash, Arc::new(file));
        hash
    }

    /// Takes the file that comes with a placement, if one does. One that is not what its hash says is passed over; it is
    /// asked for then, like any other.
    pub fn insert_scheduled(&self, value: &[u8]) {
        let Some((hash, text)) = Placement::file_in(value) else { return };
        if self.has([hash].iter()) {
            return;
        }
        match checked(hash, text.as_bytes()) {
            Ok(file) => drop(self.cache().insert(hash, Arc::new(file))),
            Err(fault) => {
                debug!(%hash, fault, "file that came with a placement passed over, asking for it");
            }
        }
    }

    /// Forgets the files that are not of use any more.
    pub fn retain(&self, is_used: impl Fn(&UnitHash) -> bool) {
        self.cache().retain(|hash, _| is_used(hash));
    }

    fn cache(&self) -> MutexGuard<'_, BTreeMap<UnitHash, Arc<UnitFile>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The unit file with these contents, if they are those of the hash.
///
/// # Errors
/// What is wrong with them.
pub fn checked(hash: UnitHash, contents: &[u8]) -> Result<UnitFile, String> {
    let text = std::str::from_utf8(contents).ok().filter(|text| UnitHash::of(text) == hash);
    match text.map_or_else(|| UnitFile::parse_bytes(contents), UnitFile::stored) {
        Ok(file) if file.hash() == hash => Ok(file),
        Ok(_) => Err("its contents are not those of its hash".into()),
        Err(error) => Err(format!("line {}: {error}", error.line)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet_core::model::{Desired, UnitRecord};

    use super::*;
    use crate::registry::{
        Transaction, Write,
        memory::{Faults, MemoryStore},
    };

    fn submit(etcd: &MemoryStore, keys: &Keys, text: &str) -> UnitHash {
        let file = UnitFile::parse(text).unwrap();
        let key = keys.format(&Key::File(file.hash()));
        let writes = vec![Write::put(key, file.canonical().into_bytes())];
        etcd.write("test", &Transaction { guards: Vec::new(), writes }).unwrap();
        file.hash()
    }

    #[tokio::test(start_paused = true)]
    async fn file_that_a_member_has_not_heard_of_is_asked_for_of_all() {
        let (etcd, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        let lessor = tokio::spawn(lessor);
        let keys = Keys::new("fleet");
        let hash = submit(&etcd, &keys, "[Service]\nExecStart=/bin/true\n");
        let files = Files::new(etcd.client("one"), keys);
        etcd.set_faults(Faults { behind: 1.0, ..Faults::default() });
        let file = tokio::time::timeout(Duration::from_secs(10), files.one(hash)).await.unwrap().unwrap();
        assert_eq!(file.map(|file| file.hash()), Some(hash));
        lessor.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_of_use_is_kept() {
        let (etcd, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        let lessor = tokio::spawn(lessor);
        let keys = Keys::new("fleet");
        let [stays, goes] =
            ["true", "false"].map(|program| submit(&etcd, &keys, &format!("[Service]\nExecStart=/bin/{program}\n")));
        let files = Files::new(etcd.client("one"), keys);
        files.get([stays, goes]).await.unwrap();
        files.retain(|hash| *hash == stays);
        assert!(files.has([stays].iter()) && !files.has([goes].iter()));
        lessor.abort();
    }

    #[test]
    fn contents_that_an_earlier_version_wrote_are_taken_as_they_are() {
        // Their canonical text has become another one.
        let text = "[Service]\nExecStart=a \\\n  # why\n  -e B=c\n";
        let hash = UnitHash::of(text);
        let file = checked(hash, text.as_bytes()).unwrap();
        assert_eq!((file.hash(), &*file.canonical()), (hash, text));
        assert!(checked(UnitHash::of("other"), text.as_bytes()).is_err());
    }

    #[test]
    fn file_that_comes_with_a_placement_is_taken_when_it_is_what_its_hash_says() {
        let (etcd, _) = MemoryStore::new(fastrand::Rng::with_seed(1));
        let files = Files::new(etcd.client("one"), Keys::new("fleet"));
        let text = "[Service]\nExecStart=/bin/true\n";
        let hash = UnitFile::parse(text).unwrap().hash();
        let value = |hash, file: &str| {
            let unit = UnitRecord::new(hash, Desired::Launched, 1);
            Placement::of(&unit).unwrap().encode_with_file(file)
        };
        let other = UnitHash::of("other");
        for value in [value(other, text), value(other, "no unit file"), value(other, "\0"), b"{}".to_vec()] {
            files.insert_scheduled(&value);
        }
        assert!(!files.has([other].iter()) && !files.has([hash].iter()));
        files.insert_scheduled(&value(hash, text));
        assert!(files.has([hash].iter()));
    }
}

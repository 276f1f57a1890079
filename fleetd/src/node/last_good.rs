//! What was wanted of this host when etcd was last in reach, kept on its disk.
//!
//! In: the mirror of this host's keys. Out: a file with what they hold, and the unit files by hash beside it, under
//! `/var/lib/fleet`. A host that boots while etcd is away waits a little and then takes this for the mirror's
//! snapshot; so it runs again what it ran before. Each file is replaced whole and carries the hash of its contents,
//! so one that was damaged is noticed and costs only itself.
//!
//! What a host goes by is there as it was: global units among what is scheduled and `in_use`, or under `globals` while the
//! host decided about them. An older fleetd does not know `in_use`, and takes global units that are scheduled for
//! ordinary ones until etcd answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use fleet_core::{
    model::{
        InUseRecord, MachineId, MetadataEdits, Placement, Snapshot, UnitRecord, Versioned, features::GLOBAL_PLACEMENTS,
        json,
    },
    unit::{UnitFile, UnitHash, UnitName},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    clock::monotonic,
    filesystem::{FileError, Filesystem},
    pace::Pacer,
    registry::{
        Store, StoreError,
        files::{Files, checked},
    },
};

/// How long a host that boots waits for etcd before it goes by what is on its disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// Writes: a few at once, then one each interval. A disk that is written to death helps nobody.
const WRITES: (Duration, u32) = (Duration::from_secs(2), 3);
/// Between a change and its write. Etcd may wait for the same disk, and what changes together is written together.
const CALM: Duration = Duration::from_millis(500);
/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The place on the disk.
#[derive(Clone, Debug)]
pub struct LastGood<F> {
    filesystem: F,
    directory: PathBuf,
    machine: MachineId,
}

/// The contents of the file: what the keys of this host held.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct LastWanted {
    v: u32,
    machine: String,
    scheduled: BTreeMap<UnitName, Placement>,
    globals: BTreeMap<UnitName, UnitRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<MetadataEdits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_use: Option<InUseRecord>,
}

impl LastWanted {
    /// The unit files that it refers to.
    fn hashes(&self) -> BTreeSet<UnitHash> {
        let scheduled = self.scheduled.values().map(|placement| placement.hash);
        scheduled.chain(self.globals.values().map(|record| record.hash)).collect()
    }
}

/// Why there is nothing to go by.
#[derive(Debug, Error)]
enum LoadError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("it does not have the contents that it was written with")]
    Damaged,
    #[error("it is of version {0}, written by a newer fleet")]
    Newer(u32),
    #[error("it is of another machine, {0}")]
    OtherMachine(String),
}

#[derive(Debug, Error)]
enum SaveError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<F: Filesystem> LastGood<F> {
    /// Under `directory`, for this machine.
    #[must_use]
    pub fn new(filesystem: F, directory: &Path, machine: MachineId) -> Self {
        Self { filesystem, directory: directory.into(), machine }
    }

    /// Keeps the disk equal to what the mirror shows. Runs until dropped.
    pub async fn keep<S: Store>(self, mut cluster: watch::Receiver<Snapshot>, files: Files<S>) {
        let mut pacer = Pacer::new(WRITES.0, WRITES.1);
        let mut saved: Option<(LastWanted, BTreeSet<UnitHash>)> = None;
        loop {
            pacer.round().await;
            let current = cluster.borrow_and_update().clone();
            // What comes from the disk need not go there.
            let wanted = (current.complete && current.listed > 0).then(|| self.wanted(&current));
            let mut again = None;
            if let Some(wanted) = wanted.filter(|new| saved.as_ref().is_none_or(|(saved, _)| saved != new)) {
                let before = saved.take().map(|(_, hashes)| hashes);
                match self.save(&wanted, before, &files).await {
                    Ok(hashes) => saved = Some((wanted, hashes)),
                    // When files cannot be fetched, etcd is out of reach, which is told elsewhere.
                    Err(error @ SaveError::Store(StoreError::Unavailable(_))) => {
                        debug!(error = %crate::chain(&error), "what is wanted here is not on the disk, trying again");
                        again = Some(RETRY);
                    }
                    Err(error) => {
                        warn!(error = %crate::chain(&error), "what is wanted here is not on the disk, trying again");
                        again = Some(RETRY);
                    }
                }
            }
            tokio::select! {
                biased;
                changed = cluster.changed() => match changed {
                    Ok(()) => sleep(CALM).await,
                    Err(_) => return,
                },
                () = async { match again { Some(delay) => sleep(delay).await, None => std::future::pending().await } } => {}
            }
        }
    }

    /// Shows what is on the disk as the mirror's snapshot, when the mirror has none after a short wait.
    pub async fn stand_in<S: Store>(&self, cluster: &watch::Sender<Snapshot>, files: &Files<S>) {
        let mut seen = cluster.subscribe();
        if timeout(PATIENCE, seen.wait_for(|cluster| cluster.complete)).await.is_ok() {
            return;
        }
        let (wanted, texts) = match self.load() {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return info!("nothing is known of what is wanted here before etcd answers"),
            Err(error) => {
                return warn!(
                    path = %self.path().display(), error = %crate::chain(&error),
                    "what was last wanted here cannot be read: nothing is known of it before etcd answers"
                );
            }
        };
        let shown = cluster.send_if_modified(|cluster| {
            let untouched = !cluster.complete;
            if untouched {
                // While nobody looks at the snapshot: whoever forgets what is of no use in it would forget them.
                for file in texts {
                    files.insert(file);
                }
                *cluster = self.cluster(&wanted);
            }
            untouched
        });
        if shown {
            let units = wanted.scheduled.len() + wanted.globals.len();
            warn!(units, "going by what was last wanted here until etcd answers");
        }
    }

    /// Whether the host went by placements of global units when it was last here.
    #[must_use]
    pub fn adopted(&self) -> bool {
        let wanted = self.read().ok().flatten();
        wanted.and_then(|wanted| wanted.in_use).is_some_and(|in_use| in_use.features.has(GLOBAL_PLACEMENTS))
    }

    /// Forgets it all: the host has left the cluster, and its units run elsewhere.
    pub fn forget(&self) {
        if let Err(error) = self.filesystem.remove(&self.path()) {
            warn!(error = %crate::chain(&error), "what was last wanted here is not forgotten");
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("wanted")
    }

    fn file_path(&self, hash: UnitHash) -> PathBuf {
        self.directory.join("files").join(hash.to_string())
    }

    fn wanted(&self, cluster: &Snapshot) -> LastWanted {
        let own = cluster.scheduled.iter().filter(|((machine, _), _)| *machine == self.machine);
        LastWanted {
            v: 1,
            machine: self.machine.as_str().into(),
            scheduled: own.map(|((_, unit), value)| (unit.clone(), Placement::clone(&value.record))).collect(),
            globals: cluster.globals.iter().map(|(unit, v)| (unit.clone(), UnitRecord::clone(&v.record))).collect(),
            metadata: cluster.metadata.get(&self.machine).map(|edits| MetadataEdits::clone(&edits.record)),
            in_use: cluster.in_use.values().next().map(|in_use| InUseRecord::clone(&in_use.record)),
        }
    }

    /// The mirror's snapshot as it would be. Its revisions are 0: whatever etcd has is newer.
    fn cluster(&self, wanted: &LastWanted) -> Snapshot {
        fn known<T: Clone>(record: &T) -> Versioned<T> {
            Versioned::new(record.clone(), 0, monotonic())
        }
        let own = |unit: &UnitName| (self.machine.clone(), unit.clone());
        Snapshot {
            scheduled: wanted.scheduled.iter().map(|(unit, record)| (own(unit), known(record))).collect(),
            globals: wanted.globals.iter().map(|(unit, record)| (unit.clone(), known(record))).collect(),
            metadata: wanted.metadata.iter().map(|edits| (self.machine.clone(), known(edits))).collect(),
            in_use: wanted.in_use.iter().map(|in_use| ((), known(in_use))).collect(),
            complete: true,
            stale_since: Some(monotonic()),
            ..Snapshot::default()
        }
    }

    /// Writes the files first, then what refers to them; then drops those of `before` that nothing refers to any
    /// more, or all such when it is not known. Returns the files that are there.
    async fn save<S: Store>(
        &self,
        wanted: &LastWanted,
        before: Option<BTreeSet<UnitHash>>,
        files: &Files<S>,
    ) -> Result<BTreeSet<UnitHash>, SaveError> {
        let hashes = wanted.hashes();
        let there: BTreeSet<UnitHash> = match before {
            Some(before) => before,
            None => {
                let names = self.filesystem.names(&self.directory.join("files"))?.into_iter();
                names.filter_map(|name| name.parse().ok()).filter(|hash| self.read_file(*hash).is_some()).collect()
            }
        };
        let mut kept: BTreeSet<UnitHash> = hashes.intersection(&there).copied().collect();
        if !files.has(hashes.difference(&there)) {
            // The agent asks for them at this moment: what it is given need not be asked for again.
            sleep(CALM).await;
        }
        let new = files.get(hashes.difference(&there).copied()).await?;
        if !new.is_empty() {
            kept.extend(new.keys());
            let named = new.into_iter().map(|(hash, file)| (hash.to_string(), file.canonical().into_bytes())).collect();
            self.filesystem.replace_all_durably(&self.directory.join("files"), named).await?;
        }
        let body = serde_json::to_string(wanted).expect("a map with string keys");
        let text = format!("{}\n{body}\n", UnitHash::of(&body));
        self.filesystem.replace_durably(&self.path(), text.into_bytes()).await?;
        for hash in there.difference(&hashes) {
            self.filesystem.remove(&self.file_path(*hash))?;
        }
        debug!(units = wanted.scheduled.len(), "what is wanted here is on the disk");
        Ok(kept)
    }

    /// What is on the disk, as it was written by this host.
    fn read(&self) -> Result<Option<LastWanted>, LoadError> {
        let Some(bytes) = self.filesystem.read(&self.path())? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|_| LoadError::Damaged)?;
        let (sum, body) = text.split_once('\n').ok_or(LoadError::Damaged)?;
        let body = body.trim_end();
        if sum.parse() != Ok(UnitHash::of(body)) {
            return Err(LoadError::Damaged);
        }
        let wanted: LastWanted = json::from_slice(body.as_bytes()).map_err(|_| LoadError::Damaged)?;
        if wanted.v > 1 {
            return Err(LoadError::Newer(wanted.v));
        }
        if wanted.machine != self.machine.as_str() {
            return Err(LoadError::OtherMachine(wanted.machine));
        }
        Ok(Some(wanted))
    }

    fn load(&self) -> Result<Option<(LastWanted, Vec<UnitFile>)>, LoadError> {
        let Some(mut wanted) = self.read()? else { return Ok(None) };
        let mut files = Vec::new();
        for hash in wanted.hashes() {
            match self.read_file(hash) {
                Some(file) => files.push(file),
                None => {
                    let path = self.file_path(hash);
                    warn!(path = %path.display(), "unit file is missing or damaged, its units wait for etcd");
                    wanted.scheduled.retain(|_, record| record.hash != hash);
                    wanted.globals.retain(|_, record| record.hash != hash);
                }
            }
        }
        Ok(Some((wanted, files)))
    }

    /// A unit file, if it is there and as it was written.
    fn read_file(&self, hash: UnitHash) -> Option<UnitFile> {
        let bytes = self.filesystem.read(&self.file_path(hash)).ok()??;
        checked(hash, &bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::model::{Desired, Keys};
    use tokio::time::Instant;

    use super::*;
    use crate::{
        filesystem::memory::Memory,
        registry::{Etcd, etcd::Endpoints},
    };

    const ID: &str = "00000000000000000000000000000001";

    fn name(name: &str) -> UnitName {
        UnitName::new(name).unwrap()
    }

    fn last_good(filesystem: &Memory) -> LastGood<Memory> {
        LastGood::new(filesystem.clone(), Path::new("/var/lib/fleet"), MachineId::new(ID).unwrap())
    }

    /// A cache before a store that is out of reach.
    fn files() -> Files<Etcd> {
        Files::new(Etcd::new(Endpoints::default()), Keys::new("fleet"))
    }

    /// A host with two units on its disk, and what was wanted.
    async fn saved() -> (Memory, LastWanted) {
        let (filesystem, files) = (Memory::default(), files());
        let unit = |text: &str| {
            let file = UnitFile::parse_bytes(text.as_bytes()).unwrap();
            let record = UnitRecord::new(file.hash(), Desired::Launched, 3);
            files.insert(file);
            record
        };
        let scheduled = Placement::of(&unit("[Service]\nExecStart=/bin/a\n")).unwrap();
        let scheduled = [(name("a.service"), scheduled)].into();
        let globals = [(name("g.service"), unit("[Service]\nExecStart=/bin/g\n[X-Fleet]\nGlobal=true\n"))].into();
        let wanted = LastWanted { v: 1, machine: ID.into(), scheduled, globals, metadata: None, in_use: None };
        last_good(&filesystem).save(&wanted, None, &files).await.unwrap();
        (filesystem, wanted)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_saved_stands_in_for_the_mirror_after_a_wait() {
        let (filesystem, wanted) = saved().await;
        let (sender, receiver) = watch::channel(Snapshot::default());
        let start = Instant::now();
        let files = files();
        last_good(&filesystem).stand_in(&sender, &files).await;
        assert!(start.elapsed() >= PATIENCE);
        let cluster = receiver.borrow().clone();
        assert!(cluster.complete && cluster.listed == 0 && !cluster.is_fresh());
        assert_eq!(last_good(&filesystem).wanted(&cluster), wanted);
        let hashes = wanted.hashes();
        assert_eq!(files.get(hashes.clone()).await.unwrap().len(), hashes.len(), "no etcd is needed for the files");
    }

    #[tokio::test]
    async fn damage_is_noticed_and_costs_only_itself() {
        let (filesystem, wanted) = saved().await;
        let last_good = last_good(&filesystem);
        let record = &wanted.scheduled[&name("a.service")];
        filesystem.replace(&last_good.file_path(record.hash), b"[Service]\nExecStart=/bin/other\n").unwrap();
        let (loaded, files) = last_good.load().unwrap().unwrap();
        assert!(loaded.scheduled.is_empty() && loaded.globals == wanted.globals && files.len() == 1);
        let text = String::from_utf8(filesystem.read(&last_good.path()).unwrap().unwrap()).unwrap();
        for damaged in [text.replace("launched", "inactive"), text[..text.len() / 2].into(), String::new()] {
            filesystem.replace(&last_good.path(), damaged.as_bytes()).unwrap();
            assert!(matches!(last_good.load(), Err(LoadError::Damaged)), "{damaged}");
        }
        last_good.forget();
        assert!(last_good.load().unwrap().is_none());
    }

    #[tokio::test]
    async fn what_another_machine_saved_is_not_taken() {
        let (filesystem, _) = saved().await;
        let other = MachineId::new("00000000000000000000000000000002").unwrap();
        let other = LastGood::new(filesystem, Path::new("/var/lib/fleet"), other);
        assert!(matches!(other.load(), Err(LoadError::OtherMachine(_))));
    }
}

//! Files that nothing uses any more: deleted after a while, so that a unit that comes back soon finds its own.
//!
//! A leader sees files go out of use; those that did so before it led it looks for once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use fleet_core::{
    model::{Key, Kind, Snapshot},
    unit::UnitHash,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use tracing::debug;

use super::{Engine, changes::Changes};
use crate::registry::{Detail, Guard, Leadership, Revision, Store, StoreError, Transaction, Write};

/// How long a file stays.
const UNUSED: Duration = Duration::from_secs(60);
/// Between two collections.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same while one has left files to the next.
const AGAIN: Duration = Duration::from_secs(1);
/// Most files that one of them deletes: meanwhile no unit is placed.
const MOST: usize = 1000;
/// Files that one transaction deletes.
const BATCH: usize = 100;
/// Transactions under way at a time.
const IN_FLIGHT: usize = 4;

/// How often each file is used, the files that nothing uses any more, and when to look at them.
#[derive(Default)]
pub struct Unused {
    uses: HashMap<UnitHash, usize>,
    unused: BTreeMap<UnitHash, Instant>,
    due: Option<Instant>,
    /// Those that were out of use before this leader came are known.
    surveyed: bool,
}

impl Unused {
    /// For a leader that begins.
    pub fn new() -> Self {
        Self { due: Some(Instant::now() + UNUSED), ..Self::default() }
    }

    /// Keeps count of what is used.
    pub fn follow(&mut self, changes: &Changes) {
        for hash in &changes.taken {
            *self.uses.entry(*hash).or_default() += 1;
        }
        for hash in &changes.dropped {
            if let Some(uses) = self.uses.get_mut(hash) {
                *uses -= 1;
                if *uses == 0 {
                    self.uses.remove(hash);
                    self.add(*hash);
                }
            }
        }
    }

    fn add(&mut self, hash: UnitHash) {
        let later = Instant::now() + UNUSED;
        self.unused.insert(hash, later);
        self.due.get_or_insert(later);
    }

    /// When to collect next.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Deletes what nothing has used for a while. Returns all that is used, when it is time to forget the rest.
    pub async fn collect<S: Store>(
        &mut self,
        engine: &Engine<S>,
        leadership: &Leadership,
        current: &Snapshot,
    ) -> Option<HashSet<UnitHash>> {
        let now = Instant::now();
        self.due.filter(|due| *due <= now)?;
        // What cannot be read may use any file.
        let mut again = None;
        if !self.surveyed && current.unreadable.is_empty() {
            match self.survey(engine).await {
                Ok(()) => self.surveyed = true,
                Err(error) => {
                    debug!(error = %crate::chain(&error), "unused files not looked for, trying again");
                    again = Some(now);
                }
            }
        }
        let Self { uses, unused, .. } = self;
        unused.retain(|hash, _| !uses.contains_key(hash));
        let over = unused.iter().filter(|(_, at)| **at <= now).map(|(hash, _)| *hash);
        let over: Vec<UnitHash> = over.take(MOST).collect();
        for hash in &over {
            unused.remove(hash);
        }
        if let Err(error) = delete(engine, leadership, &over, current.revision).await {
            debug!(error = %crate::chain(&error), "unused files not deleted, trying again");
            over.iter().for_each(|hash| self.add(*hash));
        }
        let pause = if over.len() == MOST { AGAIN } else { INTERVAL };
        self.due = self.unused.values().copied().chain(again).min().map(|at| at.max(now + pause));
        Some(self.uses.keys().copied().collect())
    }

    /// Finds the files that nothing uses. One that has come with its unit since the picture of the cluster is counted as
    /// used before its time is over.
    async fn survey<S: Store>(&mut self, engine: &Engine<S>) -> Result<(), StoreError> {
        let listed = engine.store.list_all(Detail::Keys, &engine.keys.of(Kind::File)).await?;
        for stored in &listed.entries {
            if let Some(Key::File(hash)) = engine.keys.parse(&stored.key)
                && !self.uses.contains_key(&hash)
                && !self.unused.contains_key(&hash)
            {
                self.add(hash);
            }
        }
        Ok(())
    }
}

/// Deletes files that nothing used at a revision. One that was written after that came with a unit that uses it.
async fn delete<S: Store>(
    engine: &Engine<S>,
    leadership: &Leadership,
    hashes: &[UnitHash],
    unused_at: Revision,
) -> Result<(), StoreError> {
    let keys: Vec<String> = hashes.iter().map(|hash| engine.keys.format(&Key::File(*hash))).collect();
    let stored = engine.store.get(&keys).await?.entries.into_iter().map(|stored| (stored.key, stored.mod_revision));
    let old: Vec<(String, Revision)> = stored.filter(|(_, written)| *written <= unused_at).collect();
    let batches: Vec<_> = old.chunks(BATCH).map(<[_]>::to_vec).collect();
    let batches = stream::iter(batches).map(|files| delete_batch(engine, leadership, files));
    batches.buffer_unordered(IN_FLIGHT).try_collect().await
}

async fn delete_batch<S: Store>(
    engine: &Engine<S>,
    leadership: &Leadership,
    files: Vec<(String, Revision)>,
) -> Result<(), StoreError> {
    if commit(engine, leadership, &files).await?.is_none() {
        // One that has come back meanwhile keeps no other.
        for file in files.chunks(1) {
            commit(engine, leadership, file).await?;
        }
    }
    Ok(())
}

async fn commit<S: Store>(
    engine: &Engine<S>,
    leadership: &Leadership,
    files: &[(String, Revision)],
) -> Result<Option<Revision>, StoreError> {
    let unchanged = files.iter().map(|(key, written)| Guard::Unchanged(key.clone(), *written));
    let guards = [leadership.guard()].into_iter().chain(unchanged).collect();
    let writes = files.iter().map(|(key, _)| Write::Delete { key: key.clone() }).collect();
    engine.store.commit(Transaction { guards, writes }).await
}

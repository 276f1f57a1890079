//! Files that nothing uses any more: deleted after a while, so that a unit that comes back soon finds its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_core::{model::Key, unit::UnitHash};
use tokio::time::Instant;
use tracing::debug;

use super::Engine;
use crate::registry::{Cluster, Guard, Leadership, Revision, Store, StoreError, Transaction, Write};

/// How long a file stays.
const UNUSED: Duration = Duration::from_secs(60);

/// The files that something has ceased to use, and when to look at them.
#[derive(Default)]
pub struct Unused(BTreeMap<UnitHash, Instant>);

impl Unused {
    /// Something does not use these any more.
    pub fn add(&mut self, hashes: impl IntoIterator<Item = UnitHash>) {
        let later = Instant::now() + UNUSED;
        self.0.extend(hashes.into_iter().map(|hash| (hash, later)));
    }

    /// When to collect next.
    pub fn due(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// Deletes what nothing has used for a while. Returns all that is used, when it had to find out.
    pub async fn collect<S: Store>(
        &mut self,
        engine: &Engine<S>,
        leadership: &Leadership,
        current: &Cluster,
    ) -> Option<BTreeSet<UnitHash>> {
        let now = Instant::now();
        let due: Vec<UnitHash> = self.0.iter().filter(|(_, at)| **at <= now).map(|(hash, _)| *hash).collect();
        if due.is_empty() {
            return None;
        }
        self.0.retain(|_, at| *at > now);
        let records = current.units.values().chain(current.globals.values()).chain(current.scheduled.values());
        let used: BTreeSet<UnitHash> = records.map(|record| record.record.hash).collect();
        let unused: Vec<UnitHash> = due.into_iter().filter(|hash| !used.contains(hash)).collect();
        if let Err(error) = delete(engine, leadership, &unused, current.revision).await {
            debug!(error = %crate::chain(&error), "unused files not deleted, trying again");
            self.add(unused);
        }
        engine.files.retain(&used.iter().copied().collect());
        Some(used)
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
    let stored = engine.store.get(&keys).await?.entries;
    for stored in stored.into_iter().filter(|stored| stored.mod_revision <= unused_at) {
        let guards = vec![leadership.guard(), Guard::Unchanged(stored.key.clone(), stored.mod_revision)];
        let writes = vec![Write::Delete { key: stored.key }];
        engine.store.commit(Transaction { guards, writes }).await?;
    }
    Ok(())
}

//! The watch cache: a [`Snapshot`] that follows the store.
//!
//! In: the keys and ranges to follow. Out: a `watch` channel whose value is always a consistent-per-range picture
//! of them; a reader compares it with the one it handled last and so can be slow, but never miss anything. On request
//! also the unit files that come with placements.
//!
//! Each range is listed in pages at one revision and then watched from the next. When the stream breaks it is
//! opened again from the last revision seen; when etcd has compacted that revision, the range is listed again and
//! what is gone is removed. While etcd cannot be reached the picture stays as it is, and says since when.

use std::{collections::BTreeSet, time::Duration};

use fleet_core::model::{DecodeError, Key, Keys, Kind, Snapshot};
use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::{Detail, Origin, Page, Range, Revision, Store, StoreError, Stored, Watch, WatchEvent, files::Files};
use crate::{backoff::Backoff, clock::monotonic};

/// What is to be done about a value that cannot be read, and about one that a newer fleet wrote.
const MEND: &str = "mend or delete it";
const LEAVE: &str = "leave it as it is";

/// Follows `ranges` and publishes what they hold; what was published before is brought up to date. Runs until
/// dropped.
pub async fn follow<S: Store>(store: &S, keys: &Keys, ranges: &[Range], cluster: &watch::Sender<Snapshot>) {
    follow_with_files(store, keys, ranges, cluster, None).await;
}

/// Does the same, and keeps the unit files that come with changes.
pub async fn follow_with_files<S: Store>(
    store: &S,
    keys: &Keys,
    ranges: &[Range],
    cluster: &watch::Sender<Snapshot>,
    files: Option<&Files<S>>,
) {
    let follower = |range| Follower { store, keys, range, cluster, files };
    let followers: Vec<Follower<'_, S>> = ranges.iter().map(follower).collect();
    let (listed, mut lists) = mpsc::channel(ranges.len().max(1));
    let all_listed = async {
        let mut first = Revision::MAX;
        for _ in ranges {
            first = first.min(lists.recv().await.expect("every follower lists once before it ends"));
        }
        cluster.send_modify(|cluster| {
            cluster.complete = true;
            cluster.listed = first;
        });
    };
    let follow = join_all(followers.iter().map(|follower| follower.run(&listed)));
    tokio::join!(all_listed, follow);
}

/// How far a range has been seen.
#[derive(Clone, Copy)]
struct Position {
    revision: Revision,
    /// The history that the revision is of; not known before the first watch.
    origin: Option<Origin>,
}

struct Follower<'a, S> {
    store: &'a S,
    keys: &'a Keys,
    range: &'a Range,
    cluster: &'a watch::Sender<Snapshot>,
    files: Option<&'a Files<S>>,
}

impl<S: Store> Follower<'_, S> {
    async fn run(&self, listed: &mpsc::Sender<Revision>) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut position: Option<Position> = None;
        let mut first = Some(listed);
        loop {
            let error = match self.advance(&mut position, &mut backoff, &mut first).await {
                Err(StoreError::Compacted) => {
                    info!(range = self.range.0, "revision compacted, listing again");
                    position = None;
                    continue;
                }
                Err(error) => error,
                Ok(never) => match never {},
            };
            let lost = self.cluster.send_if_modified(|cluster| {
                let first = cluster.stale_since.is_none();
                cluster.stale_since.get_or_insert_with(monotonic);
                first
            });
            // That it is out of reach is told where it is asked.
            if lost && !matches!(error, StoreError::Unavailable(_)) {
                warn!(range = self.range.0, error = %crate::chain(&error), "etcd cannot be followed, trying again");
            }
            debug!(range = self.range.0, error = %crate::chain(&error), "watch broke, opening it again");
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// Lists when there is no position to watch from, then watches until something breaks.
    async fn advance(
        &self,
        position: &mut Option<Position>,
        backoff: &mut Backoff,
        first: &mut Option<&mpsc::Sender<Revision>>,
    ) -> Result<std::convert::Infallible, StoreError> {
        let Position { mut revision, origin } = match *position {
            Some(position) => position,
            None => {
                let revision = self.list().await?;
                if let Some(listed) = first.take() {
                    // There is room for one of each follower, and the receiver outlives them.
                    let _ = listed.try_send(revision);
                }
                Position { revision, origin: None }
            }
        };
        *position = Some(Position { revision, origin });
        // From what was seen last, though it comes again: of a key that was deleted in the very revision that etcd has
        // compacted to, a watch from that revision does not tell (3.4 up to its last releases). One from before is
        // told of the compaction.
        let mut watch = self.store.watch(self.range, revision).await?;
        if origin.is_some_and(|origin| !watch.origin().continues(origin)) {
            return Err(StoreError::Compacted);
        }
        let origin = Some(watch.origin());
        *position = Some(Position { revision, origin });
        self.fresh();
        loop {
            match watch.next().await? {
                WatchEvent::Compacted => return Err(StoreError::Compacted),
                WatchEvent::Changed { revision: seen, changes } => {
                    backoff.reset();
                    self.fresh();
                    // All of a revision comes in one message, as long as fragments are not asked for.
                    revision = revision.max(seen);
                    *position = Some(Position { revision, origin });
                    if !changes.is_empty() {
                        self.cluster.send_modify(|cluster| {
                            changes.iter().for_each(|change| self.take(cluster, change));
                            cluster.revision = cluster.revision.max(revision);
                        });
                    }
                }
            }
        }
    }

    /// Reads the whole range at one revision and makes the picture equal to it.
    async fn list(&self) -> Result<Revision, StoreError> {
        let Page { entries, revision, .. } = self.store.list_all(Detail::Values, self.range).await?;
        let present: BTreeSet<&str> = entries.iter().map(|stored| &*stored.key).collect();
        self.cluster.send_modify(|cluster| {
            let gone: Vec<Key> = cluster
                .keys()
                .filter(|key| {
                    let text = self.keys.format(key);
                    self.range.0 <= text && text < self.range.1 && !present.contains(&*text)
                })
                .collect();
            gone.iter().for_each(|key| cluster.remove(key));
            let reported = cluster.reported.keys().filter(|text| self.range.0 <= **text && **text < self.range.1);
            let gone: Vec<String> = reported.filter(|text| !present.contains(&***text)).cloned().collect();
            for text in &gone {
                cluster.reported.remove(text);
            }
            entries.iter().for_each(|stored| self.put(cluster, stored));
            cluster.lists += 1;
            cluster.revision = cluster.revision.max(revision);
            cluster.stale_since = None;
        });
        Ok(revision)
    }

    /// Takes the file that comes with a new placement; of those that are listed the machine has most already. Nobody
    /// looks at the picture meanwhile: whoever had, and forgets what is of no use in it, would forget the file.
    fn keep_file(&self, stored: &Stored) {
        if let Some(files) = self.files
            && let Some(Key::Sched(..)) = self.keys.parse(&stored.key)
        {
            files.insert_scheduled(&stored.value);
        }
    }

    fn take(&self, cluster: &mut Snapshot, change: &Result<Stored, String>) {
        match change {
            Ok(stored) => {
                self.keep_file(stored);
                self.put(cluster, stored);
            }
            Err(gone) => {
                cluster.reported.remove(gone);
                if let Some(key) = self.keys.parse(gone) {
                    cluster.remove(&key);
                }
            }
        }
    }

    fn put(&self, cluster: &mut Snapshot, stored: &Stored) {
        // A kind that is not known here is a newer fleet's, and one that lies among those that are followed is no matter.
        if !self.keys.kind(&stored.key).is_some_and(|kind| Kind::FOLLOWED.contains(&kind)) {
            return;
        }
        let (fault, advice) = match self.keys.parse(&stored.key) {
            None => ("no key of fleet has this name".to_owned(), MEND),
            Some(key) => match cluster.put(&key, &stored.value, stored.mod_revision, monotonic()) {
                Ok(()) => {
                    cluster.reported.remove(&stored.key);
                    return;
                }
                Err(error @ DecodeError::Newer { .. }) => (crate::chain(&error), LEAVE),
                Err(error) => (crate::chain(&error), MEND),
            },
        };
        // A list says it all again; only what is new goes to the log.
        if cluster.reported.insert(stored.key.clone(), stored.mod_revision) != Some(stored.mod_revision) {
            warn!(key = stored.key, fault, advice, "value in etcd passed over");
        }
    }

    fn fresh(&self) {
        self.cluster.send_if_modified(|cluster| cluster.stale_since.take().is_some());
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::{
        model::{Desired, Record, UnitRecord},
        unit::{UnitHash, UnitName},
    };

    use super::*;
    use crate::registry::{
        Transaction, Write,
        memory::{Link, MemoryStore},
    };

    #[tokio::test(start_paused = true)]
    async fn deletion_in_the_revision_that_is_compacted_to_is_not_missed() {
        let (etcd, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        let lessor = tokio::spawn(lessor);
        let keys = Keys::new("fleet");
        let key = keys.format(&Key::Unit(UnitName::new("a.service").unwrap()));
        let write =
            |write| etcd.write("test", &Transaction { guards: Vec::new(), writes: vec![write] }).unwrap().unwrap();
        let record = UnitRecord::new(UnitHash::of(""), Desired::Launched, 0);
        write(Write::put(key.clone(), record.encode()));
        let (sender, mut cluster) = watch::channel(Snapshot::default());
        let (client, ranges) = (etcd.client("one"), [keys.followed()]);
        let mirror = tokio::spawn(async move { follow(&client, &keys, &ranges, &sender).await });
        cluster.wait_for(|cluster| cluster.complete && cluster.units.len() == 1).await.unwrap();
        etcd.set_link("one", Link::Cut);
        tokio::time::sleep(Duration::from_secs(30)).await;
        etcd.compact(write(Write::Delete { key }));
        etcd.set_link("one", Link::Up);
        let gone = cluster.wait_for(|cluster| cluster.units.is_empty());
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the unit goes").unwrap();
        mirror.abort();
        lessor.abort();
    }
}

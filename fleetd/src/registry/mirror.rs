//! The watch cache: a [`Snapshot`] that follows the store.
//!
//! In: the keys and ranges to follow. Out: a `watch` channel whose value holds what each of them held at one revision; a
//! reader compares it with the one it handled last and so can be slow, but never miss anything. On request also the unit
//! files that come with placements.
//!
//! Each range is listed in pages at one revision. Once all are, the snapshot becomes equal to them in one step, whatever
//! it showed before, and each is watched from there. When a stream breaks it is opened again from the last revision seen;
//! when etcd has compacted that revision, all is listed again. While etcd cannot be reached the snapshot stays as it is,
//! and says since when.

use std::{collections::HashSet, time::Duration};

use fleet_core::model::{DecodeError, Key, Keys, Kind, Snapshot};
use futures_util::future::{join_all, select_all};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Detail, Origin, Page, Range, Revision, Store, StoreError, Stored, Watch, WatchEvent, files::Files};
use crate::{backoff::Backoff, clock::monotonic};

/// What is to be done about a value that cannot be read, and about one that a newer fleet wrote.
const MEND: &str = "mend or delete it";
const LEAVE: &str = "leave it as it is";

/// Follows `ranges` and publishes what they hold; what was published before is brought up to date. Runs until
/// dropped.
pub async fn follow<S: Store>(store: &S, keys: &Keys, ranges: &[Range], cluster: &watch::Sender<Snapshot>) {
    let mirror = Mirror { store, keys, cluster, files: None };
    loop {
        mirror.follow_once(ranges, std::future::ready(Some(())), |_, ()| ()).await;
    }
}

/// A snapshot and what it is to follow.
pub struct Mirror<'a, S> {
    /// The store.
    pub store: &'a S,
    /// The keys in it.
    pub keys: &'a Keys,
    /// Where the snapshot is published.
    pub cluster: &'a watch::Sender<Snapshot>,
    /// Where the unit files go that come with changes.
    pub files: Option<&'a Files<S>>,
}

impl<S: Store> Mirror<'_, S> {
    /// Lists `ranges`, at least one, publishes what they hold and nothing else in one step, in which `also` changes it as
    /// well by what is `known` by then, and keeps that up to date until a revision to go on from has been compacted. When
    /// nothing is known, it publishes nothing.
    pub async fn follow_once<T>(
        &self,
        ranges: &[Range],
        known: impl Future<Output = Option<T>>,
        also: impl FnOnce(&mut Snapshot, T),
    ) {
        let lists = join_all(ranges.iter().map(|range| self.list(range)));
        let (pages, known) = tokio::join!(lists, known);
        let Some(known) = known else { return };
        let also = |snapshot: &mut Snapshot| also(snapshot, known);
        let revisions: Vec<Revision> = pages.iter().map(|page| page.revision).collect();
        self.show(pages, also);
        let follow = ranges.iter().zip(revisions).map(|(range, revision)| Box::pin(self.watch(range, revision)));
        select_all(follow).await;
    }

    /// Reads a range at one revision.
    async fn list(&self, range: &Range) -> Page {
        let mut backoff = backoff();
        loop {
            match self.store.list_all(Detail::Values, range).await {
                Ok(page) => return page,
                Err(StoreError::Compacted) => info!(range = range.0, "revision compacted, listing again"),
                Err(error) => self.lost(range, &error),
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// Makes the snapshot equal to what was listed.
    fn show(&self, pages: Vec<Page>, also: impl FnOnce(&mut Snapshot)) {
        let revisions: Vec<Revision> = pages.iter().map(|page| page.revision).collect();
        self.cluster.send_modify(|cluster| {
            let entries = pages.iter().flat_map(|page| &page.entries);
            let present: HashSet<&str> = entries.map(|stored| &*stored.key).collect();
            let gone: Vec<Key> = cluster.keys().filter(|key| !present.contains(&*self.keys.format(key))).collect();
            gone.iter().for_each(|key| cluster.remove(key));
            let gone: Vec<String> =
                cluster.reported.keys().filter(|text| !present.contains(&***text)).cloned().collect();
            for text in &gone {
                cluster.reported.remove(text);
            }
            // Each is given back when it has been read: what is kept of the next lies in its place, and not beside it.
            pages.into_iter().flat_map(|page| page.entries).for_each(|stored| self.put(cluster, &stored));
            cluster.lists += 1;
            cluster.revision = cluster.revision.max(revisions.iter().copied().max().unwrap_or_default());
            cluster.listed = revisions.iter().copied().min().unwrap_or_default();
            cluster.complete = true;
            cluster.stale_since = None;
            also(cluster);
        });
    }

    /// Takes what happens in a range after it was listed at `revision`, until it cannot be told any more.
    async fn watch(&self, range: &Range, revision: Revision) {
        let mut backoff = backoff();
        let mut position = Position { revision, origin: None };
        loop {
            let error = match self.advance(range, &mut position, &mut backoff).await {
                Err(StoreError::Compacted) => return info!(range = range.0, "revision compacted, listing again"),
                Err(error) => error,
                Ok(never) => match never {},
            };
            self.lost(range, &error);
            debug!(range = range.0, error = %crate::chain(&error), "watch broke, opening it again");
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// Watches until something breaks.
    async fn advance(
        &self,
        range: &Range,
        position: &mut Position,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, StoreError> {
        // From what was seen last, though it comes again: of a key that was deleted in the very revision that etcd has
        // compacted to, a watch from that revision does not tell (3.4 up to its last releases). One from before is
        // told of the compaction.
        let mut watch = self.store.watch(range, position.revision).await?;
        if position.origin.is_some_and(|origin| !watch.origin().continues(origin)) {
            return Err(StoreError::Compacted);
        }
        position.origin = Some(watch.origin());
        self.fresh();
        loop {
            match watch.next().await? {
                WatchEvent::Compacted => return Err(StoreError::Compacted),
                WatchEvent::Changed { revision, changes } => {
                    backoff.reset();
                    self.fresh();
                    // All of a revision comes in one message, as long as fragments are not asked for.
                    position.revision = position.revision.max(revision);
                    if !changes.is_empty() {
                        self.cluster.send_modify(|cluster| {
                            changes.iter().for_each(|change| self.take(cluster, change));
                            cluster.revision = cluster.revision.max(position.revision);
                        });
                    }
                }
            }
        }
    }

    /// The store is out of reach, or does not do what is asked.
    fn lost(&self, range: &Range, error: &StoreError) {
        let lost = self.cluster.send_if_modified(|cluster| {
            let first = cluster.stale_since.is_none();
            cluster.stale_since.get_or_insert_with(monotonic);
            first
        });
        // That it is out of reach is told where it is asked.
        if lost && !matches!(error, StoreError::Unavailable(_)) {
            warn!(range = range.0, error = %crate::chain(error), "etcd cannot be followed, trying again");
        }
    }

    /// Takes the file that comes with a new placement; of those that are listed the machine has most already. Nobody
    /// looks at the snapshot meanwhile: whoever had, and forgets what is of no use in it, would forget the file.
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

/// How far a range has been seen.
#[derive(Clone, Copy)]
struct Position {
    revision: Revision,
    /// The history that the revision is of; not known before the first watch.
    origin: Option<Origin>,
}

/// Between tries.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}

#[cfg(test)]
mod tests {
    use fleet_core::{
        model::{Desired, MachineId, MetadataEdits, Placement, Record, UnitRecord},
        unit::{UnitHash, UnitName},
    };

    use super::*;
    use crate::registry::{
        Transaction, Write,
        memory::{Faults, Link, MemoryStore},
    };

    #[tokio::test(start_paused = true)]
    async fn what_is_listed_takes_the_place_of_what_was_shown_in_one_step() {
        let (etcd, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        let lessor = tokio::spawn(lessor);
        let keys = Keys::new("fleet");
        let (machine, unit) = (MachineId::new(&"1".repeat(32)).unwrap(), UnitName::new("a.service").unwrap());
        let record = UnitRecord::new(UnitHash::of(""), Desired::Launched, 0);
        let sched = Key::Sched(machine.clone(), unit.clone());
        let put = |key: &Key, value| Write::put(keys.format(key), value);
        let writes = vec![
            put(&sched, Placement::of(&record).unwrap().encode()),
            put(&Key::Metadata(machine.clone()), MetadataEdits::default().encode()),
        ];
        etcd.write("test", &Transaction { guards: Vec::new(), writes }).unwrap();
        let mut before = Snapshot { complete: true, ..Snapshot::default() };
        before.put(&Key::Global(unit), &record.encode(), 1, Duration::ZERO).unwrap();
        let (sender, mut shown) = watch::channel(before);
        etcd.set_faults(Faults { latency: 0..=900, refuse: 0.5, ..Faults::default() });
        let (client, ranges) = (etcd.client("one"), [keys.of(Kind::Sched), keys.of(Kind::Metadata)]);
        let mirror = tokio::spawn(async move { follow(&client, &keys, &ranges, &sender).await });
        loop {
            shown.changed().await.unwrap();
            let held = shown.borrow_and_update().keys().map(|key| key.kind()).collect::<Vec<_>>();
            if held == [Kind::Metadata, Kind::Sched] {
                break;
            }
            assert_eq!(held, [Kind::Global], "it is stale, and whole");
        }
        mirror.abort();
        lessor.abort();
    }

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

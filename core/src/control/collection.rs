//! Unit files that nothing uses any more: deleted after a while, so that a unit that comes back soon finds its own.
//!
//! In: the uses of files by units, and by what is scheduled of them. Out: deletions. A file is always written together
//! with the first unit that uses it, so one that was written after the snapshot may be in use, and one that was not, and
//! that the snapshot shows no use of, is in none: that is what each deletion is guarded by.
//!
//! A leader sees files go out of use. Those that did before it led, or unseen between two snapshots, it finds by a list
//! of all files: when it begins, when the snapshot was listed anew, and a long while after something has changed.
//!
//! Nothing is deleted while there is a record that cannot be read: it may use any file.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Answer, Change, Controller, Facts, Outcome};
use crate::{
    model::{Delta, Diff, Key, Kind, Revision},
    ops::{Write, WriteSet},
    sched::Planner,
    unit::UnitHash,
};

/// How long a file stays, and how long a leader waits before it lists files: what is more urgent comes first, and a
/// cluster that has just come to rest stays so.
const GRACE: Duration = Duration::from_secs(60);
/// Between two collections.
const PAUSE: Duration = Duration::from_secs(10);
/// The same while one has left files to the next.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// How long after something has changed files are listed again.
const RELIST: Duration = Duration::from_secs(600);
/// Most files that one collection deletes.
const MOST: usize = 1000;

/// Keeps account of the uses of files. See the [module](self).
#[derive(Debug)]
pub struct Collection {
    uses: BTreeMap<UnitHash, usize>,
    /// Files that nothing uses, and when they may be deleted.
    unused: BTreeMap<UnitHash, Duration>,
    /// Files whose deletion is under way.
    deleting: BTreeSet<UnitHash>,
    /// When to list files next.
    list_at: Option<Duration>,
    listing: bool,
    /// No collection before this.
    pause: Duration,
}

impl Collection {
    /// For a leader that begins.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self {
            uses: BTreeMap::new(),
            unused: BTreeMap::new(),
            deleting: BTreeSet::new(),
            list_at: Some(now + GRACE),
            listing: false,
            pause: now,
        }
    }

    /// Keeps count of what is used.
    fn follow(&mut self, delta: Delta<'_>, now: Duration) {
        for Diff { before, after, .. } in delta.units().chain(delta.globals()) {
            self.count(before.map(|old| old.record.hash), after.map(|new| new.record.hash), now);
        }
        for Diff { before, after, .. } in delta.scheduled() {
            self.count(before.map(|old| old.record.hash), after.map(|new| new.record.hash), now);
        }
        if delta.is_listed_anew() {
            self.list_at = Some(self.list_at.map_or(now + GRACE, |at| at.min(now + GRACE)));
        } else if delta.before.revision != delta.after.revision {
            self.list_at.get_or_insert(now + RELIST);
        }
    }

    /// One that uses a file has changed.
    fn count(&mut self, old: Option<UnitHash>, new: Option<UnitHash>, now: Duration) {
        if old == new {
            return;
        }
        if let Some(hash) = new {
            *self.uses.entry(hash).or_default() += 1;
            self.unused.remove(&hash);
        }
        if let Some(hash) = old
            && let Some(uses) = self.uses.get_mut(&hash)
        {
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&hash);
                self.unused.insert(hash, now + GRACE);
            }
        }
    }

    /// The deletion of a file that nothing used at a revision.
    fn deletion(hash: UnitHash, unused_at: Revision) -> Change {
        let set = WriteSet { guards: Vec::new(), writes: vec![Write::Delete(Key::File(hash))] };
        Change { set, not_written_after: Some(unused_at), ..Change::default() }
    }

    /// When there is something to do next.
    fn due(&self) -> Option<Duration> {
        if self.listing || !self.deleting.is_empty() {
            return None;
        }
        self.unused.values().copied().chain(self.list_at).min().map(|at| at.max(self.pause))
    }
}

impl Controller for Collection {
    fn follows(&self) -> &'static [Kind] {
        &[Kind::Global, Kind::Sched, Kind::Unit]
    }

    fn reconcile(&mut self, facts: &Facts<'_>, _: &mut Planner) -> Outcome {
        let (snapshot, now) = (facts.snapshot(), facts.now);
        self.follow(facts.delta, now);
        let uses_files = |key: &Key| matches!(key, Key::Unit(_) | Key::Global(_) | Key::Sched(..));
        if snapshot.unreadable.iter().any(uses_files) {
            return Outcome::default();
        }
        let mut outcome = Outcome::default();
        if facts.at_rest && self.due().is_some_and(|due| due <= now) {
            outcome.list = self.list_at.is_some_and(|at| at <= now);
            if outcome.list {
                (self.list_at, self.listing) = (None, true);
            }
            let over = self.unused.iter().filter(|(_, at)| **at <= now).map(|(hash, _)| *hash);
            self.deleting = over.take(MOST).collect();
            self.unused.retain(|hash, _| !self.deleting.contains(hash));
            outcome.changes = self.deleting.iter().map(|hash| Self::deletion(*hash, snapshot.revision)).collect();
            self.pause = now + if self.deleting.len() == MOST { SHORT_PAUSE } else { PAUSE };
        }
        // What waits for units to be placed is looked at again when they are.
        outcome.wake_at = self.due().filter(|due| *due > now);
        outcome
    }

    fn answered(&mut self, change: &Change, answer: Answer, now: Duration) {
        for write in &change.set.writes {
            if let Key::File(hash) = write.key()
                && self.deleting.remove(hash)
                && answer != Answer::Done
                && !self.uses.contains_key(hash)
            {
                self.unused.insert(*hash, now + GRACE);
            }
        }
    }

    fn listed(&mut self, keys: Option<Vec<Key>>, now: Duration) {
        self.listing = false;
        let Some(keys) = keys else {
            self.list_at = Some(now + PAUSE);
            return;
        };
        // One that has come with its unit since the snapshot is counted as used before its time is over.
        for key in keys {
            if let Key::File(hash) = key
                && !self.uses.contains_key(&hash)
                && !self.deleting.contains(&hash)
            {
                self.unused.entry(hash).or_insert(now + GRACE);
            }
        }
    }
}

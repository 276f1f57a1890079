//! What is to be carried out now: what is wanted, as far as the fence allows it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fleet_core::{
    agent::{Runtime, Wanted},
    model::{Snapshot, Target},
    unit::{UnitHash, UnitName},
};
use tracing::{debug, info, warn};

use super::{Agent, trail::Trail, wanted::Wishes};
use crate::{filesystem::Filesystem, registry::Store, systemd::Systemd};

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// Works out what is wanted, unless that cannot be known now.
    pub(super) async fn think(&mut self) {
        let cluster = self.cluster.borrow_and_update().clone();
        if !cluster.complete {
            // The mirror says when it is.
            self.stale = false;
            return;
        }
        let is_fenced = !self.strict.is_empty() && self.fence.is_open();
        let wishes = tokio::select! {
            biased;
            // Files may take long to come, and the fence does not wait. Nothing is lost: this is stale still.
            () = self.fence.turning(), if is_fenced => return,
            wishes = self.wisher.of(&cluster, &self.installed) => wishes,
        };
        let wishes = match wishes {
            Ok(wishes) => wishes,
            Err(error) => return debug!(error = %crate::chain(&error), "what is wanted cannot be worked out now"),
        };
        self.stale = false;
        // A unit that is wanted otherwise than before gets a new chance at once.
        let before = self.wishes.take().unwrap_or_default();
        let changed: Vec<UnitName> = differing(&before.units, &wishes.units).cloned().collect();
        for unit in &changed {
            self.retries.remove(unit);
            self.problems.remove(unit);
            self.logged.remove(unit);
            self.begin_trail(unit, &wishes, &cluster);
        }
        self.logged.retain(|unit, _| wishes.units.contains_key(unit) || self.installed.contains_key(unit));
        self.problems.retain(|unit, _| wishes.units.contains_key(unit) || self.installed.contains_key(unit));
        // One that is recalled no longer is told of in another way.
        self.news.extend(before.recalled.into_keys());
        // It is the contents that make a unit strict, and those that are installed do so until they are gone.
        let mut strict = wishes.strict.clone();
        strict.extend(self.strict.iter().filter(|unit| self.keeps_strict(unit, &wishes.units)).cloned());
        self.set_strict(strict);
        self.want(wishes.units.clone());
        self.wishes = Some(wishes);
        self.watch_units();
        // What is to be done for a request depends on how the unit is now, not when it was heard of last.
        for unit in changed.iter().filter(|unit| self.is_asked(unit)) {
            self.systemd.dirty().mark(unit.as_str(), None);
        }
    }

    /// Whether somebody asks once more for what was wanted of a unit already.
    fn is_asked(&self, unit: &UnitName) -> bool {
        let want = self.wanted.as_ref().and_then(|wanted| wanted.get(unit));
        let entry = self.installed.get(unit);
        want.zip(entry).is_some_and(|(want, entry)| want.request != entry.request)
    }

    /// From now on this is to be carried out.
    pub(super) fn want(&mut self, wanted: BTreeMap<UnitName, Wanted>) {
        let before = self.wanted.take().unwrap_or_default();
        for unit in differing(&before, &wanted) {
            self.news.insert(unit.clone());
            self.open.insert(unit.clone());
        }
        self.wanted = Some(wanted);
    }

    /// A unit is wanted otherwise than before: if it is to be started, notes since when.
    fn begin_trail(&mut self, unit: &UnitName, wishes: &Wishes, cluster: &Snapshot) {
        let launched = wishes.units.get(unit).is_some_and(|want| want.target == Target::Launched);
        let asked = self.wisher.asked_by(cluster, unit).filter(|_| launched && wishes.listed > 0);
        match asked {
            Some((revision, arrived)) => drop(self.trails.insert(unit.clone(), Trail::new(revision, arrived))),
            None => drop(self.trails.remove(unit)),
        }
    }

    /// Whether a strict unit that is installed is to stay what it is.
    fn keeps_strict(&self, unit: &UnitName, wanted: &BTreeMap<UnitName, Wanted>) -> bool {
        let entry = self.installed.get(unit);
        entry.is_some_and(|entry| wanted.get(unit).is_none_or(|want| want.hash == entry.hash))
    }

    fn set_strict(&mut self, strict: BTreeSet<UnitName>) {
        if self.strict == strict {
            return;
        }
        self.strict = strict;
        if let Err(error) = self.disk.save_strict(&self.strict) {
            warn!(error = %crate::chain(&error), "if no fleetd can run, units with OnPartition=stop run on");
        }
    }

    /// Makes what is carried out heed the fence, whatever else is known: units that may run once at most run here only
    /// while it is open.
    pub(super) fn heed_fence(&mut self) {
        if self.strict.is_empty() {
            return;
        }
        let before = self.fence.is_open();
        let open = self.fence.update(self.wishes.as_ref().map_or(0, |wishes| wishes.listed));
        if before != open {
            let message = if open { "fence is open" } else { "lease may run out: fence is closed" };
            if open {
                info!(units = ?self.strict, "{message}");
            } else {
                warn!(units = ?self.strict, "{message}");
            }
            // What was refused before, and when it is to be tried again, was about something else.
            self.retries.retain(|unit, _| !self.strict.contains(unit));
        }
        let mut wanted = match &self.wishes {
            Some(wishes) => wishes.units.clone(),
            None if open => return,
            // Nothing is known of what is wanted, but this much: not here, not now.
            None => self.installed.iter().map(|(unit, entry)| (unit.clone(), entry.as_wanted())).collect(),
        };
        for unit in self.strict.iter().filter(|_| !open) {
            let Some(entry) = self.installed.get_mut(unit) else {
                wanted.remove(unit);
                continue;
            };
            let Some(want) = wanted.get_mut(unit) else { continue };
            // Its file stays as it is, and what has ended by itself has ended.
            *want = entry.as_wanted();
            if self.runtime.get(unit).is_some_and(|runtime| !runtime.is_down()) {
                // Whoever started it, here it is stopped, if it is not being stopped already; and started again when the
                // fence opens before it is down.
                if (entry.applied, entry.stopping) != (Target::Launched, true) {
                    (entry.applied, entry.stopping) = (Target::Launched, true);
                    self.news.insert(unit.clone());
                    self.open.insert(unit.clone());
                }
                want.target = Target::Loaded;
            }
        }
        if self.wanted.as_ref() != Some(&wanted) {
            self.want(wanted);
            self.watch_units();
        }
    }

    /// Tells the bus reader which units are of interest, and forgets the rest.
    pub(super) fn watch_units(&mut self) {
        let watched: BTreeSet<UnitName> =
            self.wanted.iter().flat_map(BTreeMap::keys).chain(self.installed.keys()).cloned().collect();
        self.runtime.retain(|unit, _: &mut Runtime| watched.contains(unit));
        self.since.retain(|unit, _| watched.contains(unit));
        self.unconfirmed.retain(|unit, _| watched.contains(unit));
        self.starting.retain(|unit, _| watched.contains(unit));
        self.trails.retain(|unit, _| watched.contains(unit));
        for units in [&mut self.alone, &mut self.has_run, &mut self.lacking] {
            units.retain(|unit| watched.contains(unit));
        }
        self.notices.retain(|unit, _| watched.contains(unit));
        self.disputes.retain(|unit, _| watched.contains(unit));
        self.failures.retain(|unit, _| watched.contains(unit));
        self.behaviour.retain(|unit, _| watched.contains(unit));
        self.unseen = watched.iter().filter(|unit| !self.runtime.contains_key(*unit)).cloned().collect();
        self.systemd.dirty().watch(watched);
        let wanted = self.wanted.iter().flat_map(BTreeMap::values).map(|want| want.hash);
        // As long as it is looked at, it does not change; so no file comes with what it tells, or from the disk, that is
        // not known to be of use.
        let cluster = self.cluster.borrow();
        let told = cluster.scheduled.values().chain(cluster.globals.values()).map(|value| value.record.hash);
        let installed = self.installed.values().map(|entry| entry.hash);
        let used: HashSet<UnitHash> = wanted.chain(told).chain(installed).collect();
        self.files.retain(|hash| used.contains(hash));
    }
}

/// The units that are not the same in both.
fn differing<'w>(
    one: &'w BTreeMap<UnitName, Wanted>,
    other: &'w BTreeMap<UnitName, Wanted>,
) -> impl Iterator<Item = &'w UnitName> {
    let changed = one.iter().filter(|(unit, want)| other.get(*unit) != Some(*want)).map(|(unit, _)| unit);
    changed.chain(other.keys().filter(|unit| !one.contains_key(*unit)))
}

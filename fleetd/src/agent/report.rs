//! What is told of this host's units.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet_core::{
    agent::{Active, Installed, Runtime},
    model::{Desired, StateRecord},
    unit::{UnitHash, UnitName},
};
use tokio::time::Instant;

use super::{Agent, HUSH, publish::States};
use crate::{filesystem::Filesystem, registry::Store, systemd::Systemd};

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// Shows the states of units that have changed to the publisher; not before systemd has told of them all, or what
    /// is published of them would be taken back.
    pub(super) fn report(&mut self) {
        if self.unseen.iter().any(|unit| self.installed.contains_key(unit)) {
            return;
        }
        // Whether a unit that is recalled is gone depends on more than itself.
        self.news.extend(self.wishes.iter().flat_map(|wishes| wishes.recalled.keys()).cloned());
        let (hushed, news): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.news).into_iter().partition(|unit| self.is_hushed(unit));
        self.states.send_if_modified(|states| {
            let first = states.is_none();
            let states = states.get_or_insert_default();
            let mut modified = first;
            for unit in news {
                match self.shown(&unit) {
                    Some(state) => {
                        if states.get(&unit).is_none_or(|shown| **shown != state) {
                            states.insert(unit, Arc::new(state));
                            modified = true;
                        }
                    }
                    None => modified |= states.remove(&unit).is_some(),
                }
            }
            modified
        });
        debug_assert!(self.has_told(&hushed));
        self.news = hushed;
    }

    /// Whether a unit has just been started, and it will soon be known how that went.
    fn is_hushed(&self, unit: &UnitName) -> bool {
        let is_new = |launch: &super::Launch| launch.queued + HUSH > Instant::now();
        let is_recalled = || self.wishes.as_ref().is_some_and(|wishes| wishes.recalled.contains_key(unit));
        self.starting.get(unit).is_some_and(is_new) && !self.problems.contains_key(unit) && !is_recalled()
    }

    /// Whether all that is shown is so, but for these units.
    fn has_told(&self, but: &BTreeSet<UnitName>) -> bool {
        let shown = self.states.borrow();
        let none = States::default();
        let shown = shown.as_ref().unwrap_or(&none);
        let wanted = self.wanted.iter().flat_map(BTreeMap::keys);
        let all: BTreeSet<&UnitName> = wanted.chain(self.installed.keys()).chain(shown.keys()).collect();
        all.into_iter()
            .filter(|unit| !but.contains(*unit))
            .all(|unit| self.shown(unit).as_ref() == shown.get(unit).map(|state| &**state))
    }

    /// What is to be told of a unit; `None` of one that is not the agent's.
    fn shown(&self, unit: &UnitName) -> Option<StateRecord> {
        let unknown = Runtime::default();
        let runtime = self.runtime.get(unit).unwrap_or(&unknown);
        let installed = self.installed.get(unit);
        if let Some((hash, revision)) = self.wishes.as_ref().and_then(|wishes| wishes.recalled.get(unit)) {
            // What is down and not wanted is not started again: the engine may have it. While systemd does not answer
            // a start may be under way that has not been seen.
            let is_down = !self.silent && !self.is_starting(unit) && runtime.is_down();
            if installed.is_none() || is_down {
                let state = self.state(unit, *hash, Desired::Inactive, None, runtime);
                return Some(StateRecord { released: Some(*revision), ..state });
            }
        }
        if let Some(entry) = installed {
            return Some(self.state(unit, entry.hash, entry.applied.into(), Some(entry), runtime));
        }
        let want = self.wanted.as_ref().and_then(|wanted| wanted.get(unit));
        let want = want.filter(|_| self.problems.contains_key(unit))?;
        Some(self.state(unit, want.hash, Desired::Inactive, None, &unknown))
    }

    fn state(
        &self,
        unit: &UnitName,
        hash: UnitHash,
        current: Desired,
        entry: Option<&Installed>,
        runtime: &Runtime,
    ) -> StateRecord {
        StateRecord {
            hash,
            load: runtime.load.clone(),
            active: runtime.active.to_string(),
            sub: runtime.sub.clone(),
            current,
            generation: entry.and_then(|entry| entry.generation).unwrap_or_default(),
            request: Some(entry.and_then(|entry| entry.request).unwrap_or_default()),
            acted: entry.is_some_and(|entry| entry.acted),
            skipped: self.notices.contains_key(unit) && runtime.active == Active::Inactive,
            finished: entry.is_some_and(|entry| entry.finished) && runtime.active == Active::Inactive,
            job: runtime.job.is_some() || self.is_starting(unit),
            since: self.since.get(unit).map_or(0, |(_, _, since)| *since),
            problem: self.problems.get(unit).cloned(),
            notice: self.notices.get(unit).or(self.failures.get(unit)).or(self.disputes.get(unit)).cloned(),
            released: None,
            start: self.trails.get(unit).filter(|_| current == Desired::Launched).and_then(super::Trail::whole),
        }
    }
}

//! Looking at units, and what is concluded from what is seen.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use fleet_core::{
    agent::{Active, Runtime},
    unit::UnitName,
};
use tokio::time::Instant;
use tracing::warn;

use super::{Agent, CONFIRM, RESYNC, SETTLE};
use crate::{
    backoff::jitter,
    filesystem::Filesystem,
    registry::Store,
    systemd::{Ended, Systemd, SystemdError},
};

/// Whether systemd knows why a unit failed.
pub(super) fn has_failed(runtime: &Runtime) -> bool {
    runtime.active == Active::Failed || runtime.waits_for_restart()
}

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// Asks systemd about the units that something happened to, or about all when it is time to.
    pub(super) async fn look(&mut self) {
        let mut dirty = self.systemd.dirty().take();
        if self.silent || self.resync <= Instant::now() {
            self.resync = Instant::now() + jitter(RESYNC);
            self.watch_units();
            for unit in self.installed.keys().chain(self.wanted.iter().flat_map(BTreeMap::keys)) {
                dirty.entry(unit.clone()).or_default();
            }
        } else {
            for unit in &self.unseen {
                dirty.entry(unit.clone()).or_default();
            }
        }
        let now = Instant::now();
        let is_down = |unit: &UnitName| self.runtime.get(unit).is_some_and(Runtime::is_down);
        let settled = self.starting.iter().filter(|(unit, launch)| {
            launch.active.is_some_and(|since| since + SETTLE <= now) || launch.queued + CONFIRM <= now && is_down(unit)
        });
        for (unit, _) in settled {
            dirty.entry(unit.clone()).or_default();
        }
        let units: Vec<UnitName> = dirty.keys().cloned().collect();
        let ended: Vec<(UnitName, Ended)> =
            dirty.into_iter().filter_map(|(unit, ended)| Some((unit, ended?))).collect();
        for (unit, ended) in &ended {
            if let Some(launch) = self.starting.get_mut(unit) {
                // One of an earlier job says nothing of this start.
                launch.ended |= ended.job >= launch.job;
            }
        }
        if !self.refresh(&units).await {
            // What was asked about stays marked; how jobs ended must be kept with it.
            ended.into_iter().for_each(|(unit, ended)| self.systemd.dirty().mark(unit.as_str(), Some(ended)));
            return;
        }
        for (unit, ended) in &ended {
            self.job_ended(unit, ended).await;
        }
        self.ask_why_failed(&units).await;
    }

    /// Reads the state of units from systemd. Returns whether it answered.
    pub(super) async fn refresh(&mut self, units: &[UnitName]) -> bool {
        if units.is_empty() {
            return !self.silent;
        }
        let mut listed = match self.list(units).await {
            Ok(listed) => listed,
            Err(error) => {
                // Not looked at is not forgotten.
                units.iter().for_each(|unit| self.systemd.dirty().mark(unit.as_str(), None));
                if !std::mem::replace(&mut self.silent, true) {
                    warn!(error = %crate::chain(&error), "cannot look at units, trying again");
                }
                return false;
            }
        };
        self.silent = false;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        for unit in units {
            let runtime = listed.remove(unit).unwrap_or_default();
            self.saw(unit, runtime, now);
        }
        true
    }

    /// A unit is in this state. `now` is in seconds since 1970.
    fn saw(&mut self, unit: &UnitName, runtime: Runtime, now: u64) {
        self.touch(unit);
        self.unseen.remove(unit);
        let since = self.since.entry(unit.clone()).or_insert((runtime.active, runtime.sub.clone(), now));
        if (since.0, &since.1) != (runtime.active, &runtime.sub) {
            *since = (runtime.active, runtime.sub.clone(), now);
        }
        if !runtime.is_down() {
            self.unconfirmed.remove(unit);
            self.has_run.insert(unit.clone());
            self.notices.remove(unit);
        }
        if !has_failed(&runtime) {
            self.failures.remove(unit);
        }
        let ended_well = runtime.active == Active::Inactive
            && self.runtime.get(unit).is_some_and(|before| before.active == Active::Activating)
            && self.behaviour.get(unit).is_some_and(|behaviour| behaviour.ends);
        if ended_well {
            self.finished(unit);
        }
        if let Some(launch) = self.starting.get_mut(unit) {
            let is_active = runtime.active == Active::Active && runtime.job.is_none();
            let since = is_active.then(|| *launch.active.get_or_insert_with(Instant::now));
            launch.active = since;
            // To be down is the outcome of a start only once its job is over: before, it has not begun.
            let is_over = launch.ended || launch.queued.elapsed() >= CONFIRM;
            let settled = runtime.is_down() && is_over || since.is_some_and(|since| since.elapsed() >= SETTLE);
            if let Some(trail) = self.trails.get_mut(unit) {
                trail.seen(is_active, settled);
            }
            if settled {
                self.starting.remove(unit);
                if !runtime.is_down() {
                    self.succeeded(unit);
                }
            }
        }
        if runtime.active == Active::Active && !self.retries.contains_key(unit) {
            self.problems.remove(unit);
        }
        self.runtime.insert(unit.clone(), runtime);
    }

    /// Lists units; when systemd refuses the list, one by one, so that no name spoils it for the others. Those that
    /// are not installed are only looked for among what systemd has loaded: to find out that it knows nothing of a new
    /// unit, it would search all its directories, and do so again when the file is there.
    async fn list(&self, units: &[UnitName]) -> Result<BTreeMap<UnitName, Runtime>, SystemdError> {
        let (known, new): (Vec<_>, Vec<_>) = units.iter().cloned().partition(|unit| self.installed.contains_key(unit));
        let mut listed = self.list_all(&known).await?;
        match self.systemd.loaded(&new).await {
            Ok(loaded) => listed.extend(loaded),
            Err(SystemdError::Refused { .. }) => listed.extend(self.list_all(&new).await?),
            Err(error) => return Err(error),
        }
        Ok(listed)
    }

    async fn list_all(&self, units: &[UnitName]) -> Result<BTreeMap<UnitName, Runtime>, SystemdError> {
        match self.systemd.list(units).await {
            Err(SystemdError::Refused { .. }) => {}
            listed => return listed,
        }
        let mut listed = BTreeMap::new();
        for unit in units {
            match self.systemd.list(std::slice::from_ref(unit)).await {
                Ok(one) => listed.extend(one),
                Err(error @ SystemdError::Refused { .. }) => {
                    warn!(%unit, error = %crate::chain(&error), "systemd does not tell of this unit");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }
}

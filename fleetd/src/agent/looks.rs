//! Looking at units: when, at which, and what systemd says of them.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fleet_core::{host::Runtime, unit::UnitName};
use tokio::time::Instant;
use tracing::warn;

use super::units::Units;
use crate::{
    backoff::jitter,
    clock::monotonic,
    pace::Pacer,
    systemd::{Ended, Systemd, SystemdError},
};

/// Looks at systemd: a few at once, then one each interval. A start makes 13 signals; one look serves them all.
const LOOKS: (Duration, u32) = (Duration::from_millis(50), 8);
/// Between two looks while systemd does not answer.
const SILENCE: Duration = Duration::from_secs(1);
/// How often everything is looked at though nothing was heard.
const RESYNC: Duration = Duration::from_secs(600);

/// Asks systemd about units, and knows when to.
pub(super) struct Looks<D> {
    systemd: D,
    pacer: Pacer,
    /// When everything is looked at next.
    resync: Instant,
    /// Systemd did not answer when it was last asked.
    silent: bool,
}

/// What was looked at.
pub(super) struct Looked {
    pub units: Vec<UnitName>,
    /// The last job of each unit that has ended since.
    pub ended: Vec<(UnitName, Ended)>,
}

impl<D: Systemd> Looks<D> {
    pub fn new(systemd: D) -> Self {
        Self { systemd, pacer: Pacer::new(LOOKS.0, LOOKS.1), resync: Instant::now(), silent: false }
    }

    /// Waits until systemd may be looked at again.
    pub async fn pace(&mut self) {
        if self.silent {
            tokio::time::sleep(SILENCE).await;
        }
        self.pacer.round().await;
    }

    /// Waits until something has happened to a unit.
    pub async fn marked(&self) {
        self.systemd.dirty().marked().await;
    }

    /// Whether systemd answered when it was last asked. If not, nothing is known; that does not mean that nothing is there.
    pub fn answers(&self) -> bool {
        !self.silent
    }

    /// When everything is looked at next.
    pub fn resync(&self) -> Instant {
        self.resync
    }

    /// Whether everything is to be looked at now.
    pub fn is_overdue(&self) -> bool {
        self.silent || self.resync <= Instant::now()
    }

    /// Has everything be looked at after this time, or earlier.
    pub fn resync_within(&mut self, time: Duration) {
        self.resync = self.resync.min(Instant::now() + time);
    }

    /// Has systemd tell of the units of interest, and forgets what it said of others.
    pub fn watch(&self, units: &mut Units) {
        units.cells.unwatch_others();
        self.systemd.dirty().watch(units.cells.watched().cloned().collect());
    }

    /// Has a unit be looked at.
    pub fn mark(&self, unit: &UnitName) {
        self.systemd.dirty().mark(unit.as_str(), None);
    }

    /// Asks systemd about the units that something happened to, or about all when it is time to. Returns them; `None` when
    /// systemd does not answer.
    pub async fn look(&mut self, units: &mut Units) -> Option<Looked> {
        let mut dirty = self.systemd.dirty().take();
        if self.is_overdue() {
            self.resync = Instant::now() + jitter(RESYNC);
            units.cells.watched().for_each(|unit| add(&mut dirty, unit));
        }
        let now = monotonic();
        units.cells.due(now).for_each(|unit| add(&mut dirty, unit));
        let asked: Vec<UnitName> = dirty.keys().cloned().collect();
        let ended: Vec<(UnitName, Ended)> =
            dirty.into_iter().filter_map(|(unit, ended)| Some((unit, ended?))).collect();
        units.cells.jobs_ended(ended.iter().map(|(unit, ended)| (unit, ended.job)));
        if !self.refresh(units, &asked).await {
            // What was asked about stays marked; how jobs ended must be kept with it.
            ended.into_iter().for_each(|(unit, ended)| self.systemd.dirty().mark(unit.as_str(), Some(ended)));
            return None;
        }
        Some(Looked { units: asked, ended })
    }

    /// Reads the state of units from systemd. Returns whether it answered.
    pub async fn refresh(&mut self, units: &mut Units, asked: &[UnitName]) -> bool {
        if asked.is_empty() {
            return !self.silent;
        }
        let mut listed = match self.list(units, asked).await {
            Ok(listed) => listed,
            Err(error) => {
                // Not looked at is not forgotten.
                asked.iter().for_each(|unit| self.mark(unit));
                if !std::mem::replace(&mut self.silent, true) {
                    warn!(error = %crate::chain(&error), "cannot look at units, trying again");
                }
                return false;
            }
        };
        self.silent = false;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        for unit in asked {
            let runtime = listed.remove(unit).unwrap_or_default();
            units.edit(unit, |cell, now| cell.saw(runtime, now, seconds));
        }
        true
    }

    /// Lists units; when systemd refuses the list, one by one, so that no name spoils it for the others. Those that
    /// are not installed are only looked for among what systemd has loaded: to find out that it knows nothing of a new
    /// unit, it would search all its directories, and do so again when the file is there.
    async fn list(&self, units: &Units, asked: &[UnitName]) -> Result<BTreeMap<UnitName, Runtime>, SystemdError> {
        let (known, new): (Vec<_>, Vec<_>) =
            asked.iter().cloned().partition(|unit| units.cells.installed(unit).is_some());
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

/// Has a unit be looked at, too.
fn add(dirty: &mut BTreeMap<UnitName, Option<Ended>>, unit: &UnitName) {
    if !dirty.contains_key(unit) {
        dirty.insert(unit.clone(), None);
    }
}

//! Starting and stopping units.
//!
//! Several starts go through one runtime target with `Wants=` of them all and a single `StartUnit`: that is a third
//! faster than starting each, and to the bus it is one job. Several stops go through one with `Conflicts=` of them all.
//! Other jobs are queued one by one, with few unfinished at a time. How a unit fared is always read from the unit
//! itself.

use std::{collections::BTreeSet, path::PathBuf};

use fleet_core::{
    agent::{Job, Runtime},
    model::Target,
    unit::UnitName,
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Agent, CONFIRM, Launch, Steps};
use crate::{
    filesystem::{FileError, Filesystem, show_change},
    registry::Store,
    systemd::{Systemd, SystemdError, Verb},
};

/// Most unfinished jobs at a time that were queued one by one. With about 500 of one client PID 1 falls off the
/// bus; past 128 unanswered calls the bus refuses more.
const WINDOW: usize = 64;
/// What the names of targets of batches begin with.
const PREFIX: &str = "fleet-batch-";

/// How a target has to do with the units of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// They are started with it.
    Wants,
    /// They are stopped when it starts.
    Conflicts,
}

impl Relation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Wants => "Wants",
            Self::Conflicts => "Conflicts",
        }
    }
}

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// Queues jobs: several starts or stops together, others as far as the window allows.
    pub(super) async fn jobs(&mut self, steps: &Steps) {
        self.queued.retain(|unit| self.runtime.get(unit).is_some_and(|runtime| runtime.job.is_some()));
        let room = WINDOW.saturating_sub(self.queued.len());
        self.remember_stops(&steps.stop);
        let room = self.stop(&steps.stop, room).await;
        let restarts = &steps.restart[..steps.restart.len().min(room)];
        for unit in restarts {
            self.queue(Verb::Restart, unit).await;
        }
        self.start(&steps.start, room - restarts.len()).await;
        let touched = [&steps.stop[..], restarts, &steps.start[..]].concat();
        if !touched.is_empty() {
            self.save();
            self.batches.clean_up(&self.systemd).await;
            if self.refresh(&touched).await {
                self.stop_left_out(&steps.stop).await;
            }
        }
    }

    /// Stops, each by itself, the units that run on without a job to stop them: systemd leaves a unit out of a
    /// transaction that it cannot be part of, and says nothing.
    async fn stop_left_out(&mut self, units: &[UnitName]) {
        let has_job = |runtime: &Runtime| runtime.is_down() || runtime.job == Some(Job::Stop);
        let is_left = |unit: &&UnitName| {
            !self.retries.contains_key(*unit) && self.runtime.get(*unit).is_some_and(|runtime| !has_job(runtime))
        };
        let room = WINDOW.saturating_sub(self.queued.len());
        let left: Vec<UnitName> = units.iter().filter(is_left).take(room).cloned().collect();
        for unit in &left {
            self.queue(Verb::Stop, unit).await;
        }
        self.refresh(&left).await;
    }

    /// Stops units. Returns how much of the room is left.
    async fn stop(&mut self, units: &[UnitName], room: usize) -> usize {
        // What may run once at most is stopped now; it has no time to wait for others.
        let (mut alone, together): (Vec<_>, Vec<_>) =
            units.iter().cloned().partition(|unit| self.strict.contains(unit) || self.alone.contains(unit));
        self.try_together(Relation::Conflicts, together, &mut alone).await;
        let (urgent, others): (Vec<_>, Vec<_>) = alone.into_iter().partition(|unit| self.strict.contains(unit));
        let others = others.into_iter().take(room.saturating_sub(urgent.len()));
        let mut taken = 0;
        for unit in urgent.into_iter().chain(others) {
            self.alone.remove(&unit);
            self.queue(Verb::Stop, &unit).await;
            taken += 1;
        }
        room.saturating_sub(taken)
    }

    /// Starts units.
    async fn start(&mut self, units: &[UnitName], room: usize) {
        if units.len() > 1 {
            self.set_needy_apart(units).await;
        }
        let (mut alone, together): (Vec<_>, Vec<_>) = units.iter().cloned().partition(|unit| self.alone.contains(unit));
        if together.len() > 1 {
            for unit in &together {
                self.before_start(unit).await;
            }
        }
        if let Some((job, units)) = self.try_together(Relation::Wants, together, &mut alone).await {
            for unit in units {
                self.launched(&unit, job);
                self.unconfirmed.insert(unit, Instant::now() + CONFIRM);
            }
        }
        for unit in alone.iter().take(room) {
            self.queue(Verb::Start, unit).await;
        }
    }

    /// Starts or stops units together, if they are several. Returns those whose jobs are queued, and the number of the
    /// first of these; those that are to be taken one by one go to `alone`.
    async fn try_together(
        &mut self,
        relation: Relation,
        units: Vec<UnitName>,
        alone: &mut Vec<UnitName>,
    ) -> Option<(u32, Vec<UnitName>)> {
        if units.len() < 2 {
            alone.extend(units);
            return None;
        }
        match self.together(relation, &units).await {
            Ok(Some(job)) => {
                for unit in &units {
                    match relation {
                        Relation::Wants => self.under_way(unit),
                        Relation::Conflicts => self.succeeded(unit),
                    }
                }
                return Some((job, units));
            }
            Ok(None) => {
                self.alone.extend(units.iter().cloned());
                alone.extend(units);
            }
            Err(error) => units.iter().for_each(|unit| self.failed(unit, crate::chain(&error))),
        }
        None
    }

    /// Starts or stops units by one job of a target of their own. Returns its number, if that was possible.
    ///
    /// # Errors
    /// Systemd does not answer.
    async fn together(&mut self, relation: Relation, units: &[UnitName]) -> Result<Option<u32>, SystemdError> {
        let target = match self.batches.write(relation, units).await {
            Ok(target) => target,
            Err(error) => {
                warn!(error = %crate::chain(&error), "cannot write the target of a batch, taking units one by one");
                return Ok(None);
            }
        };
        match self.systemd.queue(Verb::Start, &target).await {
            Ok(job) => {
                info!(units = units.len(), target, relation = relation.as_str(), "batch queued");
                Ok(Some(job))
            }
            Err(error @ SystemdError::Refused { .. }) => {
                warn!(error = %crate::chain(&error), "batch refused, taking units one by one");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes down that units are down, or will be, because the agent has them stopped. If one is wanted again before
    /// it is known to be down, also by the next fleetd, it is started again.
    fn remember_stops(&mut self, units: &[UnitName]) {
        let mut new = false;
        for unit in units {
            if let Some(entry) = self.installed.get_mut(unit) {
                new |= !std::mem::replace(&mut entry.stopping, true);
            }
        }
        if new {
            self.save();
        }
    }

    /// Queues one job, and remembers what it brings the unit to.
    async fn queue(&mut self, verb: Verb, unit: &UnitName) {
        if verb != Verb::Stop {
            self.before_start(unit).await;
            self.alone.remove(unit);
        }
        match self.systemd.queue(verb, unit.as_str()).await {
            Ok(job) => {
                // Of what is tried again the log was told what is in the way.
                match self.retries.contains_key(unit) {
                    true => debug!(%unit, verb = verb.as_str(), "job queued once more"),
                    false => info!(%unit, verb = verb.as_str(), "job queued"),
                }
                self.queued.insert(unit.clone());
                if verb == Verb::Stop {
                    self.succeeded(unit);
                } else {
                    self.under_way(unit);
                    self.launched(unit, job);
                }
            }
            Err(error) if error.is_no_such_unit() => self.refused(unit, crate::chain(&error)).await,
            Err(error) => self.failed(unit, crate::chain(&error)),
        }
    }

    fn launched(&mut self, unit: &UnitName, job: u32) {
        self.lacking.remove(unit);
        self.starting.insert(unit.clone(), Launch { queued: Instant::now(), job, ended: false, active: None });
        if let Some(trail) = self.trails.get_mut(unit) {
            trail.queued();
        }
        let want = self.wanted.as_ref().and_then(|wanted| wanted.get(unit));
        if let (Some(want), Some(entry)) = (want, self.installed.get_mut(unit)) {
            entry.launched(want);
        }
    }

    /// Units of a batch that show no sign of having been started are started again, each by itself: systemd leaves a
    /// wanted unit out of a transaction that it cannot be part of, and says nothing.
    pub(super) fn doubt_starts(&mut self) {
        let now = Instant::now();
        let overdue = self.unconfirmed.extract_if(.., |_, at| *at <= now);
        let overdue: Vec<UnitName> = overdue.map(|(unit, _)| unit).collect();
        for unit in overdue {
            self.touch(&unit);
            if let Some(entry) = self.installed.get_mut(&unit) {
                entry.applied = Target::Loaded;
            }
            self.alone.insert(unit);
        }
    }
}

/// The targets of batches that are to go: their jobs are queued, and a target that refers to a unit keeps it loaded.
#[derive(Debug)]
pub(super) struct Batches<F> {
    filesystem: F,
    /// Where they lie.
    directory: PathBuf,
    count: u64,
    open: BTreeSet<String>,
}

impl<F: Filesystem> Batches<F> {
    /// The batches that an earlier run left; they are cleaned up like any other.
    pub(super) fn new(filesystem: F, directory: PathBuf) -> Self {
        let names = filesystem.names(&directory).unwrap_or_default().into_iter();
        let open = names.filter(|name| name.starts_with(PREFIX) && name.ends_with(".target")).collect();
        Self { filesystem, directory, count: 0, open }
    }

    /// Writes a target for `units`. Returns its name.
    async fn write(&mut self, relation: Relation, units: &[UnitName]) -> Result<String, FileError> {
        self.count += 1;
        let name = format!("{PREFIX}{}-{}.target", std::process::id(), self.count);
        // Without default dependencies the target neither waits for its units nor orders itself among others.
        let mut text = String::from("[Unit]\nDescription=Units that fleet takes together\nDefaultDependencies=no\n");
        for unit in units {
            text.push_str(relation.as_str());
            text.push('=');
            // A percent sign cannot occur in a unit name; a backslash is literal in a value.
            text.push_str(unit.as_str());
            text.push('\n');
        }
        self.filesystem.replace(&self.directory.join(&name), text.as_bytes())?;
        self.open.insert(name.clone());
        // It is written under another name first, and systemd may have looked at the directory in between.
        let before = self.filesystem.modified(&self.directory);
        show_change(&self.filesystem, &self.directory, before).await;
        Ok(name)
    }

    /// Takes targets away. The jobs of their units go on: to stop a target stops nothing that it wanted.
    pub(super) async fn clean_up<D: Systemd>(&mut self, systemd: &D) {
        for name in self.open.clone() {
            if let Err(error) = self.filesystem.remove(&self.directory.join(&name)) {
                warn!(target = name, error = %crate::chain(&error), "target of a batch not deleted");
            }
            match systemd.queue(Verb::Stop, &name).await {
                Err(SystemdError::Unavailable(_)) => return,
                Err(error) if !error.is_no_such_unit() => {
                    warn!(target = name, error = %crate::chain(&error), "target of a batch not stopped");
                }
                _ => {}
            }
            self.open.remove(&name);
        }
    }
}

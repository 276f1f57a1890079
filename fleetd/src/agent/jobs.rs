//! Starting and stopping units.
//!
//! Several starts go through one runtime target with `Wants=` of them all and a single `StartUnit`: that is a third
//! faster than starting each, and to the bus it is one job. Several stops go through one with `Conflicts=` of them all.
//! Other jobs are queued one by one, with few unfinished at a time. How a unit fared is always read from the unit
//! itself.

use std::{collections::BTreeSet, path::PathBuf};

use fleet_core::{host::Cell, unit::UnitName};
use tracing::{debug, info, warn};

use super::{starts::Starts, units::Units};
use crate::{
    filesystem::{FileError, Filesystem, show_change},
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

/// Queues jobs in systemd.
pub(super) struct Jobs<D, F> {
    systemd: D,
    batches: Batches<F>,
    /// Units whose job was queued one by one, and may be unfinished.
    queued: BTreeSet<UnitName>,
}

impl<D: Systemd, F: Filesystem> Jobs<D, F> {
    pub fn new(systemd: D, filesystem: F) -> Self {
        let batches = Batches::new(filesystem, systemd.runtime_units());
        Self { systemd, batches, queued: BTreeSet::new() }
    }

    /// Queues jobs: several starts or stops together, others as far as the window allows. Returns the units that jobs were
    /// asked for.
    pub async fn queue_all(
        &mut self,
        units: &mut Units,
        starts: &mut Starts<D, F>,
        stop: &[UnitName],
        restart: &[UnitName],
        start: &[UnitName],
    ) -> Vec<UnitName> {
        let room = self.stop(units, starts, stop).await;
        let restart = &restart[..restart.len().min(room)];
        for unit in restart {
            self.queue(units, starts, Verb::Restart, unit).await;
        }
        self.start(units, starts, start, room - restart.len()).await;
        [stop, restart, start].concat()
    }

    /// How many jobs may be queued one by one now.
    fn room(&mut self, units: &Units) -> usize {
        let has_job = |unit: &UnitName| units.get(unit)?.runtime()?.job;
        self.queued.retain(|unit| has_job(unit).is_some());
        WINDOW.saturating_sub(self.queued.len())
    }

    /// Stops, each by itself, the units that run on without a job to stop them: systemd leaves a unit out of a
    /// transaction that it cannot be part of, and says nothing. Returns them.
    pub async fn stop_left_out(
        &mut self,
        units: &mut Units,
        starts: &mut Starts<D, F>,
        stop: &[UnitName],
    ) -> Vec<UnitName> {
        let room = WINDOW.saturating_sub(self.queued.len());
        let left: Vec<UnitName> = units.filter(stop, Cell::was_left_running).take(room).cloned().collect();
        for unit in &left {
            self.queue(units, starts, Verb::Stop, unit).await;
        }
        left
    }

    /// Stops units. Returns how much room is left.
    async fn stop(&mut self, units: &mut Units, starts: &mut Starts<D, F>, stop: &[UnitName]) -> usize {
        let room = self.room(units);
        // What may run once at most is stopped now; it has no time to wait for others.
        let is_strict = |units: &Units, unit: &UnitName| units.get(unit).is_some_and(Cell::is_strict);
        let is_alone = |unit: &UnitName| is_strict(units, unit) || units.get(unit).is_some_and(Cell::is_alone);
        let (mut alone, together): (Vec<_>, Vec<_>) = stop.iter().cloned().partition(is_alone);
        self.try_together(units, Relation::Conflicts, together, &mut alone).await;
        let (urgent, others): (Vec<_>, Vec<_>) = alone.into_iter().partition(|unit| is_strict(units, unit));
        let others = others.into_iter().take(room.saturating_sub(urgent.len()));
        let mut taken = 0;
        for unit in urgent.into_iter().chain(others) {
            self.queue(units, starts, Verb::Stop, &unit).await;
            taken += 1;
        }
        room.saturating_sub(taken)
    }

    /// Starts units.
    async fn start(&mut self, units: &mut Units, starts: &mut Starts<D, F>, start: &[UnitName], room: usize) {
        if start.len() > 1 {
            starts.set_needy_apart(units, start).await;
        }
        let is_alone = |unit: &UnitName| units.get(unit).is_some_and(Cell::is_alone);
        let (mut alone, together): (Vec<_>, Vec<_>) = start.iter().cloned().partition(is_alone);
        if together.len() > 1 {
            for unit in &together {
                starts.before_start(units, unit).await;
            }
        }
        self.try_together(units, Relation::Wants, together, &mut alone).await;
        for unit in alone.iter().take(room) {
            self.queue(units, starts, Verb::Start, unit).await;
        }
    }

    /// Starts or stops units together, if they are several. Those that are to be taken one by one go to `alone`.
    async fn try_together(
        &mut self,
        units: &mut Units,
        relation: Relation,
        together: Vec<UnitName>,
        alone: &mut Vec<UnitName>,
    ) {
        if together.len() < 2 {
            alone.extend(together);
            return;
        }
        match self.together(relation, &together).await {
            Ok(Some(job)) => {
                units.edit_all(&together, |cell, now| match relation {
                    Relation::Wants => cell.start_queued(job, true, now),
                    Relation::Conflicts => cell.stop_queued(true),
                });
            }
            Ok(None) => {
                units.edit_all(&together, |cell, _| cell.set_alone());
                alone.extend(together);
            }
            Err(error) => units.all_failed(&together, &crate::chain(&error)),
        }
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

    /// Queues one job, and takes note of what it brings the unit to.
    async fn queue(&mut self, units: &mut Units, starts: &mut Starts<D, F>, verb: Verb, unit: &UnitName) {
        if verb != Verb::Stop {
            starts.before_start(units, unit).await;
        }
        match self.systemd.queue(verb, unit.as_str()).await {
            Ok(job) => {
                // Of what is tried again the log was told what is in the way.
                match units.get(unit).is_some_and(Cell::is_retry) {
                    true => debug!(%unit, verb = verb.as_str(), "job queued once more"),
                    false => info!(%unit, verb = verb.as_str(), "job queued"),
                }
                self.queued.insert(unit.clone());
                units.edit(unit, |cell, now| match verb {
                    Verb::Stop => cell.stop_queued(false),
                    Verb::Start | Verb::Restart => cell.start_queued(job, false, now),
                });
            }
            Err(error) if error.is_no_such_unit() => starts.refused(units, unit, &crate::chain(&error)).await,
            Err(error) => units.failed(unit, &crate::chain(&error)),
        }
    }

    /// Takes away the targets of batches whose jobs are queued.
    pub async fn clean_up(&mut self) {
        self.batches.clean_up(&self.systemd).await;
    }
}

/// The targets of batches that are to go: their jobs are queued, and a target that refers to a unit keeps it loaded.
#[derive(Debug)]
struct Batches<F> {
    filesystem: F,
    /// Where they lie.
    directory: PathBuf,
    count: u64,
    open: BTreeSet<String>,
}

impl<F: Filesystem> Batches<F> {
    /// The batches that an earlier run left; they are cleaned up like any other.
    fn new(filesystem: F, directory: PathBuf) -> Self {
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
    async fn clean_up<D: Systemd>(&mut self, systemd: &D) {
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

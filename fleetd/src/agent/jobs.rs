//! Starting and stopping units.
//!
//! Several starts go through one runtime target with `Wants=` of them all and a single `StartUnit`: that is a third
//! faster than starting each, and to the bus it is one job. Other jobs are queued one by one, with few unfinished
//! at a time. How a unit fared is always read from the unit itself.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use fleet_core::{agent::Runtime, model::Target, unit::UnitName};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Agent, Steps};
use crate::{
    filesystem::{FileError, Filesystem},
    registry::Store,
    systemd::{Systemd, Verb},
};

/// Most unfinished jobs at a time that were queued one by one. With about 500 of one client PID 1 falls off the
/// bus; past 128 unanswered calls the bus refuses more.
const WINDOW: usize = 64;
/// What the names of targets of batches begin with.
const PREFIX: &str = "fleet-batch-";
/// How long after its batch was started a unit may show nothing of it.
const CONFIRM: Duration = Duration::from_secs(2);

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// Queues jobs as far as the window allows.
    pub(super) async fn jobs(&mut self, steps: &Steps) {
        self.queued.retain(|unit| self.runtime.get(unit).is_some_and(|runtime| runtime.job.is_some()));
        let mut room = WINDOW.saturating_sub(self.queued.len());
        // What may run once at most is stopped now; it has no time to wait for others.
        let (urgent, stops): (Vec<_>, Vec<_>) = steps.stop.iter().cloned().partition(|unit| self.strict.contains(unit));
        let stops = [&urgent[..], &stops[..stops.len().min(room)]].concat();
        room = room.saturating_sub(stops.len());
        let restarts = &steps.restart[..steps.restart.len().min(room)];
        room -= restarts.len();
        self.remember_stops(&stops);
        for (units, verb) in [(&stops[..], Verb::Stop), (restarts, Verb::Restart)] {
            for unit in units {
                self.queue(verb, unit).await;
            }
        }
        let (mut alone, together): (Vec<_>, Vec<_>) =
            steps.start.iter().cloned().partition(|unit| self.alone.contains(unit));
        if let [_, _, ..] = together[..] {
            self.start_batch(&together, room).await;
        } else {
            alone.extend(together);
        }
        for unit in alone.iter().take(room) {
            self.alone.remove(unit);
            self.queue(Verb::Start, unit).await;
        }
        let touched = [&stops[..], restarts, &steps.start[..]].concat();
        if !touched.is_empty() {
            self.save();
            self.refresh(&touched).await;
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
        match self.systemd.queue(verb, unit.as_str()).await {
            Ok(()) => {
                info!(%unit, verb = verb.as_str(), "job queued");
                self.queued.insert(unit.clone());
                self.succeeded(unit);
                if verb != Verb::Stop {
                    self.launched(unit);
                }
            }
            Err(error) => {
                if error.is_no_such_unit() {
                    // Its link is gone, say because a removal was cut short. It is put in place again.
                    self.installed.remove(unit);
                }
                self.failed(unit, crate::chain(&error));
            }
        }
    }

    fn launched(&mut self, unit: &UnitName) {
        self.starting.insert(unit.clone(), None);
        let want = self.wanted.as_ref().and_then(|wanted| wanted.get(unit));
        if let (Some(want), Some(entry)) = (want, self.installed.get_mut(unit)) {
            entry.applied = Target::Launched;
            entry.stopping = false;
            entry.generation = want.generation.or(entry.generation);
        }
    }

    /// Starts units together, or if that cannot be, as many as there is room for.
    async fn start_batch(&mut self, units: &[UnitName], room: usize) {
        let target = match self.batches.write(units) {
            Ok(target) => target,
            Err(error) => {
                warn!(error = %crate::chain(&error), "cannot write the target of a batch, starting units one by one");
                for unit in units.iter().take(room) {
                    self.queue(Verb::Start, unit).await;
                }
                return;
            }
        };
        if let Err(error) = self.systemd.queue(Verb::Start, &target).await {
            units.iter().for_each(|unit| self.failed(unit, crate::chain(&error)));
            return;
        }
        info!(units = units.len(), target, "batch started");
        for unit in units {
            self.succeeded(unit);
            self.launched(unit);
            self.unconfirmed.insert(unit.clone(), Instant::now() + CONFIRM);
        }
    }

    /// Units of a batch that show no sign of having been started are started again, each by itself: systemd leaves a
    /// wanted unit out of a transaction that it cannot be part of, and says nothing.
    pub(super) fn doubt_starts(&mut self) {
        let now = Instant::now();
        let overdue = self.unconfirmed.extract_if(.., |_, at| *at <= now);
        for (unit, _) in overdue {
            if let Some(entry) = self.installed.get_mut(&unit) {
                entry.applied = Target::Loaded;
            }
            self.alone.insert(unit);
        }
    }
}

/// The targets of batches whose units still have jobs.
#[derive(Debug)]
pub(super) struct Batches<F> {
    filesystem: F,
    /// Where they lie.
    directory: PathBuf,
    count: u64,
    open: BTreeMap<String, Vec<UnitName>>,
}

impl<F: Filesystem> Batches<F> {
    /// The batches that an earlier run left open; they are cleaned up like any other.
    pub(super) fn new(filesystem: F, directory: PathBuf) -> Self {
        let names = filesystem.names(&directory).unwrap_or_default().into_iter();
        let left = names.filter(|name| name.starts_with(PREFIX) && name.ends_with(".target"));
        let open = left.map(|name| (name, Vec::new())).collect();
        Self { filesystem, directory, count: 0, open }
    }

    /// Writes the target that wants all of `units`. Returns its name.
    fn write(&mut self, units: &[UnitName]) -> Result<String, FileError> {
        self.count += 1;
        let name = format!("{PREFIX}{}-{}.target", std::process::id(), self.count);
        // Without default dependencies the target neither waits for its units nor orders itself among others.
        let mut text = String::from("[Unit]\nDescription=Units that fleet starts together\nDefaultDependencies=no\n");
        for unit in units {
            text.push_str("Wants=");
            // A percent sign cannot occur in a unit name; a backslash is literal in a value.
            text.push_str(unit.as_str());
            text.push('\n');
        }
        self.filesystem.replace(&self.directory.join(&name), text.as_bytes())?;
        self.open.insert(name.clone(), units.to_vec());
        Ok(name)
    }

    /// Takes away the targets whose units have no job any more: a target that wants a unit keeps it loaded.
    pub(super) async fn clean_up<D: Systemd>(&mut self, systemd: &D, runtime: &BTreeMap<UnitName, Runtime>) {
        let busy = |unit: &UnitName| runtime.get(unit).is_some_and(|runtime| runtime.job.is_some());
        let done: Vec<String> =
            self.open.iter().filter(|(_, units)| !units.iter().any(busy)).map(|(name, _)| name.clone()).collect();
        for name in done {
            self.open.remove(&name);
            if let Err(error) = self.filesystem.remove(&self.directory.join(&name)) {
                warn!(target = name, error = %crate::chain(&error), "target of a batch not deleted");
            }
            if let Err(error) = systemd.queue(Verb::Stop, &name).await {
                warn!(target = name, error = %crate::chain(&error), "target of a batch not stopped");
            }
        }
    }
}

//! The agent: brings this host to what is wanted of it, and says how its units are.
//!
//! In: the mirror of this host's keys, and systemd's word on its units. Out: steps in systemd, and the states for
//! [`publish`]. Each turn of the loop does the same, whatever woke it: work out what is wanted, look at the units
//! that something happened to, ask [`fleet_core::agent::reconcile`] for steps and take them, until there are none.
//!
//! While the store is away the last wanted set stands, but for units with `OnPartition=stop`: see [`crate::fence`]. Before the first list is whole, nothing is decided: units
//! that run, run on. Units that the agent did not install are never touched; what it installed is in a manifest, so
//! a fleetd that was killed takes its units up again without a word to systemd.

mod decide;
mod disk;
mod install;
mod jobs;
pub mod publish;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use disk::Disk;
use fleet_core::{
    agent::{Action, Active, Installed, Runtime, Step, Wanted, reconcile},
    model::{Desired, MachineId, StateRecord},
    unit::{UnitHash, UnitName},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
pub use wanted::strict_of;

use self::{
    publish::States,
    wanted::{Wisher, Wishes},
};
use crate::{
    backoff::{Backoff, jitter},
    fence::Fence,
    filesystem::{FileError, Filesystem},
    pace::Pacer,
    registry::{Cluster, Store, files::Files},
    systemd::{Systemd, SystemdError},
};

/// Looks at systemd: a few at once, then one each interval. A start makes 13 signals; one look serves them all.
const LOOKS: (Duration, u32) = (Duration::from_millis(50), 8);
/// How long a unit must have been active after its start to count as started: to systemd a simple service is active
/// as soon as it is forked, also one whose program is missing.
const SETTLE: Duration = Duration::from_millis(40);
/// Between two looks while systemd does not answer.
const SILENCE: Duration = Duration::from_secs(1);
/// How often everything is looked at though nothing was heard.
const RESYNC: Duration = Duration::from_secs(600);
/// The same while the host leaves.
const LEAVING_RESYNC: Duration = Duration::from_secs(5);
/// A step that failed is tried again after the first delay, at last each time after the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Passes of one turn. Remove, install and start of a changed unit take three; more is left to the next turn.
const PASSES: usize = 8;

/// The agent of one host.
pub struct Agent<S, D, F> {
    systemd: D,
    files: Files<S>,
    disk: Disk<F>,
    wisher: Wisher<S>,
    fence: Fence,
    cluster: watch::Receiver<Cluster>,
    states: watch::Sender<Option<States>>,
    /// `None` until the first complete list: then nothing is known of what is wanted.
    wishes: Option<Wishes>,
    /// What of it is to be carried out now; what the fence does not let run is not wanted launched.
    wanted: Option<BTreeMap<UnitName, Wanted>>,
    /// Those of the units here that may run once in the cluster at most, as far as that is known.
    strict: BTreeSet<UnitName>,
    /// What is wanted must be worked out again.
    stale: bool,
    installed: BTreeMap<UnitName, Installed>,
    runtime: BTreeMap<UnitName, Runtime>,
    /// When a unit came into the state it is in.
    since: BTreeMap<UnitName, (Active, String, u64)>,
    /// What keeps a unit from being as it should.
    problems: BTreeMap<UnitName, String>,
    /// Units whose last step failed, and when to try again.
    retries: BTreeMap<UnitName, (Backoff, Instant)>,
    /// Units started as part of a batch, of which nothing has been seen yet.
    unconfirmed: BTreeMap<UnitName, Instant>,
    /// Units that were started and have not settled: since when they have been active, if they are.
    starting: BTreeMap<UnitName, Option<Instant>>,
    /// Units that a batch left out: they are started by themselves.
    alone: BTreeSet<UnitName>,
    batches: jobs::Batches<F>,
    pacer: Pacer,
    resync: Instant,
    /// Systemd did not answer when it was last asked.
    silent: bool,
    /// Units whose job was queued one by one, and may be unfinished.
    queued: BTreeSet<UnitName>,
    /// When steps were taken last: what is to be tried again is tried if it was due by then.
    acted: Instant,
    /// The manifest could not be written.
    unsaved: bool,
}

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// An agent for `machine`, which keeps its unit files in `units`.
    ///
    /// # Errors
    /// When that directory cannot be used.
    #[expect(clippy::too_many_arguments, reason = "each is another part of the host; they meet only here")]
    pub fn new(
        machine: MachineId,
        metadata: BTreeMap<String, String>,
        units: &Path,
        filesystem: F,
        systemd: D,
        files: Files<S>,
        fence: Fence,
        cluster: watch::Receiver<Cluster>,
        states: watch::Sender<Option<States>>,
    ) -> Result<Self, FileError> {
        let disk = Disk::open(filesystem.clone(), units)?;
        let left = disk.load()?;
        let batches = jobs::Batches::new(filesystem, systemd.runtime_units());
        let mut agent = Self {
            systemd,
            wisher: Wisher::new(machine, metadata, files.clone()),
            fence,
            files,
            disk,
            cluster,
            states,
            wishes: None,
            wanted: None,
            strict: strict_of(&left.files),
            stale: true,
            installed: left.installed,
            runtime: BTreeMap::new(),
            since: BTreeMap::new(),
            problems: BTreeMap::new(),
            retries: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            starting: BTreeMap::new(),
            alone: BTreeSet::new(),
            batches,
            pacer: Pacer::new(LOOKS.0, LOOKS.1),
            resync: Instant::now(),
            silent: false,
            queued: BTreeSet::new(),
            acted: Instant::now(),
            unsaved: false,
        };
        for (unit, file) in left.files {
            // Written just before a crash, and most likely not started yet.
            let unknown = Installed::loaded(file.hash(), None);
            agent.installed.entry(unit).or_insert(unknown);
            agent.files.insert(file);
        }
        agent.adopt_fenced()?;
        if !agent.installed.is_empty() {
            info!(units = agent.installed.len(), "took up the units of an earlier run");
        }
        Ok(agent)
    }

    /// Runs until `shutdown`. Touches no unit when it ends.
    pub async fn run(&mut self, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.pace() => {}
            }
            self.turn().await;
            let timer = self.next_timer();
            // Each arm only tells that there is something to look at; what it is stays where it is until looked at.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.fence.turning(), if !self.strict.is_empty() => {}
                changed = self.cluster.changed() => match changed {
                    Ok(()) => self.stale = true,
                    Err(_) => return,
                },
                () = self.systemd.dirty().marked() => {}
                () = sleep_until(timer) => {}
            }
        }
    }

    /// Stops and removes all of the agent's units: the host leaves the cluster. Runs until nothing of them runs.
    pub async fn leave(&mut self) {
        info!(units = self.installed.len(), "leaving: stopping all units");
        self.wishes = None;
        self.wanted = Some(BTreeMap::new());
        self.strict.clear();
        self.stale = false;
        self.retries.clear();
        loop {
            self.pace().await;
            self.turn().await;
            // A file that cannot be removed is no reason to stay; the next fleetd tries again.
            let is_down = |unit: &UnitName| self.runtime.get(unit).is_some_and(Runtime::is_down);
            if self.installed.keys().all(|unit| is_down(unit) && self.retries.contains_key(unit)) {
                return;
            }
            // Nobody comes after this: a signal that was lost must not keep the host for long.
            self.resync = self.resync.min(Instant::now() + LEAVING_RESYNC);
            let timer = self.next_timer();
            tokio::select! {
                biased;
                () = self.systemd.dirty().marked() => {}
                () = sleep_until(timer) => {}
            }
        }
    }

    /// Waits until systemd may be looked at again.
    async fn pace(&mut self) {
        if self.silent {
            tokio::time::sleep(SILENCE).await;
        }
        self.pacer.round().await;
    }

    /// Everything that can be done now.
    async fn turn(&mut self) {
        if self.stale {
            self.think().await;
        }
        self.look().await;
        if !self.silent {
            self.doubt_starts();
        }
        for _ in 0..PASSES {
            self.heed_fence();
            // No answer means that nothing is known, not that nothing is there.
            if self.silent || !self.act().await {
                break;
            }
        }
        if self.unsaved {
            self.save();
        }
        self.batches.clean_up(&self.systemd, &self.runtime).await;
        self.report();
    }

    /// Asks systemd about the units that something happened to, or about all when it is time to.
    async fn look(&mut self) {
        let mut dirty = self.systemd.dirty().take();
        if self.silent || self.resync <= Instant::now() {
            self.resync = Instant::now() + jitter(RESYNC);
            self.watch_units();
            for unit in self.installed.keys().chain(self.wanted.iter().flat_map(BTreeMap::keys)) {
                dirty.entry(unit.clone()).or_default();
            }
        }
        for unit in self.wanted.iter().flat_map(BTreeMap::keys).filter(|unit| !self.runtime.contains_key(*unit)) {
            dirty.entry(unit.clone()).or_default();
        }
        let now = Instant::now();
        let settled = |active: &Option<Instant>| active.is_some_and(|since| since + SETTLE <= now);
        for (unit, _) in self.starting.iter().filter(|(_, active)| settled(active)) {
            dirty.entry(unit.clone()).or_default();
        }
        let units: Vec<UnitName> = dirty.keys().cloned().collect();
        if !self.refresh(&units).await {
            // What was asked about stays marked; how jobs ended must be kept with it.
            for (unit, result) in dirty.iter().filter(|(_, result)| result.is_some()) {
                self.systemd.dirty().mark(unit.as_str(), result.as_deref());
            }
            return;
        }
        for (unit, result) in &dirty {
            if let Some(result) = result {
                self.job_ended(unit, result);
            }
        }
    }

    /// Reads the state of units from systemd. Returns whether it answered.
    async fn refresh(&mut self, units: &[UnitName]) -> bool {
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
            let since = self.since.entry(unit.clone()).or_insert((runtime.active, runtime.sub.clone(), now));
            if (since.0, &since.1) != (runtime.active, &runtime.sub) {
                *since = (runtime.active, runtime.sub.clone(), now);
            }
            if !runtime.is_down() {
                self.unconfirmed.remove(unit);
            }
            if let Some(active) = self.starting.get_mut(unit) {
                let is_active = runtime.active == Active::Active && runtime.job.is_none();
                let since = is_active.then(|| *active.get_or_insert_with(Instant::now));
                *active = since;
                if runtime.is_down() || since.is_some_and(|since| since.elapsed() >= SETTLE) {
                    self.starting.remove(unit);
                }
            }
            if runtime.active == Active::Active && !self.retries.contains_key(unit) {
                self.problems.remove(unit);
            }
            self.runtime.insert(unit.clone(), runtime);
        }
        true
    }

    /// Lists units; when systemd refuses the list, one by one, so that no name spoils it for the others.
    async fn list(&self, units: &[UnitName]) -> Result<BTreeMap<UnitName, Runtime>, SystemdError> {
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

    /// A job of a unit has ended, in systemd's words as `result`.
    fn job_ended(&mut self, unit: &UnitName, result: &str) {
        self.unconfirmed.remove(unit);
        let down = self.runtime.get(unit).is_some_and(|runtime| runtime.active == Active::Inactive);
        if down && !matches!(result, "done" | "canceled" | "skipped") {
            self.problems.insert(unit.clone(), format!("its job in systemd ended with \"{result}\""));
        }
    }

    /// Takes the steps that can be taken now. Returns whether there may be more right after.
    async fn act(&mut self) -> bool {
        let now = Instant::now();
        self.acted = now;
        let Some(wanted) = &self.wanted else { return false };
        let waiting = |unit: &UnitName| {
            self.retries.get(unit).is_some_and(|(_, at)| *at > now) || !self.runtime.contains_key(unit)
        };
        let actions = reconcile(wanted, &self.installed, &self.runtime);
        let mut by_step = Steps::default();
        for Action { unit, step, reason } in actions {
            if waiting(&unit) {
                continue;
            }
            debug!(%unit, ?step, reason, "next step");
            match step {
                Step::Install => by_step.install.push(unit),
                Step::Start => by_step.start.push(unit),
                Step::Restart => by_step.restart.push(unit),
                Step::Stop => by_step.stop.push(unit),
                Step::Settle => by_step.settle.push(unit),
                Step::Remove => by_step.remove.push(unit),
            }
        }
        // Files first, jobs after: mixing them makes PID 1 scan its directories anew for each unit.
        let mut moved = self.settle(&by_step.settle);
        moved |= self.remove(&by_step.remove).await;
        moved |= self.install(&by_step.install).await;
        // Whatever comes after a job waits for systemd, which will say so.
        self.jobs(&by_step).await;
        moved
    }

    fn settle(&mut self, units: &[UnitName]) -> bool {
        for unit in units {
            let want = self.wanted.as_ref().and_then(|wanted| wanted.get(unit));
            if let (Some(want), Some(entry)) = (want, self.installed.get_mut(unit)) {
                entry.applied = want.target;
                entry.generation = want.generation.or(entry.generation);
                entry.stopping = false;
            }
            self.succeeded(unit);
        }
        if units.is_empty() {
            return false;
        }
        self.save();
        true
    }

    /// Writes the manifest. Without it a restarted agent would have to guess.
    fn save(&mut self) {
        let outcome = self.disk.save(&self.installed);
        let failed = outcome.is_err();
        if let Err(error) = outcome
            && !self.unsaved
        {
            warn!(error = %crate::chain(&error), "manifest not written, trying again");
        }
        self.unsaved = failed;
    }

    /// A step of this unit failed: say so, and try again later.
    fn failed(&mut self, unit: &UnitName, problem: String) {
        let (backoff, at) =
            self.retries.entry(unit.clone()).or_insert_with(|| (Backoff::new(RETRY.0, RETRY.1), Instant::now()));
        *at = Instant::now() + backoff.delay();
        if self.problems.get(unit) != Some(&problem) {
            warn!(%unit, problem, "unit is not as it should be, trying again");
            self.problems.insert(unit.clone(), problem);
        }
    }

    /// A step of this unit succeeded.
    fn succeeded(&mut self, unit: &UnitName) {
        self.retries.remove(unit);
        self.problems.remove(unit);
    }

    fn next_timer(&self) -> Instant {
        let retries = self.retries.values().map(|(_, at)| *at).filter(|at| *at > self.acted);
        let soon = (self.stale || self.unsaved).then(|| Instant::now() + Duration::from_secs(1));
        let settled = self.starting.values().flatten().map(|since| *since + SETTLE);
        // A unit that the fence has let through only after the last look.
        let unseen = self.wanted.iter().flat_map(BTreeMap::keys).any(|unit| !self.runtime.contains_key(unit));
        let unseen = unseen.then(Instant::now);
        let times = retries.chain(self.unconfirmed.values().copied()).chain(settled).chain(soon).chain(unseen);
        times.chain([self.resync]).min().unwrap_or(self.resync)
    }

    /// Shows the states of all units to the publisher; not before systemd has told of them all, or what is
    /// published of them would be taken back.
    fn report(&self) {
        if self.installed.keys().any(|unit| !self.runtime.contains_key(unit)) {
            return;
        }
        let unknown = Runtime::default();
        let wanted = self.wanted.iter().flatten();
        let troubled =
            wanted.filter(|(unit, _)| !self.installed.contains_key(*unit) && self.problems.contains_key(*unit));
        let troubled =
            troubled.map(|(unit, want)| (unit, self.state(unit, want.hash, Desired::Inactive, None, &unknown)));
        let installed = self.installed.iter().map(|(unit, entry)| {
            let runtime = self.runtime.get(unit).unwrap_or(&unknown);
            (unit, self.state(unit, entry.hash, entry.applied.into(), entry.generation, runtime))
        });
        let mut current: BTreeMap<&UnitName, StateRecord> = installed.chain(troubled).collect();
        for (unit, (hash, revision)) in self.wishes.iter().flat_map(|wishes| &wishes.recalled) {
            // What is down and not wanted is not started again: the engine may have it. While systemd does not answer
            // a start may be under way that has not been seen.
            let runtime = self.runtime.get(unit).unwrap_or(&unknown);
            let is_down = !self.silent && !self.is_starting(unit) && runtime.is_down();
            if !self.installed.contains_key(unit) || is_down {
                let state = self.state(unit, *hash, Desired::Inactive, None, runtime);
                current.insert(unit, StateRecord { released: Some(*revision), ..state });
            }
        }
        self.states.send_if_modified(|states| {
            let first = states.is_none();
            let states = states.get_or_insert_default();
            let gone: Vec<UnitName> = states.keys().filter(|unit| !current.contains_key(*unit)).cloned().collect();
            let mut modified = first || !gone.is_empty();
            gone.iter().for_each(|unit| drop(states.remove(unit)));
            for (unit, state) in current {
                if states.get(unit).is_none_or(|shown| **shown != state) {
                    states.insert(unit.clone(), Arc::new(state));
                    modified = true;
                }
            }
            modified
        });
    }

    fn is_starting(&self, unit: &UnitName) -> bool {
        self.unconfirmed.contains_key(unit) || self.starting.contains_key(unit)
    }

    fn state(
        &self,
        unit: &UnitName,
        hash: UnitHash,
        current: Desired,
        generation: Option<u64>,
        runtime: &Runtime,
    ) -> StateRecord {
        StateRecord {
            hash,
            load: runtime.load.clone(),
            active: runtime.active.to_string(),
            sub: runtime.sub.clone(),
            current,
            generation: generation.unwrap_or_default(),
            job: runtime.job.is_some() || self.is_starting(unit),
            since: self.since.get(unit).map_or(0, |(_, _, since)| *since),
            problem: self.problems.get(unit).cloned(),
            released: None,
        }
    }
}

/// The units that each step is to be taken for.
#[derive(Default)]
struct Steps {
    settle: Vec<UnitName>,
    remove: Vec<UnitName>,
    install: Vec<UnitName>,
    start: Vec<UnitName>,
    restart: Vec<UnitName>,
    stop: Vec<UnitName>,
}

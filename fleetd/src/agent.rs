//! The agent: brings this host to what is wanted of it, and says how its units are.
//!
//! In: the mirror of this host's keys, and systemd's word on its units. Out: steps in systemd, and the states for
//! [`publish`]. Each turn of the loop does the same, whatever woke it: work out what is wanted, look at the units
//! that something happened to, ask [`fleet_core::agent::reconcile`] for steps and take them, until there are none. It
//! asks only about units of which something has changed, and tells only of them: a turn costs what has changed, however
//! many units the host has.
//!
//! While the store is away the last wanted set stands, but for units with `OnPartition=stop`: see [`crate::fence`]. Before the first list is whole, nothing is decided: units
//! that run, run on. Units that the agent did not install are never touched; what it installed is in a manifest, so
//! a fleetd that was killed takes its units up again without a word to systemd.

mod adopt;
mod aliases;
mod decide;
mod disk;
mod install;
mod jobs;
mod look;
mod outcome;
pub mod publish;
mod report;
mod trail;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

pub use disk::Disk;
use fleet_core::{
    agent::{Action, Active, Installed, Runtime, Step, Wanted, reconcile},
    model::{MachineId, Snapshot},
    unit::{Behaviour, UnitName},
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
    trail::Trail,
    wanted::{Wisher, Wishes},
};
use crate::{
    backoff::Backoff,
    filesystem::{FileError, Filesystem},
    node::fence::Fence,
    pace::Pacer,
    registry::{Store, files::Files},
    systemd::Systemd,
};

/// Looks at systemd: a few at once, then one each interval. A start makes 13 signals; one look serves them all.
const LOOKS: (Duration, u32) = (Duration::from_millis(50), 8);
/// How long a unit must have been active after its start to count as started: to systemd a simple service is active
/// as soon as it is forked, also one whose program is missing.
const SETTLE: Duration = Duration::from_millis(40);
/// A start that is over by then is told of once, when it is over.
const HUSH: Duration = Duration::from_millis(300);
/// How long after its start was asked for a unit may show nothing of it.
const CONFIRM: Duration = Duration::from_secs(2);
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
    cluster: watch::Receiver<Snapshot>,
    states: watch::Sender<Option<States>>,
    /// `None` until the first complete list: then nothing is known of what is wanted.
    wishes: Option<Wishes>,
    /// What of it is to be carried out now; what the fence does not let run is not wanted launched.
    wanted: Option<BTreeMap<UnitName, Wanted>>,
    /// Those of the units here that may run once in the cluster at most, as far as that is known.
    strict: BTreeSet<UnitName>,
    /// What is wanted must be worked out again.
    stale: bool,
    /// Units of an earlier run whose files have not been read yet.
    unread: BTreeSet<UnitName>,
    installed: BTreeMap<UnitName, Installed>,
    runtime: BTreeMap<UnitName, Runtime>,
    /// When a unit came into the state it is in.
    since: BTreeMap<UnitName, (Active, String, u64)>,
    /// What keeps a unit from being as it should.
    problems: BTreeMap<UnitName, String>,
    /// What the log was last told of a unit that is not as it should be.
    logged: BTreeMap<UnitName, String>,
    /// What kept a unit from its last start though nothing is in the way: a condition.
    notices: BTreeMap<UnitName, String>,
    /// Why units failed that have.
    failures: BTreeMap<UnitName, String>,
    /// Units that have an alias less, because another one has it.
    disputes: BTreeMap<UnitName, String>,
    /// What the contents in place say of starts.
    behaviour: BTreeMap<UnitName, Behaviour>,
    /// Units that have run since they were installed: systemd may count their starts.
    has_run: BTreeSet<UnitName>,
    /// Units that cannot be started before another one is there.
    lacking: BTreeSet<UnitName>,
    /// Units that systemd keeps loaded until it was asked how their start went.
    held: BTreeSet<UnitName>,
    /// Units whose last step failed, and when to try again.
    retries: BTreeMap<UnitName, (Backoff, Instant)>,
    /// Units started as part of a batch, of which nothing has been seen yet.
    unconfirmed: BTreeMap<UnitName, Instant>,
    /// Units that were started and have not settled.
    starting: BTreeMap<UnitName, Launch>,
    /// How the last start of a unit went.
    trails: BTreeMap<UnitName, Trail>,
    /// Units of which something has changed since they were told of.
    news: BTreeSet<UnitName>,
    /// Units that may have a next step: something of them has changed since they had none.
    open: BTreeSet<UnitName>,
    /// Units that are wanted or installed and have never been looked at.
    unseen: BTreeSet<UnitName>,
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

/// A start that is under way.
#[derive(Clone, Debug)]
struct Launch {
    queued: Instant,
    /// The number of its job, or of the one that brought it about.
    job: u32,
    /// That job has ended.
    ended: bool,
    /// Since when the unit has been active, if it is.
    active: Option<Instant>,
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
        cluster: watch::Receiver<Snapshot>,
        states: watch::Sender<Option<States>>,
    ) -> Result<Self, FileError> {
        let disk = Disk::open(filesystem.clone(), units)?;
        let left = disk.left()?;
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
            strict: BTreeSet::new(),
            stale: true,
            unread: left.units,
            installed: left.installed,
            runtime: BTreeMap::new(),
            since: BTreeMap::new(),
            problems: BTreeMap::new(),
            logged: BTreeMap::new(),
            notices: BTreeMap::new(),
            failures: BTreeMap::new(),
            disputes: BTreeMap::new(),
            behaviour: BTreeMap::new(),
            has_run: BTreeSet::new(),
            lacking: BTreeSet::new(),
            held: BTreeSet::new(),
            retries: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            starting: BTreeMap::new(),
            trails: BTreeMap::new(),
            news: BTreeSet::new(),
            open: BTreeSet::new(),
            unseen: BTreeSet::new(),
            alone: BTreeSet::new(),
            batches,
            pacer: Pacer::new(LOOKS.0, LOOKS.1),
            resync: Instant::now(),
            silent: false,
            queued: BTreeSet::new(),
            acted: Instant::now(),
            unsaved: false,
        };
        agent.unseen = agent.installed.keys().cloned().collect();
        agent.open.clone_from(&agent.unseen);
        agent.news.clone_from(&agent.unseen);
        agent.adopt_fenced()?;
        Ok(agent)
    }

    /// Runs until `shutdown`. Touches no unit when it ends.
    pub async fn run(&mut self, shutdown: &CancellationToken) {
        self.take_up(shutdown).await;
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
        self.open.extend(self.installed.keys().cloned());
        self.news.extend(self.installed.keys().cloned());
        self.news.extend(self.wishes.take().into_iter().flat_map(|wishes| wishes.recalled.into_keys()));
        self.want(BTreeMap::new());
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
        self.batches.clean_up(&self.systemd).await;
        self.report();
    }

    /// Something of a unit has changed.
    fn touch(&mut self, unit: &UnitName) {
        self.news.insert(unit.clone());
        self.open.insert(unit.clone());
    }

    /// Takes the steps that can be taken now. Returns whether there may be more right after.
    async fn act(&mut self) -> bool {
        let now = Instant::now();
        self.acted = now;
        let Some(wanted) = &self.wanted else { return false };
        let waiting = |unit: &UnitName| {
            self.retries.get(unit).is_some_and(|(_, at)| *at > now) || !self.runtime.contains_key(unit)
        };
        let actions = reconcile(&self.open, wanted, &self.installed, &self.runtime);
        debug_assert!(self.knows_open(wanted));
        self.open = actions.iter().map(|action| action.unit.clone()).collect();
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
                entry.settled(want);
            }
            self.succeeded(unit);
        }
        if units.is_empty() {
            return false;
        }
        self.save();
        true
    }

    /// Whether every unit that has a next step is known to be open.
    fn knows_open(&self, wanted: &BTreeMap<UnitName, Wanted>) -> bool {
        let all: BTreeSet<UnitName> = wanted.keys().chain(self.installed.keys()).cloned().collect();
        let actions = reconcile(&all, wanted, &self.installed, &self.runtime);
        actions.iter().all(|action| self.open.contains(&action.unit))
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
        self.touch(unit);
        if self.is_news(unit, &problem) {
            warn!(%unit, problem, "unit is not as it should be, trying again");
        }
        self.problems.insert(unit.clone(), problem);
    }

    /// Whether the log has not been told of this problem last; now it is.
    fn is_news(&mut self, unit: &UnitName, problem: &str) -> bool {
        self.logged.insert(unit.clone(), problem.into()).as_deref() != Some(problem)
    }

    /// Systemd has taken the job of a start: what comes of it is not known yet.
    fn under_way(&mut self, unit: &UnitName) {
        self.problems.remove(unit);
        self.retry_now(unit);
    }

    /// A step of this unit succeeded.
    fn succeeded(&mut self, unit: &UnitName) {
        self.retries.remove(unit);
        self.problems.remove(unit);
        self.logged.remove(unit);
        self.touch(unit);
    }

    /// A part of what a unit needs is done: the rest is tried at once. Should that fail, it waits longer than before.
    fn retry_now(&mut self, unit: &UnitName) {
        if let Some((_, at)) = self.retries.get_mut(unit) {
            *at = Instant::now();
        }
        self.touch(unit);
    }

    fn next_timer(&self) -> Instant {
        let retries = self.retries.values().map(|(_, at)| *at).filter(|at| *at > self.acted);
        let soon = (self.stale || self.unsaved).then(|| Instant::now() + Duration::from_secs(1));
        let settled = self.starting.values().filter_map(|launch| launch.active).map(|since| since + SETTLE);
        let unheard = self.starting.iter().filter(|(unit, _)| self.runtime.get(*unit).is_some_and(Runtime::is_down));
        let unheard = unheard.map(|(_, launch)| launch.queued + CONFIRM);
        let hushed = self.news.iter().filter_map(|unit| self.starting.get(unit)).map(|launch| launch.queued + HUSH);
        // A unit that the fence has let through only after the last look.
        let unseen = (!self.unseen.is_empty()).then(Instant::now);
        let times = retries.chain(self.unconfirmed.values().copied()).chain(settled).chain(hushed);
        times.chain(unheard).chain(soon).chain(unseen).chain([self.resync]).min().unwrap_or(self.resync)
    }

    fn is_starting(&self, unit: &UnitName) -> bool {
        self.unconfirmed.contains_key(unit) || self.starting.contains_key(unit)
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

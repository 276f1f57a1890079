//! The agent: brings this host to what is wanted of it, and reports how its units are.
//!
//! In: the mirror of this host's keys, and systemd's word on its units. Out: steps in systemd, and the states for
//! [`publish`]. Each turn of the loop does the same, whatever woke it: read what is wanted, look at the units that something
//! happened to, ask their cells ([`fleet_core::host`]) for steps and take them, until there are none. It asks only cells
//! that are awake: a turn costs what has changed, however many units the host has.
//!
//! ```text
//!   mirror ──▶ desired ──▶ ┌───────┐ ──▶ files  put in place, taken away
//!   fence  ──────────────▶ │ units │ ──▶ jobs   started, stopped
//!   systemd ─▶ looks ────▶ │       │ ──▶ states ──▶ publisher
//!         └──▶ starts ───▶ └───────┘ ──▶ manifest
//! ```
//!
//! Each part owns its data, and tells the cells in [`units`](self) what happened. While the store is away the last desired
//! set stands, but for units with `OnPartition=stop`: see [`crate::membership::fence`]. Before the first list is whole, nothing is
//! decided: units that run, run on. Units that the agent did not install are never touched; what it installed is in a
//! manifest, so a fleetd that was killed takes its units up again without a word to systemd.

mod adopt;
mod aliases;
mod desired;
mod disk;
mod files;
mod globals;
mod jobs;
mod looks;
mod manifest;
pub mod publish;
mod starts;
mod states;
mod units;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

pub use desired::strict_of;
pub use disk::Disk;
use fleet_core::{
    host::{Installed, Step},
    model::{MachineId, Snapshot},
    unit::{Behaviour, UnitName},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{
    desired::DesiredReader, files::UnitFiles, jobs::Jobs, looks::Looks, manifest::Manifest, publish::States,
    starts::Starts, states::Reporter, units::Units,
};
use crate::{
    clock::monotonic,
    filesystem::{FileError, Filesystem},
    membership::fence::Fence,
    registry::{Store, files::Files},
    systemd::Systemd,
};

/// How often everything is looked at while the host leaves, though nothing was heard.
const LEAVING_RESYNC: Duration = Duration::from_secs(5);
/// When to try again what could not be read or written.
const RETRY: Duration = Duration::from_secs(1);
/// Passes of one turn. Remove, install and start of a changed unit take three; more is left to the next turn.
const PASSES: usize = 8;

/// The agent of one host.
pub struct Agent<S, D, F> {
    units: Units,
    desired: DesiredReader<S>,
    fence: Fence,
    looks: Looks<D>,
    files: UnitFiles<S, D, F>,
    jobs: Jobs<D, F>,
    starts: Starts<D, F>,
    states: Reporter,
    manifest: Manifest<F>,
    disk: Disk<F>,
    /// Units of an earlier run whose files have not been read yet.
    unread: BTreeSet<UnitName>,
    /// When steps were taken last: what is to be tried again is tried if it was due by then.
    acted: Duration,
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
        agreed: watch::Sender<bool>,
    ) -> Result<Self, FileError> {
        let disk = Disk::open(filesystem.clone(), units)?;
        let left = disk.left()?;
        let mut agent = Self {
            units: Units::default(),
            desired: DesiredReader::new(machine, metadata, files.clone(), cluster, agreed),
            fence,
            looks: Looks::new(systemd.clone()),
            files: UnitFiles::new(systemd.clone(), files, disk.clone()),
            jobs: Jobs::new(systemd.clone(), filesystem),
            starts: Starts::new(systemd, disk.clone()),
            states: Reporter::new(states),
            manifest: Manifest::new(disk.clone()),
            disk,
            unread: left.units,
            acted: monotonic(),
        };
        left.installed.into_iter().for_each(|(unit, entry)| agent.units.cells.adopt(unit, entry));
        agent.adopt_fenced()?;
        Ok(agent)
    }

    /// Takes note of the units that were stopped while no fleetd ran: they have not ended by themselves. A unit that the
    /// manifest does not know of needs no such note: it counts as never started.
    fn adopt_fenced(&mut self) -> Result<(), FileError> {
        let fenced = self.disk.fenced()?;
        if fenced.is_empty() {
            return Ok(());
        }
        info!(units = ?fenced, "these units were stopped while fleetd was down");
        self.units.edit_all(&fenced, |cell, _| cell.was_stopped());
        self.manifest.save(&mut self.units);
        self.disk.forget_fenced()
    }

    /// Runs until `shutdown`. Touches no unit when it ends.
    pub async fn run(&mut self, shutdown: &CancellationToken) {
        self.take_up(shutdown).await;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.looks.pace() => {}
            }
            self.turn().await;
            let timer = self.next_timer();
            // Each arm only tells that there is something to look at; what it is stays where it is until looked at.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.fence.turning(), if !self.units.cells.strict().is_empty() => {}
                more = self.desired.changed() => if !more { return },
                () = self.looks.marked() => {}
                () = sleep_until(timer) => {}
            }
        }
    }

    /// Stops and removes all of the agent's units: the host leaves the cluster. Runs until nothing of them runs.
    pub async fn leave(&mut self) {
        info!(units = self.units.cells.all_installed().count(), "leaving: stopping all units");
        self.units.cells.leave();
        self.desired.rest();
        loop {
            self.looks.pace().await;
            self.turn().await;
            // A file that cannot be removed is no reason to stay; the next fleetd tries again.
            let mut left = self.units.cells.iter().filter(|(_, cell)| cell.installed().is_some());
            if left.all(|(_, cell)| cell.is_down() && cell.is_retry()) {
                return;
            }
            // Nobody comes after this: a signal that was lost must not keep the host for long.
            self.looks.resync_within(LEAVING_RESYNC);
            let timer = self.next_timer();
            tokio::select! {
                biased;
                () = self.looks.marked() => {}
                () = sleep_until(timer) => {}
            }
        }
    }

    /// Reads the files of the units that are here. Systemd is asked how these are meanwhile, once it is listened to:
    /// either takes its time when there are a thousand. Only what is asked ends with `shutdown`.
    async fn take_up(&mut self, shutdown: &CancellationToken) {
        let reading = adopt::read(self.disk.clone(), std::mem::take(&mut self.unread));
        tokio::pin!(reading);
        self.looks.watch(&mut self.units);
        let read = tokio::select! {
            biased;
            read = &mut reading => read,
            () = self.looks.marked() => {
                tokio::join!(shutdown.run_until_cancelled(self.look()), reading).1
            }
        };
        let strict = strict_of(&read);
        let mut has_strays = false;
        for (unit, file) in &read {
            if self.units.cells.installed(unit).is_none() {
                // Written just before a crash, and most likely not started yet.
                self.units.cells.adopt(unit.clone(), Installed::loaded(file.hash(), None));
                has_strays = true;
            }
            self.units.cells.read(unit, Behaviour::of(file, unit), strict.contains(unit));
        }
        if has_strays {
            self.watch();
        }
        self.files.adopt(&mut self.units, read.into_values());
        let installed = self.units.cells.all_installed().count();
        if installed > 0 {
            info!(units = installed, "took up the units of an earlier run");
        }
    }

    /// Everything that can be done now.
    async fn turn(&mut self) {
        if self.desired.is_stale() {
            self.refresh_desired().await;
        }
        self.look().await;
        for _ in 0..PASSES {
            self.apply_fence();
            // No answer means that nothing is known, not that nothing is there.
            if !self.looks.answers() || !self.act().await {
                break;
            }
        }
        self.manifest.save(&mut self.units);
        self.jobs.clean_up().await;
        self.states.report(&mut self.units, self.looks.answers());
        self.units.cells.rest(self.acted);
    }

    /// Reads what is wanted, unless that cannot be known now.
    async fn refresh_desired(&mut self) {
        let is_fenced = !self.units.cells.strict().is_empty() && self.fence.is_open();
        let desired = tokio::select! {
            biased;
            // Files may take long to come, and the fence does not wait. Nothing is lost: this is stale still.
            () = self.fence.turning(), if is_fenced => return,
            desired = self.desired.refresh(&self.units.cells) => desired,
        };
        let Some(desired) = desired else { return };
        let changed = self.units.cells.assign(&desired);
        for unit in &changed.units {
            let Some((revision, arrived)) = self.desired.asked_by(unit) else { continue };
            self.units.edit(unit, |cell, now| cell.begin_trace(revision, arrived, now));
        }
        if changed.strict
            && let Err(error) = self.disk.save_strict(self.units.cells.strict())
        {
            warn!(error = %crate::chain(&error), "if no fleetd can run, units with OnPartition=stop run on");
        }
        self.watch();
        // What is to be done for a request depends on how the unit is now, not when it was heard of last.
        self.units.filter(&changed.units, |cell| cell.is_asked_again()).for_each(|unit| self.looks.mark(unit));
    }

    /// Opens or closes the fence, whatever else is known: units that may run once at most run here only while it is open.
    fn apply_fence(&mut self) {
        let strict = self.units.cells.strict();
        if strict.is_empty() {
            return;
        }
        let before = self.fence.is_open();
        let open = self.fence.update(self.desired.listed());
        match (before, open) {
            (false, true) => info!(units = ?strict, "fence is open"),
            (true, false) => warn!(units = ?strict, "lease may run out: fence is closed"),
            _ => {}
        }
        if self.units.cells.apply_fence(open) {
            self.watch();
        }
    }

    /// Has systemd tell of the units that are of interest, and forgets what is known of others.
    fn watch(&mut self) {
        self.looks.watch(&mut self.units);
        self.desired.forget_files(&self.units.cells);
    }

    /// Looks at the units that something happened to, and asks what became of their jobs.
    async fn look(&mut self) {
        if self.looks.is_overdue() {
            self.watch();
        }
        let Some(looked) = self.looks.look(&mut self.units).await else { return };
        for (unit, ended) in &looked.ended {
            self.starts.job_ended(&mut self.units, unit, ended).await;
        }
        self.starts.ask_why_failed(&mut self.units, &looked.units).await;
    }

    /// Takes the steps that can be taken now. Returns whether there may be more right after.
    async fn act(&mut self) -> bool {
        self.acted = monotonic();
        let mut steps = Steps::default();
        for (unit, step, reason) in self.units.cells.steps(self.acted) {
            debug!(%unit, ?step, reason, "next step");
            steps.of(step).push(unit);
        }
        // Files first, jobs after: mixing them makes PID 1 scan its directories anew for each unit.
        let mut moved = self.settle(&steps.settle);
        moved |= self.remove(&steps.remove).await;
        moved |= self.install(&steps.install).await;
        // Whatever comes after a job waits for systemd, which will say so.
        self.queue_jobs(&steps).await;
        moved
    }

    fn settle(&mut self, units: &[UnitName]) -> bool {
        if units.is_empty() {
            return false;
        }
        self.units.edit_all(units, |cell, _| cell.settled());
        self.manifest.save(&mut self.units);
        true
    }

    async fn remove(&mut self, units: &[UnitName]) -> bool {
        if units.is_empty() {
            return false;
        }
        for unit in self.files.remove(&mut self.units, units).await {
            self.starts.let_go(&unit).await;
        }
        self.manifest.save(&mut self.units);
        self.watch();
        true
    }

    async fn install(&mut self, units: &[UnitName]) -> bool {
        if units.is_empty() {
            return false;
        }
        let resting = self.files.install(&mut self.units, units).await;
        self.manifest.save(&mut self.units);
        self.watch();
        // Those that are started right away are looked at after that. To look at one that is not makes systemd load it,
        // and forget it again.
        self.looks.refresh(&mut self.units, &resting).await;
        true
    }

    async fn queue_jobs(&mut self, steps: &Steps) {
        let (stop, restart, start) = (&steps.stop, &steps.restart, &steps.start);
        if !stop.is_empty() {
            // Written down first: a fleetd that is killed now must not take them for ended by themselves.
            self.units.edit_all(stop, |cell, _| cell.stop_asked());
            self.manifest.save(&mut self.units);
        }
        let queued = self.jobs.queue_all(&mut self.units, &mut self.starts, stop, restart, start).await;
        if queued.is_empty() {
            return;
        }
        self.manifest.save(&mut self.units);
        self.jobs.clean_up().await;
        if self.looks.refresh(&mut self.units, &queued).await {
            let left = self.jobs.stop_left_out(&mut self.units, &mut self.starts, stop).await;
            self.looks.refresh(&mut self.units, &left).await;
        }
    }

    /// When to have a turn though nothing is heard.
    fn next_timer(&self) -> Instant {
        let cells = self.units.cells.wake(self.acted).map(|at| Instant::now() + at.saturating_sub(monotonic()));
        let again = (self.desired.is_stale() || self.manifest.has_failed()).then(|| Instant::now() + RETRY);
        cells.into_iter().chain(again).fold(self.looks.resync(), Instant::min)
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

impl Steps {
    fn of(&mut self, step: Step) -> &mut Vec<UnitName> {
        match step {
            Step::Install => &mut self.install,
            Step::Start => &mut self.start,
            Step::Restart => &mut self.restart,
            Step::Stop => &mut self.stop,
            Step::Settle => &mut self.settle,
            Step::Remove => &mut self.remove,
        }
    }
}

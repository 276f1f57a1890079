//! Waiting until units are where they were asked to be.
//!
//! All units of a command are followed at once ([`feed`]); each status is judged by a pure function
//! ([`progress`]). What is reached is said on stdout, unit by unit. What is in the way is said on stderr: why a unit
//! has no machine, and when one fails, what happened to it, with the end of its journal.

mod changes;
mod feed;
mod progress;
mod rolling;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io::{IsTerminal, stderr},
    iter::repeat_n,
    time::Duration,
};

use clap::Args;
use fleet_api::{UnitStatus, Why};
use indicatif::ProgressBar;
use tokio::time::{Instant, sleep_until};

pub use self::{changes::Changes, feed::STREAM, progress::Goal, rolling::roll};
use self::{feed::Feed, progress::Progress};
use crate::{
    command::Context,
    error::Failure,
    machines::{Roster, legend},
    output, remote,
};

/// One of the attempts of `--block-attempts`.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A unit that has no machine by then, and fits on none, gets none soon.
const EXPLAIN_AFTER: Duration = Duration::from_millis(700);
/// Between two explanations. By the second an engine that is only busy has decided.
const EXPLAIN_EVERY: Duration = Duration::from_secs(5);
/// Units whose lack of a machine is explained, and machines named for each. The others are counted.
const EXPLAIN_UNITS: usize = 3;
const EXPLAIN_MACHINES: usize = 8;
/// A problem that has not gone away by then is not left from before.
const TROUBLE_LASTS: Duration = Duration::from_secs(2);

/// How long a command waits for what it asked for.
#[derive(Args, Clone, Copy, Debug)]
pub struct Patience {
    /// Wait for N times 2 seconds; 0 means without end
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    block_attempts: i32,
    /// Return at once
    #[arg(long)]
    no_block: bool,
}

impl Patience {
    /// Whether the command waits at all.
    pub fn waits(&self) -> bool {
        !self.no_block && self.block_attempts >= 0
    }

    /// When a command that waits gives up.
    pub fn deadline(&self) -> Option<Instant> {
        let attempts = u32::try_from(self.block_attempts).unwrap_or(0);
        (attempts > 0).then(|| Instant::now() + ATTEMPT * attempts)
    }
}

/// When it was heard of each unit that it is where it should be.
pub type Reached = BTreeMap<String, Instant>;

/// Waits until all units have reached the goal, or says `Triggered unit X VERB` and returns. Of those of which it was
/// wanted before, `again`, only those count as reached, and are spoken of, for which something had to be done.
///
/// # Errors
/// A unit has failed, time is up, or the cluster cannot be followed.
pub async fn wait_for(
    context: &Context,
    names: &[String],
    again: &BTreeSet<String>,
    goal: Goal,
    verb: &str,
    patience: Patience,
) -> Result<Reached, Failure> {
    if !patience.waits() {
        let new = names.iter().filter(|name| !again.contains(*name));
        let mut lines = new.flat_map(|name| repeat_n(name, times("start", verb)));
        lines.try_for_each(|name| output::result(&format!("Triggered unit {name} {verb}")))?;
        return Ok(Reached::new());
    }
    if names.is_empty() {
        return Ok(Reached::new());
    }
    let mut feed = Feed::open(&context.client, names);
    let mut waiter = Waiter::new(context, names, again, goal, times("restart", verb), patience.deadline());
    while !waiter.pending.is_empty() {
        let wake = waiter.wakes_at();
        tokio::select! {
            status = feed.next() => match status {
                Ok(status) => waiter.take(status).await?,
                Err(error) => return Err(error.during("Error waiting for units")),
            },
            () = sleep_until(wake) => waiter.on_time().await?,
        }
    }
    Ok(waiter.reached)
}

/// How often CoreOS fleet says a line: `start --no-block` and a `restart` that waits say it twice, and somebody may
/// count.
fn times(twice: &str, verb: &str) -> usize {
    if verb == twice { 2 } else { 1 }
}

/// The units still on their way.
struct Waiter<'c> {
    context: &'c Context,
    goal: Goal,
    deadline: Option<Instant>,
    /// Those of which it was wanted before.
    again: &'c BTreeSet<String>,
    pending: BTreeMap<String, Pending>,
    reached: Reached,
    roster: Roster,
    spinner: Spinner,
    /// How often a unit's line is said.
    times: usize,
    /// Units that are to be destroyed and have not been spoken of, in the order of the arguments.
    unsaid: VecDeque<String>,
    explain_at: Instant,
    /// Whether the engine has had its time.
    is_late: bool,
    /// The last explanation of each unit.
    explained: HashMap<String, String>,
}

#[derive(Default)]
struct Pending {
    status: UnitStatus,
    progress: Option<Progress>,
    announced: bool,
    troubled_since: Option<Instant>,
}

impl<'c> Waiter<'c> {
    fn new(
        context: &'c Context,
        names: &[String],
        again: &'c BTreeSet<String>,
        goal: Goal,
        times: usize,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            context,
            goal,
            deadline,
            again,
            pending: names.iter().map(|name| (name.clone(), Pending::default())).collect(),
            reached: Reached::new(),
            roster: Roster::default(),
            spinner: Spinner::new(names.len(), goal),
            times,
            unsaid: names.iter().cloned().collect(),
            explain_at: Instant::now() + EXPLAIN_AFTER,
            is_late: false,
            explained: HashMap::new(),
        }
    }

    /// When there is something to do even if no status comes.
    fn wakes_at(&self) -> Instant {
        let trouble = self.pending.values().filter_map(|unit| unit.troubled_since).map(|since| since + TROUBLE_LASTS);
        trouble.chain(self.deadline).fold(self.explain_at, Instant::min)
    }

    async fn take(&mut self, status: UnitStatus) -> Result<(), Failure> {
        let name = status.name.clone();
        let Some(unit) = self.pending.get_mut(&name) else { return Ok(()) };
        let progress = progress::progress(&status, self.goal);
        unit.status = status;
        unit.progress = Some(progress.clone());
        unit.troubled_since = match progress {
            Progress::Troubled(_) => Some(unit.troubled_since.unwrap_or_else(Instant::now)),
            _ => None,
        };
        match progress {
            Progress::Unplaced | Progress::Waiting | Progress::Troubled(_) => Ok(()),
            Progress::Starting => self.announce(&name).await,
            Progress::Reached => {
                if self.is_news(&name) {
                    self.reached.insert(name.clone(), Instant::now());
                }
                self.announce(&name).await?;
                self.tell_notices(&name).await;
                self.pending.remove(&name);
                self.spinner.reached(self.pending.len());
                Ok(())
            }
            Progress::Failed(what) => {
                self.announce(&name).await?;
                Err(self.failed(&name, &what).await)
            }
        }
    }

    async fn on_time(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let lasting = |unit: &Pending| unit.troubled_since.is_some_and(|since| now >= since + TROUBLE_LASTS);
        let troubled = self.pending.iter().find_map(|(name, unit)| match &unit.progress {
            Some(Progress::Troubled(what)) if lasting(unit) => Some((name.clone(), what.clone())),
            _ => None,
        });
        if let Some((name, what)) = troubled {
            return Err(self.failed(&name, &what).await);
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(self.timed_out().await);
        }
        if now >= self.explain_at {
            self.explain().await;
            self.explain_at = Instant::now() + EXPLAIN_EVERY;
            self.is_late = true;
        }
        Ok(())
    }

    /// Whether something was done with a unit for this command.
    fn is_news(&self, name: &str) -> bool {
        let Some(unit) = self.pending.get(name) else { return false };
        let mut reports = unit.status.reports.iter();
        match (self.again.contains(name), self.goal) {
            (true, _) => reports.any(|report| report.acted),
            // What is to be down may have been before. An agent that knows of no requests does not tell.
            (false, Goal::Stopped) => reports.any(|report| report.acted || report.request.is_none()),
            (false, _) => true,
        }
    }

    /// Says what systemd kept a unit from its start for, though nothing is wrong.
    async fn tell_notices(&mut self, name: &str) {
        let Some(unit) = self.pending.get(name).filter(|_| self.goal == Goal::Launched) else { return };
        let reports = unit.status.reports.iter();
        let notices: Vec<(String, String)> =
            reports.filter_map(|report| Some((report.machine_id.clone(), report.notice.clone()?))).collect();
        for (machine, notice) in notices {
            let legend = self.legend(&machine).await;
            self.spinner.aside(|| output::note(&format!("warning: {name} on {legend}: {notice}")));
        }
    }

    /// Says on stdout, once, that the cluster has brought a unit where it should be.
    async fn announce(&mut self, name: &str) -> Result<(), Failure> {
        let Some(unit) = self.pending.get_mut(name).filter(|unit| !unit.announced) else { return Ok(()) };
        if unit.status.global {
            return self.announce_everywhere(name).await;
        }
        // A unit that failed before it was started is nowhere yet.
        if self.goal != Goal::Destroyed && unit.status.current_state != self.goal.state() {
            return Ok(());
        }
        if self.again.contains(name) && !unit.status.reports.iter().any(|report| report.acted) {
            return Ok(());
        }
        unit.announced = true;
        if self.goal == Goal::Destroyed {
            return self.say_destroyed();
        }
        let machine = unit.status.machine_id.clone();
        let line = match self.goal {
            Goal::Unloaded => format!("Unit {name} inactive"),
            _ => format!("Unit {name} {} on {}", self.goal.state(), self.legend(&machine).await),
        };
        self.spinner.aside(|| (0..self.times).try_for_each(|_| output::result(&line)))
    }

    /// Says of a global unit where something was done. On stdout CoreOS fleet says nothing.
    async fn announce_everywhere(&mut self, name: &str) -> Result<(), Failure> {
        let Some(unit) = self.pending.get_mut(name).filter(|unit| unit.progress == Some(Progress::Reached)) else {
            return Ok(());
        };
        unit.announced = true;
        let done = match self.goal {
            Goal::Launched => "started",
            Goal::Stopped => "stopped",
            _ => return Ok(()),
        };
        let acted = unit.status.reports.iter().filter(|report| report.acted);
        let machines: Vec<String> = acted.map(|report| report.machine_id.clone()).collect();
        for machine in machines {
            let legend = self.legend(&machine).await;
            self.spinner.aside(|| output::note(&format!("{name} {done} on {legend}")));
        }
        Ok(())
    }

    /// Says which units are gone, in the order of the arguments: one waits for those before it.
    fn say_destroyed(&mut self) -> Result<(), Failure> {
        let pending = &self.pending;
        let is_gone = |name: &&String| pending.get(*name).is_none_or(|unit| unit.announced);
        while let Some(name) = self.unsaid.front().filter(is_gone) {
            self.spinner.aside(|| output::result(&format!("Destroyed {name}")))?;
            self.unsaid.pop_front();
        }
        Ok(())
    }

    /// Says on stderr what keeps units from getting a machine, unless that has been said before.
    async fn explain(&mut self) {
        let unplaced = |unit: &Pending| unit.progress == Some(Progress::Unplaced);
        let mut names = self.pending.iter().filter(|(_, unit)| unplaced(unit)).map(|(name, _)| name.clone());
        let shown: Vec<String> = names.by_ref().take(EXPLAIN_UNITS).collect();
        let others = names.count();
        let mut said = false;
        for name in shown {
            // Explanations are a courtesy: without them (an old fleetd, or none at all now), waiting goes on.
            let Ok(Some(why)) = self.context.client.why(&name).await else { continue };
            // It has got one meanwhile, or is about to.
            let is_near = why.machines.iter().any(|verdict| verdict.fits) && !self.is_late;
            if is_near || !why.machine_id.is_empty() {
                continue;
            }
            if self.explained.get(&name) != Some(&why.summary) {
                self.spinner.aside(|| output::note(&explanation(&name, &why)));
                self.explained.insert(name, why.summary);
                said = true;
            }
        }
        if said && others > 0 {
            self.spinner.aside(|| output::note(&format!("{others} more units wait for a machine")));
        }
    }

    async fn timed_out(&mut self) -> Failure {
        let Some((name, unit)) = self.pending.iter().next() else { return Failure::new("timed out") };
        let (name, others) = (name.clone(), self.pending.len() - 1);
        let report = if unit.status.global {
            progress::least_far(&unit.status, self.goal)
        } else {
            progress::report(&unit.status)
        };
        let state = report.map(|report| format!("{} ({})", report.active, report.sub));
        let machine = report.map(|report| report.machine_id.clone()).unwrap_or_default();
        let what = match (&unit.progress, state) {
            (Some(Progress::Unplaced), _) => "it has no machine".into(),
            (Some(Progress::Troubled(what)), _) => what.clone(),
            (_, Some(state)) => format!("it is {state}"),
            (_, None) => "nothing is known of it".into(),
        };
        let place = self.place(&machine).await;
        let failure = Failure::new(format!("timed out: {name}{place} is not {}: {what}", self.goal.reached()));
        let failure = if others > 0 { failure.line(format!("{others} more units are not")) } else { failure };
        failure.hint(format!("`fleetctl why {name}` tells more; it goes on without this command"))
    }

    /// What happened to a unit.
    async fn failed(&mut self, name: &str, what: &str) -> Failure {
        let report = self.pending.get(name).and_then(|unit| match unit.status.global {
            true => progress::least_far(&unit.status, self.goal).cloned(),
            false => progress::report(&unit.status).cloned(),
        });
        let scheduled = self.pending.get(name).map(|unit| unit.status.machine_id.clone()).unwrap_or_default();
        let machine = report.as_ref().map_or(scheduled, |report| report.machine_id.clone());
        let failure = Failure::new(format!("{name}{}: {what}", self.place(&machine).await));
        // What has not run has nothing to say in the journal.
        let has_run = report.is_some_and(|report| report.problem.is_none() && report.active != "inactive");
        if self.goal != Goal::Launched || machine.is_empty() || !has_run {
            return failure.hint(format!("`fleetctl why {name}` tells more"));
        }
        let hint = format!("its journal is in `fleetctl journal {name}`; `fleetctl start {name}` tries again");
        match remote::journal_tail(&machine, name, &self.roster, &self.context.ssh).await {
            Some(tail) => tail.lines().fold(failure, |failure, line| failure.line(format!("  {line}"))).hint(hint),
            None => failure.hint(hint),
        }
    }

    async fn place(&mut self, machine: &str) -> String {
        if machine.is_empty() { String::new() } else { format!(" on {}", self.legend(machine).await) }
    }

    async fn legend(&mut self, machine: &str) -> String {
        if !self.roster.knows(machine) {
            // Without the list, the ID alone has to do.
            if let Ok(machines) = self.context.client.machines().await {
                self.roster = Roster::new(machines);
            }
        }
        self.roster.legend(machine, false)
    }
}

fn explanation(name: &str, why: &Why) -> String {
    let mut text = format!("Unit {name}: {}", why.summary);
    for verdict in why.machines.iter().take(EXPLAIN_MACHINES) {
        text.push_str(&format!("\n  {}: {}", legend(&verdict.id, &verdict.primary_ip, false), verdict.reason));
    }
    if let Some(more) = why.machines.len().checked_sub(EXPLAIN_MACHINES).filter(|more| *more > 0) {
        text.push_str(&format!("\n  and {more} more machines, see `fleetctl why {name}`"));
    }
    text
}

/// `3/10 units active`, on stderr while a person looks at it.
struct Spinner {
    bar: ProgressBar,
    total: usize,
    goal: Goal,
}

impl Spinner {
    fn new(total: usize, goal: Goal) -> Self {
        let bar = if stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let spinner = Self { bar, total, goal };
        spinner.reached(total);
        if !spinner.bar.is_hidden() {
            spinner.bar.enable_steady_tick(Duration::from_millis(100));
        }
        spinner
    }

    fn reached(&self, pending: usize) {
        let (reached, total) = (self.total - pending, self.total);
        let units = if total == 1 { "unit" } else { "units" };
        self.bar.set_message(format!("{reached}/{total} {units} {}", self.goal.reached()));
    }

    /// Lets other words through without mixing them with the spinner's.
    fn aside<T>(&self, say: impl FnOnce() -> T) -> T {
        self.bar.suspend(say)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

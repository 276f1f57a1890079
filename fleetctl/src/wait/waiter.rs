//! The units of a command that are still on their way, and what is said of them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use fleet_api::UnitStatus;
use tokio::time::Instant;

use super::{
    Reached,
    explain::Explainer,
    progress::{self, Goal, Progress},
    spinner::Spinner,
};
use crate::{context::Context, error::Failure, machines::Roster, output};

/// A problem that has not gone away by then is not left from before.
const TROUBLE_LASTS: Duration = Duration::from_secs(2);

/// The units still on their way.
pub struct Waiter<'c> {
    context: &'c Context,
    goal: Goal,
    deadline: Option<Instant>,
    /// Those that had the desired state before.
    again: &'c BTreeSet<String>,
    pending: BTreeMap<String, Pending>,
    reached: Reached,
    roster: Roster,
    spinner: Spinner,
    /// How often a unit's line is said.
    times: usize,
    /// Units that are to be destroyed and have not been spoken of, in the order of the arguments.
    unsaid: VecDeque<String>,
    explainer: Explainer,
}

#[derive(Default)]
struct Pending {
    status: UnitStatus,
    progress: Option<Progress>,
    announced: bool,
    troubled_since: Option<Instant>,
}

impl<'c> Waiter<'c> {
    /// Of these units, none of which has been heard of.
    pub fn new(
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
            explainer: Explainer::new(),
        }
    }

    /// Whether all have reached the goal.
    pub fn is_over(&self) -> bool {
        self.pending.is_empty()
    }

    /// When it was heard of each that has reached it.
    pub fn into_reached(self) -> Reached {
        self.reached
    }

    /// When there is something to do even if no status comes.
    pub fn wakes_at(&self) -> Instant {
        let trouble = self.pending.values().filter_map(|unit| unit.troubled_since).map(|since| since + TROUBLE_LASTS);
        trouble.chain(self.deadline).fold(self.explainer.wakes_at(), Instant::min)
    }

    /// Takes what is heard of a unit.
    ///
    /// # Errors
    /// It has failed.
    pub async fn take(&mut self, status: UnitStatus) -> Result<(), Failure> {
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

    /// Does what has become due.
    ///
    /// # Errors
    /// A unit has been in trouble for too long, or time is up.
    pub async fn on_time(&mut self) -> Result<(), Failure> {
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
        if now >= self.explainer.wakes_at() {
            let unplaced = self.pending.iter().filter(|(_, unit)| unit.progress == Some(Progress::Unplaced));
            let unplaced: Vec<&String> = unplaced.map(|(name, _)| name).collect();
            self.explainer.explain(self.context, &self.spinner, &unplaced).await;
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
        match self.context.remote.journal_tail(&machine, name, &self.roster).await {
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

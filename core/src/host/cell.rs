//! All that is known of one unit on this host, and what follows from it. What happens to a unit is in `events`, what is
//! reported of it in `report`.

mod events;
mod report;

use std::time::Duration;

use super::{
    assignment::{Assignment, Recall, Wanted},
    fence,
    installed::Installed,
    retry::Retry,
    runtime::{Active, Job, Runtime},
    start::{START_GRACE, Start, StartTrace},
    step::{Step, next_step},
    trouble::Trouble,
};
use crate::unit::Behaviour;

/// One unit on this host: what is wanted of it, what the agent has done about that, and what systemd says.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    assigned: Assignment,
    recall: Option<Recall>,
    /// It may run once in the cluster at most.
    strict: bool,
    /// The fence keeps it from running here.
    fenced: bool,
    installed: Option<Installed>,
    /// What the contents in place say of starts.
    behaviour: Behaviour,
    runtime: Option<Runtime>,
    /// When it came into the state that it is in, in seconds since 1970.
    since: u64,
    /// It has run since it was installed: systemd may count its starts.
    has_run: bool,
    /// A batch left it out: it is started and stopped by itself.
    alone: bool,
    /// It cannot be started before another unit is there.
    lacking: bool,
    /// Its last step failed, and is tried again.
    retry: Option<Retry>,
    start: Option<Start>,
    /// How its last start went. Boxed: few units have one for long that is worth its size.
    trace: Option<Box<StartTrace>>,
    trouble: Trouble,
    /// What is installed has changed since it was written down.
    unsaved: bool,
    /// Something has changed since it was reported.
    news: bool,
}

/// What is known.
impl Cell {
    /// What the agent has put in place.
    #[must_use]
    pub fn installed(&self) -> Option<&Installed> {
        self.installed.as_ref()
    }

    /// What systemd said of it last; `None` before it was looked at.
    #[must_use]
    pub fn runtime(&self) -> Option<&Runtime> {
        self.runtime.as_ref()
    }

    /// What the contents in place say of starts.
    #[must_use]
    pub fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// Whether it may run once in the cluster at most.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Whether it is started and stopped by itself, not with others.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether it waits for another unit to be there.
    #[must_use]
    pub fn is_lacking(&self) -> bool {
        self.lacking
    }

    /// Whether a step of it failed and is tried again.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        self.retry.is_some()
    }

    /// Whether the limit of its starts is to begin anew before it is started because somebody asked for it.
    #[must_use]
    pub fn may_be_limited(&self) -> bool {
        !self.is_retry() && (self.has_run || self.has_active(Active::Failed))
    }

    /// Whether another unit has a name that it asks for.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        self.trouble.dispute().is_some()
    }

    /// Whether it has failed and systemd is to be asked why.
    #[must_use]
    pub fn wants_cause(&self) -> bool {
        self.trouble.failure().is_none() && self.runtime.as_ref().is_some_and(Runtime::has_failed)
    }

    /// Whether it was looked at and is in this state.
    #[must_use]
    pub fn has_active(&self, active: Active) -> bool {
        self.runtime.as_ref().is_some_and(|runtime| runtime.active == active)
    }

    /// Whether it was looked at and is down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.runtime.as_ref().is_some_and(Runtime::is_down)
    }

    /// Whether it runs on without a job to stop it, though it was to be stopped and nothing failed.
    #[must_use]
    pub fn was_left_running(&self) -> bool {
        let stops = |runtime: &Runtime| runtime.is_down() || runtime.job == Some(Job::Stop);
        self.retry.is_none() && self.runtime.as_ref().is_some_and(|runtime| !stops(runtime))
    }

    /// Whether systemd's word on it is of interest.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.installed.is_some() || self.wanted().is_some()
    }

    /// Whether it is of interest and was never looked at.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        self.runtime.is_none() && self.is_watched()
    }

    /// Whether what is installed is to be written down.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// Whether there is something to report.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.news
    }

    /// Whether this host is to give it up.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        self.recall.is_some()
    }

    /// Whether somebody asks once more for what was wanted already.
    #[must_use]
    pub fn is_asked_again(&self) -> bool {
        self.wanted().zip(self.installed).is_some_and(|(wanted, installed)| wanted.request != installed.request)
    }

    /// Whether nothing is known of it that is of use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_wanted = matches!(self.assigned, Assignment::Wanted(_));
        !is_wanted && self.installed.is_none() && self.recall.is_none() && !self.news && !self.unsaved
    }
}

/// What follows.
impl Cell {
    /// What is to be carried out now: what the cluster wants, as far as the fence allows it.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        match self.assigned {
            assigned if self.fenced => fence::wanted_behind(assigned, self.installed.as_ref()),
            Assignment::Wanted(wanted) => Some(wanted),
            Assignment::Unknown | Assignment::Absent => None,
        }
    }

    /// The next step, and why; also while it cannot be taken yet.
    fn pending(&self) -> Option<(Step, &'static str)> {
        if self.assigned == Assignment::Unknown && !self.fenced {
            return None;
        }
        let next = |runtime: &Runtime| next_step(self.wanted().as_ref(), self.installed.as_ref(), runtime);
        self.runtime.as_ref().map_or_else(|| next(&Runtime::default()), next)
    }

    /// The step that can be taken now, and why.
    #[must_use]
    pub fn step(&self, now: Duration) -> Option<(Step, &'static str)> {
        let waits = self.runtime.is_none() || self.retry.is_some_and(|retry| retry.at > now);
        self.pending().filter(|_| !waits)
    }

    /// Whether it is to be looked at though nothing was heard of it.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        self.is_unseen() || self.start_due().is_some_and(|at| at <= now)
    }

    fn start_due(&self) -> Option<Duration> {
        self.start.as_ref().and_then(|start| start.look_at(self.runtime.as_ref()))
    }

    /// When it is to be turned to again though nothing is heard of it. Steps were taken last at `now`.
    #[must_use]
    pub fn wake(&self, now: Duration) -> Option<Duration> {
        // A unit that the fence has let through only after the last look.
        let unseen = self.is_unseen().then_some(now);
        let retry = self.retry.map(|retry| retry.at).filter(|at| *at > now);
        let grace = self.start.as_ref().filter(|_| self.news).map(|start| start.queued + START_GRACE);
        unseen.into_iter().chain(retry).chain(self.start_due()).chain(grace).min()
    }

    /// Whether nothing is to be done with it until something happens.
    #[must_use]
    pub fn is_at_rest(&self, now: Duration) -> bool {
        let quiet = !self.news && !self.unsaved && self.recall.is_none() && self.start.is_none();
        quiet && self.wake(now).is_none() && self.pending().is_none()
    }
}

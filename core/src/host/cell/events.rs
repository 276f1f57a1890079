//! What happens to a unit: what the cluster wants, what systemd says, and how a step went.
//!
//! Methods that begin a new trouble return whether the log is to be told of it.

use std::time::Duration;

use super::Cell;
use crate::{
    host::{
        assignment::{Assignment, Recall},
        fence,
        installed::Installed,
        retry::Retry,
        runtime::{Active, Runtime},
        start::{Progress, Start, StartTrace},
    },
    model::Target,
    unit::Behaviour,
};

/// What happens: the cluster's word.
impl Cell {
    /// Takes up what an earlier run of the agent has put in place.
    #[must_use]
    pub fn adopted(installed: Installed) -> Self {
        Self { installed: Some(installed), news: true, ..Self::default() }
    }

    /// Takes note of what its file says, which an earlier run has put in place.
    pub fn read(&mut self, behaviour: Behaviour, strict: bool) {
        if let Some(installed) = &mut self.installed {
            // A fleetd that knew of no requests did not write down what had finished.
            installed.finished |=
                behaviour.ends && installed.applied == Target::Launched && installed.request.is_none();
        }
        (self.behaviour, self.strict) = (behaviour, strict);
    }

    /// It was stopped while no fleetd ran, and has not ended by itself.
    pub fn was_stopped(&mut self) {
        self.edit_installed(|installed| installed.stopping = true);
    }

    /// This is wanted now. Returns whether that differs from before.
    pub(in crate::host) fn assign(&mut self, assigned: Assignment, recall: Option<Recall>, strict: bool) -> bool {
        let wanted = |assigned| match assigned {
            Assignment::Wanted(wanted) => Some(wanted),
            Assignment::Unknown | Assignment::Absent => None,
        };
        let differs = wanted(self.assigned) != wanted(assigned);
        // It is the contents that make a unit strict, and those that are installed do so until they are gone.
        let keeps_strict = self.strict
            && self.installed.is_some_and(|entry| wanted(assigned).is_none_or(|wanted| wanted.hash == entry.hash));
        self.strict = strict || keeps_strict;
        if !self.strict {
            self.fenced = false;
        }
        (self.assigned, self.recall) = (assigned, recall);
        if differs {
            // One that is wanted otherwise than before gets a new chance at once.
            self.retry = None;
            self.trace = None;
        }
        if differs || assigned == Assignment::Absent && self.installed.is_none() {
            self.trouble.is_over();
        }
        differs
    }

    /// Whether [`assign`](Self::assign) would change nothing.
    pub(in crate::host) fn is_assigned(&self, assigned: Assignment, recall: Option<Recall>, strict: bool) -> bool {
        (self.assigned, self.recall, self.strict) == (assigned, recall, strict)
    }

    /// Begins to note how its start goes, if it is to be started: the revision that asks for it has arrived then.
    pub fn begin_trace(&mut self, revision: i64, arrived: Duration, now: Duration) {
        if matches!(self.assigned, Assignment::Wanted(wanted) if wanted.target == Target::Launched) {
            self.trace = Some(Box::new(StartTrace::new(revision, arrived, now)));
        }
    }

    /// The fence is open or closed. Of a unit that is not strict, nothing follows. Returns whether something does.
    pub(in crate::host) fn apply_fence(&mut self, is_open: bool) -> bool {
        let fenced = self.strict && !is_open;
        let has_turned = std::mem::replace(&mut self.fenced, fenced) != fenced;
        if has_turned {
            // What was refused before, and when it is to be tried again, was about something else.
            self.retry = None;
        }
        let Some((installed, runtime)) = self.installed.as_mut().zip(self.runtime.as_ref()) else { return has_turned };
        let is_new = fenced && self.assigned != Assignment::Absent && fence::hold_down(installed, runtime);
        self.unsaved |= is_new;
        has_turned || is_new
    }

    /// The host leaves: the unit is to be gone.
    pub(in crate::host) fn leave(&mut self) {
        (self.assigned, self.recall) = (Assignment::Absent, None);
        (self.strict, self.fenced, self.retry) = (false, false, None);
    }
}

/// What happens: systemd's word.
impl Cell {
    /// It is in this state. `seconds` are since 1970.
    pub fn saw(&mut self, runtime: Runtime, now: Duration, seconds: u64) {
        let before = self.runtime.take();
        if before.as_ref().is_none_or(|before| (before.active, &before.sub) != (runtime.active, &runtime.sub)) {
            self.since = seconds;
        }
        if !runtime.is_down() {
            self.has_run = true;
            self.trouble.not_skipped();
        }
        if !runtime.has_failed() {
            self.trouble.not_failed();
        }
        let has_ended = runtime.active == Active::Inactive
            && before.is_some_and(|before| before.active == Active::Activating)
            && self.behaviour.ends;
        if has_ended {
            self.finished();
        }
        self.follow_start(&runtime, now);
        if runtime.active == Active::Active && self.retry.is_none() {
            self.trouble.may_be_over();
        }
        self.runtime = Some(runtime);
    }

    fn follow_start(&mut self, runtime: &Runtime, now: Duration) {
        let Some(start) = &mut self.start else { return };
        let progress = start.saw(runtime, now);
        if let Some(trace) = &mut self.trace {
            trace.saw(start.active.is_some(), progress != Progress::UnderWay, now);
        }
        match progress {
            Progress::UnderWay => return,
            Progress::Up => self.succeeded(),
            Progress::Down => {}
            // Systemd leaves a unit out of a transaction that it cannot be part of, and says nothing.
            Progress::LeftOut => {
                self.edit_installed(|installed| installed.applied = Target::Loaded);
                self.alone = true;
            }
        }
        self.start = None;
    }

    /// A job of this number has ended; the look at what became of the unit comes after.
    pub fn job_ended(&mut self, job: u32) {
        if let Some(start) = &mut self.start {
            // One of an earlier job says nothing of this start.
            start.ended |= job >= start.job;
        }
    }

    /// What its last job came to is known: systemd has not left it out.
    pub fn confirm(&mut self) {
        if let Some(start) = &mut self.start {
            start.unconfirmed = false;
        }
    }

    /// It has ended well, if it is one that ends by itself and was not stopped.
    pub fn finished(&mut self) {
        if self.installed.is_some_and(|installed| !installed.finished && !installed.stopping) {
            self.edit_installed(|installed| installed.finished = true);
        }
    }

    /// A condition kept it from its start.
    pub fn was_skipped(&mut self, condition: &str) -> bool {
        self.trouble.was_skipped(condition)
    }

    /// It failed, for this reason.
    pub fn has_failed(&mut self, why: &str) {
        self.trouble.has_failed(why);
    }

    /// Its start is over, and came to nothing.
    pub fn came_to_nothing(&mut self, problem: &str) -> bool {
        self.retry = None;
        self.trouble.has_problem(problem)
    }

    /// Nothing is of interest any more that systemd said of it.
    pub(in crate::host) fn unwatch(&mut self) {
        (self.runtime, self.start, self.trace) = (None, None, None);
        (self.has_run, self.alone, self.lacking) = (false, false, false);
        self.behaviour = Behaviour::default();
        self.trouble.forget_notices();
    }
}

/// What happens: how a step went.
impl Cell {
    /// A step failed: it is tried again later. `spread`, between 0 and 1, is drawn.
    pub fn failed(&mut self, problem: &str, now: Duration, spread: f64) -> bool {
        self.retry = Some(Retry::after(self.retry, now, spread));
        self.trouble.has_problem(problem)
    }

    /// It cannot be started before another unit is there.
    pub fn waits_for(&mut self, problem: &str, now: Duration, spread: f64) -> bool {
        self.edit_installed(|installed| installed.applied = Target::Loaded);
        (self.lacking, self.alone) = (true, true);
        self.failed(problem, now, spread)
    }

    /// Units have come, perhaps the one that it waits for.
    pub fn lacks_no_more(&mut self, now: Duration) {
        self.lacking = false;
        self.retry_now(now);
    }

    /// A part of what it needs is done: the rest is tried at once. Should that fail, it waits longer than before.
    fn retry_now(&mut self, now: Duration) {
        if let Some(retry) = &mut self.retry {
            retry.at = now;
        }
    }

    /// A step succeeded.
    pub fn succeeded(&mut self) {
        self.retry = None;
        self.trouble.is_over();
    }

    /// It needs no step to be as it is wanted.
    pub fn settled(&mut self) {
        if let Some(wanted) = self.wanted() {
            self.edit_installed(|installed| installed.settled(&wanted));
        }
        self.succeeded();
    }

    /// Its file is written, with these contents.
    pub fn placed(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
        // It was about the names that its old file asked for.
        self.trouble.not_disputed();
    }

    /// Systemd knows its file. Returns whether nothing more is to be done with it.
    pub fn linked(&mut self, now: Duration) -> bool {
        let Some(wanted) = self.wanted() else { return false };
        let entry = Installed::loaded(wanted.hash, wanted.generation);
        self.installed = Some(Installed { request: wanted.request, ..entry });
        (self.unsaved, self.has_run) = (true, false);
        if let Some(trace) = &mut self.trace {
            trace.installed(now);
        }
        let rests = wanted.target == Target::Loaded;
        if rests {
            self.succeeded();
        } else {
            // Whether it is as it should be shows when it is started.
            self.retry_now(now);
        }
        rests
    }

    /// Systemd does not find its file: it has to be put in place again.
    pub fn lost_file(&mut self) {
        self.edit_installed(|installed| installed.lost = true);
    }

    /// It was taken away from the host. Returns what was installed.
    pub fn removed(&mut self) -> Option<Installed> {
        self.succeeded();
        (self.runtime, self.unsaved) = (None, true);
        self.installed.take()
    }

    /// It was started while it was taken away: it is the agent's still.
    pub fn came_back(&mut self, installed: Installed, runtime: Runtime) {
        (self.installed, self.runtime, self.unsaved) = (Some(installed), Some(runtime), true);
    }

    /// It is started and stopped by itself from now on.
    pub fn set_alone(&mut self) {
        self.alone = true;
    }

    /// It is about to be started: what was known of its last start is no more so.
    pub fn before_start(&mut self) {
        self.trouble.not_skipped();
        self.trouble.not_failed();
    }

    /// Systemd has taken the job of a start, or of the batch that it is part of.
    pub fn start_queued(&mut self, job: u32, in_batch: bool, now: Duration) {
        // What comes of it is not known yet.
        self.trouble.may_be_over();
        self.retry_now(now);
        self.lacking = false;
        self.alone &= in_batch;
        self.start = Some(Start::new(job, in_batch, now));
        if let Some(trace) = &mut self.trace {
            trace.queued(now);
        }
        if let Some(wanted) = self.wanted() {
            self.edit_installed(|installed| installed.launched(&wanted));
        }
    }

    /// The agent is about to stop it. If it is wanted again before it is known to be down, also by the next fleetd, it is
    /// started again.
    pub fn stop_asked(&mut self) {
        if self.installed.is_some_and(|installed| !installed.stopping) {
            self.edit_installed(|installed| installed.stopping = true);
        }
    }

    /// Systemd has taken the job of a stop, or of the batch that it is part of.
    pub fn stop_queued(&mut self, in_batch: bool) {
        self.alone &= in_batch;
        self.succeeded();
    }

    /// Another unit has a name that it asks for.
    pub fn is_in_dispute(&mut self, dispute: &str) -> bool {
        self.trouble.is_disputed(dispute)
    }

    /// It has the names that it asks for.
    pub fn has_its_names(&mut self) {
        self.trouble.not_disputed();
    }

    /// What is installed is written down.
    pub(in crate::host) fn saved(&mut self) {
        self.unsaved = false;
    }

    /// There is something to report of it.
    pub(in crate::host) fn is_news(&mut self) {
        self.news = true;
    }

    /// What there was to report is reported.
    pub(in crate::host) fn reported(&mut self) {
        self.news = false;
    }

    fn edit_installed(&mut self, edit: impl FnOnce(&mut Installed)) {
        if let Some(installed) = &mut self.installed {
            edit(installed);
            self.unsaved = true;
        }
    }
}

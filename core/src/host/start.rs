//! A start that is under way, and how long its steps take, for `fleetctl start --trace`.

use std::time::Duration;

use super::runtime::{Active, Runtime};
use crate::model::StartSteps;

/// How long a unit must have been active after its start to count as started: to systemd a simple service is active
/// as soon as it is forked, also one whose program is missing.
pub const SETTLE: Duration = Duration::from_millis(40);
/// A start that is over by then is reported once, when it is over.
pub const START_GRACE: Duration = Duration::from_millis(300);
/// How long after its start was asked for a unit may show nothing of it.
pub const CONFIRM: Duration = Duration::from_secs(2);

/// A start that is under way.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub queued: Duration,
    /// The number of its job, or of the one that brought it about.
    pub job: u32,
    /// That job has ended.
    pub ended: bool,
    /// Since when the unit has been active, if it is.
    pub active: Option<Duration>,
    /// It is part of a batch, of which nothing has been seen yet: systemd may have left it out.
    pub unconfirmed: bool,
}

/// What a look at a unit says of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    UnderWay,
    /// It is over, and the unit is not down.
    Up,
    /// It is over, and the unit is down.
    Down,
    /// Systemd has left the unit out of its batch.
    LeftOut,
}

impl Start {
    pub fn new(job: u32, in_batch: bool, now: Duration) -> Self {
        Self { queued: now, job, ended: false, active: None, unconfirmed: in_batch }
    }

    /// Takes note of how the unit is now.
    pub fn saw(&mut self, runtime: &Runtime, now: Duration) -> Progress {
        let is_down = runtime.is_down();
        self.unconfirmed &= is_down;
        let is_active = runtime.active == Active::Active && runtime.job.is_none();
        self.active = is_active.then(|| self.active.unwrap_or(now));
        // To be down is the outcome of a start only once its job is over: before, it has not begun.
        if is_down && (self.ended || now >= self.queued + CONFIRM) {
            return if self.unconfirmed && !self.ended { Progress::LeftOut } else { Progress::Down };
        }
        match self.active {
            Some(since) if now >= since + SETTLE => Progress::Up,
            _ => Progress::UnderWay,
        }
    }

    /// When to look at the unit again though nothing was heard of it.
    pub fn look_at(&self, runtime: Option<&Runtime>) -> Option<Duration> {
        let settled = self.active.map(|since| since + SETTLE);
        let unheard = runtime.is_some_and(Runtime::is_down).then_some(self.queued + CONFIRM);
        settled.into_iter().chain(unheard).min()
    }
}

/// The steps of one start on this host. All times are this host's own, counted from the moment at which what asks for
/// the start had come here. They go to the store with the state that is written anyway once the start is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartTrace {
    arrived: Duration,
    steps: StartSteps,
}

impl StartTrace {
    /// What asks for the start, at `revision`, has `arrived` and is taken up now.
    pub fn new(revision: i64, arrived: Duration, now: Duration) -> Self {
        let noticed = micros(arrived, now);
        Self { arrived, steps: StartSteps { revision, noticed, ..StartSteps::default() } }
    }

    /// The file has been put in place.
    pub fn installed(&mut self, now: Duration) {
        self.steps.installed = Some(micros(self.arrived, now));
    }

    /// Systemd has taken the job. Whatever was seen of an earlier one does not count.
    pub fn queued(&mut self, now: Duration) {
        let queued = Some(micros(self.arrived, now));
        self.steps = StartSteps { queued, active: None, settled: None, ..self.steps };
    }

    /// The unit has been looked at.
    pub fn saw(&mut self, is_active: bool, is_over: bool, now: Duration) {
        let now = micros(self.arrived, now);
        if is_active {
            self.steps.active.get_or_insert(now);
        } else {
            self.steps.active = None;
        }
        if is_over {
            self.steps.settled = Some(now);
        }
    }

    /// The steps, once the start is over.
    pub fn whole(&self) -> Option<StartSteps> {
        self.steps.settled.map(|_| self.steps)
    }
}

fn micros(since: Duration, now: Duration) -> u64 {
    u64::try_from(now.saturating_sub(since).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::runtime::Job;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn runtime(active: Active, job: Option<Job>) -> Runtime {
        Runtime { active, job, ..Runtime::default() }
    }

    #[test]
    fn a_start_is_over_when_the_unit_stays_active_or_is_known_to_be_down() {
        use Active::{Activating, Active as Up, Failed, Inactive};
        use Progress::{Down, LeftOut, UnderWay};
        for (case, in_batch, looks, expected) in [
            ("active for a moment", false, vec![(1, Up, None), (30, Up, None)], UnderWay),
            ("active for long enough", false, vec![(1, Up, None), (41, Up, None)], Progress::Up),
            (
                "active again, after it was not",
                false,
                vec![(1, Up, None), (30, Activating, None), (60, Up, None)],
                UnderWay,
            ),
            ("down, and its job not begun", false, vec![(1, Inactive, None)], UnderWay),
            ("down for long", false, vec![(1, Inactive, None), (2000, Inactive, None)], Down),
            ("down for long, and has a job", false, vec![(2000, Inactive, Some(Job::Start))], UnderWay),
            ("nothing was seen of one of a batch", true, vec![(1, Inactive, None), (2000, Inactive, None)], LeftOut),
            ("one of a batch was up", true, vec![(1, Activating, None), (2000, Failed, None)], Down),
        ] {
            let mut start = Start::new(7, in_batch, millis(0));
            let progress = looks.iter().map(|(at, active, job)| start.saw(&runtime(*active, *job), millis(*at)));
            assert_eq!(progress.last(), Some(expected), "{case}");
        }
        let mut ended = Start { ended: true, ..Start::new(7, true, millis(0)) };
        assert_eq!(ended.saw(&runtime(Inactive, None), millis(1)), Down, "its job is over");
    }

    #[test]
    fn steps_are_whole_once_the_start_is_over_and_a_second_try_counts_anew() {
        let at = Duration::from_micros;
        let mut trace = StartTrace::new(7, at(0), at(0));
        trace.installed(at(10));
        trace.queued(at(20));
        trace.saw(true, false, at(30));
        assert_eq!(trace.whole(), None);
        trace.queued(at(40));
        trace.saw(false, false, at(40));
        trace.saw(true, false, at(50));
        trace.saw(true, true, at(60));
        let expected = StartSteps {
            revision: 7,
            noticed: 0,
            installed: Some(10),
            queued: Some(40),
            active: Some(50),
            settled: Some(60),
        };
        assert_eq!(trace.whole(), Some(expected));
    }
}

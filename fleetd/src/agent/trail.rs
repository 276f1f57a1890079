//! How long the steps of a start take, for `fleetctl start --trace`.
//!
//! All times are this host's own, counted from the moment at which what asks for the start had come here. They go to
//! the store with the state that is written anyway once the start is over.

use std::time::Duration;

use fleet_core::model::StartSteps;

use crate::{clock::monotonic, registry::Revision};

/// The way of one start on this host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trail {
    /// By the process's clock.
    arrived: Duration,
    steps: StartSteps,
}

impl Trail {
    /// What asks for the start has come at this moment and is taken up now.
    pub fn new(revision: Revision, arrived: Duration) -> Self {
        let noticed = micros(arrived);
        Self { arrived, steps: StartSteps { revision, noticed, ..StartSteps::default() } }
    }

    /// The file has been put in place.
    pub fn installed(&mut self) {
        self.steps.installed = Some(micros(self.arrived));
    }

    /// Systemd has taken the job. Whatever was seen of an earlier one does not count.
    pub fn queued(&mut self) {
        let queued = Some(micros(self.arrived));
        self.steps = StartSteps { queued, active: None, settled: None, ..self.steps };
    }

    /// The unit has been looked at.
    pub fn seen(&mut self, is_active: bool, settled: bool) {
        let now = micros(self.arrived);
        if is_active {
            self.steps.active.get_or_insert(now);
        } else {
            self.steps.active = None;
        }
        if settled {
            self.steps.settled = Some(now);
        }
    }

    /// The steps, once the start is over.
    pub fn whole(&self) -> Option<StartSteps> {
        self.steps.settled.map(|_| self.steps)
    }
}

fn micros(since: Duration) -> u64 {
    u64::try_from(monotonic().saturating_sub(since).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn steps_are_told_once_the_start_is_over_and_a_second_try_counts_anew() {
        let mut trail = Trail::new(7, monotonic());
        let step = || advance(Duration::from_micros(10));
        step().await;
        trail.installed();
        step().await;
        trail.queued();
        step().await;
        trail.seen(true, false);
        step().await;
        assert_eq!(trail.whole(), None);
        trail.queued();
        trail.seen(false, false);
        step().await;
        trail.seen(true, false);
        step().await;
        trail.seen(true, true);
        let expected = StartSteps {
            revision: 7,
            noticed: 0,
            installed: Some(10),
            queued: Some(40),
            active: Some(50),
            settled: Some(60),
        };
        assert_eq!(trail.whole(), Some(expected));
    }
}

//! One unit of a simulated systemd, as it is loaded.

use std::time::Duration;

use fleet_core::host::{Active, Job};
use tokio::time::Instant;

use super::definition::{Definition, Kind};

/// More starts than this many in this time, and systemd gives a unit up.
const START_LIMIT: (usize, Duration) = (5, Duration::from_secs(10));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Dead,
    Failed,
    StartPre,
    Start,
    Running,
    Exited,
    Stop,
    StopSigterm,
    StopPost,
    AutoRestart,
    /// Active, for a unit that is no service.
    On,
}

pub(super) struct Unit {
    pub definition: Definition,
    pub phase: Phase,
    /// Counts phases: a timer of an earlier one means nothing.
    pub turn: u64,
    pub job: Option<Queued>,
    pub runs: u32,
    pub alive: bool,
    /// The run that is ending has failed.
    pub failed: bool,
    /// Somebody wants it down: it is not restarted.
    pub stopping: bool,
    /// The starts that the limit counts: since when, and how many.
    pub starts: (Option<Instant>, usize),
}

pub(super) struct Queued {
    pub id: u32,
    pub kind: Job,
    pub running: bool,
}

impl Unit {
    pub fn new(definition: Definition) -> Self {
        Self {
            definition,
            phase: Phase::Dead,
            turn: 0,
            job: None,
            runs: 0,
            alive: false,
            failed: false,
            stopping: false,
            starts: (None, 0),
        }
    }

    pub fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Exited | Phase::On)
    }

    /// Whether one more start is within the limit; counts it.
    pub fn may_start(&mut self, now: Instant) -> bool {
        let (count, time) = START_LIMIT;
        match self.starts.0.filter(|since| *since + time > now) {
            Some(_) => self.starts.1 += 1,
            None => self.starts = (Some(now), 1),
        }
        self.starts.1 <= count
    }

    pub fn words(&self) -> (Active, &'static str) {
        match self.phase {
            Phase::Dead => (Active::Inactive, "dead"),
            Phase::Failed => (Active::Failed, "failed"),
            Phase::StartPre => (Active::Activating, "start-pre"),
            Phase::Start => (Active::Activating, "start"),
            Phase::Running => (Active::Active, "running"),
            Phase::Exited => (Active::Active, "exited"),
            Phase::Stop => (Active::Deactivating, "stop"),
            Phase::StopSigterm => (Active::Deactivating, "stop-sigterm"),
            Phase::StopPost => (Active::Deactivating, "stop-post"),
            Phase::AutoRestart => (Active::Activating, "auto-restart"),
            Phase::On => match self.definition.kind {
                Kind::Other(sub) => (Active::Active, sub),
                _ => (Active::Active, "active"),
            },
        }
    }
}

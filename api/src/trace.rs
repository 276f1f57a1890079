//! When a start went through the cluster, and how long each of its stages took.
//!
//! Three clocks take part and are never compared. That of the client tells the beginning, the request and the end; that
//! of the fleetd that was asked tells when the request came to it and when it saw each step in etcd; that of the machine
//! tells what happened there since it saw the schedule. Of each only differences are used, and what is left of the whole
//! is the way of the request and of the news between fleetd and the client.

use fleet_core::model::StartSteps;
use serde::{Deserialize, Serialize};

/// Added: `GET /fleet/v1/units/NAME/trace`: when a unit's last start went through the cluster. The times are microseconds
/// of the clock of the fleetd that answers, which is the one of `Fleet-Received` and `Fleet-Checked`; those in `start`
/// have passed on its machine since the schedule had come there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Trace {
    /// The unit.
    pub name: String,
    /// The machine it was started on.
    #[serde(rename = "machineID")]
    pub machine_id: String,
    /// This fleetd saw its desired state in etcd.
    pub wanted: i64,
    /// It saw the engine's decision there.
    pub scheduled: i64,
    /// It saw the machine's report there.
    pub reported: i64,
    /// What happened on the machine.
    pub start: StartSteps,
}

/// The stages of a start, in their order.
pub const STAGES: [&str; 11] = [
    "fleetctl looks",
    "API request",
    "etcd write",
    "engine decision and write",
    "agent notices",
    "files in place",
    "systemd job",
    "active",
    "stayed active",
    "state written",
    "client told",
];

/// Microseconds that each stage took; `None` of one that there was none of.
pub type Stages = [Option<i64>; STAGES.len()];

/// What who asked for a start knows of it, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The request was sent, since the client had begun.
    pub sent: i64,
    /// The request came to fleetd, by the clock of the trace.
    pub received: i64,
    /// It had been compared with what was there, by the same clock.
    pub checked: i64,
    /// The client heard that the unit runs, since it had begun.
    pub told: i64,
}

impl Trace {
    /// How long each stage of the start took. They add up to the whole.
    #[must_use]
    pub fn stages(&self, asked: &Asked) -> Stages {
        let start = &self.start;
        let mut at = 0;
        let mut step = |since: Option<u64>| {
            let now = i64::try_from(since?).unwrap_or(i64::MAX);
            Some(now - std::mem::replace(&mut at, now))
        };
        let mut stages = [
            Some(asked.sent),
            Some(asked.checked - asked.received),
            Some(self.wanted - asked.checked),
            Some(self.scheduled - self.wanted),
            step(Some(start.noticed)),
            step(start.installed),
            step(start.queued),
            step(start.active),
            step(start.settled),
            None,
            None,
        ];
        let written = self.reported - self.scheduled - at;
        // The machine cannot have done all that before it saw the schedule: then the fleetd that was asked saw that late,
        // and the engine was faster than it seemed from there.
        stages[3] = stages[3].map(|engine| engine + written.min(0));
        stages[9] = Some(written.max(0));
        stages[10] = Some(asked.told - stages.iter().flatten().sum::<i64>());
        stages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_to_the_whole_whatever_the_clocks_show() {
        let asked = Asked { sent: 1_000, received: -50_000, checked: -49_500, told: 55_000 };
        let start = StartSteps {
            revision: 7,
            noticed: 200,
            installed: None,
            queued: Some(900),
            active: Some(5_900),
            settled: Some(46_000),
        };
        let (wanted, scheduled, reported) = (-48_000, -45_000, 3_000);
        let trace = Trace { wanted, scheduled, reported, start, ..Trace::default() };
        let got = trace.stages(&asked);
        let expected = [1_000, 500, 1_500, 3_000, 200, -1, 700, 5_000, 40_100, 2_000, 1_000];
        assert_eq!(got, expected.map(|micros| Some(micros).filter(|micros| *micros >= 0)));
        assert_eq!(got.iter().flatten().sum::<i64>(), 55_000);
        let late = Trace { scheduled: scheduled + 2_500, ..trace };
        let expected = [1_000, 500, 1_500, 5_000, 200, -1, 700, 5_000, 40_100, 0, 1_000];
        let late = late.stages(&asked).map(|micros| micros.unwrap_or(-1));
        assert_eq!(late, expected, "news that came late are no time of the machine");
    }
}

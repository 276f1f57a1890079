//! What is reported of a unit, and when.

use std::time::Duration;

use super::Cell;
use crate::{
    host::{
        installed::Installed,
        release::is_released,
        runtime::{Active, Runtime},
        start::START_GRACE,
    },
    model::{Desired, StateRecord, Unknown},
    unit::UnitHash,
};

impl Cell {
    /// Whether it has just been started, and it will soon be known how that went: until then nothing is reported.
    #[must_use]
    pub fn is_in_grace(&self, now: Duration) -> bool {
        let is_new = self.start.as_ref().is_some_and(|start| start.queued + START_GRACE > now);
        is_new && self.trouble.problem().is_none() && self.recall.is_none()
    }

    /// What is to be reported; `None` of a unit that is not the agent's. `answers`: whether systemd does.
    #[must_use]
    pub fn report(&self, answers: bool) -> Option<StateRecord> {
        let unknown = Runtime::default();
        let runtime = self.runtime.as_ref().unwrap_or(&unknown);
        if let Some(recall) = self.recall
            && is_released(self.installed.is_some(), runtime, self.start.is_some(), answers)
        {
            let state = self.state(recall.hash, None, runtime);
            return Some(StateRecord { released: Some(recall.revision), ..state });
        }
        if let Some(installed) = &self.installed {
            return Some(self.state(installed.hash, Some(installed), runtime));
        }
        let wanted = self.wanted().filter(|_| self.trouble.problem().is_some())?;
        Some(self.state(wanted.hash, None, &unknown))
    }

    fn state(&self, hash: UnitHash, installed: Option<&Installed>, runtime: &Runtime) -> StateRecord {
        let current = installed.map_or(Desired::Inactive, |installed| installed.applied.into());
        let is_inactive = runtime.active == Active::Inactive;
        let trace = self.trace.as_ref().filter(|_| current == Desired::Launched);
        StateRecord {
            hash,
            load: runtime.load.clone(),
            active: runtime.active.as_str().into(),
            sub: runtime.sub.clone(),
            current,
            generation: installed.and_then(|installed| installed.generation).unwrap_or_default(),
            request: Some(installed.and_then(|installed| installed.request).unwrap_or_default()),
            acted: installed.is_some_and(|installed| installed.acted),
            skipped: self.trouble.condition().is_some() && is_inactive,
            finished: installed.is_some_and(|installed| installed.finished) && is_inactive,
            job: runtime.job.is_some() || self.start.is_some(),
            since: self.since,
            problem: self.trouble.problem().map(Into::into),
            notice: self.trouble.notice().map(Into::into),
            released: None,
            start: trace.and_then(|trace| trace.whole()),
            unknown: Unknown::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::{Assignment, Recall, Wanted},
        model::Target,
    };

    const NOW: Duration = Duration::from_secs(1);

    fn hash() -> UnitHash {
        UnitHash::of("1")
    }

    fn wanted() -> Assignment {
        let target = Target::Launched;
        Assignment::Wanted(Wanted { hash: hash(), target, generation: Some(3), request: Some(0) })
    }

    fn runtime(active: Active) -> Runtime {
        Runtime { load: "loaded".into(), active, ..Runtime::default() }
    }

    /// A unit that was installed and started, and is so now.
    fn started(active: Active) -> Cell {
        let mut cell = Cell::default();
        cell.assign(wanted(), None, false);
        cell.linked(NOW);
        cell.start_queued(1, false, NOW);
        cell.saw(runtime(active), NOW, 9);
        cell
    }

    #[test]
    fn what_is_reported_is_how_far_the_agent_brought_it() {
        let recall = Some(Recall { hash: hash(), revision: 7 });
        let mut unassigned = Cell::default();
        unassigned.saw(runtime(Active::Active), NOW, 9);
        let mut new = Cell::default();
        new.assign(wanted(), None, false);
        let mut refused = new.clone();
        refused.failed("no", NOW, 0.0);
        let mut running = started(Active::Active);
        running.saw(runtime(Active::Active), NOW * 2, 10);
        let mut recalled = running.clone();
        recalled.assign(Assignment::Absent, recall, false);
        let mut down = recalled.clone();
        down.saw(runtime(Active::Inactive), NOW * 3, 11);
        let mut gone = down.clone();
        gone.removed();
        let starting = started(Active::Inactive);
        let mut taken_back = starting.clone();
        taken_back.assign(Assignment::Absent, recall, false);
        for (case, cell, expected) in [
            ("not the agent's", unassigned, None),
            ("wanted, and nothing tried yet", new, None),
            ("wanted, and cannot be put in place", refused, Some((Desired::Inactive, false, None))),
            ("just started", starting, Some((Desired::Launched, true, None))),
            ("running", running, Some((Desired::Launched, false, None))),
            ("recalled and running", recalled, Some((Desired::Launched, false, None))),
            ("recalled while its start is under way", taken_back, Some((Desired::Launched, true, None))),
            ("recalled and down", down, Some((Desired::Inactive, false, Some(7)))),
            ("recalled and gone", gone, Some((Desired::Inactive, false, Some(7)))),
        ] {
            let report = cell.report(true);
            assert_eq!(report.map(|report| (report.current, report.job, report.released)), expected, "{case}");
        }
    }

    #[test]
    fn a_state_lasts_since_it_was_seen_first() {
        let mut cell = started(Active::Active);
        cell.saw(runtime(Active::Active), NOW * 2, 20);
        assert_eq!(cell.report(true).map(|report| report.since), Some(9));
        cell.saw(runtime(Active::Failed), NOW * 3, 30);
        assert_eq!(cell.report(true).map(|report| report.since), Some(30));
    }
}

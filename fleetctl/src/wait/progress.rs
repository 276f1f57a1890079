//! How far a unit is on its way to what was asked, told from one status. Pure.

use fleet_api::{UnitReport, UnitStatus};

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Started, and found active by systemd (`start`, `restart`).
    Launched,
    /// On a machine and known to its systemd (`load`).
    Loaded,
    /// As [`Goal::Loaded`], and no longer running (`stop`).
    Stopped,
    /// On no machine (`unload`).
    Unloaded,
    /// Unknown to the cluster, and on no machine (`destroy`).
    Destroyed,
}

/// How far a unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It must have a machine first. Becomes anything.
    Unplaced,
    /// Its agent is at it.
    Waiting,
    /// Its agent has asked systemd to start it, and systemd has not finished. Ends in `Reached` or `Failed`.
    Starting,
    /// Done.
    Reached,
    /// Something is in the way that may be left from before the command: a failure only if it lasts.
    Troubled(String),
    /// Systemd, or the agent, has given up.
    Failed(String),
}

impl Goal {
    /// The desired state that leads here, and the current state that tells of it.
    pub fn state(self) -> &'static str {
        match self {
            Self::Launched => "launched",
            Self::Loaded | Self::Stopped => "loaded",
            Self::Unloaded => "inactive",
            Self::Destroyed => "destroyed",
        }
    }

    /// The word for units that are there: `3/10 units active`.
    pub fn reached(self) -> &'static str {
        match self {
            Self::Launched => "active",
            Self::Loaded => "loaded",
            Self::Stopped => "stopped",
            Self::Unloaded => "unloaded",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether the unit has to have a machine to get here.
    fn needs_machine(self) -> bool {
        matches!(self, Self::Launched | Self::Loaded)
    }
}

/// Judges one status.
pub fn progress(status: &UnitStatus, goal: Goal) -> Progress {
    if goal == Goal::Destroyed {
        return if status.exists { Progress::Waiting } else { gone_from_machines(status) };
    }
    if !status.exists {
        return Progress::Troubled("it was destroyed meanwhile".into());
    }
    if status.desired_state != goal.state() {
        return Progress::Troubled(format!("its desired state was set to {} meanwhile", status.desired_state));
    }
    if goal == Goal::Unloaded {
        return if status.current_state == "inactive" { gone_from_machines(status) } else { Progress::Waiting };
    }
    if status.global {
        return everywhere(status, goal);
    }
    if status.machine_id.is_empty() {
        return if goal.needs_machine() { Progress::Unplaced } else { Progress::Waiting };
    }
    let Some(report) = report(status) else { return Progress::Waiting };
    if status.current_state != goal.state() {
        return report.problem.clone().map_or(Progress::Waiting, Progress::Troubled);
    }
    here(status, report, goal)
}

/// Judges a global unit by all machines that tell of it: the one that is least far counts, and one that has failed counts
/// at once.
fn everywhere(status: &UnitStatus, goal: Goal) -> Progress {
    let judged = status.reports.iter().map(|report| here(status, report, goal));
    judged.max_by_key(Progress::rank).unwrap_or(Progress::Reached)
}

/// Judges what one machine tells.
pub fn here(status: &UnitStatus, report: &UnitReport, goal: Goal) -> Progress {
    if !carried_out(status, report, goal) {
        return report.problem.clone().map_or(Progress::Waiting, Progress::Troubled);
    }
    if let Some(problem) = &report.problem {
        // Where it is to be down, what kept it from its start may have been told before it was.
        return match goal {
            Goal::Launched => Progress::Failed(problem.clone()),
            _ => Progress::Troubled(problem.clone()),
        };
    }
    match goal {
        Goal::Launched => starting(report),
        Goal::Stopped if runs(report) => Progress::Waiting,
        // Whatever systemd thinks of its file: it does not run.
        Goal::Stopped => Progress::Reached,
        _ => unreadable(report).map_or(Progress::Reached, Progress::Failed),
    }
}

impl Progress {
    /// How little a machine that is so far lets the others decide.
    fn rank(&self) -> u8 {
        match self {
            Self::Reached => 0,
            Self::Starting => 1,
            Self::Waiting | Self::Unplaced => 2,
            Self::Troubled(_) => 3,
            Self::Failed(_) => 4,
        }
    }
}

/// What the agent of the unit's machine reports.
pub fn report(status: &UnitStatus) -> Option<&UnitReport> {
    status.reports.iter().find(|report| report.machine_id == status.machine_id)
}

/// The machine that a global unit has failed on, or is least far.
pub fn least_far(status: &UnitStatus, goal: Goal) -> Option<&UnitReport> {
    status.reports.iter().max_by_key(|report| here(status, report, goal).rank())
}

/// Whether a report is about the desired state: the same contents, the same restart and request, the same state.
fn carried_out(status: &UnitStatus, report: &UnitReport, goal: Goal) -> bool {
    report.current_state == goal.state()
        && report.hash == status.hash
        && report.generation == status.generation
        && report.request.is_none_or(|request| request == status.request)
}

fn starting(report: &UnitReport) -> Progress {
    if report.job {
        return Progress::Starting;
    }
    if let Some(failure) = unreadable(report) {
        return Progress::Failed(failure);
    }
    match &*report.active {
        "active" | "reloading" | "refreshing" => Progress::Reached,
        // It has come and gone, as a oneshot does.
        "inactive" => Progress::Reached,
        "failed" => Progress::Failed(format!("it failed{}", cause(report))),
        // Its first attempt failed, whatever becomes of the next.
        "activating" if report.sub.starts_with("auto-restart") => {
            Progress::Failed(format!("it failed{}, and systemd will try again", cause(report)))
        }
        _ => Progress::Starting,
    }
}

/// Why it failed, if that is known.
fn cause(report: &UnitReport) -> String {
    report.notice.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
}

fn gone_from_machines(status: &UnitStatus) -> Progress {
    let problem = status.reports.iter().find_map(|report| report.problem.clone());
    match (status.reports.is_empty(), problem) {
        (true, _) => Progress::Reached,
        (false, Some(problem)) => Progress::Troubled(problem),
        (false, None) => Progress::Waiting,
    }
}

fn runs(report: &UnitReport) -> bool {
    report.job || !["inactive", "failed", ""].contains(&&*report.active)
}

/// Systemd's complaint about the file, if it has one.
fn unreadable(report: &UnitReport) -> Option<String> {
    let complains = !["loaded", ""].contains(&&*report.load);
    complains.then(|| format!("systemd could not load it: load state {}", report.load))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CURRENT[/ACTIVE/SUB[/job]]` on machine `m`.
    fn status(desired: &str, state: &str) -> UnitStatus {
        let mut parts = state.split('/');
        let current = parts.next().unwrap();
        let report = parts.next().map(|active| UnitReport {
            machine_id: "m".into(),
            hash: "h".into(),
            current_state: current.into(),
            load: "loaded".into(),
            active: active.into(),
            sub: parts.next().unwrap().into(),
            job: parts.next().is_some(),
            ..UnitReport::default()
        });
        UnitStatus {
            name: "a.service".into(),
            exists: true,
            hash: "h".into(),
            desired_state: desired.into(),
            current_state: current.into(),
            machine_id: "m".into(),
            reports: report.into_iter().collect(),
            ..UnitStatus::default()
        }
    }

    fn failed(message: &str) -> Progress {
        Progress::Failed(message.into())
    }

    #[test]
    fn each_goal_is_reached_by_its_own_states() {
        use Goal::{Launched, Loaded, Stopped, Unloaded};
        use Progress::{Reached, Starting, Waiting};
        for (goal, state, expected) in [
            (Launched, "inactive", Waiting),
            (Launched, "loaded/inactive/dead", Waiting),
            (Launched, "launched/active/running/job", Starting),
            (Launched, "launched/failed/failed/job", Starting),
            (Launched, "launched/activating/start-pre", Starting),
            (Launched, "launched/deactivating/stop", Starting),
            (Launched, "launched/active/running", Reached),
            (Launched, "launched/reloading/reload", Reached),
            (Launched, "launched/inactive/dead", Reached),
            (Launched, "launched/failed/failed", failed("it failed")),
            (Launched, "launched/activating/auto-restart", failed("it failed, and systemd will try again")),
            (Loaded, "launched/active/running", Waiting),
            (Loaded, "loaded/inactive/dead", Reached),
            (Stopped, "launched/active/running", Waiting),
            (Stopped, "loaded/active/running", Waiting),
            (Stopped, "loaded/deactivating/stop-sigterm", Waiting),
            (Stopped, "loaded/inactive/dead/job", Waiting),
            (Stopped, "loaded/inactive/dead", Reached),
            (Stopped, "loaded/failed/failed", Reached),
            (Unloaded, "loaded/inactive/dead", Waiting),
            (Unloaded, "inactive/deactivating/stop", Waiting),
            (Unloaded, "inactive", Reached),
        ] {
            assert_eq!(progress(&status(goal.state(), state), goal), expected, "{goal:?} {state}");
        }
    }

    #[test]
    fn reports_of_old_contents_or_an_earlier_restart_count_for_nothing() {
        let mut status = status("launched", "launched/active/running");
        status.hash = "new".into();
        assert_eq!(progress(&status, Goal::Launched), Progress::Waiting);
        status.hash = "h".into();
        status.generation = 1;
        assert_eq!(progress(&status, Goal::Launched), Progress::Waiting);
        status.reports[0].generation = 1;
        assert_eq!(progress(&status, Goal::Launched), Progress::Reached);
        status.request = 1;
        assert_eq!(progress(&status, Goal::Launched), Progress::Reached, "an agent that knows of no requests");
        status.reports[0].request = Some(0);
        assert_eq!(progress(&status, Goal::Launched), Progress::Waiting);
        status.reports[0].request = Some(1);
        assert_eq!(progress(&status, Goal::Launched), Progress::Reached);
        status.reports[0].machine_id = "other".into();
        assert_eq!(progress(&status, Goal::Launched), Progress::Waiting);
    }

    #[test]
    fn a_global_unit_is_as_far_as_it_is_where_it_is_least_far() {
        let of = |states: &[&str]| {
            let reports = states.iter().zip(1..).flat_map(|(state, number)| {
                let mut one = status("launched", state);
                one.reports.iter_mut().for_each(|report| report.machine_id = format!("m{number}"));
                one.reports
            });
            let reports = reports.collect();
            let none = String::new();
            UnitStatus {
                global: true,
                machine_id: none.clone(),
                current_state: none,
                reports,
                ..status("launched", "")
            }
        };
        let (runs, dead) = ("launched/active/running", "launched/failed/failed");
        for (states, expected) in [
            (&[][..], Progress::Reached),
            (&[runs, runs], Progress::Reached),
            (&[runs, "launched/activating/start"], Progress::Starting),
            (&["loaded/inactive/dead", "launched/activating/start"], Progress::Waiting),
            (&[runs, dead, "loaded/inactive/dead"], failed("it failed")),
        ] {
            assert_eq!(progress(&of(states), Goal::Launched), expected, "{states:?}");
        }
        assert_eq!(least_far(&of(&[runs, dead]), Goal::Launched).unwrap().machine_id, "m2");
    }

    #[test]
    fn without_a_machine_starting_is_unplaced_and_unloading_is_done() {
        let placeless = |desired: &str| UnitStatus { machine_id: String::new(), ..status(desired, "inactive") };
        assert_eq!(progress(&placeless("launched"), Goal::Launched), Progress::Unplaced);
        assert_eq!(progress(&placeless("loaded"), Goal::Loaded), Progress::Unplaced);
        assert_eq!(progress(&placeless("loaded"), Goal::Stopped), Progress::Waiting);
        assert_eq!(progress(&placeless("inactive"), Goal::Unloaded), Progress::Reached);
    }

    #[test]
    fn a_problem_fails_what_was_carried_out_and_troubles_what_was_not() {
        let mut status = status("launched", "launched/inactive/dead");
        status.reports[0].problem = Some("no space left".into());
        assert_eq!(progress(&status, Goal::Launched), failed("no space left"));
        status.reports[0].current_state = "loaded".into();
        assert_eq!(progress(&status, Goal::Launched), Progress::Troubled("no space left".into()));
    }

    #[test]
    fn a_file_that_systemd_cannot_load_fails() {
        let mut status = status("loaded", "loaded/inactive/dead");
        status.reports[0].load = "bad-setting".into();
        assert_eq!(progress(&status, Goal::Loaded), failed("systemd could not load it: load state bad-setting"));
        assert_eq!(progress(&status, Goal::Stopped), Progress::Reached);
    }

    #[test]
    fn destroyed_means_gone_from_the_machines_too() {
        let mut status = status("", "/deactivating/stop");
        assert_eq!(progress(&status, Goal::Destroyed), Progress::Waiting);
        status.exists = false;
        assert_eq!(progress(&status, Goal::Destroyed), Progress::Waiting);
        status.reports.clear();
        assert_eq!(progress(&status, Goal::Destroyed), Progress::Reached);
    }

    #[test]
    fn somebody_else_changing_the_unit_is_trouble() {
        assert!(matches!(progress(&status("inactive", "inactive"), Goal::Launched), Progress::Troubled(_)));
        assert!(matches!(progress(&UnitStatus::default(), Goal::Stopped), Progress::Troubled(_)));
    }
}

//! What is carried out of a unit that may run once in the cluster at most while its fence is closed (`OnPartition=stop`).
//!
//! The fence closes when the host cannot prove any more that its lease lives: others may then take its units. Nothing else
//! changes: files stay as they are, and what has ended by itself has ended. It is stopped, whoever started it, and started
//! again when the fence opens.

use super::{
    assignment::{Assignment, Wanted},
    installed::Installed,
    runtime::Runtime,
};
use crate::model::Target;

/// What is to be carried out of a unit behind a closed fence; nothing of one that is not installed.
pub(super) fn wanted_behind(assigned: Assignment, installed: Option<&Installed>) -> Option<Wanted> {
    installed.filter(|_| assigned != Assignment::Absent).map(Installed::as_wanted)
}

/// Takes note that a unit is to be stopped because of the fence: if it is wanted again before it is down, also by the next
/// fleetd, it is started again. Returns whether that is new.
pub(super) fn hold_down(installed: &mut Installed, runtime: &Runtime) -> bool {
    let held = (Target::Launched, true);
    if runtime.is_down() || (installed.applied, installed.stopping) == held {
        return false;
    }
    (installed.applied, installed.stopping) = held;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::{
            runtime::{Active, Job},
            step::{Step, next_step},
        },
        unit::UnitHash,
    };

    fn runtime(active: Active, job: Option<Job>) -> Runtime {
        Runtime { load: "loaded".into(), active, sub: String::new(), job }
    }

    #[test]
    fn what_runs_is_stopped_and_nothing_else_is_done() {
        use Active::{Active as Up, Failed, Inactive};
        use Target::{Launched, Loaded};
        let hash = UnitHash::of("1");
        let launched = Wanted { hash, target: Launched, generation: Some(0), request: Some(0) };
        let other = Wanted { hash: UnitHash::of("2"), ..launched };
        let restarted = Wanted { generation: Some(1), ..launched };
        let entry = |applied| Installed { applied, request: Some(0), ..Installed::loaded(hash, Some(0)) };
        for (case, assigned, installed, runtime, step) in [
            ("running", Some(launched), Some(entry(Launched)), runtime(Up, None), Some(Step::Stop)),
            ("running, other contents wanted", Some(other), Some(entry(Launched)), runtime(Up, None), Some(Step::Stop)),
            ("running, restart wanted", Some(restarted), Some(entry(Launched)), runtime(Up, None), Some(Step::Stop)),
            ("being stopped", Some(launched), Some(entry(Launched)), runtime(Up, Some(Job::Stop)), None),
            (
                "being started",
                Some(launched),
                Some(entry(Launched)),
                runtime(Inactive, Some(Job::Start)),
                Some(Step::Stop),
            ),
            ("started by its timer", Some(launched), Some(entry(Loaded)), runtime(Up, None), Some(Step::Stop)),
            ("failed", Some(launched), Some(entry(Launched)), runtime(Failed, None), None),
            ("down, other contents wanted", Some(other), Some(entry(Launched)), runtime(Inactive, None), None),
            ("down, never started", Some(launched), Some(entry(Loaded)), runtime(Inactive, None), None),
            ("not installed", Some(launched), None, runtime(Inactive, None), None),
            ("nothing is known of what is wanted", None, Some(entry(Launched)), runtime(Up, None), Some(Step::Stop)),
        ] {
            let assigned = assigned.map_or(Assignment::Unknown, Assignment::Wanted);
            let mut installed = installed;
            if let Some(installed) = &mut installed {
                hold_down(installed, &runtime);
            }
            let wanted = wanted_behind(assigned, installed.as_ref());
            let next = next_step(wanted.as_ref(), installed.as_ref(), &runtime).map(|(step, _)| step);
            assert_eq!(next, step, "{case}");
        }
    }

    #[test]
    fn what_the_fence_stopped_starts_when_it_opens() {
        let hash = UnitHash::of("1");
        let wanted = Wanted { hash, target: Target::Launched, generation: Some(0), request: Some(0) };
        let mut installed =
            Installed { applied: Target::Launched, request: Some(0), ..Installed::loaded(hash, Some(0)) };
        assert!(hold_down(&mut installed, &runtime(Active::Active, None)));
        assert!(!hold_down(&mut installed, &runtime(Active::Deactivating, Some(Job::Stop))), "known already");
        let next = next_step(Some(&wanted), Some(&installed), &runtime(Active::Inactive, None));
        assert_eq!(next.map(|(step, _)| step), Some(Step::Start));
    }
}

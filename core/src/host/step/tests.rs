use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::unit::{UnitHash, UnitName};

fn hash(n: u8) -> UnitHash {
    UnitHash::of(&n.to_string())
}

fn wanted(n: u8, target: Target, generation: u64) -> Wanted {
    Wanted { hash: hash(n), target, generation: Some(generation), request: Some(0) }
}

/// The same, asked for once more.
fn asked(target: Target) -> Option<Wanted> {
    Some(Wanted { request: Some(1), ..wanted(1, target, 0) })
}

fn installed(n: u8, applied: Target, generation: u64) -> Installed {
    Installed { applied, request: Some(0), ..Installed::loaded(hash(n), Some(generation)) }
}

fn runtime(active: &str, job: Option<Job>) -> Runtime {
    Runtime { load: "loaded".into(), active: Active::from_word(active), sub: String::new(), job }
}

#[test]
fn one_step_at_a_time_leads_from_what_is_to_what_should_be() {
    use Target::{Launched, Loaded};
    for (case, wanted, installed, runtime, expected) in [
        ("nothing wanted, nothing there", None, None, runtime("inactive", None), None),
        ("a foreign unit is left alone", None, None, runtime("active", None), None),
        ("new", Some(wanted(1, Loaded, 0)), None, runtime("inactive", None), Some(Step::Install)),
        ("as wanted", Some(wanted(1, Launched, 0)), Some(installed(1, Launched, 0)), runtime("active", None), None),
        (
            "failed by itself",
            Some(wanted(1, Launched, 0)),
            Some(installed(1, Launched, 0)),
            runtime("failed", None),
            None,
        ),
        (
            "ended by itself",
            Some(wanted(1, Launched, 0)),
            Some(installed(1, Launched, 0)),
            runtime("inactive", None),
            None,
        ),
        (
            "start",
            Some(wanted(1, Launched, 0)),
            Some(installed(1, Loaded, 0)),
            runtime("inactive", None),
            Some(Step::Start),
        ),
        (
            "start waits for a stop under way",
            Some(wanted(1, Launched, 0)),
            Some(installed(1, Loaded, 0)),
            runtime("deactivating", Some(Job::Stop)),
            None,
        ),
        (
            "stop",
            Some(wanted(1, Loaded, 0)),
            Some(installed(1, Launched, 0)),
            runtime("active", None),
            Some(Step::Stop),
        ),
        (
            "a start that hangs is stopped",
            Some(wanted(1, Loaded, 0)),
            Some(installed(1, Launched, 0)),
            runtime("inactive", Some(Job::Start)),
            Some(Step::Stop),
        ),
        (
            "stopping takes its time",
            Some(wanted(1, Loaded, 0)),
            Some(installed(1, Launched, 0)),
            runtime("deactivating", Some(Job::Stop)),
            None,
        ),
        (
            "stopped",
            Some(wanted(1, Loaded, 0)),
            Some(installed(1, Launched, 0)),
            runtime("inactive", None),
            Some(Step::Settle),
        ),
        (
            "a loaded unit that its timer started is left alone",
            Some(wanted(1, Loaded, 0)),
            Some(installed(1, Loaded, 0)),
            runtime("active", None),
            None,
        ),
        (
            "changed while running",
            Some(wanted(2, Launched, 0)),
            Some(installed(1, Launched, 0)),
            runtime("active", None),
            Some(Step::Stop),
        ),
        (
            "changed and down",
            Some(wanted(2, Launched, 0)),
            Some(installed(1, Launched, 0)),
            runtime("failed", None),
            Some(Step::Install),
        ),
        (
            "restart asked for",
            Some(wanted(1, Launched, 1)),
            Some(installed(1, Launched, 0)),
            runtime("active", None),
            Some(Step::Restart),
        ),
        (
            "stopped by the agent and wanted again",
            Some(wanted(1, Launched, 0)),
            Some(Installed { stopping: true, ..installed(1, Launched, 0) }),
            runtime("inactive", None),
            Some(Step::Start),
        ),
        (
            "wanted again while the agent's stop is under way",
            Some(wanted(1, Launched, 0)),
            Some(Installed { stopping: true, ..installed(1, Launched, 0) }),
            runtime("deactivating", Some(Job::Stop)),
            None,
        ),
        (
            "asked for, and failed",
            asked(Launched),
            Some(installed(1, Launched, 0)),
            runtime("failed", None),
            Some(Step::Start),
        ),
        (
            "asked for, and ended by itself",
            asked(Launched),
            Some(installed(1, Launched, 0)),
            runtime("inactive", None),
            Some(Step::Start),
        ),
        (
            "asked for, and waiting for a restart of systemd's",
            asked(Launched),
            Some(installed(1, Launched, 0)),
            Runtime { sub: "auto-restart".into(), ..runtime("activating", None) },
            Some(Step::Start),
        ),
        (
            "asked for, and running",
            asked(Launched),
            Some(installed(1, Launched, 0)),
            runtime("active", None),
            Some(Step::Settle),
        ),
        (
            "asked for, and on its way",
            asked(Launched),
            Some(installed(1, Launched, 0)),
            runtime("inactive", Some(Job::Start)),
            Some(Step::Settle),
        ),
        (
            "asked for while it goes down: it is started after that",
            asked(Launched),
            Some(installed(1, Launched, 0)),
            runtime("deactivating", None),
            None,
        ),
        (
            "asked for, and finished",
            asked(Launched),
            Some(Installed { finished: true, ..installed(1, Launched, 0) }),
            runtime("inactive", None),
            Some(Step::Settle),
        ),
        (
            "asked for, finished once and failed since",
            asked(Launched),
            Some(Installed { finished: true, ..installed(1, Launched, 0) }),
            runtime("failed", None),
            Some(Step::Start),
        ),
        (
            "asked to be stopped, only loaded and running",
            asked(Loaded),
            Some(installed(1, Loaded, 0)),
            runtime("active", None),
            Some(Step::Stop),
        ),
        (
            "asked to be stopped, and down",
            asked(Loaded),
            Some(Installed { stopping: true, ..installed(1, Loaded, 0) }),
            runtime("inactive", None),
            Some(Step::Settle),
        ),
        (
            "its file is lost",
            Some(wanted(1, Launched, 0)),
            Some(Installed { lost: true, ..installed(1, Loaded, 0) }),
            runtime("inactive", None),
            Some(Step::Install),
        ),
        (
            "its file is lost, but it runs",
            Some(wanted(1, Launched, 0)),
            Some(Installed { lost: true, ..installed(1, Launched, 0) }),
            runtime("active", None),
            None,
        ),
        (
            "its file is lost, and gone",
            None,
            Some(Installed { lost: true, ..installed(1, Loaded, 0) }),
            runtime("inactive", None),
            Some(Step::Remove),
        ),
        ("gone, running", None, Some(installed(1, Launched, 0)), runtime("active", None), Some(Step::Stop)),
        ("gone, down", None, Some(installed(1, Launched, 0)), runtime("failed", None), Some(Step::Remove)),
        ("gone, never started", None, Some(installed(1, Loaded, 0)), runtime("inactive", None), Some(Step::Remove)),
    ] {
        let step = next_step(wanted.as_ref(), installed.as_ref(), &runtime).map(|(step, _)| step);
        assert_eq!(step, expected, "{case}");
    }
}

#[test]
fn adopted_unit_of_unknown_generation_is_not_restarted() {
    let adopted = Installed { generation: None, ..installed(1, Target::Launched, 0) };
    let step = next_step(Some(&wanted(1, Target::Launched, 7)), Some(&adopted), &runtime("active", None));
    assert_eq!(step, Some((Step::Settle, "already as wanted")));
}

/// A host as simple as it can be: jobs end at once, and `starts` counts what a user would notice.
#[derive(Default)]
struct Host {
    installed: BTreeMap<UnitName, Installed>,
    runtime: BTreeMap<UnitName, Runtime>,
    starts: BTreeMap<UnitName, u32>,
}

impl Host {
    /// The next step of each unit that has one.
    fn steps(&self, wanted: &BTreeMap<UnitName, Wanted>) -> Vec<(UnitName, Step)> {
        let units: BTreeSet<&UnitName> = wanted.keys().chain(self.installed.keys()).collect();
        let unknown = Runtime::default();
        let next = |unit: &UnitName| {
            let runtime = self.runtime.get(unit).unwrap_or(&unknown);
            next_step(wanted.get(unit), self.installed.get(unit), runtime)
        };
        units.into_iter().filter_map(|unit| Some((unit.clone(), next(unit)?.0))).collect()
    }

    fn settle(&mut self, wanted: &BTreeMap<UnitName, Wanted>) {
        for _ in 0..8 {
            let steps = self.steps(wanted);
            if steps.is_empty() {
                return;
            }
            for (unit, step) in steps {
                let want = wanted.get(&unit);
                self.apply(unit, step, want);
            }
        }
        panic!("does not come to rest");
    }

    fn apply(&mut self, unit: UnitName, step: Step, wanted: Option<&Wanted>) {
        match step {
            Step::Install => {
                assert!(self.runtime.get(&unit).is_none_or(Runtime::is_down), "file replaced under a running unit");
                let wanted = wanted.unwrap();
                let entry = Installed::loaded(wanted.hash, wanted.generation);
                self.installed.insert(unit, Installed { request: wanted.request, ..entry });
            }
            Step::Start | Step::Restart => {
                *self.starts.entry(unit.clone()).or_default() += 1;
                self.installed.get_mut(&unit).unwrap().launched(wanted.unwrap());
                self.runtime.insert(unit, runtime("active", None));
            }
            Step::Stop => {
                assert!(self.installed.contains_key(&unit), "stopped a unit that is not ours");
                self.installed.get_mut(&unit).unwrap().stopping = true;
                self.runtime.insert(unit, runtime("inactive", None));
            }
            Step::Settle => {
                self.installed.get_mut(&unit).unwrap().settled(wanted.unwrap());
            }
            Step::Remove => {
                self.installed.remove(&unit);
                self.runtime.remove(&unit);
            }
        }
    }
}

fn any_wanted() -> impl Strategy<Value = BTreeMap<UnitName, Wanted>> {
    let name = (0..4u8).prop_map(|n| UnitName::new(&format!("u{n}.service")).unwrap());
    let target = prop::sample::select(vec![Target::Loaded, Target::Launched]);
    let one = (0..3u8, target, 0..3u64, 0..3u64).prop_map(|(n, target, generation, request)| Wanted {
        request: Some(request),
        ..wanted(n, target, generation)
    });
    prop::collection::btree_map(name, one, 0..4)
}

proptest! {
    #[test]
    fn every_history_ends_as_wanted_and_starts_nothing_needlessly(history in prop::collection::vec(any_wanted(), 1..6)) {
        let mut host = Host::default();
        let mut before: BTreeMap<UnitName, Wanted> = BTreeMap::new();
        for wanted in history {
            let starts = host.starts.clone();
            host.settle(&wanted);
            prop_assert_eq!(host.installed.len(), wanted.len());
            for (unit, want) in &wanted {
                let entry = host.installed[unit];
                prop_assert_eq!((entry.hash, entry.applied), (want.hash, want.target));
                prop_assert_eq!((entry.generation, entry.request), (want.generation, want.request));
                let active = host.runtime.get(unit).is_some_and(|runtime| runtime.active == Active::Active);
                prop_assert_eq!(active, want.target == Target::Launched);
                let unchanged = before.get(unit) == Some(want);
                let started = host.starts.get(unit) != starts.get(unit);
                prop_assert!(!(unchanged && started), "restarted though nothing changed");
            }
            before = wanted;
        }
    }

    #[test]
    fn a_wish_that_changes_half_way_loses_nothing(history in prop::collection::vec((any_wanted(), 0..6usize), 1..8)) {
        let mut host = Host::default();
        let last = history.last().unwrap().0.clone();
        for (wanted, steps) in history {
            for _ in 0..steps {
                let Some((unit, step)) = host.steps(&wanted).into_iter().next() else { break };
                let want = wanted.get(&unit);
                host.apply(unit, step, want);
            }
        }
        host.settle(&last);
        for (unit, want) in &last {
            let active = host.runtime.get(unit).is_some_and(|runtime| runtime.active == Active::Active);
            prop_assert_eq!(active, want.target == Target::Launched, "{}", unit);
        }
    }

    #[test]
    fn a_unit_that_is_not_ours_is_never_stopped_or_removed(active in "active|inactive|failed|activating", want in prop::option::of(0..3u8)) {
        let want = want.map(|n| wanted(n, Target::Launched, 0));
        let step = next_step(want.as_ref(), None, &runtime(&active, None)).map(|(step, _)| step);
        prop_assert!(matches!(step, None | Some(Step::Install)));
    }
}

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn hash(n: u8) -> UnitHash {
    UnitHash::of(&n.to_string())
}

fn wanted(n: u8, target: Target, generation: u64) -> Wanted {
    Wanted { hash: hash(n), target, generation: Some(generation) }
}

fn installed(n: u8, applied: Target, generation: u64) -> Installed {
    Installed { applied, ..Installed::loaded(hash(n), Some(generation)) }
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

/// The units that are wanted or installed.
fn all(wanted: &BTreeMap<UnitName, Wanted>, installed: &BTreeMap<UnitName, Installed>) -> BTreeSet<UnitName> {
    wanted.keys().chain(installed.keys()).cloned().collect()
}

/// A host as simple as it can be: jobs end at once, and `starts` counts what a user would notice.
#[derive(Default)]
struct Host {
    installed: BTreeMap<UnitName, Installed>,
    runtime: BTreeMap<UnitName, Runtime>,
    starts: BTreeMap<UnitName, u32>,
}

impl Host {
    fn settle(&mut self, wanted: &BTreeMap<UnitName, Wanted>) {
        for _ in 0..8 {
            let actions = reconcile(&all(wanted, &self.installed), wanted, &self.installed, &self.runtime);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.apply(&action, wanted.get(&action.unit));
            }
        }
        panic!("does not come to rest");
    }

    fn apply(&mut self, action: &Action, wanted: Option<&Wanted>) {
        let unit = action.unit.clone();
        match action.step {
            Step::Install => {
                assert!(self.runtime.get(&unit).is_none_or(Runtime::is_down), "file replaced under a running unit");
                let wanted = wanted.unwrap();
                self.installed.insert(unit, Installed::loaded(wanted.hash, wanted.generation));
            }
            Step::Start | Step::Restart => {
                *self.starts.entry(unit.clone()).or_default() += 1;
                let entry = self.installed.get_mut(&unit).unwrap();
                (entry.applied, entry.generation) = (Target::Launched, wanted.unwrap().generation);
                entry.stopping = false;
                self.runtime.insert(unit, runtime("active", None));
            }
            Step::Stop => {
                assert!(self.installed.contains_key(&unit), "stopped a unit that is not ours");
                self.installed.get_mut(&unit).unwrap().stopping = true;
                self.runtime.insert(unit, runtime("inactive", None));
            }
            Step::Settle => {
                let entry = self.installed.get_mut(&unit).unwrap();
                let wanted = wanted.unwrap();
                (entry.applied, entry.generation) = (wanted.target, wanted.generation);
                entry.stopping = false;
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
    let one = (0..3u8, target, 0..3u64).prop_map(|(n, target, generation)| wanted(n, target, generation));
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
                prop_assert_eq!((entry.hash, entry.applied, entry.generation), (want.hash, want.target, want.generation));
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
                let units = all(&wanted, &host.installed);
                let actions = reconcile(&units, &wanted, &host.installed, &host.runtime);
                let Some(action) = actions.into_iter().next() else { break };
                host.apply(&action, wanted.get(&action.unit));
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

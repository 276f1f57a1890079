//! The rules, one by one. Machines `m1`, `m2`, ... have the short IDs `00000001`, `00000002`, ...

mod leaving;
mod relations;

use std::{collections::BTreeMap, sync::Arc};

use super::{Decision, Planner, globals_for};
use crate::{
    model::MachineId,
    unit::{Requirements, UnitFile, UnitName},
};

/// A cluster in which all decisions are written at once.
#[derive(Default)]
struct Cluster {
    planner: Planner,
}

fn name(text: &str) -> UnitName {
    UnitName::new(text).unwrap()
}

fn id(n: u32) -> MachineId {
    MachineId::new(&format!("{n:08x}{n:024x}")).unwrap()
}

fn metadata(pairs: &str) -> BTreeMap<String, String> {
    let pairs = pairs.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(key, value)| (key.into(), value.into())).collect()
}

/// Requirements as the lines of `[X-Fleet]`.
fn requirements(unit: &str, section: &str) -> Arc<Requirements> {
    let file = UnitFile::parse(&format!("[X-Fleet]\n{section}\n")).unwrap();
    Arc::new(Requirements::read(&file, &name(unit)).unwrap().0)
}

impl Cluster {
    /// Machines 1 to `machines`, without metadata.
    fn of(machines: u32) -> Self {
        let mut cluster = Self::default();
        (1..=machines).for_each(|n| cluster.machine(n, ""));
        cluster
    }

    fn machine(&mut self, n: u32, pairs: &str) {
        self.planner.set_machine(id(n), metadata(pairs));
    }

    fn unit(&mut self, unit: &str, section: &str) {
        self.planner.set_unit(name(unit), requirements(unit, section), true);
    }

    fn stop(&mut self, unit: &str, section: &str) {
        self.planner.set_unit(name(unit), requirements(unit, section), false);
    }

    fn global(&mut self, unit: &str, section: &str) {
        self.planner.set_global(name(unit), requirements(unit, section), true);
    }

    fn placed(&mut self, unit: &str, n: u32) {
        self.planner.placed(name(unit), id(n));
    }

    /// Plans and writes; what was decided, as `unit: from -> to` with the short names of machines.
    fn plan(&mut self) -> Vec<String> {
        let decisions = self.planner.plan();
        for Decision { unit, from, to, .. } in &decisions {
            from.iter().for_each(|id| self.planner.removed(unit, id));
            if let Some(id) = to {
                self.planner.placed(unit.clone(), id.clone());
            }
        }
        assert_eq!(self.planner.plan(), [], "a plan leaves nothing to do");
        decisions.iter().map(short).collect()
    }

    /// Where a unit is: 0 for nowhere.
    fn at(&mut self, unit: &str) -> u32 {
        let placed = self.planner.explain(&name(unit)).placed;
        placed.map_or(0, |id| u32::from_str_radix(id.short(), 16).unwrap())
    }

    fn summary(&mut self, unit: &str) -> String {
        self.planner.explain(&name(unit)).summary
    }

    /// What a machine has for or against a unit.
    fn verdict(&mut self, unit: &str, n: u32) -> String {
        let verdicts = self.planner.explain(&name(unit)).verdicts;
        verdicts.into_iter().find(|verdict| verdict.machine == id(n)).unwrap().reason.to_string()
    }
}

fn short(decision: &Decision) -> String {
    let n = |id: &MachineId| format!("m{}", u32::from_str_radix(id.short(), 16).unwrap());
    let from: Vec<_> = decision.from.iter().map(n).collect();
    format!("{}: {} -> {}", decision.unit, from.join(","), decision.to.as_ref().map_or(String::new(), n))
}

#[test]
fn least_loaded_machine_is_first_and_nothing_moves_for_balance() {
    let mut cluster = Cluster::of(3);
    (0..9).for_each(|n| cluster.unit(&format!("a{n}.service"), ""));
    assert_eq!(cluster.plan().len(), 9);
    for n in 1..=3 {
        assert_eq!(cluster.planner.explain(&name("a0.service")).verdicts.len(), 3);
        let here = (0..9).filter(|unit| cluster.at(&format!("a{unit}.service")) == n).count();
        assert_eq!(here, 3, "units on m{n}");
    }
    cluster.machine(4, "");
    assert_eq!(cluster.plan(), [""; 0]);
    cluster.unit("b.service", "");
    assert_eq!(cluster.plan(), ["b.service:  -> m4"]);
}

#[test]
fn of_equally_loaded_machines_the_one_with_the_least_id_is_chosen() {
    let places = |machines: &[u32]| {
        let mut cluster = Cluster::default();
        machines.iter().for_each(|&n| cluster.machine(n, ""));
        ["a.service", "b.service", "c.service", "web@1.service"].map(|unit| {
            cluster.unit(unit, "");
            cluster.plan();
            let at = cluster.at(unit);
            cluster.planner.remove_unit(&name(unit));
            cluster.plan();
            at
        })
    };
    assert_eq!(places(&[1, 2, 3]), [1, 1, 1, 1]);
    assert_eq!(places(&[3, 1, 2]), places(&[1, 2, 3]));
}

#[test]
fn metadata_keys_must_all_hold_and_values_are_alternatives() {
    let mut cluster = Cluster::default();
    cluster.machine(1, "region=ap disk=ssd");
    cluster.machine(2, "region=us");
    cluster.machine(3, "region=us disk=ssd");
    let section = "MachineMetadata=region=eu\nMachineMetadata=region=us\nMachineMetadata=disk=ssd";
    cluster.unit("a.service", section);
    assert_eq!(cluster.plan(), ["a.service:  -> m3"]);
    assert_eq!(cluster.verdict("a.service", 1), "metadata region=eu|us wanted, machine has region=ap");
    assert_eq!(cluster.verdict("a.service", 2), "metadata disk=ssd wanted, machine has no disk");
    assert_eq!(cluster.verdict("a.service", 3), "scheduled here");
    assert_eq!(cluster.summary("a.service"), "scheduled to 00000003");

    // An edit counts at once; the unit waits for a machine that has what it wants.
    cluster.machine(3, "region=us disk=hdd");
    assert_eq!(cluster.plan(), ["a.service: m3 -> "]);
    assert_eq!(
        cluster.summary("a.service"),
        "not placed: no machine fits (3 machines: 2 lack metadata disk=ssd, 1 lacks metadata region=eu|us)"
    );
    cluster.machine(2, "region=eu disk=ssd");
    assert_eq!(cluster.plan(), ["a.service:  -> m2"]);
}

#[test]
fn machine_id_is_whole_or_short() {
    let mut cluster = Cluster::of(3);
    cluster.unit("whole.service", &format!("MachineID={}", id(2)));
    cluster.unit("short.service", "MachineID=00000003");
    cluster.unit("wrong.service", "MachineID=0000000");
    assert_eq!(cluster.plan(), ["short.service:  -> m3", "whole.service:  -> m2"]);
    assert_eq!(cluster.verdict("short.service", 1), "MachineID=00000003 wanted");
    assert_eq!(cluster.summary("wrong.service"), "not placed: no machine fits (3 machines: 3 are not 0000000)");
    cluster.unit("later.service", "MachineID=00000009");
    assert_eq!(cluster.plan(), [""; 0]);
    cluster.machine(9, "");
    assert_eq!(cluster.plan(), ["later.service:  -> m9"]);
}

#[test]
fn conflicts_work_both_ways_and_never_with_oneself() {
    for (one, other) in [("Conflicts=b*", ""), ("", "Conflicts=[ab].service"), ("Conflicts=b*", "Conflicts=a*")] {
        let mut cluster = Cluster::of(1);
        cluster.unit("a.service", one);
        cluster.unit("b.service", other);
        assert_eq!(cluster.plan(), ["a.service:  -> m1"]);
        cluster.machine(2, "");
        assert_eq!(cluster.plan(), ["b.service:  -> m2"], "{one:?} {other:?}");
    }
    let mut cluster = Cluster::of(2);
    (1..=3).for_each(|n| cluster.unit(&format!("web@{n}.service"), "Conflicts=web@*.service"));
    cluster.plan();
    assert_eq!(cluster.at("web@1.service") + cluster.at("web@2.service"), 3);
    assert_eq!(
        cluster.summary("web@3.service"),
        "not placed: no machine fits (2 machines: 2 conflict with web@1.service and others)"
            .replace("web@1.service", if cluster.at("web@1.service") == 1 { "web@1.service" } else { "web@2.service" })
    );
    // Whose place becomes free is taken at once.
    let free = cluster.at("web@1.service");
    cluster.planner.remove_unit(&name("web@1.service"));
    assert_eq!(cluster.plan(), [format!("web@1.service: m{free} -> "), format!("web@3.service:  -> m{free}")]);
}

#[test]
fn conflict_with_a_name_that_systemd_has_escaped_holds() {
    for pattern in [r"my\x2dapp@2.service", r"my\x2dapp@*.service", "my*"] {
        for (one, other) in [(pattern, ""), ("", &*pattern.replace("@2", "@1"))] {
            let mut cluster = Cluster::of(2);
            let conflicts =
                |pattern: &str| if pattern.is_empty() { String::new() } else { format!("Conflicts={pattern}") };
            cluster.unit(r"my\x2dapp@1.service", &conflicts(one));
            cluster.unit(r"my\x2dapp@2.service", &conflicts(other));
            cluster.plan();
            let places = [1, 2].map(|n| cluster.at(&format!(r"my\x2dapp@{n}.service")));
            assert_eq!(places.iter().sum::<u32>(), 3, "{one:?} {other:?}: {places:?}");
        }
    }
    // The unit's own name comes with its backslash from a specifier, too.
    let mut cluster = Cluster::of(1);
    cluster.unit(r"my\x2dapp.service", "Conflicts=%n-other.service %N*");
    cluster.unit(r"my\x2dapp-2.service", "");
    cluster.plan();
    assert_eq!(cluster.at(r"my\x2dapp.service") + cluster.at(r"my\x2dapp-2.service"), 1, "one of them waits");
}

#[test]
fn conflict_names_who_declares_it() {
    let mut cluster = Cluster::of(1);
    cluster.unit("db.service", "Conflicts=web@*.service");
    cluster.plan();
    cluster.unit("web@1.service", "");
    cluster.unit("x.service", "Conflicts=db*");
    cluster.plan();
    assert_eq!(cluster.verdict("web@1.service", 1), "conflicts with db.service (its Conflicts=web@*.service)");
    assert_eq!(cluster.verdict("x.service", 1), "conflicts with db.service (Conflicts=db*)");
    assert_eq!(cluster.summary("x.service"), "not placed: no machine fits (1 machine: 1 conflicts with db.service)");
}

#[test]
fn pending_unit_takes_the_place_that_another_leaves() {
    let mut cluster = Cluster::of(1);
    cluster.unit("t.service", "");
    cluster.unit("db.service", "MachineOf=t.service");
    cluster.plan();
    cluster.unit("x.service", "Conflicts=db*");
    assert_eq!(cluster.plan(), [""; 0]);
    cluster.planner.remove_unit(&name("t.service"));
    assert_eq!(cluster.plan(), ["t.service: m1 -> ", "db.service: m1 -> ", "x.service:  -> m1"]);
}

#[test]
fn unit_whose_requirements_change_into_a_conflict_is_the_one_that_leaves() {
    for changed in ["a.service", "b.service"] {
        let mut cluster = Cluster::of(1);
        cluster.unit("a.service", "");
        cluster.unit("b.service", "");
        cluster.plan();
        cluster.machine(2, "");
        cluster.unit(changed, "Conflicts=*.service");
        assert_eq!(cluster.plan(), [format!("{changed}: m1 -> m2")]);
    }
    // Both at once, as an engine sees it that has just begun: the first by name stays.
    let mut cluster = Cluster::of(2);
    cluster.placed("b.service", 1);
    cluster.placed("a.service", 1);
    cluster.unit("b.service", "Conflicts=*.service");
    cluster.unit("a.service", "");
    assert_eq!(cluster.plan(), ["b.service: m1 -> m2"]);
}

#[test]
fn units_that_are_not_wanted_or_gone_lose_their_place() {
    let mut cluster = Cluster::of(1);
    cluster.unit("a.service", "");
    cluster.unit("b.service", "");
    cluster.plan();
    cluster.stop("a.service", "");
    cluster.planner.remove_unit(&name("b.service"));
    let decisions = cluster.planner.plan();
    let texts: Vec<_> = decisions.iter().map(|decision| format!("{} ({})", short(decision), decision.reason)).collect();
    assert_eq!(texts, ["a.service: m1 ->  (not wanted (inactive))", "b.service: m1 ->  (no such unit any more)"]);
}

#[test]
fn units_of_a_lost_machine_are_planned_anew_and_those_of_a_held_one_stay() {
    let mut cluster = Cluster::of(2);
    cluster.unit("a.service", "");
    cluster.plan();
    let (at, other) = if cluster.at("a.service") == 1 { (1, 2) } else { (2, 1) };
    cluster.planner.hold_machine(id(at));
    cluster.unit("b.service", "Conflicts=a.service");
    cluster.unit("c.service", &format!("MachineID=0000000{at}"));
    assert_eq!(cluster.plan(), [format!("b.service:  -> m{other}")]);
    assert_eq!(cluster.verdict("c.service", at), "machine is away");
    cluster.planner.remove_machine(&id(at));
    // It may not go to the only machine left.
    assert_eq!(cluster.plan(), [format!("a.service: m{at} -> ")]);
    cluster.machine(at, "");
    assert_eq!(cluster.plan().len(), 2);
    // Never heard of is as good as dead.
    cluster.placed("a.service", 9);
    cluster.planner.removed(&name("a.service"), &id(at));
    assert_eq!(cluster.plan(), [format!("a.service: m9 -> m{at}")]);
}

#[test]
fn duplicate_that_is_valid_stays() {
    for (region, kept, dropped) in [("a", 1, 2), ("b", 2, 1)] {
        let mut cluster = Cluster::default();
        cluster.machine(1, "region=a");
        cluster.machine(2, "region=b");
        cluster.placed("a.service", 2);
        cluster.placed("a.service", 1);
        cluster.unit("a.service", &format!("MachineMetadata=region={region}"));
        assert_eq!(cluster.plan(), [format!("a.service: m{dropped} -> m{kept}")]);
    }
    let mut cluster = Cluster::of(2);
    cluster.unit("a.service", "");
    cluster.placed("a.service", 2);
    cluster.placed("a.service", 1);
    let decisions = cluster.planner.plan();
    assert_eq!(short(&decisions[0]), "a.service: m2 -> m1");
    assert_eq!(decisions[0].reason.to_string(), "scheduled to 00000001 as well");
}

#[test]
fn unit_in_conflict_with_a_global_one_goes_there_only_when_it_fits_nowhere_else() {
    for (global, unit) in [("Conflicts=web*", ""), ("", "Conflicts=zz*")] {
        let mut cluster = Cluster::default();
        cluster.machine(1, "disk=hdd");
        cluster.machine(2, "disk=ssd");
        cluster.global("zz.service", &format!("Global=true\nMachineMetadata=disk=hdd\n{global}"));
        for number in 1..=2 {
            cluster.unit(&format!("web@{number}.service"), unit);
        }
        cluster.plan();
        assert_eq!([cluster.at("web@1.service"), cluster.at("web@2.service")], [2, 2], "though the other has none");
        assert_eq!(cluster.verdict("web@1.service", 1), "fits (0 units), global zz.service would leave for it");
        assert_eq!(cluster.summary("zz.service"), "global: on 1 of 2 machines");
        cluster.planner.remove_machine(&id(2));
        assert_eq!(cluster.plan().len(), 2);
        assert_eq!([cluster.at("web@1.service"), cluster.at("web@2.service")], [1, 1]);
        assert_eq!(cluster.summary("zz.service"), "global: on 0 of 1 machines");
        assert!(cluster.verdict("zz.service", 1).starts_with("conflicts with web@1.service ("));
    }
}

#[test]
fn globals_hold_off_each_other_by_name_and_yield_to_what_is_scheduled() {
    let globals = [
        ("a.service", "Global=true"),
        ("b.service", "Global=true\nConflicts=a.service"),
        ("c.service", "Global=true\nConflicts=b.service"),
        ("d.service", "Global=true\nMachineMetadata=disk=ssd"),
        ("e.service", "Global=true"),
    ]
    .map(|(unit, section)| (name(unit), requirements(unit, section)));
    let scheduled = [(name("x.service"), requirements("x.service", "Conflicts=e*"))];
    let verdicts = globals_for(
        &id(1),
        &metadata("disk=hdd"),
        globals.iter().rev().map(|(name, requirements)| (name, &**requirements)),
        scheduled.iter().map(|(name, requirements)| (name, &**requirements)),
    );
    let texts: Vec<_> = verdicts.iter().map(|(name, verdict)| format!("{name}: {}", verdict.reason)).collect();
    assert_eq!(
        texts,
        [
            "a.service: fits (global unit)",
            "b.service: conflicts with global a.service (Conflicts=a.service)",
            "c.service: fits (global unit)",
            "d.service: metadata disk=ssd wanted, machine has disk=hdd",
            "e.service: conflicts with x.service (its Conflicts=e*)",
        ]
    );
}

#[test]
fn refused_decision_is_made_again_from_what_the_store_says() {
    let mut cluster = Cluster::of(2);
    cluster.unit("a.service", "");
    let first = cluster.planner.plan();
    cluster.planner.refused(&name("a.service"));
    assert_eq!(cluster.planner.plan(), first);
    // Somebody else has placed it meanwhile.
    cluster.planner.refused(&name("a.service"));
    cluster.placed("a.service", 1);
    assert_eq!(cluster.planner.plan(), []);
    assert_eq!(cluster.at("a.service"), 1);
}

#[test]
fn plan_builds_on_decisions_that_the_store_has_not_shown_yet() {
    let mut cluster = Cluster::of(1);
    cluster.unit("a.service", "");
    assert_eq!(short(&cluster.planner.plan()[0]), "a.service:  -> m1");
    cluster.machine(2, "");
    cluster.planner.remove_machine(&id(1));
    assert_eq!(short(&cluster.planner.plan()[0]), "a.service: m1 -> m2");
    cluster.stop("a.service", "");
    assert_eq!(short(&cluster.planner.plan()[0]), "a.service: m2 -> ");
    // Now the store catches up, one decision after the other.
    cluster.placed("a.service", 1);
    cluster.placed("a.service", 2);
    cluster.planner.removed(&name("a.service"), &id(1));
    assert_eq!(cluster.planner.plan(), []);
    cluster.planner.removed(&name("a.service"), &id(2));
    assert_eq!(cluster.planner.plan(), []);
    // What nobody decided is corrected.
    cluster.placed("a.service", 2);
    assert_eq!(short(&cluster.planner.plan()[0]), "a.service: m2 -> ");
}

#[test]
fn store_may_show_the_net_effect_of_several_decisions() {
    let mut cluster = Cluster::of(1);
    cluster.unit("a.service", "");
    assert_eq!(short(&cluster.planner.plan()[0]), "a.service:  -> m1");
    cluster.machine(2, "");
    cluster.planner.remove_machine(&id(1));
    assert_eq!(short(&cluster.planner.plan()[0]), "a.service: m1 -> m2");
    cluster.placed("a.service", 2);
    assert_eq!(cluster.planner.plan(), []);
    // The first decision is not expected to show any more.
    cluster.placed("a.service", 1);
    assert_eq!(short(&cluster.planner.plan()[0]), "a.service: m1 -> m2");
}

#[test]
fn names_that_come_and_go_leave_nothing_behind() {
    let mut cluster = Cluster::of(2);
    for n in 0..100 {
        let unit = format!("job-{n}.service");
        cluster.unit(&unit, "MachineOf=base.service\nConflicts=x*\nMachineMetadata=a=b");
        cluster.unit("base.service", "");
        cluster.plan();
        cluster.planner.remove_unit(&name(&unit));
        cluster.planner.remove_unit(&name("base.service"));
        cluster.plan();
    }
    cluster.plan();
    assert!(cluster.planner.units.names().sorted().is_empty());
}

#[test]
fn what_was_refused_is_still_to_be_decided() {
    let mut cluster = Cluster::of(2);
    cluster.unit("a.service", "");
    cluster.unit("b.service", "MachineOf=a.service");
    assert_eq!(cluster.planner.plan().len(), 2);
    cluster.planner.refused(&name("b.service"));
    assert_eq!((cluster.at("a.service"), cluster.at("b.service")), (1, 0));
    assert_eq!(cluster.summary("b.service"), "not placed yet: the engine is to decide");
    assert_eq!(cluster.verdict("b.service", 1), "fits (1 unit)");
    cluster.plan();
    assert_eq!(cluster.summary("b.service"), "scheduled to 00000001");

    cluster.unit("c.service", "MachineID=00000001");
    cluster.plan();
    cluster.unit("c.service", "MachineID=00000002");
    cluster.planner.plan();
    cluster.planner.refused(&name("c.service"));
    assert_eq!(cluster.summary("c.service"), "scheduled to 00000001; the engine is to decide anew");
}

#[test]
fn empty_cluster_says_so() {
    let mut cluster = Cluster::of(0);
    cluster.unit("a.service", "");
    cluster.plan();
    assert_eq!(cluster.summary("a.service"), "not placed: no machine in the cluster");
    let pending: Vec<_> = cluster.planner.pending().map(|(name, reason)| format!("{name}: {reason}")).collect();
    assert_eq!(pending, ["a.service: no machine in the cluster"]);
    assert_eq!(cluster.summary("b.service"), "unknown unit");
}

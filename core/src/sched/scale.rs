//! Does a decision's cost grow with the change, or with the cluster? Sizes and figures:
//! `cargo test --release -p fleet-core sched::scale -- --ignored --nocapture`

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{Decision, Planner};
use crate::{
    model::MachineId,
    unit::{Glob, Requirements, UnitName},
};

fn machine(n: usize) -> MachineId {
    // Spread like real IDs, which share no prefix.
    MachineId::new(&format!("{:08x}{n:024x}", (n as u32).wrapping_mul(2_654_435_761))).unwrap()
}

fn metadata(n: usize) -> BTreeMap<String, String> {
    let pairs = [
        ("disk", if n.is_multiple_of(3) { "ssd" } else { "hdd" }.into()),
        ("region", ["eu", "us", "ap"][n % 3].into()),
        ("rack", format!("r{}", n % 100)),
    ];
    pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

fn unit_name(n: usize) -> UnitName {
    let name = match n % 20 {
        // Ten instances of each template, which keep apart.
        0 | 1 => format!("web{}@{}.service", n / 100, n % 100),
        2 => format!("sidekick-{n}.service"),
        _ => format!("job-{n}.service"),
    };
    UnitName::new(&name).unwrap()
}

/// 10 % in conflict with their own kind, 5 % that follow another, 20 % with metadata, the rest without wishes.
fn requirements(n: usize) -> Arc<Requirements> {
    let plain = Requirements::default();
    let set = |values: &[&str]| values.iter().map(|&value| value.into()).collect();
    Arc::new(match n % 20 {
        0 | 1 => Requirements { conflicts: [Glob::new(format!("web{}@*.service", n / 100))].into(), ..plain },
        2 => Requirements { machine_of: [unit_name(n + 1).to_string()].into(), ..plain },
        4 | 5 => Requirements { metadata: [("disk".into(), set(&["ssd"]))].into(), ..plain },
        6 | 7 => {
            let both = [("region".into(), set(&["eu", "us"])), ("disk".into(), set(&["hdd"]))];
            Requirements { metadata: both.into(), ..plain }
        }
        _ => plain,
    })
}

/// A cluster of which nothing is placed yet.
fn cluster(machines: usize, units: usize) -> Planner {
    let mut planner = Planner::new();
    (0..machines).for_each(|n| planner.set_machine(machine(n), metadata(n)));
    (0..units).for_each(|n| planner.set_unit(unit_name(n), requirements(n), true));
    for n in 0..20 {
        let conflicts = [Glob::new(format!("web{n}@1.service"))].into();
        let metadata = [("rack".into(), [format!("r{n}")].into())].into();
        let requirements = Requirements { global: true, metadata, conflicts, ..Requirements::default() };
        planner.set_global(UnitName::new(&format!("global-{n}.service")).unwrap(), Arc::new(requirements), true);
    }
    planner
}

fn confirm(planner: &mut Planner, decisions: &[Decision]) {
    for Decision { unit, from, to, .. } in decisions {
        from.iter().for_each(|id| planner.unplaced(unit, id));
        if let Some(id) = to {
            planner.placed(unit.clone(), id.clone());
        }
    }
}

#[test]
fn cluster_of_some_size_is_planned_whole_and_evenly() {
    let mut planner = cluster(100, 2_000);
    let decisions = planner.plan();
    assert_eq!(decisions.len(), 2_000);
    confirm(&mut planner, &decisions);
    assert_eq!(planner.plan(), []);
    let mut loads: BTreeMap<MachineId, usize> = BTreeMap::new();
    for decision in &decisions {
        *loads.entry(decision.to.clone().unwrap()).or_default() += 1;
    }
    let (least, most) = (loads.values().min().unwrap(), loads.values().max().unwrap());
    assert!(loads.len() == 100 && most - least <= 4, "between {least} and {most} units on {} machines", loads.len());
}

#[test]
#[ignore = "measures; run with --release"]
fn figures() {
    for (machines, units) in [(1_000, 10_000), (10_000, 100_000)] {
        println!("{machines} machines, {units} units");
        let start = Instant::now();
        let mut planner = cluster(machines, units);
        println!("  told in           {:>10.1?}", start.elapsed());
        let start = Instant::now();
        let decisions = planner.plan();
        println!("  full plan         {:>10.1?}  {} decisions", start.elapsed(), decisions.len());
        assert_eq!(decisions.len(), units);
        let start = Instant::now();
        confirm(&mut planner, &decisions);
        println!("  confirmed in      {:>10.1?}", start.elapsed());

        // An engine that takes over: all is placed already.
        let mut successor = cluster(machines, units);
        confirm(&mut successor, &decisions);
        let start = Instant::now();
        assert_eq!(successor.plan(), []);
        println!("  take over         {:>10.1?}", start.elapsed());

        // A unit stopped and started again.
        planner.plan();
        let start = Instant::now();
        let rounds = 1_000;
        for round in 0..rounds {
            let n = round * 7 % units;
            for wanted in [false, true] {
                planner.set_unit(unit_name(n), requirements(n), wanted);
                let decisions = planner.plan();
                confirm(&mut planner, &decisions);
            }
        }
        println!("  one unit, 2 plans {:>10.1?}", start.elapsed() / rounds as u32);

        let (mut moved, mut spent) = (0, std::time::Duration::ZERO);
        for n in 0..100 {
            let start = Instant::now();
            planner.remove_machine(&machine(n));
            let decisions = planner.plan();
            spent += start.elapsed();
            moved += decisions.len();
            confirm(&mut planner, &decisions);
        }
        println!("  lost machine      {:>10.1?}  per unit of {moved} moved", spent / moved as u32);

        // Units for which there is no machine must not slow down the others.
        for n in 0..5_000 {
            let nowhere = [("disk".into(), ["tape".into()].into())].into();
            let requirements = Requirements { metadata: nowhere, ..Requirements::default() };
            planner.set_unit(UnitName::new(&format!("nowhere-{n}.service")).unwrap(), Arc::new(requirements), true);
        }
        let start = Instant::now();
        assert_eq!(planner.plan(), []);
        println!("  5000 unplaceable  {:>10.1?}", start.elapsed());
        let start = Instant::now();
        for n in 0..100 {
            planner.set_machine(machine(n), metadata(n));
            planner.plan();
        }
        println!("  new machine       {:>10.1?}  with 5000 pending", start.elapsed() / 100);

        // More instances than machines: those that are left over wait for each machine's web unit to go.
        let crowd = machines + machines / 5;
        for n in 0..crowd {
            let name = UnitName::new(&format!("crowd@{n}.service")).unwrap();
            let conflicts = [Glob::new("crowd@*.service")].into();
            planner.set_unit(name, Arc::new(Requirements { conflicts, ..Requirements::default() }), true);
        }
        let start = Instant::now();
        let decisions = planner.plan();
        println!("  {crowd} apart   {:>10.1?}  {} placed", start.elapsed(), decisions.len());
        let start = Instant::now();
        planner.remove_unit(&UnitName::new("crowd@0.service").unwrap());
        let decisions = planner.plan();
        println!("  one of them gone  {:>10.1?}  {} decisions", start.elapsed(), decisions.len());
        let start = Instant::now();
        let explanation = planner.explain(&UnitName::new("crowd@1.service").unwrap());
        println!("  explain           {:>10.1?}  {}", start.elapsed(), explanation.summary);
        let last = planner.pending().find(|(name, _)| name.as_str().starts_with("crowd")).unwrap();
        println!("  {}: {}", last.0, last.1);
    }
}

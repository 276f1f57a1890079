//! Random histories of a cluster, checked against the rules written a second time, naively.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use self::cluster::Cluster;
use super::Planner;
use crate::{
    model::MachineId,
    unit::{Glob, Requirements, UnitName},
};

const UNITS: [&str; 9] = [
    "a.service",
    "b.service",
    "c.service",
    "db.service",
    "r1.service",
    "r2.service",
    "web@1.service",
    "web@2.service",
    "web@3.service",
];
const GLOBALS: [&str; 3] = ["g1.service", "g2.service", "zz.service"];
const MACHINES: usize = 5;

fn name(text: &str) -> UnitName {
    UnitName::new(text).unwrap()
}

fn machine(n: usize) -> MachineId {
    MachineId::new(&format!("{n:08x}{:024x}", n * 7919)).unwrap()
}

/// Something that happens to the cluster between two plans.
#[derive(Clone, Debug)]
enum Event {
    Unit(UnitName, Requirements, bool),
    NoUnit(UnitName),
    Global(UnitName, Requirements, bool),
    NoGlobal(UnitName),
    Up(MachineId, BTreeMap<String, String>),
    Drained(MachineId, BTreeMap<String, String>),
    Held(MachineId),
    Gone(MachineId),
    /// Somebody else writes to the store.
    Placed(UnitName, MachineId),
    Unplaced(UnitName, MachineId),
}

/// What becomes of a decision.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Written,
    WrittenLater,
    Refused,
}

// --- What may happen

fn unit() -> impl Strategy<Value = UnitName> {
    prop::sample::select(&UNITS[..]).prop_map(name)
}

fn metadata() -> impl Strategy<Value = BTreeMap<String, String>> {
    let value = |values: &'static [&'static str]| prop::option::of(prop::sample::select(values));
    (value(&["ssd", "hdd"]), value(&["eu", "us", "ap"])).prop_map(|(disk, region)| {
        let pairs = [("disk", disk), ("region", region)];
        pairs.into_iter().filter_map(|(key, value)| Some((key.into(), value?.into()))).collect()
    })
}

fn wanted_metadata() -> impl Strategy<Value = BTreeMap<String, BTreeSet<String>>> {
    prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => Just([("disk".into(), ["ssd".into()].into())].into()),
        1 => Just([("region".into(), ["eu".into(), "us".into()].into())].into()),
        1 => Just([("disk".into(), ["hdd".into(), "ssd".into()].into()), ("region".into(), ["eu".into()].into())].into()),
    ]
}

fn globs(pool: &'static [&'static str], most: usize) -> impl Strategy<Value = BTreeSet<Glob>> {
    prop::sample::subsequence(pool, 0..=most).prop_map(|globs| globs.into_iter().map(Glob::new).collect())
}

/// Requirements of one kind or another. Only two units replace others: larger circles are not the checker's business.
fn requirements(unit: &UnitName) -> BoxedStrategy<Requirements> {
    let base = || wanted_metadata().prop_map(|metadata| Requirements { metadata, ..Default::default() });
    let replaces = match unit.as_str() {
        "r1.service" => &["a.service", "web@*.service", "r2.service", "g1.service"][..],
        "r2.service" => &["a.service", "db*", "r1.service"],
        _ => &[],
    };
    let most = replaces.len().min(2);
    let followed = prop::sample::subsequence(&UNITS[..], 0..=2);
    let follow = move || followed.clone().prop_map(|names| names.into_iter().map(String::from).collect());
    prop_oneof![
        2 => base(),
        1 => (0..MACHINES, any::<bool>()).prop_map(|(n, short)| Requirements {
            machine_id: Some(if short { machine(n).short().into() } else { machine(n).as_str().into() }),
            ..Default::default()
        }),
        3 => (base(), globs(&["web@*.service", "db.service", "*", "[ab].service", "g*", "c.service"], 2))
            .prop_map(|(base, conflicts)| Requirements { conflicts, ..base }),
        2 => (base(), follow()).prop_map(|(base, machine_of)| Requirements { machine_of, ..base }),
        1 => (base(), follow(), globs(&["c.service", "web@*.service"], 1))
            .prop_map(|(base, machine_of, conflicts)| Requirements { machine_of, conflicts, ..base }),
        2 => (base(), globs(replaces, most)).prop_map(|(base, replaces)| Requirements { replaces, ..base }),
        1 => (base(), follow(), globs(replaces, most))
            .prop_map(|(base, machine_of, replaces)| Requirements { machine_of, replaces, ..base }),
    ]
    .boxed()
}

fn event() -> impl Strategy<Value = Event> {
    let wanted = || prop::bool::weighted(0.85);
    let known = || (0..MACHINES).prop_map(machine);
    let global = || prop::sample::select(&GLOBALS[..]).prop_map(name);
    let global_requirements = (wanted_metadata(), globs(&["web@*.service", "a.service", "zz*"], 1))
        .prop_map(|(metadata, conflicts)| Requirements { metadata, conflicts, global: true, ..Default::default() });
    prop_oneof![
        8 => unit().prop_flat_map(|unit| (requirements(&unit), Just(unit))).prop_flat_map(move |(requirements, unit)| {
            (Just(unit), Just(requirements), wanted()).prop_map(|(unit, r, wanted)| Event::Unit(unit, r, wanted))
        }),
        1 => unit().prop_map(Event::NoUnit),
        1 => (global(), global_requirements, wanted()).prop_map(|(name, r, wanted)| Event::Global(name, r, wanted)),
        1 => global().prop_map(Event::NoGlobal),
        4 => (known(), metadata()).prop_map(|(id, metadata)| Event::Up(id, metadata)),
        1 => (known(), metadata()).prop_map(|(id, metadata)| Event::Drained(id, metadata)),
        1 => known().prop_map(Event::Held),
        1 => known().prop_map(Event::Gone),
        1 => (unit(), known()).prop_map(|(unit, id)| Event::Placed(unit, id)),
        1 => (unit(), known()).prop_map(|(unit, id)| Event::Unplaced(unit, id)),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![4 => Just(Fate::Written), 2 => Just(Fate::WrittenLater), 1 => Just(Fate::Refused)]
}

fn history() -> impl Strategy<Value = Vec<(Vec<Event>, Vec<Fate>)>> {
    prop::collection::vec((prop::collection::vec(event(), 1..12), prop::collection::vec(fate(), 8)), 1..10)
}

/// What an event is about: two events about the same thing keep their order.
fn subject(event: &Event) -> String {
    match event {
        Event::Unit(name, ..) | Event::NoUnit(name) | Event::Global(name, ..) | Event::NoGlobal(name) => {
            name.to_string()
        }
        Event::Up(id, _) | Event::Drained(id, _) | Event::Held(id) | Event::Gone(id) => id.to_string(),
        Event::Placed(unit, id) | Event::Unplaced(unit, id) => format!("{unit}/{id}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_leaves_every_rule_kept_and_nothing_pending_that_fits(history in history()) {
        let (mut planner, mut cluster) = (Planner::new(), Cluster::default());
        for (events, fates) in history {
            for event in &events {
                cluster.happen(event, &mut planner);
            }
            let decisions = planner.plan();
            cluster.take(&decisions);
            cluster.check(&mut planner);
            prop_assert_eq!(planner.plan(), []);

            // What was decided earlier is seen before what was decided now.
            cluster.show_all(&mut planner);
            let mut refused = false;
            for (decision, fate) in decisions.into_iter().zip(fates.into_iter().cycle()) {
                match fate {
                    Fate::Written => cluster.show(decision, &mut planner),
                    Fate::WrittenLater => cluster.unseen.push(decision),
                    Fate::Refused => {
                        refused = true;
                        planner.refused(&decision.unit);
                        let unit = decision.unit;
                        cluster.at.retain(|(name, _)| *name != unit);
                        let stored: Vec<_> = cluster.store.iter().filter(|(name, _)| *name == unit).cloned().collect();
                        cluster.at.extend(stored);
                    }
                }
            }
            if refused {
                let decisions = planner.plan();
                cluster.take(&decisions);
                cluster.check(&mut planner);
                cluster.show_all(&mut planner);
                decisions.into_iter().for_each(|decision| cluster.show(decision, &mut planner));
            }
            prop_assert_eq!(planner.plan(), []);
        }
        cluster.show_all(&mut planner);
        prop_assert_eq!(&cluster.store, &cluster.at);
        prop_assert_eq!(planner.plan(), []);
    }

    #[test]
    fn plans_do_not_depend_on_the_order_of_the_news(
        before in prop::collection::vec(event(), 0..30),
        events in prop::collection::vec(event(), 1..20),
        order in prop::collection::vec(any::<u32>(), 20),
    ) {
        // Sorted by a random number for each subject, which keeps the events of one subject in their order.
        let subjects: BTreeSet<String> = events.iter().map(subject).collect();
        let rank: BTreeMap<String, u32> = subjects.into_iter().zip(order).collect();
        let mut shuffled = events.clone();
        shuffled.sort_by_key(|event| rank[&subject(event)]);

        let plans = [events, shuffled].map(|events| {
            let (mut planner, mut cluster) = (Planner::new(), Cluster::default());
            before.iter().for_each(|event| cluster.happen(event, &mut planner));
            planner.plan();
            events.iter().for_each(|event| cluster.happen(event, &mut planner));
            planner.plan()
        });
        prop_assert_eq!(&plans[0], &plans[1]);
    }

    #[test]
    fn refused_decision_is_made_again(events in prop::collection::vec(event(), 1..30), which in any::<prop::sample::Index>()) {
        let (mut planner, mut cluster) = (Planner::new(), Cluster::default());
        events.iter().for_each(|event| cluster.happen(event, &mut planner));
        let decisions = planner.plan();
        if decisions.is_empty() {
            return Ok(());
        }
        let decision = which.get(&decisions).clone();
        planner.refused(&decision.unit);
        // The unit starts again from where it was; another may have taken its place meanwhile.
        let again = planner.plan().into_iter().find(|again| again.unit == decision.unit);
        match again {
            Some(again) => prop_assert_eq!(again.from, decision.from),
            None => prop_assert!(planner.pending().any(|(name, _)| *name == decision.unit)),
        }
    }
}

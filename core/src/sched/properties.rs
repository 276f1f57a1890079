//! Random histories of a cluster, checked against the rules written a second time, naively.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::{Decision, Planner};
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

// --- The cluster, and the rules again

#[derive(Clone, Debug, Default)]
struct Cluster {
    units: BTreeMap<UnitName, (Requirements, bool)>,
    globals: BTreeMap<UnitName, (Requirements, bool)>,
    /// Metadata of those that are up.
    up: BTreeMap<MachineId, BTreeMap<String, String>>,
    held: BTreeSet<MachineId>,
    /// Placements in the store.
    store: BTreeSet<(UnitName, MachineId)>,
    /// Placements when all that was decided is written.
    at: BTreeSet<(UnitName, MachineId)>,
    /// Decided and written, but not shown to the planner yet.
    unseen: Vec<Decision>,
}

impl Cluster {
    /// Lets something happen, and tells the planner.
    fn happen(&mut self, event: &Event, planner: &mut Planner) {
        match event.clone() {
            Event::Unit(name, requirements, wanted) => {
                self.units.insert(name.clone(), (requirements.clone(), wanted));
                planner.set_unit(name, Arc::new(requirements), wanted);
            }
            Event::NoUnit(name) => {
                self.units.remove(&name);
                planner.remove_unit(&name);
            }
            Event::Global(name, requirements, wanted) => {
                self.globals.insert(name.clone(), (requirements.clone(), wanted));
                planner.set_global(name, Arc::new(requirements), wanted);
            }
            Event::NoGlobal(name) => {
                self.globals.remove(&name);
                planner.remove_global(&name);
            }
            Event::Up(id, metadata) => {
                self.held.remove(&id);
                self.up.insert(id.clone(), metadata.clone());
                planner.set_machine(id, metadata);
            }
            Event::Held(id) => {
                self.up.remove(&id);
                self.held.insert(id.clone());
                planner.hold_machine(id);
            }
            Event::Gone(id) => {
                self.up.remove(&id);
                self.held.remove(&id);
                planner.remove_machine(&id);
            }
            // Others write to the store only what the planner has no decision about on its way.
            Event::Placed(unit, _) | Event::Unplaced(unit, _)
                if self.unseen.iter().any(|decision| decision.unit == unit) => {}
            Event::Placed(unit, id) => {
                self.store.insert((unit.clone(), id.clone()));
                self.at.insert((unit.clone(), id.clone()));
                planner.placed(unit, id);
            }
            Event::Unplaced(unit, id) => {
                self.store.remove(&(unit.clone(), id.clone()));
                self.at.remove(&(unit.clone(), id.clone()));
                planner.unplaced(&unit, &id);
            }
        }
    }

    fn take(&mut self, decisions: &[Decision]) {
        for Decision { unit, from, to, .. } in decisions {
            assert!(!from.is_empty() || to.is_some(), "{unit}: a decision that decides nothing");
            for id in from {
                assert!(self.at.remove(&(unit.clone(), id.clone())), "{unit} was not on {id}");
                assert_ne!(to.as_ref(), Some(id), "{unit} leaves for where it was");
            }
            if let Some(id) = to {
                self.at.insert((unit.clone(), id.clone()));
            }
        }
    }

    /// Shows the planner a decision in the store.
    fn show(&mut self, Decision { unit, from, to, .. }: Decision, planner: &mut Planner) {
        for id in from {
            self.store.remove(&(unit.clone(), id.clone()));
            planner.unplaced(&unit, &id);
        }
        if let Some(id) = to {
            self.store.insert((unit.clone(), id.clone()));
            planner.placed(unit, id);
        }
    }

    fn show_all(&mut self, planner: &mut Planner) {
        for decision in std::mem::take(&mut self.unseen) {
            self.show(decision, planner);
        }
    }

    fn places(&self, unit: &UnitName) -> Vec<&MachineId> {
        self.at.iter().filter(|(name, _)| name == unit).map(|(_, id)| id).collect()
    }

    fn wanted(&self, unit: &UnitName) -> Option<&Requirements> {
        self.units.get(unit).filter(|(_, wanted)| *wanted).map(|(requirements, _)| requirements)
    }

    fn metadata_holds(requirements: &Requirements, metadata: &BTreeMap<String, String>) -> bool {
        requirements.metadata.iter().all(|(key, values)| metadata.get(key).is_some_and(|value| values.contains(value)))
    }

    /// Whether `one` says that `other` is in conflict with it.
    fn declares(one: &(&UnitName, &Requirements), other: &UnitName) -> bool {
        one.0 != other && one.1.conflicts.iter().any(|glob| glob.matches(other.as_str()))
    }

    fn in_conflict(one: &(&UnitName, &Requirements), other: &(&UnitName, &Requirements)) -> bool {
        Self::declares(one, other.0) || Self::declares(other, one.0)
    }

    fn replaces(one: &(&UnitName, &Requirements), other: &(&UnitName, &Requirements)) -> bool {
        let names = |a: &(&UnitName, &Requirements), b: &UnitName| {
            a.0 != b && a.1.replaces.iter().any(|glob| glob.matches(b.as_str()))
        };
        names(one, other.0) && !names(other, one.0)
    }

    /// All that the unit must be with.
    fn followed_by(&self, unit: &UnitName) -> BTreeSet<UnitName> {
        let mut all = BTreeSet::new();
        let mut open = vec![unit.clone()];
        while let Some(next) = open.pop() {
            for target in self.units.get(&next).iter().flat_map(|(requirements, _)| &requirements.machine_of) {
                if all.insert(name(target)) {
                    open.push(name(target));
                }
            }
        }
        all
    }

    /// The unit, and those that it follows and that follow it.
    fn group(&self, unit: &UnitName) -> BTreeSet<UnitName> {
        let cycle = self.followed_by(unit).into_iter().filter(|other| self.followed_by(other).contains(unit));
        cycle.chain([unit.clone()]).collect()
    }

    fn residents(&self, id: &MachineId) -> Vec<(&UnitName, &Requirements)> {
        let here = self.at.iter().filter(|(_, on)| on == id);
        here.filter_map(|(unit, _)| Some((unit, &self.units.get(unit)?.0))).collect()
    }

    fn targets_there(&self, one: &(&UnitName, &Requirements), id: &MachineId, group: &BTreeSet<UnitName>) -> bool {
        let there = |target: &UnitName| group.contains(target) || self.at.contains(&(target.clone(), id.clone()));
        one.1.machine_of.iter().map(|target| name(target)).all(|target| target == *one.0 || there(&target))
    }

    fn machine_named(requirements: &Requirements, id: &MachineId) -> bool {
        requirements.machine_id.as_ref().is_none_or(|wanted| id.as_str() == wanted || id.short() == wanted)
    }

    /// Whether a unit may stay where it is.
    fn may_stay(&self, unit: &UnitName, id: &MachineId) -> bool {
        let Some(requirements) = self.wanted(unit) else { return false };
        if self.held.contains(id) {
            return true;
        }
        let Some(metadata) = self.up.get(id) else { return false };
        let one = (unit, requirements);
        Self::machine_named(requirements, id)
            && Self::metadata_holds(requirements, metadata)
            && self.targets_there(&one, id, &BTreeSet::new())
            && self.residents(id).iter().all(|other| {
                !Self::in_conflict(&one, other) && !Self::replaces(&one, other) && !Self::replaces(other, &one)
            })
    }

    /// Whether a unit could be placed on a machine, together with those it must come with.
    fn could_come(&self, unit: &UnitName, id: &MachineId) -> bool {
        let Some(metadata) = self.up.get(id) else { return false };
        let group = self.group(unit);
        let is_held = |member: &UnitName| self.places(member).iter().any(|id| self.held.contains(*id));
        if group.iter().any(|member| member != unit && is_held(member)) {
            return false;
        }
        let Some(members) = group.iter().map(|member| Some((member, self.wanted(member)?))).collect::<Option<Vec<_>>>()
        else {
            return false;
        };
        for one in &members {
            let apart = |other| Self::in_conflict(one, other) || Self::replaces(one, other);
            if !Self::machine_named(one.1, id)
                || !Self::metadata_holds(one.1, metadata)
                || !self.targets_there(one, id, &group)
                || members.iter().any(apart)
            {
                return false;
            }
        }
        let (leaving, staying): (Vec<_>, Vec<_>) =
            self.residents(id).into_iter().filter(|other| !group.contains(other.0)).partition(|other| {
                members.iter().any(|one| Self::replaces(one, other))
                    && !members.iter().any(|one| self.followed_by(one.0).contains(other.0))
            });
        drop(leaving);
        let hostile = |one: &(&UnitName, &Requirements), other: &(&UnitName, &Requirements)| {
            Self::in_conflict(one, other) || Self::replaces(one, other) || Self::replaces(other, one)
        };
        if members.iter().any(|one| staying.iter().any(|other| hostile(one, other))) {
            return false;
        }
        let globals = self.globals.iter().filter(|(_, (_, wanted))| *wanted).map(|(name, (r, _))| (name, r));
        let on_machine = globals.filter(|global| {
            Self::metadata_holds(global.1, metadata) && !staying.iter().any(|other| Self::in_conflict(global, other))
        });
        let on_machine: Vec<_> = on_machine.collect();
        !members.iter().any(|one| on_machine.iter().any(|global| Self::in_conflict(one, global)))
    }

    /// Everything that has to hold after a plan.
    fn check(&self, planner: &Planner) {
        for (unit, id) in &self.at {
            assert!(self.may_stay(unit, id), "{unit} may not be on {}: {:?}", id.short(), planner.explain(unit));
        }
        let mut pending = BTreeSet::new();
        for name in UNITS.map(name) {
            let places = self.places(&name);
            assert!(places.len() <= 1, "{name} is on {places:?}");
            let explanation = planner.explain(&name);
            assert_eq!(explanation.placed.as_ref(), places.first().copied());
            if self.wanted(&name).is_none() {
                assert!(places.is_empty(), "{name} is not wanted");
                continue;
            }
            for verdict in &explanation.verdicts {
                if places.contains(&&verdict.machine) {
                    assert!(verdict.fits, "{name} is where it does not fit: {verdict:?}");
                } else {
                    let fits = self.could_come(&name, &verdict.machine);
                    assert_eq!(fits, verdict.fits, "{name} on {}: {}", verdict.machine.short(), verdict.reason);
                }
            }
            if places.is_empty() {
                pending.insert(name.clone());
                let open = self.up.keys().find(|id| self.could_come(&name, id));
                assert_eq!(open, None, "{name} is pending, but fits: {explanation:?}");
            }
        }
        let known: BTreeSet<_> = planner.pending().map(|(name, _)| name.clone()).collect();
        assert_eq!(known, pending);
        for reason in planner.pending().map(|(_, reason)| reason.to_string()) {
            assert!(!reason.is_empty());
        }
    }
}

/// What an event is about: two events about the same thing keep their order.
fn subject(event: &Event) -> String {
    match event {
        Event::Unit(name, ..) | Event::NoUnit(name) | Event::Global(name, ..) | Event::NoGlobal(name) => {
            name.to_string()
        }
        Event::Up(id, _) | Event::Held(id) | Event::Gone(id) => id.to_string(),
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
            cluster.check(&planner);
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
                cluster.check(&planner);
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

//! Engines on a store in memory, with agents that are played here and all faults that the store knows: whatever
//! happens, no strict unit is handed to a second machine before the first has given it up or is down for certain.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_core::{
    model::{Desired, Key, MachineId, Record, StateRecord, UnitRecord},
    unit::{UnitFile, UnitName},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::world::{World, machine, name, number, state};
use crate::registry::{
    Revision,
    memory::{Condition, Faults, Link},
};

const MACHINES: u32 = 4;
/// What `TimeoutStopSec=` allows.
const BOUND: Duration = Duration::from_secs(5);
/// Longer than anything that an engine waits for.
const LONG: Duration = Duration::from_secs(300);

/// Strict units, one that follows one of them, and others.
fn units() -> Vec<(UnitName, UnitFile)> {
    let unit = |unit: &str, section: &str| {
        let text = format!("[Service]\nExecStart=/bin/{unit}\nTimeoutStopSec=5\n[X-Fleet]\n{section}\n");
        (name(unit), UnitFile::parse(&text).unwrap())
    };
    vec![
        unit("a.service", ""),
        unit("b.service", "MachineOf=s1.service"),
        unit("c.service", "Conflicts=s2.service"),
        unit("s1.service", "OnPartition=stop"),
        unit("s2.service", "OnPartition=stop"),
        unit("s3.service", "OnPartition=stop\nConflicts=s1.service"),
    ]
}

/// The cluster around the engines, and what happens to it.
struct Turmoil {
    world: World,
    rng: fastrand::Rng,
    /// Machines that come back about when the engine gives them up.
    returns: Vec<(Instant, u32)>,
    /// Up to where the schedule has been looked at.
    looked: Revision,
}

impl Turmoil {
    fn set_machine(&self, number: u32, alive: bool) {
        let known = self.world.read("machine/").iter().any(|(key, _)| *key == Key::Machine(machine(number)));
        match (known, alive) {
            (false, true) => self.world.set_machine(number, ""),
            (true, false) => self.world.lose_machine(number),
            _ => {}
        }
        if !alive {
            for (key, _) in self.world.read(&format!("state/{}/", machine(number))) {
                self.world.write(&key, None);
            }
        }
    }

    /// What the agents of machines that are there do: each at its own pace.
    fn act(&mut self) {
        let alive: Vec<Key> = self.world.read("machine/").into_iter().map(|(key, _)| key).collect();
        let states: BTreeMap<Key, StateRecord> = self
            .world
            .read("state/")
            .into_iter()
            .map(|(key, s)| (key, StateRecord::decode(&s.value).unwrap()))
            .collect();
        let mut due = Vec::new();
        for (key, stored) in self.world.read("sched/") {
            let Key::Sched(on, unit) = key else { continue };
            let record = UnitRecord::decode(&stored.value).unwrap();
            let key = Key::State(on.clone(), unit);
            let recalled = record.desired == Desired::Inactive;
            let (active, released) = if recalled { ("inactive", Some(stored.mod_revision)) } else { ("active", None) };
            let state = state(record.hash, active, released);
            if alive.contains(&Key::Machine(on)) && states.get(&key) != Some(&state) && self.rng.u8(0..4) == 0 {
                due.push((key, Some(state.encode())));
            }
        }
        let scheduled: Vec<Key> = self.world.read("sched/").into_iter().map(|(key, _)| key).collect();
        for key in states.keys() {
            let Key::State(on, unit) = key else { continue };
            if !scheduled.contains(&Key::Sched(on.clone(), unit.clone())) {
                due.push((key.clone(), None));
            }
        }
        due.into_iter().for_each(|(key, value)| self.world.write(&key, value));
    }

    /// Where a strict unit has just been placed it may not stay: the engine may not know yet that it has placed it.
    fn meddle(&mut self) {
        let placed = self.world.read("sched/").into_iter().filter(|(_, stored)| stored.mod_revision > self.looked);
        for (key, _) in placed.collect::<Vec<_>>() {
            let Key::Sched(on, unit) = key else { continue };
            let number = number(&on);
            match self.rng.u8(0..9) {
                0 | 1 => self.world.set_drained(number, true),
                2 => self.set_machine(number, false),
                3 => {
                    let (unit, file) = units().into_iter().find(|(name, _)| *name == unit).unwrap();
                    self.world.set_unit(&unit, &file, Some(Desired::Inactive));
                    self.world.set_unit(&unit, &file, Some(Desired::Launched));
                }
                _ => {}
            }
        }
        self.looked = self.world.store.revision();
    }

    /// Something happens.
    fn happen(&mut self) {
        let number = self.rng.u32(1..=MACHINES);
        let units = units();
        let (unit, file) = &units[self.rng.usize(0..units.len())];
        let engine = if self.rng.bool() { "one" } else { "two" };
        match self.rng.u8(0..16) {
            0 | 1 => {
                self.set_machine(number, false);
                if self.rng.bool() {
                    let after = BOUND + Duration::from_millis(self.rng.u64(0..1500));
                    self.returns.push((Instant::now() + after, number));
                }
            }
            2..=4 => self.set_machine(number, true),
            5 => self.world.set_drained(number, true),
            6 => self.world.set_drained(number, false),
            7 => self.world.set_unit(unit, file, Some(Desired::Inactive)),
            8 => self.world.set_unit(unit, file, None),
            9..=12 => self.world.set_unit(unit, file, Some(Desired::Launched)),
            13 => self.world.store.set_link(engine, if self.rng.u8(0..3) == 0 { Link::Cut } else { Link::Up }),
            _ => {
                let condition = if self.rng.u8(0..4) == 0 { Condition::Frozen } else { Condition::Up };
                self.world.store.set_condition(condition);
            }
        }
    }

    async fn pass(&mut self, time: Duration, meddling: bool) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let next = self.returns.iter().map(|(at, _)| *at).min();
            let tick = Instant::now() + Duration::from_millis(200);
            sleep_until(next.map_or(tick, |at| at.min(tick))).await;
            let now = Instant::now();
            let back: Vec<u32> = self.returns.extract_if(.., |(at, _)| *at <= now).map(|(_, number)| number).collect();
            back.into_iter().for_each(|number| self.set_machine(number, true));
            if meddling {
                self.meddle();
            }
            self.act();
        }
    }

    /// Everything is well again, and every unit wanted.
    fn mend(&self) {
        self.world.store.set_faults(Faults::default());
        self.world.store.set_condition(Condition::Up);
        ["one", "two"].iter().for_each(|engine| self.world.store.set_link(engine, Link::Up));
        (1..=MACHINES).for_each(|number| self.set_machine(number, true));
        (1..=MACHINES).for_each(|number| self.world.set_drained(number, false));
        units().iter().for_each(|(unit, file)| self.world.set_unit(unit, file, Some(Desired::Launched)));
    }
}

/// Goes through all that was written, and checks each time that a strict unit left a machine.
fn check(world: &World, seed: u64) -> usize {
    let mut gone: BTreeMap<MachineId, Option<Instant>> = BTreeMap::new();
    // What a machine has given up it does not start again, whatever becomes of its states.
    let mut released: BTreeSet<(MachineId, UnitName, Revision)> = BTreeSet::new();
    let mut entries: BTreeMap<UnitName, BTreeMap<MachineId, Revision>> = BTreeMap::new();
    let mut moves = 0;
    for commit in world.store.history(0) {
        let mut left = Vec::new();
        for change in &commit.changes {
            let record = change.after.as_ref().map(|stored| &stored.value);
            match world.keys.parse(&change.key) {
                Some(Key::Machine(id)) => drop(gone.insert(id, record.is_none().then_some(commit.at))),
                Some(Key::State(id, unit)) => {
                    let state = record.map(|value| StateRecord::decode(value).unwrap());
                    released.extend(state.and_then(|state| Some((id, unit, state.released?))));
                }
                Some(Key::Sched(id, unit)) if unit.as_str().starts_with('s') => {
                    let entries = entries.entry(unit.clone()).or_default();
                    match &change.after {
                        Some(stored) => drop(entries.insert(id, stored.mod_revision)),
                        None => {
                            let revision = entries.remove(&id).unwrap();
                            left.push((unit, id, revision));
                        }
                    }
                }
                _ => {}
            }
        }
        for (unit, id, revision) in left {
            moves += 1;
            let told = released.contains(&(id.clone(), unit.clone(), revision));
            let down = gone[&id].is_some_and(|since| commit.at >= since + BOUND);
            assert!(told || down, "seed {seed}, revision {}: {unit} may still run on {id}", commit.revision);
        }
        for (unit, entries) in &entries {
            assert!(entries.len() <= 1, "seed {seed}, revision {}: {unit} is on {entries:?}", commit.revision);
        }
    }
    moves
}

fn run(seed: u64) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        fastrand::seed(seed);
        let rng = fastrand::Rng::with_seed(seed);
        let mut turmoil = Turmoil { world: World::new(seed), rng, returns: Vec::new(), looked: 0 };
        let engines = [turmoil.world.engine("one", 1), turmoil.world.engine("two", 2)];
        turmoil.mend();
        // Half of the runs are so hectic that decisions overtake each other, in the others things come to their end.
        let (events, pause) = if seed.is_multiple_of(2) { (60, 12_000) } else { (200, 1_000) };
        let often = if seed.is_multiple_of(2) { 0.05 } else { 0.25 };
        let faults = Faults { latency: 0..=600, refuse: 0.03, lose_answer: often, break_watch: often, behind: often };
        let shutdown = CancellationToken::new();
        let script = async {
            turmoil.pass(Duration::from_secs(30), false).await;
            turmoil.world.store.set_faults(faults);
            for _ in 0..events {
                turmoil.happen();
                let time = Duration::from_millis(turmoil.rng.u64(0..pause));
                turmoil.pass(time, true).await;
            }
            turmoil.mend();
            turmoil.pass(LONG, false).await;
            let scheduled = turmoil.world.read("sched/");
            let at: BTreeMap<UnitName, MachineId> = scheduled
                .iter()
                .filter_map(|(key, stored)| match key {
                    Key::Sched(on, unit) => {
                        let record = UnitRecord::decode(&stored.value).unwrap();
                        assert_eq!(record.desired, Desired::Launched, "seed {seed}: a recall is left");
                        Some((unit.clone(), on.clone()))
                    }
                    _ => None,
                })
                .collect();
            assert_eq!((at.len(), scheduled.len()), (6, 6), "seed {seed}: {scheduled:?}");
            assert_eq!(at[&name("b.service")], at[&name("s1.service")], "seed {seed}");
            let before = turmoil.world.store.revision();
            turmoil.pass(LONG, false).await;
            assert_eq!(turmoil.world.store.revision(), before, "seed {seed}: it rests");
            shutdown.cancel();
            check(&turmoil.world, seed)
        };
        let [one, two] = engines;
        let (_, _, moves) = tokio::join!(one.run(&shutdown), two.run(&shutdown), script);
        moves
    })
}

#[test]
fn strict_units_are_never_handed_over_too_early_whatever_happens() {
    let moves: usize = (0..16).map(run).sum();
    assert!(moves > 40, "only {moves} moves: nothing was tried");
}

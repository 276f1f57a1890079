//! Engines on a store in memory, with agents that are played here and all faults that the store knows: whatever
//! happens, no strict unit is handed to a second machine before the first has given it up or is down for certain.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_core::{
    model::{Desired, Key, Keys, MachineId, MachineRecord, MetadataEdits, Record, StateRecord, UnitRecord},
    unit::{UnitFile, UnitHash, UnitName},
};
use fleetd::{
    engine::Engine,
    metrics::Metrics,
    registry::{
        Revision, Stored, Transaction, Write,
        files::Files,
        memory::{Condition, Faults, Link, MemoryStore},
        view::View,
    },
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

const MACHINES: u32 = 4;
const TTL: Duration = Duration::from_secs(10);
/// What `TimeoutStopSec=` allows.
const BOUND: Duration = Duration::from_secs(5);
/// Longer than anything that an engine waits for.
const LONG: Duration = Duration::from_secs(300);

fn machine(number: u32) -> MachineId {
    MachineId::new(&format!("{number:032x}")).unwrap()
}

fn name(text: &str) -> UnitName {
    UnitName::new(text).unwrap()
}

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

/// The cluster around the engines.
struct World {
    store: MemoryStore,
    keys: Keys,
    rng: fastrand::Rng,
    /// Machines that come back about when the engine gives them up.
    returns: Vec<(Instant, u32)>,
    /// Up to where the schedule has been looked at.
    looked: Revision,
}

impl World {
    fn write(&self, key: &Key, value: Option<Vec<u8>>) {
        let key = self.keys.format(key);
        let write = match value {
            Some(value) => Write::put(key, value),
            None => Write::Delete { key },
        };
        self.store.write("world", &Transaction { guards: Vec::new(), writes: vec![write] }).unwrap();
    }

    fn read(&self, range: &str) -> Vec<(Key, Stored)> {
        let entries = self.store.entries(&self.keys.under(range)).into_iter();
        entries.filter_map(|stored| Some((self.keys.parse(&stored.key)?, stored))).collect()
    }

    fn set_machine(&self, number: u32, alive: bool) {
        let record = MachineRecord {
            address: format!("10.0.0.{number}"),
            hostname: format!("h{number}"),
            metadata: BTreeMap::new(),
            version: "1".into(),
            boot_id: "b".into(),
            cpus: 1,
            memory: 1,
            leaving: false,
        };
        let known = self.read("machine/").iter().any(|(key, _)| *key == Key::Machine(machine(number)));
        if known != alive {
            self.write(&Key::Machine(machine(number)), alive.then(|| record.encode()));
        }
        if !alive {
            for (key, _) in self.read(&format!("state/{}/", machine(number))) {
                self.write(&key, None);
            }
        }
    }

    fn set_drained(&self, number: u32, drain: bool) {
        let edits = MetadataEdits { drain, ..MetadataEdits::default() };
        self.write(&Key::Metadata(machine(number)), Some(edits.encode()));
    }

    fn set_unit(&self, unit: &UnitName, file: &UnitFile, desired: Option<Desired>) {
        self.write(&Key::File(file.hash()), Some(file.canonical().into_bytes()));
        let record = |desired| UnitRecord { hash: file.hash(), desired, generation: 0 }.encode();
        self.write(&Key::Unit(unit.clone()), desired.map(record));
    }

    /// What the agents of machines that are there do: each at its own pace.
    fn act(&mut self) {
        let alive: Vec<Key> = self.read("machine/").into_iter().map(|(key, _)| key).collect();
        let states: BTreeMap<Key, StateRecord> =
            self.read("state/").into_iter().map(|(key, s)| (key, StateRecord::decode(&s.value).unwrap())).collect();
        let mut due = Vec::new();
        for (key, stored) in self.read("sched/") {
            let Key::Sched(on, unit) = key else { continue };
            let record = UnitRecord::decode(&stored.value).unwrap();
            let key = Key::State(on.clone(), unit);
            let recalled = record.desired == Desired::Inactive;
            let state = state(record.hash, recalled.then_some(stored.mod_revision));
            if alive.contains(&Key::Machine(on)) && states.get(&key) != Some(&state) && self.rng.u8(0..4) == 0 {
                due.push((key, Some(state.encode())));
            }
        }
        let scheduled: Vec<Key> = self.read("sched/").into_iter().map(|(key, _)| key).collect();
        for key in states.keys() {
            let Key::State(on, unit) = key else { continue };
            if !scheduled.contains(&Key::Sched(on.clone(), unit.clone())) {
                due.push((key.clone(), None));
            }
        }
        due.into_iter().for_each(|(key, value)| self.write(&key, value));
    }

    /// Where a strict unit has just been placed it may not stay: the engine may not know yet that it has placed it.
    fn meddle(&mut self) {
        let placed = self.read("sched/").into_iter().filter(|(_, stored)| stored.mod_revision > self.looked);
        for (key, _) in placed.collect::<Vec<_>>() {
            let Key::Sched(on, unit) = key else { continue };
            let number = u32::from_str_radix(&on.as_str()[24..], 16).unwrap();
            match self.rng.u8(0..9) {
                0 | 1 => self.set_drained(number, true),
                2 => self.set_machine(number, false),
                3 => {
                    let (unit, file) = units().into_iter().find(|(name, _)| *name == unit).unwrap();
                    self.set_unit(&unit, &file, Some(Desired::Inactive));
                    self.set_unit(&unit, &file, Some(Desired::Launched));
                }
                _ => {}
            }
        }
        self.looked = self.store.revision();
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
            5 => self.set_drained(number, true),
            6 => self.set_drained(number, false),
            7 => self.set_unit(unit, file, Some(Desired::Inactive)),
            8 => self.set_unit(unit, file, None),
            9..=12 => self.set_unit(unit, file, Some(Desired::Launched)),
            13 => self.store.set_link(engine, if self.rng.u8(0..3) == 0 { Link::Cut } else { Link::Up }),
            _ => {
                let condition = if self.rng.u8(0..4) == 0 { Condition::Frozen } else { Condition::Up };
                self.store.set_condition(condition);
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
        self.store.set_faults(Faults::default());
        self.store.set_condition(Condition::Up);
        ["one", "two"].iter().for_each(|engine| self.store.set_link(engine, Link::Up));
        (1..=MACHINES).for_each(|number| self.set_machine(number, true));
        (1..=MACHINES).for_each(|number| self.set_drained(number, false));
        units().iter().for_each(|(unit, file)| self.set_unit(unit, file, Some(Desired::Launched)));
    }
}

fn state(hash: UnitHash, released: Option<Revision>) -> StateRecord {
    let (active, current) =
        if released.is_some() { ("inactive", Desired::Inactive) } else { ("active", Desired::Launched) };
    StateRecord {
        hash,
        load: "loaded".into(),
        active: active.into(),
        sub: "any".into(),
        current,
        generation: 0,
        job: false,
        since: 0,
        problem: None,
        released,
        start: None,
    }
}

async fn run_engine(store: &MemoryStore, keys: &Keys, client: &str, number: u32, shutdown: &CancellationToken) {
    let store = store.client(client);
    let engine = Engine {
        view: View::new(store.clone(), keys.clone()),
        files: Files::new(store.clone(), keys.clone()),
        store,
        keys: keys.clone(),
        machine: machine(number),
        ttl: TTL,
        metrics: Metrics::default(),
    };
    engine.run(shutdown).await;
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
        let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(seed));
        let lessor = tokio::spawn(lessor);
        let keys = Keys::new("fleet");
        fastrand::seed(seed);
        let mut world = World {
            store: store.clone(),
            keys: keys.clone(),
            rng: fastrand::Rng::with_seed(seed),
            returns: Vec::new(),
            looked: 0,
        };
        world.mend();
        // Half of the runs are so hectic that decisions overtake each other, in the others things come to their end.
        let (events, pause) = if seed.is_multiple_of(2) { (60, 12_000) } else { (200, 1_000) };
        let often = if seed.is_multiple_of(2) { 0.05 } else { 0.25 };
        let faults = Faults { latency: 0..=600, refuse: 0.03, lose_answer: often, break_watch: often };
        let shutdown = CancellationToken::new();
        let script = async {
            world.pass(Duration::from_secs(30), false).await;
            world.store.set_faults(faults);
            for _ in 0..events {
                world.happen();
                let time = Duration::from_millis(world.rng.u64(0..pause));
                world.pass(time, true).await;
            }
            world.mend();
            world.pass(LONG, false).await;
            let scheduled = world.read("sched/");
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
            let before = world.store.revision();
            world.pass(LONG, false).await;
            assert_eq!(world.store.revision(), before, "seed {seed}: it rests");
            shutdown.cancel();
            check(&world, seed)
        };
        let (_, _, moves) = tokio::join!(
            run_engine(&store, &keys, "one", 1, &shutdown),
            run_engine(&store, &keys, "two", 2, &shutdown),
            script
        );
        lessor.abort();
        moves
    })
}

#[test]
fn strict_units_are_never_handed_over_too_early_whatever_happens() {
    let moves: usize = (0..16).map(run).sum();
    assert!(moves > 40, "only {moves} moves: nothing was tried");
}

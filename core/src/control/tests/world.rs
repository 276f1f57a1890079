//! A store, a leader that rests on it, and what others do there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    control::{
        Answer, Change, Collection, Controller, Evictions, Facts, HeldBack, InUse, Losses, Outcome, Scheduler, hold,
    },
    model::{
        ActiveState, Delta, Desired, Features, Key, Kind, MachineId, MachineRecord, MetadataEdits, Record, Revision,
        Snapshot, StateRecord, Task, UnitRecord, Unknown,
    },
    ops::Write,
    sched::{Copies, Input},
    unit::{UnitFile, UnitHash, UnitName},
};

pub const TTL: Duration = Duration::from_secs(10);

pub fn machine(number: u32) -> MachineId {
    MachineId::new(&format!("{number:032x}")).unwrap()
}

pub fn name(text: &str) -> UnitName {
    UnitName::new(text).unwrap()
}

pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A file whose unit takes so many seconds to stop.
pub fn file(stop: u32, section: &str) -> UnitFile {
    let text = format!("[Service]\nExecStart=/bin/s\nTimeoutStopSec={stop}\n[X-Fleet]\n{section}\n");
    UnitFile::parse(&text).unwrap()
}

/// What one leader knows.
pub struct Leader {
    seen: Snapshot,
    input: Input,
    losses: Losses,
    pub placement: Scheduler,
    pub evictions: Evictions,
    pub in_use: InUse,
    pub held: HeldBack,
    pub collection: Collection,
}

/// What the controllers want.
pub struct Wanted {
    pub placement: Outcome,
    pub evictions: Outcome,
    pub in_use: Outcome,
    pub held: Outcome,
    pub collection: Outcome,
}

/// A store, and the leader that rests on it.
pub struct World {
    /// What is in the store, but for files.
    pub store: Snapshot,
    /// The files, and when they were last written.
    pub files: BTreeMap<UnitHash, Revision>,
    texts: BTreeMap<UnitHash, UnitFile>,
    /// What machines have given up, by the revision that recalled it: they do not start that again.
    pub released: BTreeSet<(MachineId, UnitName, Revision)>,
    /// Since when machines are gone.
    pub gone: BTreeMap<MachineId, Duration>,
    pub now: Duration,
    pub leader: Leader,
}

impl Leader {
    /// One whose lease has lived since some time.
    fn new(since: Duration, now: Duration) -> Self {
        Self {
            seen: Snapshot::default(),
            input: Input::default(),
            losses: Losses::new(TTL, since, now),
            placement: Scheduler::default(),
            evictions: Evictions::default(),
            in_use: InUse::default(),
            held: HeldBack::new(Duration::ZERO),
            collection: Collection::new(now),
        }
    }
}

impl World {
    /// Machines that are there, and a leader that has led for long.
    pub fn of(machines: u32) -> Self {
        let now = s(1000);
        let mut world = Self {
            store: Snapshot { complete: true, ..Snapshot::default() },
            files: BTreeMap::new(),
            texts: BTreeMap::new(),
            released: BTreeSet::new(),
            gone: BTreeMap::new(),
            now,
            leader: Leader::new(now - s(100), now),
        };
        (1..=machines).for_each(|number| world.set_machine(number, ""));
        world
    }

    pub fn write(&mut self, key: &Key, value: Option<&[u8]>) {
        self.store.revision += 1;
        let revision = self.store.revision;
        match (key, value) {
            (Key::File(hash), Some(_)) => drop(self.files.insert(*hash, revision)),
            (Key::File(hash), None) => drop(self.files.remove(hash)),
            (_, Some(value)) => self.store.put(key, value, revision, self.now).unwrap(),
            (_, None) => self.store.remove(key),
        }
    }

    pub fn set_machine(&mut self, number: u32, disk: &str) {
        self.set_host(number, disk, Features::of_this_daemon());
    }

    /// A machine whose fleetd understands so much.
    pub fn set_host(&mut self, number: u32, disk: &str, features: Features) {
        let record = MachineRecord {
            address: format!("10.0.0.{number}"),
            hostname: format!("h{number}"),
            metadata: [("disk".to_owned(), disk.to_owned())].into(),
            version: "1".into(),
            boot_id: "b".into(),
            cpus: 1,
            memory: 1,
            leaving: false,
            features,
            unknown: Unknown::default(),
        };
        self.gone.remove(&machine(number));
        self.write(&Key::Machine(machine(number)), Some(&record.encode()));
    }

    /// A machine is gone, and with it what it has said of units.
    pub fn lose_machine(&mut self, number: u32) {
        let id = machine(number);
        if !self.store.machines.contains_key(&id) {
            return;
        }
        self.gone.insert(id.clone(), self.now);
        let states: Vec<UnitName> =
            self.store.states.keys().filter(|(on, _)| *on == id).map(|(_, unit)| unit.clone()).collect();
        states.into_iter().for_each(|unit| self.write(&Key::State(id.clone(), unit), None));
        self.write(&Key::Machine(id), None);
    }

    pub fn set_edits(&mut self, number: u32, edits: &MetadataEdits) {
        self.write(&Key::Metadata(machine(number)), Some(&edits.encode()));
    }

    pub fn drain(&mut self, number: u32, drain: bool) {
        self.set_edits(number, &MetadataEdits { drain, ..MetadataEdits::default() });
    }

    /// Submits a unit, as the API does: with its file.
    pub fn submit(&mut self, unit: &UnitName, file: &UnitFile, desired: Desired) {
        let hash = file.hash();
        self.texts.insert(hash, file.clone());
        let record = UnitRecord::new(hash, desired, 0);
        self.write(&Key::Unit(unit.clone()), Some(&record.encode()));
        // Of one revision, in truth.
        self.files.insert(hash, self.store.revision);
    }

    /// Submits a global unit.
    pub fn submit_global(&mut self, unit: &UnitName, file: &UnitFile, desired: Desired) {
        self.texts.insert(file.hash(), file.clone());
        let record = UnitRecord::new(file.hash(), desired, 0);
        self.write(&Key::Global(unit.clone()), Some(&record.encode()));
        self.files.insert(file.hash(), self.store.revision);
    }

    /// Has a unit be wanted with contents that may not be stored.
    pub fn want(&mut self, unit: &UnitName, hash: UnitHash) {
        let record = UnitRecord::new(hash, Desired::Launched, 0);
        self.write(&Key::Unit(unit.clone()), Some(&record.encode()));
    }

    pub fn destroy(&mut self, unit: &UnitName) {
        self.write(&Key::Unit(unit.clone()), None);
    }

    /// How many copies there may be of a unit with these contents.
    pub fn copies(&self, unit: &UnitName, hash: UnitHash) -> Copies {
        self.leader.input.known().contents.copies(unit, hash)
    }

    /// What agents of machines that are there say: that they have given up what is recalled, that the rest runs. Those of
    /// which `acts` says no are slow.
    pub fn agents(&mut self, acts: impl Fn(u32) -> bool) {
        let mut states = Vec::new();
        for ((on, unit), entry) in &self.store.scheduled {
            let recalled = entry.record.is_recall();
            let state = StateRecord {
                hash: entry.record.hash,
                load: "loaded".into(),
                active: if recalled { ActiveState::Inactive } else { ActiveState::Active },
                sub: "any".into(),
                current: if recalled { Desired::Inactive } else { Desired::Launched },
                generation: 0,
                request: None,
                acted: false,
                finished: false,
                skipped: false,
                job: false,
                since: 0,
                problem: None,
                notice: None,
                released: recalled.then_some(entry.revision),
                start: None,
                unknown: Unknown::default(),
            };
            let known = self.store.states.get(&(on.clone(), unit.clone())).map(|known| &*known.record);
            let number = u32::from_str_radix(&on.as_str()[24..], 16).unwrap();
            if self.store.machines.contains_key(on) && known != Some(&state) && acts(number) {
                self.released.extend(state.released.map(|revision| (on.clone(), unit.clone(), revision)));
                states.push((Key::State(on.clone(), unit.clone()), state.encode()));
            }
        }
        states.into_iter().for_each(|(key, state)| self.write(&key, Some(&state)));
        let gone: Vec<(MachineId, UnitName)> =
            self.store.states.keys().filter(|place| !self.store.scheduled.contains_key(*place)).cloned().collect();
        gone.into_iter().for_each(|(on, unit)| self.write(&Key::State(on, unit), None));
    }

    /// Another leader follows.
    pub fn fail_over(&mut self) {
        self.leader = Leader::new(self.now, self.now);
    }

    /// Asks the controllers about the store as it is.
    pub fn decide(&mut self) -> Wanted {
        let (now, current) = (self.now, self.store.clone());
        let leader = &mut self.leader;
        leader.losses.heard(now, now);
        let before = std::mem::replace(&mut leader.seen, current.clone());
        let delta = Delta::between(&before, &current);
        let unread = leader.input.unread(&current);
        for hash in unread.hashes() {
            leader.input.read(&unread, hash, self.texts.get(&hash));
        }
        let news = leader.input.apply(&current);
        let known = leader.input.known();
        leader.losses.follow(delta, known.placements, &BTreeSet::new(), now);
        leader.losses.settle(&current, known.placements, 0, now);
        let facts = Facts { delta, known, news: &news, losses: &leader.losses, at_rest: true, now };
        let (held, _) = hold(&facts);
        leader.input.hold(&held);
        let (planner, known) = leader.input.parts();
        let facts = Facts { delta, known, news: &news, losses: &leader.losses, at_rest: true, now };
        let placement = leader.placement.reconcile(&facts, planner);
        let facts = Facts { at_rest: placement.changes.is_empty(), ..facts };
        let evictions = leader.evictions.reconcile(&facts, planner);
        let in_use = leader.in_use.reconcile(&facts, planner);
        let held = leader.held.reconcile(&facts, planner);
        let collection = leader.collection.reconcile(&facts, planner);
        Wanted { placement, evictions, in_use, held, collection }
    }

    /// Carries out a change if its guards hold.
    pub fn commit(&mut self, change: &Change) -> Answer {
        let revision = |key: &Key| match key {
            Key::Unit(unit) => self.store.units.get(unit).map(|value| value.revision),
            Key::Machine(id) => self.store.machines.get(id).map(|value| value.revision),
            Key::Metadata(id) => self.store.metadata.get(id).map(|value| value.revision),
            Key::Sched(on, unit) => self.store.scheduled.get(&(on.clone(), unit.clone())).map(|value| value.revision),
            Key::Global(unit) => self.store.globals.get(unit).map(|value| value.revision),
            Key::InUse => self.store.in_use.get(&()).map(|value| value.revision),
            Key::File(hash) => self.files.get(hash).copied(),
            _ => None,
        };
        let newest = |kind: Kind| self.store.entries().filter(|(key, _)| key.kind() == kind).map(|(_, at)| at).max();
        let none_after = change.none_after.is_none_or(|(kind, at)| newest(kind).unwrap_or(0) <= at);
        let unchanged = change.set.guards.iter().all(|guard| revision(&guard.key).unwrap_or(0) == guard.revision);
        let old = |write: &Write| change.not_written_after.is_none_or(|at| revision(write.key()).unwrap_or(0) <= at);
        if !unchanged || !none_after || !change.set.writes.iter().all(old) {
            return Answer::Refused;
        }
        for write in change.set.writes.clone() {
            match write {
                Write::Put(key, value) => self.write(&key, Some(&value)),
                Write::Delete(key) => self.write(&key, None),
            }
        }
        Answer::Done
    }

    /// Decides once, and carries it out. How many changes there were.
    pub fn pass(&mut self) -> usize {
        let wanted = self.decide();
        let now = self.now;
        for change in &wanted.placement.changes {
            let answer = self.commit(change);
            self.leader.placement.answered(change, answer, now);
        }
        for change in &wanted.evictions.changes {
            let answer = self.commit(change);
            self.leader.evictions.answered(change, answer, now);
        }
        for change in &wanted.in_use.changes {
            self.commit(change);
        }
        for change in &wanted.held.changes {
            self.leader.held.answered(change, Answer::Done, now);
        }
        if wanted.collection.list {
            let keys = self.files.keys().map(|hash| Key::File(*hash)).collect();
            self.leader.collection.listed(Some(keys), now);
        }
        for change in &wanted.collection.changes {
            let answer = self.commit(change);
            self.leader.collection.answered(change, answer, now);
        }
        wanted.placement.changes.len() + wanted.evictions.changes.len() + wanted.in_use.changes.len()
    }

    /// Lets time pass in which agents do what they are told and the leader decides.
    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.agents(|_| true);
            self.pass();
            self.now += s(1);
        }
        self.pass();
    }

    /// The same while the agents do nothing.
    pub fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass();
            self.now += s(1);
        }
        self.pass();
    }

    /// Where a unit is in the store, and what its machine is to do with it.
    pub fn places(&self, unit: &UnitName) -> Vec<(u32, Task)> {
        let entries = self.store.scheduled.iter().filter(|((_, other), _)| other == unit);
        let number = |on: &MachineId| u32::from_str_radix(&on.as_str()[24..], 16).unwrap();
        entries.map(|((on, _), entry)| (number(on), entry.record.task)).collect()
    }
}

//! A host on the twins, and what others write for it.

use std::{collections::BTreeSet, future::ready, path::Path, sync::Arc, time::Duration};

use fleet_core::{
    model::{
        Desired, Features, InUseRecord, Key, Keys, MachineId, MachineRecord, Placement, Record, StateRecord,
        UnitRecord, Unknown, features::GLOBAL_PLACEMENTS,
    },
    unit::{UnitFile, UnitName},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::super::{End, Host, Node};
use crate::{
    clock::Clock,
    filesystem::{Filesystem, memory::Memory},
    metrics::Metrics,
    registry::{
        Revision, Transaction, Write,
        files::Files,
        memory::{MemoryClient, MemoryStore},
        view::View,
    },
    systemd::memory::{Entry, MemoryHost, MemorySystemd, What},
};

const TTL: Duration = Duration::from_secs(10);

/// A global unit.
pub fn global(what: &str) -> String {
    format!("[Unit]\nDescription={what}\n[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\nGlobal=true\n")
}

fn name(unit: &str) -> UnitName {
    UnitName::new(unit).unwrap()
}

/// One host and its cluster.
pub struct World {
    pub store: MemoryStore,
    keys: Keys,
    id: MachineId,
    pid1: MemoryHost,
    files: Memory,
    start: Instant,
    boots: u32,
    node: Option<Node<MemoryClient, MemorySystemd, Memory>>,
}

impl World {
    /// A host that is up and has no fleetd yet.
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        fastrand::seed(seed);
        let (store, lessor) = MemoryStore::new(rng.fork());
        tokio::spawn(lessor);
        let files = Memory::default();
        let (pid1, clock) = MemoryHost::new("h1", Arc::new(files.clone()), rng);
        tokio::spawn(clock);
        let id = MachineId::new(&format!("{:032x}", 0xf1ee_7000_u32)).unwrap();
        Self { store, keys: Keys::new("fleet"), id, pid1, files, start: Instant::now(), boots: 0, node: None }
    }

    pub fn start(&mut self) {
        let store = self.store.client("h1");
        let record = MachineRecord {
            address: "10.0.0.1".into(),
            hostname: "h1".into(),
            metadata: Default::default(),
            version: "test".into(),
            boot_id: self.boots.to_string(),
            cpus: 1,
            memory: 1 << 30,
            leaving: false,
            features: Features::of_this_daemon(),
            unknown: Unknown::default(),
        };
        let host = Host {
            id: self.id.clone(),
            metadata: Default::default(),
            features: record.features.clone(),
            describe: Box::new(move |_| Box::pin(ready(Ok(record.clone())))),
            changed: watch::channel(()).1,
            ttl: TTL,
            candidate: false,
            view: View::new(store.clone(), self.keys.clone()),
            files: Files::new(store.clone(), self.keys.clone()),
            store,
            keys: self.keys.clone(),
            systemd: self.pid1.connect(),
            filesystem: self.files.clone(),
            clock: Clock::Simulated(self.start),
            units: "/run/fleet/units".into(),
            state: "/var/lib/fleet".into(),
            metrics: Metrics::default(),
        };
        self.node = Some(Node::start(host).unwrap());
    }

    pub fn kill(&mut self) {
        self.node = None;
    }

    pub async fn restart_fleetd(&mut self) {
        if let Some(node) = self.node.take() {
            node.end(End::Keep).await.unwrap();
        }
        self.start();
    }

    /// The host's lease ends at once; it registers again.
    pub async fn lose_lease(&self) {
        let before = self.store.entries(&self.keys.of(fleet_core::model::Kind::Machine));
        self.write(Write::Delete { key: self.keys.format(&Key::Machine(self.id.clone())) });
        sleep(Duration::from_secs(20)).await;
        let after = self.store.entries(&self.keys.of(fleet_core::model::Kind::Machine));
        assert_ne!(before, after);
        assert_eq!(after.len(), 1);
    }

    pub fn lose_power(&mut self) {
        self.node = None;
        self.pid1.lose_power();
        self.files.boot();
        self.store.disconnect("h1");
    }

    pub fn boot(&mut self) {
        self.boots += 1;
        self.pid1.boot();
        self.start();
    }

    fn write(&self, write: Write) -> Revision {
        let transaction = Transaction { guards: Vec::new(), writes: vec![write] };
        self.store.write("test", &transaction).unwrap().unwrap()
    }

    /// What etcd has under a key.
    fn value(&self, key: &Key) -> Option<(Vec<u8>, Revision)> {
        let stored = self.store.entries(&self.keys.one(key)).pop()?;
        Some((stored.value, stored.mod_revision))
    }

    fn put(&self, key: &Key, value: Vec<u8>) {
        self.write(Write::put(self.keys.format(key), value));
    }

    pub fn submit(&self, unit: &str, text: &str) {
        self.submit_as(unit, text, Desired::Launched);
    }

    pub fn submit_as(&self, unit: &str, text: &str, desired: Desired) {
        let file = UnitFile::parse(text).unwrap();
        self.put(&Key::File(file.hash()), file.canonical().into_bytes());
        self.put(&Key::Global(name(unit)), UnitRecord::new(file.hash(), desired, 3).encode());
    }

    pub fn delete_global(&self, unit: &str) {
        self.write(Write::Delete { key: self.keys.format(&Key::Global(name(unit))) });
    }

    fn record(&self, unit: &str) -> UnitRecord {
        UnitRecord::decode(&self.value(&Key::Global(name(unit))).unwrap().0).unwrap()
    }

    pub fn restart(&self, unit: &str) {
        let record = UnitRecord { restarted_to: None, ..self.record(unit) };
        self.put(&Key::Global(name(unit)), record.restarted().encode());
    }

    /// A restart that has come as far as a machine.
    pub fn restart_up_to(&self, unit: &str, machine: &str) {
        let last = MachineId::new(machine).unwrap();
        let record = UnitRecord { restarted_to: Some(Box::new(last)), ..self.record(unit).restarted() };
        self.put(&Key::Global(name(unit)), record.encode());
    }

    /// What the engine writes of a global unit.
    pub fn place(&self, unit: &str) {
        let record = self.record(unit);
        let mut placement = Placement::of(&record).unwrap().everywhere();
        if record.restarted_to.is_some_and(|last| self.id > *last) {
            placement.generation -= 1;
        }
        self.put_placement(unit, &placement);
    }

    /// Whatever is desired.
    pub fn place_anyway(&self, unit: &str) {
        let record = UnitRecord { desired: Desired::Launched, ..self.record(unit) };
        self.put_placement(unit, &Placement::of(&record).unwrap().everywhere());
    }

    fn sched(&self, unit: &str) -> Key {
        Key::Sched(self.id.clone(), name(unit))
    }

    pub fn put_placement(&self, unit: &str, placement: &Placement) {
        self.put(&self.sched(unit), placement.encode());
    }

    pub fn placement(&self, unit: &str) -> Placement {
        Placement::decode(&self.value(&self.sched(unit)).unwrap().0).unwrap()
    }

    pub fn placement_revision(&self, unit: &str) -> Revision {
        self.value(&self.sched(unit)).unwrap().1
    }

    pub fn unplace(&self, unit: &str) {
        self.write(Write::Delete { key: self.keys.format(&self.sched(unit)) });
    }

    pub fn begin_to_use(&self) {
        let features = [GLOBAL_PLACEMENTS].into_iter().collect();
        self.put(&Key::InUse, InUseRecord { features, unknown: Unknown::default() }.encode());
    }

    pub fn garble_use(&self) {
        self.put(&Key::InUse, b"garbage".to_vec());
    }

    pub fn end_use(&self) {
        self.write(Write::Delete { key: self.keys.format(&Key::InUse) });
    }

    pub fn state(&self, unit: &str) -> StateRecord {
        StateRecord::decode(&self.value(&Key::State(self.id.clone(), name(unit))).unwrap().0).unwrap()
    }

    /// What would be gone by at a boot without etcd.
    pub fn disk(&self) -> String {
        String::from_utf8(self.files.read(Path::new("/var/lib/fleet/wanted")).unwrap().unwrap()).unwrap()
    }

    pub fn log(&self) -> Vec<Entry> {
        self.pid1.log()
    }

    pub fn alive(&self) -> BTreeSet<String> {
        self.pid1.alive()
    }

    pub fn starts(&self, unit: &str) -> usize {
        let of = |entry: &&Entry| entry.unit == unit && matches!(entry.what, What::Started(_));
        self.log().iter().filter(of).count()
    }

    /// These units run, and no others.
    #[track_caller]
    pub fn assert_runs(&self, units: &[&str]) {
        let expected: BTreeSet<String> = units.iter().map(ToString::to_string).collect();
        assert_eq!(self.alive(), expected, "{:?}", self.log());
    }

    /// These units run and have never stopped.
    #[track_caller]
    pub fn assert_ran_once(&self, units: &[&str]) {
        for unit in units {
            let log: Vec<Entry> = self.log().into_iter().filter(|entry| entry.unit == *unit).collect();
            assert!(!log.iter().any(|entry| entry.what == What::Stopped), "{log:?}");
            assert_eq!(self.starts(unit), 1, "{log:?}");
            assert!(self.alive().contains(*unit));
        }
    }
}

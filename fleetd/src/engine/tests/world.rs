//! What an engine sees of the world: a store in memory, and what the others have written there.

use std::time::Duration;

use fleet_core::{
    model::{
        Desired::{self, Inactive, Launched},
        Features, Key, Keys, MachineId, MachineRecord, MetadataEdits, Record, StateRecord, UnitRecord, Unknown,
    },
    unit::{UnitFile, UnitHash, UnitName},
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::super::Engine;
use crate::{
    membership::Registration,
    metrics::Metrics,
    registry::{
        LeaseId, Revision, Store, Stored, Transaction, Write, election,
        files::Files,
        memory::{MemoryClient, MemoryStore},
        view::View,
    },
};

pub const TTL: Duration = Duration::from_secs(10);

pub fn machine(number: u32) -> MachineId {
    MachineId::new(&format!("{number:032x}")).unwrap()
}

pub fn number(machine: &MachineId) -> u32 {
    u32::from_str_radix(&machine.as_str()[24..], 16).unwrap()
}

pub fn name(text: &str) -> UnitName {
    UnitName::new(text).unwrap()
}

pub fn file(stop: u32, section: &str) -> UnitFile {
    let text = format!("[Service]\nExecStart=/bin/s\nTimeoutStopSec={stop}\n[X-Fleet]\n{section}\n");
    UnitFile::parse(&text).unwrap()
}

/// What an agent says of a unit that runs, or of one that it has given up.
pub fn state(hash: UnitHash, active: &str, released: Option<Revision>) -> StateRecord {
    StateRecord {
        hash,
        load: "loaded".into(),
        active: active.into(),
        sub: "any".into(),
        current: if released.is_some() { Inactive } else { Launched },
        generation: 0,
        request: None,
        acted: false,
        finished: false,
        skipped: false,
        job: false,
        since: 0,
        problem: None,
        notice: None,
        released,
        start: None,
        unknown: Unknown::default(),
    }
}

/// The cluster around an engine.
pub struct World {
    pub store: MemoryStore,
    pub keys: Keys,
    engine: Option<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    /// One that is empty.
    pub fn new(seed: u64) -> Self {
        let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(seed));
        tokio::spawn(lessor);
        Self { store, keys: Keys::new("fleet"), engine: None }
    }

    /// An engine with a connection of this name.
    pub fn engine(&self, client: &str, number: u32) -> Engine<MemoryClient> {
        let store = self.store.client(client);
        Engine {
            view: View::new(store.clone(), self.keys.clone()),
            files: Files::new(store.clone(), self.keys.clone()),
            store,
            keys: self.keys.clone(),
            machine: machine(number),
            registered: watch::channel(Some(Registration { lease: LeaseId(1), revision: 1 })).1,
            ttl: TTL,
            metrics: Metrics::default(),
        }
    }

    /// Has an engine lead.
    pub async fn lead(&mut self) {
        let engine = self.engine("engine", 9);
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        self.engine = Some((shutdown, tokio::spawn(async move { engine.run(&stop).await })));
        self.pass(30).await;
    }

    /// Has somebody else lead who does nothing and is gone after a time.
    pub async fn be_led_for(&self, time: Duration) {
        let rival = self.store.client("rival");
        let lease = rival.grant(time).await.unwrap();
        election::campaign(&rival, &self.keys.election(), "rival", lease).await.unwrap();
    }

    /// Another engine leads.
    pub async fn fail_over(&mut self) {
        if let Some((shutdown, engine)) = self.engine.take() {
            shutdown.cancel();
            engine.await.unwrap();
        }
        self.lead().await;
    }

    pub async fn pass(&self, seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    pub fn write(&self, key: &Key, value: Option<Vec<u8>>) {
        let key = self.keys.format(key);
        let write = match value {
            Some(value) => Write::put(key, value),
            None => Write::Delete { key },
        };
        self.store.write("world", &Transaction { guards: Vec::new(), writes: vec![write] }).unwrap();
    }

    pub fn read(&self, range: &str) -> Vec<(Key, Stored)> {
        let entries = self.store.entries(&self.keys.under(range)).into_iter();
        entries.filter_map(|stored| Some((self.keys.parse(&stored.key)?, stored))).collect()
    }

    /// A machine, with a value of the metadata `disk`.
    pub fn set_machine(&self, number: u32, disk: &str) {
        let record = MachineRecord {
            address: format!("10.0.0.{number}"),
            hostname: format!("h{number}"),
            metadata: [("disk".to_owned(), disk.to_owned())].into(),
            version: "1".into(),
            boot_id: "b".into(),
            cpus: 1,
            memory: 1,
            leaving: false,
            features: Features::default(),
            unknown: Unknown::default(),
        };
        self.write(&Key::Machine(machine(number)), Some(record.encode()));
    }

    pub fn lose_machine(&self, number: u32) {
        self.write(&Key::Machine(machine(number)), None);
    }

    pub fn set_drained(&self, number: u32, drain: bool) {
        let edits = MetadataEdits { drain, ..MetadataEdits::default() };
        self.write(&Key::Metadata(machine(number)), Some(edits.encode()));
    }

    /// A unit file, and what is wanted of the unit that has it.
    pub fn set_unit(&self, unit: &UnitName, file: &UnitFile, desired: Option<Desired>) {
        self.write(&Key::File(file.hash()), Some(file.canonical().into_bytes()));
        let record = |desired| UnitRecord::new(file.hash(), desired, 0).encode();
        self.write(&Key::Unit(unit.clone()), desired.map(record));
    }
}

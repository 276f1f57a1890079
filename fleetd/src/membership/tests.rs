use std::sync::{Arc, Mutex};

use fleet_core::model::{Features, Key, Keys, Unknown};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::{
    filesystem::memory::Memory,
    registry::{
        Transaction, Write,
        memory::{Condition, MemoryClient, MemoryStore},
    },
};

const TTL: Duration = Duration::from_secs(10);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(3600);

/// A member on a store in memory, and what its network says of it.
struct Home {
    store: MemoryStore,
    key: String,
    address: Arc<Mutex<Option<&'static str>>>,
    changed: watch::Sender<()>,
    registered: watch::Receiver<Option<Registration>>,
    _running: AbortOnDropHandle<()>,
}

impl Home {
    /// One that has joined.
    async fn at(address: &'static str) -> Self {
        let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(7));
        tokio::spawn(lessor);
        let (keys, id) = (Keys::new("fleet"), MachineId::new(&"a".repeat(32)).unwrap());
        let key = keys.format(&Key::Machine(id.clone()));
        let (registration, mut registered) = watch::channel(None);
        let (changed, changes) = watch::channel(());
        let address = Arc::new(Mutex::new(Some(address)));
        let told = Arc::clone(&address);
        let membership: Membership<MemoryClient, Memory> = Membership {
            entry: Entry { store: store.client("home"), keys, id },
            describe: Box::new(move |known| {
                let address = told.lock().unwrap().map(str::to_owned).or(known.map(|known| known.address.clone()));
                Box::pin(async { Ok(record(&address.ok_or_else(|| anyhow::anyhow!("nowhere"))?)) })
            }),
            changed: changes,
            ttl: TTL,
            clock: Clock::Simulated(tokio::time::Instant::now()),
            lease_file: LeaseFile::new(Memory::default(), "/run/fleet/lease".into()),
            proof: watch::channel(None).0,
            registration,
            refusal: watch::channel(None).0,
        };
        let running = AbortOnDropHandle::new(tokio::spawn(async move { membership.run().await }));
        registered.wait_for(Option::is_some).await.unwrap();
        Self { store, key, address, changed, registered, _running: running }
    }

    fn entry(&self) -> Stored {
        self.store.entries(&(self.key.clone(), format!("{}\0", self.key))).pop().expect("the host is a member")
    }

    fn shown(&self) -> String {
        MachineRecord::decode(&self.entry().value).unwrap().address
    }

    fn move_to(&self, address: Option<&'static str>) {
        *self.address.lock().unwrap() = address;
        self.changed.send_replace(());
    }

    async fn shows(&self, address: &str) {
        let shown = async {
            while self.shown() != address {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, shown).await.unwrap_or_else(|_| panic!("{} for {address}", self.shown()));
    }
}

fn record(address: &str) -> MachineRecord {
    MachineRecord {
        address: address.into(),
        hostname: "home".into(),
        metadata: [("disk".into(), "ssd".into())].into(),
        version: "1".into(),
        boot_id: "b".into(),
        cpus: 1,
        // What changes all the time is no reason to write.
        memory: fastrand::u64(..),
        leaving: false,
        features: Features::default(),
        unknown: Unknown::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn new_address_is_written_and_nothing_else_changes() {
    let mut home = Home::at("10.0.0.7").await;
    let before = home.entry();
    home.registered.mark_unchanged();
    home.move_to(Some("10.0.0.8"));
    home.shows("10.0.0.8").await;
    let after = home.entry();
    assert_eq!((after.lease, after.create_revision), (before.lease, before.create_revision));
    assert_eq!(after.mod_revision, before.mod_revision + 1, "one write");
    sleep(LONG).await;
    assert!(!home.registered.has_changed().unwrap(), "what rests on the registration goes on");
    assert_eq!(home.store.leases().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn news_without_another_address_writes_nothing() {
    let home = Home::at("10.0.0.7").await;
    let before = home.store.revision();
    for _ in 0..10 {
        home.move_to(Some("10.0.0.7"));
        sleep(TTL).await;
        // An address that is gone for a moment, as when a link goes down.
        home.move_to(None);
        sleep(TTL).await;
    }
    sleep(LONG).await;
    assert_eq!((home.store.revision(), &*home.shown()), (before, "10.0.0.7"));
}

#[tokio::test(start_paused = true)]
async fn address_that_nobody_told_of_is_found_after_minutes() {
    let home = Home::at("10.0.0.7").await;
    *home.address.lock().unwrap() = Some("fd00::7");
    home.shows("fd00::7").await;
}

#[tokio::test(start_paused = true)]
async fn address_that_changes_while_the_store_is_away_is_written_when_it_is_back() {
    let mut home = Home::at("10.0.0.7").await;
    let lease = home.entry().lease;
    home.registered.mark_unchanged();
    home.store.set_condition(Condition::Down);
    home.move_to(Some("10.0.0.8"));
    sleep(Duration::from_secs(3)).await;
    home.move_to(Some("10.0.0.9"));
    sleep(Duration::from_secs(1)).await;
    home.store.set_condition(Condition::Up);
    home.shows("10.0.0.9").await;
    assert_eq!(home.entry().lease, lease);
    assert!(!home.registered.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn entry_that_somebody_else_has_written_is_not_written_over_by_a_new_address() {
    let mut home = Home::at("10.0.0.7").await;
    let value = MachineRecord { hostname: "clone".into(), ..record("10.0.0.66") }.encode();
    let put = Write::Put { key: home.key.clone(), value: value.clone(), lease: None };
    home.store.write("clone", &Transaction { guards: Vec::new(), writes: vec![put] }).unwrap();
    home.move_to(Some("10.0.0.8"));
    home.registered.wait_for(Option::is_none).await.unwrap();
    sleep(LONG).await;
    assert_eq!(home.entry().value, value, "another host has this machine ID");
}

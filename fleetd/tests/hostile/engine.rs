//! The engine on a store in memory: what cannot be read does not change what is decided about the rest.

use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

use fleet_core::{
    model::{Desired, Key, Keys, MachineId, Record, UnitRecord},
    unit::{UnitFile, UnitName},
};
use fleetd::{
    engine::Engine,
    membership::Registration,
    metrics::Metrics,
    registry::{LeaseId, Transaction, Write, files::Files, memory::MemoryStore, view::View},
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{plant, simulate},
    properties::good_value,
};

/// Longer than anything that an engine waits for before it moves a unit.
const LONG: Duration = Duration::from_secs(600);

fn machine(number: u32) -> MachineId {
    MachineId::new(&format!("{number:032x}")).expect("an ID")
}

fn unit(name: &str) -> UnitName {
    UnitName::new(name).expect("a name")
}

/// Machines 1 to 3, and units of which some hang together.
fn good(keys: &Keys) -> Vec<(String, Vec<u8>)> {
    let mut values = Vec::new();
    for number in 1..4 {
        let key = Key::Machine(machine(number));
        values.push((keys.format(&key), good_value(&key, number as u8)));
    }
    for n in 0..6 {
        let demand = match n % 3 {
            0 => "Conflicts=u[03].service".to_owned(),
            1 => "MachineMetadata=none=such".into(),
            _ => format!("MachineOf=u{}.service", n - 2),
        };
        let file = UnitFile::parse(&format!("[Service]\nExecStart=/bin/{n}\n[X-Fleet]\n{demand}\n")).expect("a file");
        let record = UnitRecord::new(file.hash(), Desired::Launched, 0);
        values.push((keys.format(&Key::File(file.hash())), file.canonical().into_bytes()));
        values.push((keys.format(&Key::Unit(unit(&format!("u{n}.service")))), record.encode()));
    }
    values
}

/// Lets an engine work on what is there, then does something, then lets it work again. Returns where units are.
async fn work(store: &MemoryStore, keys: &Keys, change: impl FnOnce()) -> BTreeMap<UnitName, MachineId> {
    let client = store.client("engine");
    let engine = Engine {
        view: View::new(client.clone(), keys.clone()),
        files: Files::new(client.clone(), keys.clone()),
        store: client,
        keys: keys.clone(),
        machine: machine(1),
        registered: watch::channel(Some(Registration { lease: LeaseId(1), revision: 1 })).1,
        ttl: Duration::from_secs(10),
        metrics: Metrics::default(),
    };
    let shutdown = CancellationToken::new();
    let script = async {
        sleep(LONG).await;
        change();
        sleep(LONG).await;
        shutdown.cancel();
    };
    tokio::join!(engine.run(&shutdown), script);
    let placed = store.entries(&keys.under("sched/")).into_iter().filter_map(|stored| match keys.parse(&stored.key) {
        Some(Key::Sched(machine, unit)) if UnitRecord::decode(&stored.value).is_ok() => Some((unit, machine)),
        _ => None,
    });
    placed.collect()
}

fn store() -> MemoryStore {
    let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
    tokio::spawn(lessor);
    store
}

/// Values under any keys that are not those of the good: the good units are placed as if the bad were not there.
pub fn plan(bad: &[(String, Vec<u8>)]) {
    let keys = Keys::new("fleet");
    let good = good(&keys);
    let is_other = |(path, value): &&(String, Vec<u8>)| {
        let key = format!("{}{path}", keys.prefix());
        let is_record = UnitRecord::decode(value).is_ok() || fleet_core::model::MachineRecord::decode(value).is_ok();
        // Keys of the election are etcd's, and a value that can be read is none of the bad.
        !is_record && !path.starts_with("election") && good.iter().all(|(known, _)| *known != key)
    };
    let bad: Vec<_> =
        bad.iter().filter(is_other).map(|(path, value)| (format!("{}{path}", keys.prefix()), value.clone())).collect();
    let run = |bad: &[(String, Vec<u8>)]| {
        simulate(async {
            let store = store();
            // Some before the engine sees anything, the others while it leads.
            let (early, late) = bad.split_at(bad.len() / 2);
            plant(&store, early.iter().cloned());
            plant(&store, good.iter().cloned());
            work(&store, &keys, || plant(&store, late.iter().cloned())).await
        })
    };
    static WITHOUT: OnceLock<BTreeMap<UnitName, MachineId>> = OnceLock::new();
    let without = WITHOUT.get_or_init(|| run(&[]));
    assert_eq!(run(&bad), *without, "{bad:?}");
    assert_eq!(without.len(), 4, "those with metadata that no machine has are nowhere");
}

/// A machine whose entry was overwritten gets no unit, and none that could be placed elsewhere waits for it.
pub fn overwritten_machine() {
    let keys = Keys::new("fleet");
    for number in 1..4 {
        let placed = simulate(async {
            let store = store();
            let key = keys.format(&Key::Machine(machine(number)));
            plant(&store, good(&keys).into_iter().filter(|(key, _)| key.contains("/machine/")));
            let overwrite = || {
                plant(&store, [(key, b"garbage".to_vec())]);
                plant(&store, good(&keys).into_iter().filter(|(key, _)| !key.contains("/machine/")));
            };
            work(&store, &keys, overwrite).await
        });
        assert_eq!(placed.len(), 4, "without {number}: {placed:?}");
        assert!(placed.values().all(|on| *on != machine(number)), "without {number}: {placed:?}");
    }
}

/// A machine whose entry could never be read keeps its units, until the entry goes.
pub fn deleted_machine() {
    let keys = Keys::new("fleet");
    for deleted in [false, true] {
        let placed = simulate(async {
            let store = store();
            let key = keys.format(&Key::Machine(machine(3)));
            plant(&store, good(&keys));
            plant(&store, [(key.clone(), b"garbage".to_vec())]);
            let record = good(&keys).into_iter().find(|(key, _)| key.ends_with("unit/u0.service")).expect("there").1;
            plant(&store, [(keys.format(&Key::Sched(machine(3), unit("u0.service"))), record)]);
            let change = || {
                if deleted {
                    let writes = vec![Write::Delete { key }];
                    store.write("test", &Transaction { guards: Vec::new(), writes }).expect("a small transaction");
                }
            };
            work(&store, &keys, change).await
        });
        assert_eq!(placed[&unit("u0.service")] == machine(3), !deleted, "deleted: {deleted}, {placed:?}");
    }
}

/// A key that is no candidate's is passed over.
pub fn stray_candidate() {
    let keys = Keys::new("fleet");
    let placed = simulate(async {
        let store = store();
        plant(&store, [(format!("{}/stray", keys.election()), b"garbage".to_vec())]);
        plant(&store, good(&keys));
        work(&store, &keys, || ()).await
    });
    assert_eq!(placed.len(), 4, "{placed:?}");
}

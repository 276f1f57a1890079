//! What an agent publishes, on a store in memory that others write to, too.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fleet_core::{
    model::{Key, Keys, MachineId, Record, StateRecord},
    unit::UnitName,
};
use fleetd::{
    agent::publish::{self, States},
    membership::Registration,
    registry::{Store, Transaction, Write, memory::MemoryStore},
};
use tokio::{sync::watch, time::sleep};

use crate::{
    api::{MACHINE, plant, simulate},
    properties::good_value,
};

/// States that were overwritten or deleted are published again, those of a machine that is well, without a change.
pub fn overwritten_states() {
    simulate(async {
        let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        tokio::spawn(lessor);
        let (client, keys) = (store.client("agent"), Keys::new("fleet"));
        let machine = MachineId::new(MACHINE).expect("an ID");
        let entry = Key::Machine(machine.clone());
        let lease = client.grant(Duration::from_secs(86_400)).await.expect("a lease");
        let put = Write::Put { key: keys.format(&entry), value: good_value(&entry, 1), lease: Some(lease) };
        let revision = client.commit(Transaction { guards: Vec::new(), writes: vec![put] }).await.expect("written");
        let registration = Registration { lease, revision: revision.expect("no guards") };

        let state = |name: &str| Key::State(machine.clone(), UnitName::new(name).expect("a name"));
        let published: BTreeMap<String, StateRecord> = ["a.service", "b.service"]
            .map(|name| (name.to_owned(), StateRecord::decode(&good_value(&state(name), 1)).expect("a state")))
            .into();
        let states: States = published
            .iter()
            .map(|(name, state)| (UnitName::new(name).expect("a name"), Arc::new(state.clone())))
            .collect();
        let (_states, states) = watch::channel(Some(states));
        let (_registration, registered) = watch::channel(Some(registration));
        tokio::spawn(publish::run(client, keys.clone(), machine.clone(), states, registered));

        let stored = || -> BTreeMap<String, StateRecord> {
            let entries = store.entries(&keys.under(&format!("state/{machine}/"))).into_iter();
            let readable = entries.filter_map(|stored| {
                let name = stored.key.rsplit('/').next()?.to_owned();
                Some((name, StateRecord::decode(&stored.value).ok()?))
            });
            readable.collect()
        };
        sleep(Duration::from_secs(5)).await;
        assert_eq!(stored(), published);
        plant(&store, [(keys.format(&state("a.service")), b"garbage".to_vec())]);
        let writes = vec![Write::Delete { key: keys.format(&state("b.service")) }];
        store.write("test", &Transaction { guards: Vec::new(), writes }).expect("a small transaction");
        assert!(stored().is_empty());
        sleep(Duration::from_secs(10)).await;
        assert_eq!(stored().keys().collect::<Vec<_>>(), ["b.service"], "what is deleted is noticed at once");
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(stored(), published);
    });
}

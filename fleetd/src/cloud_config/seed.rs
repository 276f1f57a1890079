//! Units of a cloud-config in the cluster: each is submitted once, by its contents.
//!
//! That a unit was submitted is kept in etcd, under `cloud-config/<unit>/<hash>`, by the very transaction that submits
//! it. So it happens once in the cluster: not again when a host boots again, when another host has the same document, or
//! when hosts with one document boot at the same moment; and a unit that an operator has stopped, changed or destroyed
//! since stays so.

use fleet_cloud_config::ClusterUnit;
use fleet_core::{
    model::{Key, Keys, MachineId, Record, UnitRecord},
    unit::UnitHash,
};
use serde_json::json;

use crate::registry::{Guard, Revision, Store, StoreError, Transaction, Write};

/// Submits units of this host's cloud-config.
pub(super) struct Seed<S> {
    pub store: S,
    pub keys: Keys,
    /// This host.
    pub id: MachineId,
}

/// What becomes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing: these contents were submitted before.
    Before,
    /// Nothing: somebody else has submitted these contents. That is remembered.
    Same,
    /// It is submitted.
    New,
    /// It takes the place of other contents.
    Replaces,
    /// Nothing: the cluster has a unit of that name with other contents.
    Differs,
}

/// A unit as the store has it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// What is wanted of it, if that can be read.
    record: Option<UnitRecord>,
    /// When `unit/<name>` was last written.
    ordinary: Revision,
    /// When `global/<name>` was last written.
    global: Revision,
    /// Whether these contents were submitted before.
    before: bool,
    /// The revision that all this was read at.
    revision: Revision,
}

/// A pure decision.
fn decide(found: &Found, unit: &ClusterUnit, hash: UnitHash) -> Outcome {
    let is_there = (found.ordinary, found.global) != (0, 0);
    match &found.record {
        _ if found.before => Outcome::Before,
        None if !is_there => Outcome::New,
        Some(record) if record.hash == hash => Outcome::Same,
        // One that cannot be read may be a newer fleet's.
        Some(_) if unit.replace => Outcome::Replaces,
        _ => Outcome::Differs,
    }
}

impl<S: Store> Seed<S> {
    /// Whether this host is a member of the cluster.
    pub async fn joined(&self) -> Result<bool, StoreError> {
        let key = self.keys.format(&Key::Machine(self.id.clone()));
        Ok(!self.store.get(&[key]).await?.entries.is_empty())
    }

    /// What would become of a unit now.
    pub async fn look(&self, unit: &ClusterUnit) -> Result<Outcome, StoreError> {
        let hash = unit.file.hash();
        Ok(decide(&self.find(unit, hash).await?, unit, hash))
    }

    /// Submits a unit, if it is to be.
    pub async fn submit(&self, unit: &ClusterUnit) -> Result<Outcome, StoreError> {
        let hash = unit.file.hash();
        loop {
            let found = self.find(unit, hash).await?;
            let outcome = decide(&found, unit, hash);
            if [Outcome::Before, Outcome::Differs].contains(&outcome) {
                return Ok(outcome);
            }
            // Each turn that is lost is one that another has won: this ends.
            if self.store.commit(self.transaction(unit, hash, &found, outcome)).await?.is_some() {
                return Ok(outcome);
            }
        }
    }

    fn transaction(&self, unit: &ClusterUnit, hash: UnitHash, found: &Found, outcome: Outcome) -> Transaction {
        let [ordinary, global, mark] = self.of(unit, hash);
        let guards = vec![
            Guard::Unchanged(ordinary.clone(), found.ordinary),
            Guard::Unchanged(global.clone(), found.global),
            Guard::Unchanged(mark.clone(), 0),
        ];
        let value = json!({ "v": 1, "machine": self.id });
        let mut writes = vec![Write::put(mark, value.to_string().into_bytes())];
        if outcome != Outcome::Same {
            // The revision sets apart a unit that is destroyed and submitted again from one that never went.
            let born = u64::try_from(found.revision).unwrap_or_default();
            let record = found.record.clone().unwrap_or_else(|| UnitRecord::new(hash, unit.desired, born));
            let record = UnitRecord { hash, desired: unit.desired, ..record };
            let file = self.keys.format(&Key::File(hash));
            writes.push(Write::put(file, unit.file.canonical().into_bytes()));
            let (key, other, before) =
                if unit.global { (global, ordinary, found.ordinary) } else { (ordinary, global, found.global) };
            writes.push(Write::put(key, record.encode()));
            writes.extend((before != 0).then_some(Write::Delete { key: other }));
        }
        Transaction { guards, writes }
    }

    async fn find(&self, unit: &ClusterUnit, hash: UnitHash) -> Result<Found, StoreError> {
        let keys = self.of(unit, hash);
        let page = self.store.get(&keys).await?;
        let mut found = Found { revision: page.revision, ..Found::default() };
        for stored in page.entries {
            if stored.key == keys[2] {
                found.before = true;
                continue;
            }
            *(if stored.key == keys[1] { &mut found.global } else { &mut found.ordinary }) = stored.mod_revision;
            found.record = UnitRecord::decode(&stored.value).ok();
        }
        Ok(found)
    }

    /// The keys that tell of a unit: as an ordinary one, as a global one, and that it was submitted.
    fn of(&self, unit: &ClusterUnit, hash: UnitHash) -> [String; 3] {
        let (keys, name) = (&self.keys, &unit.name);
        [
            keys.format(&Key::Unit(name.clone())),
            keys.format(&Key::Global(name.clone())),
            format!("{}cloud-config/{name}/{hash}", keys.prefix()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet_core::{
        model::Desired,
        unit::{UnitFile, UnitName},
    };

    use super::*;
    use crate::registry::memory::{MemoryClient, MemoryStore};

    fn unit(text: &str, replace: bool) -> ClusterUnit {
        let file = UnitFile::parse(text).unwrap();
        let (name, desired) = (UnitName::new("a.service").unwrap(), Desired::Launched);
        let global = text.contains("Global=true");
        ClusterUnit { mark: Default::default(), name, file, global, desired, replace }
    }

    fn seed(store: &MemoryStore, host: char) -> Seed<MemoryClient> {
        let id = MachineId::new(&host.to_string().repeat(32)).unwrap();
        Seed { store: store.client(&host.to_string()), keys: Keys::new("/fleet/"), id }
    }

    /// The keys that there are, without the contents of units.
    fn keys(store: &MemoryStore) -> Vec<String> {
        let all = store.entries(&("/fleet/".into(), "/fleet0".into())).into_iter().map(|entry| entry.key);
        all.filter(|key| !key.starts_with("/fleet/file/")).collect()
    }

    fn wanted(store: &MemoryStore) -> UnitRecord {
        let entries = store.entries(&("/fleet/unit/".into(), "/fleet/unit0".into()));
        UnitRecord::decode(&entries[0].value).unwrap()
    }

    fn store() -> MemoryStore {
        let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        tokio::spawn(lessor);
        store
    }

    const ONE: &str = "[Service]\nExecStart=/bin/sleep 1\n";
    const TWO: &str = "[Service]\nExecStart=/bin/sleep 2\n";

    #[tokio::test(start_paused = true)]
    async fn a_unit_is_submitted_once_in_the_cluster_whatever_happens_to_it_later() {
        let store = store();
        let (a, b) = (seed(&store, 'a'), seed(&store, 'b'));
        assert_eq!(a.look(&unit(ONE, false)).await.unwrap(), Outcome::New);
        assert_eq!(a.submit(&unit(ONE, false)).await.unwrap(), Outcome::New);
        assert_eq!((wanted(&store).desired, wanted(&store).hash), (Desired::Launched, unit(ONE, false).file.hash()));
        let after = store.revision();
        for seed in [&a, &b] {
            assert_eq!(seed.submit(&unit(ONE, false)).await.unwrap(), Outcome::Before);
        }
        assert_eq!(store.revision(), after, "nothing is written a second time");
        let destroy =
            Transaction { writes: vec![Write::Delete { key: "/fleet/unit/a.service".into() }], ..Default::default() };
        store.write("operator", &destroy).unwrap();
        assert_eq!(b.submit(&unit(ONE, true)).await.unwrap(), Outcome::Before);
        assert_eq!(keys(&store), [format!("/fleet/cloud-config/a.service/{}", unit(ONE, false).file.hash())]);
    }

    #[tokio::test(start_paused = true)]
    async fn other_contents_are_left_alone_unless_they_are_to_be_replaced() {
        let store = store();
        let seed = seed(&store, 'a');
        seed.submit(&unit(ONE, false)).await.unwrap();
        let before = wanted(&store);
        assert_eq!(seed.submit(&unit(TWO, false)).await.unwrap(), Outcome::Differs);
        assert_eq!(wanted(&store), before);
        assert_eq!(seed.submit(&unit(TWO, true)).await.unwrap(), Outcome::Replaces);
        assert_eq!(wanted(&store).hash, unit(TWO, true).file.hash());
        // The first contents have had their turn.
        assert_eq!(seed.submit(&unit(ONE, true)).await.unwrap(), Outcome::Before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_that_somebody_else_submitted_stays_as_he_left_it() {
        let store = store();
        let seed = seed(&store, 'a');
        let record = UnitRecord::new(unit(ONE, false).file.hash(), Desired::Inactive, 3);
        let write = Write::put("/fleet/unit/a.service".into(), record.encode());
        store.write("operator", &Transaction { writes: vec![write], ..Default::default() }).unwrap();
        assert_eq!(seed.submit(&unit(ONE, true)).await.unwrap(), Outcome::Same);
        assert_eq!(wanted(&store), record);
        assert_eq!(seed.submit(&unit(ONE, true)).await.unwrap(), Outcome::Before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_cannot_be_read_is_not_overwritten() {
        let store = store();
        let write = Write::put("/fleet/unit/a.service".into(), b"{\"v\":2}".to_vec());
        store.write("newer", &Transaction { writes: vec![write], ..Default::default() }).unwrap();
        assert_eq!(seed(&store, 'a').submit(&unit(ONE, true)).await.unwrap(), Outcome::Differs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_that_becomes_global_is_no_longer_an_ordinary_one() {
        let store = store();
        let seed = seed(&store, 'a');
        seed.submit(&unit(ONE, false)).await.unwrap();
        let global = unit(&format!("{ONE}[X-Fleet]\nGlobal=true\n"), true);
        assert_eq!(seed.submit(&global).await.unwrap(), Outcome::Replaces);
        let units: Vec<String> = keys(&store).into_iter().filter(|key| !key.contains("cloud-config")).collect();
        assert_eq!(units, ["/fleet/global/a.service"]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_hosts_that_boot_at_one_moment_one_submits() {
        let store = store();
        let submit = |host| {
            let seed = seed(&store, host);
            tokio::spawn(async move { seed.submit(&unit(ONE, false)).await.unwrap() })
        };
        let hosts: Vec<_> = ('a'..='f').map(submit).collect();
        let mut outcomes = Vec::new();
        for host in hosts {
            outcomes.push(tokio::time::timeout(Duration::from_secs(60), host).await.unwrap().unwrap());
        }
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::New).count(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Before).count(), 5, "{outcomes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_has_joined_when_its_entry_is_there() {
        let store = store();
        let seed = seed(&store, 'a');
        assert!(!seed.joined().await.unwrap());
        let key = seed.keys.format(&Key::Machine(seed.id.clone()));
        store
            .write("agent", &Transaction { writes: vec![Write::put(key, b"{}".to_vec())], ..Default::default() })
            .unwrap();
        assert!(seed.joined().await.unwrap());
    }
}

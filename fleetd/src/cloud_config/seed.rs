//! Units of a cloud-config in the cluster: each is submitted once, by its contents.

use fleet_cloud_config::ClusterUnit;
use fleet_core::{
    model::{Key, Keys, MachineId},
    ops::{self, Contents, Operation, Refusal, SubmitOnce},
};

use crate::registry::{
    Store, StoreError,
    commit::{Failure, carry_out, look},
};

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
    /// Nothing: these contents were submitted before, from a cloud-config or by somebody else.
    Same,
    /// It is submitted.
    New,
    /// It takes the place of other contents.
    Replaces,
    /// Nothing: the cluster has a unit of that name with other contents, or one that this fleet cannot read.
    Differs,
}

impl<S: Store> Seed<S> {
    /// Whether this host is a member of the cluster.
    pub async fn joined(&self) -> Result<bool, StoreError> {
        let key = self.keys.format(&Key::Machine(self.id.clone()));
        Ok(!self.store.get(&[key]).await?.entries.is_empty())
    }

    /// What would become of a unit now.
    pub async fn look(&self, unit: &ClusterUnit) -> Result<Outcome, Failure> {
        outcome(look(&self.store, &self.keys, &self.operation(unit)?).await.map(|edit| edit.outcome))
    }

    /// Submits a unit, if it is to be.
    pub async fn submit(&self, unit: &ClusterUnit) -> Result<Outcome, Failure> {
        let operation = self.operation(unit)?;
        loop {
            match carry_out(&self.store, &self.keys, &operation).await {
                // Each turn that is lost is one that another has won: this ends.
                Err(Failure::Refused(Refusal::UnitContended)) => {}
                done => return outcome(done.map(|done| done.outcome)),
            }
        }
    }

    fn operation(&self, unit: &ClusterUnit) -> Result<Operation, Refusal> {
        Ok(Operation::SubmitOnce(SubmitOnce {
            name: unit.name.clone(),
            contents: Contents::new(&unit.file, &unit.name)?,
            desired: unit.desired,
            replace: unit.replace,
            machine: self.id.clone(),
        }))
    }
}

fn outcome(outcome: Result<ops::Outcome, Failure>) -> Result<Outcome, Failure> {
    match outcome {
        Ok(ops::Outcome::Unchanged | ops::Outcome::Changed) => Ok(Outcome::Same),
        Ok(ops::Outcome::Created) => Ok(Outcome::New),
        Ok(ops::Outcome::Replaced) => Ok(Outcome::Replaces),
        Err(Failure::Refused(Refusal::OtherContents | Refusal::Newer { .. })) => Ok(Outcome::Differs),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet_core::{
        model::{Desired, Record, UnitRecord},
        unit::{UnitFile, UnitName},
    };

    use super::*;
    use crate::registry::{
        Transaction, Write,
        memory::{MemoryClient, MemoryStore},
    };

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
            assert_eq!(seed.submit(&unit(ONE, false)).await.unwrap(), Outcome::Same);
        }
        assert_eq!(store.revision(), after, "nothing is written a second time");
        let destroy =
            Transaction { writes: vec![Write::Delete { key: "/fleet/unit/a.service".into() }], ..Default::default() };
        store.write("operator", &destroy).unwrap();
        assert_eq!(b.submit(&unit(ONE, true)).await.unwrap(), Outcome::Same);
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
        assert_eq!(seed.submit(&unit(ONE, true)).await.unwrap(), Outcome::Same);
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
        let mark = format!("/fleet/cloud-config/a.service/{}", record.hash);
        assert!(keys(&store).contains(&mark), "it is remembered: these contents have had their turn");
        let after = store.revision();
        assert_eq!(seed.submit(&unit(ONE, true)).await.unwrap(), Outcome::Same);
        assert_eq!(store.revision(), after);
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
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Same).count(), 5, "{outcomes:?}");
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

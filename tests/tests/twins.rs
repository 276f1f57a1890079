//! The twins in memory against what they stand for: one script, the same observations.

use std::{path::Path, sync::Arc, time::Duration};

use fleet_lab::Lab;
use fleet_tests::{
    EtcdProcess,
    contract::{store, systemd},
};
use fleetd::{
    filesystem::memory::Memory,
    registry::{
        Etcd, Revision,
        etcd::Endpoints,
        memory::{Condition, MemoryStore},
    },
    systemd::memory::MemoryHost,
};

struct RealOperator(EtcdProcess);

impl store::Operator for RealOperator {
    fn stop(&mut self) {
        self.0.stop();
    }

    fn start(&mut self) {
        self.0.start_again();
    }

    fn freeze(&mut self) {
        self.0.freeze(true);
    }

    fn thaw(&mut self) {
        self.0.freeze(false);
    }

    fn compact(&mut self, revision: Revision) {
        self.0.etcdctl(&["compact", &revision.to_string()]).unwrap();
    }
}

struct TwinOperator(MemoryStore);

impl store::Operator for TwinOperator {
    fn stop(&mut self) {
        self.0.set_condition(Condition::Down);
    }

    fn start(&mut self) {
        self.0.set_condition(Condition::Up);
    }

    fn freeze(&mut self) {
        self.0.set_condition(Condition::Frozen);
    }

    fn thaw(&mut self) {
        self.0.set_condition(Condition::Up);
    }

    fn compact(&mut self, revision: Revision) {
        self.0.compact(revision);
    }
}

fn on_paused_clock<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

#[test]
fn store_in_memory_behaves_as_etcd_does() {
    let twin = |seed: u64| {
        on_paused_clock(async {
            let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(seed));
            tokio::spawn(lessor);
            let client = store.client("one");
            store::observe(&client, &mut TwinOperator(store)).await
        })
    };
    let first = twin(1);
    for seed in 2..20 {
        assert_eq!(first, twin(seed), "seed {seed}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let real = runtime.block_on(async {
        let mut operator = RealOperator(EtcdProcess::start());
        let urls = vec![operator.0.url().into()];
        let endpoints = Endpoints { urls, request_timeout: Duration::from_secs(5), ..Endpoints::default() };
        store::observe(&Etcd::new(endpoints), &mut operator).await
    });
    agree(&real, &first);
}

#[test]
fn systemd_in_memory_behaves_as_systemd_does() {
    let twin = |seed: u64| {
        on_paused_clock(async {
            let files = Memory::default();
            let (host, clock) = MemoryHost::new("h1", Arc::new(files.clone()), fastrand::Rng::with_seed(seed));
            tokio::spawn(clock);
            systemd::observe(&host.connect(), &files).await
        })
    };
    let first = twin(1);
    for seed in 2..20 {
        agree(&first, &twin(seed));
    }
    let lab = Lab::builder().fleet(false).up().unwrap();
    lab.install("systemd-script", Path::new(env!("CARGO_BIN_EXE_systemd-script"))).unwrap();
    let printed = lab.host("h1").sh("/usr/lib/fleet-lab/systemd-script").unwrap();
    let real: Vec<String> = serde_json::from_str(&printed).unwrap();
    agree(&real, &first);
}

/// Fails with what one saw and the other did not.
fn agree(real: &[String], twin: &[String]) {
    let differ: Vec<_> = real.iter().zip(twin).filter(|(real, twin)| real != twin).collect();
    assert!(differ.is_empty(), "(real, twin): {differ:#?}");
    assert_eq!(real.len(), twin.len());
}

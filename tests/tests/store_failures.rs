//! An etcd that loses members, its leader, its past or its mind, and what must not happen then.

use std::time::Duration;

use fleet_core::model::Keys;
use fleet_lab::{Lab, eventually};
use fleet_tests::DEADLINE;
use fleetd::registry::{Etcd, Store, etcd::Endpoints, lease};
use tokio::{sync::watch, time::Instant};

/// A handle as `fleetd` has one.
fn connect(lab: &Lab) -> Etcd {
    let request_timeout = Duration::from_secs(5);
    Etcd::new(Endpoints { urls: lab.etcd_endpoints(), request_timeout, ..Endpoints::default() })
}

#[tokio::test]
async fn one_frozen_member_of_three_costs_no_lease_and_little_patience() {
    let lab = Lab::builder().fleet(false).etcd(3).up().unwrap();
    let ttl = Duration::from_secs(6);
    // As many as it takes for some to be with each member.
    let mut held = Vec::new();
    for _ in 0..12 {
        let store = connect(&lab);
        let lease = store.grant(ttl).await.unwrap();
        let (acknowledged, _) = watch::channel(Instant::now());
        let keeping = {
            let store = store.clone();
            async move { lease::keep(&store, lease, ttl, Instant::now, &acknowledged).await }
        };
        held.push((store, tokio::spawn(keeping)));
    }
    let leader = lab.store_leader().unwrap().unwrap().number();
    let frozen = lab.members().into_iter().find(|member| member.number() != leader).unwrap();
    frozen.pause().unwrap();
    let since = Instant::now();
    let range = Keys::new("fleet").cluster();
    let mut slow = 0;
    while since.elapsed() < 3 * ttl {
        for (store, _) in &held {
            let asked = Instant::now();
            store.list(&range, None, 1).await.expect("two of three members answer");
            slow += usize::from(asked.elapsed() > Duration::from_secs(1));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(slow <= held.len(), "who met with silence asks another member from then on: {slow} slow requests");
    assert!(held.iter().all(|(_, keeping)| !keeping.is_finished()), "a lease was lost");
    frozen.resume().unwrap();
    // The members kept still, the leases are the same.
    eventually(DEADLINE, "all leases are there", || {
        Ok(lab.etcdctl(&["lease", "list"])?.lines().filter(|line| line.len() == 16).count() == held.len())
    })
    .unwrap();
}

//! An etcd that loses members, its leader, its past or its mind, and what must not happen then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fleet_bench::soak::{
    fault::{Fault, Kind},
    trial::Trial,
};
use fleet_core::model::Keys;
use fleet_lab::{Lab, eventually};
use fleet_tests::{Cluster, DEADLINE};
use fleetd::registry::{Etcd, Store, etcd::Endpoints, lease};
use tokio::{sync::watch, time::Instant};

/// A handle as `fleetd` has one.
fn connect(lab: &Lab) -> Etcd {
    let request_timeout = Duration::from_secs(5);
    Etcd::new(Endpoints { urls: lab.etcd_endpoints(), request_timeout, ..Endpoints::default() })
}

/// Notes how old, in milliseconds, the last keepalive that was answered ever was.
async fn follow_age(mut sent: watch::Receiver<Instant>, oldest: Arc<AtomicU64>) {
    loop {
        let last = *sent.borrow_and_update();
        if sent.changed().await.is_err() {
            return;
        }
        oldest.fetch_max(last.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn one_frozen_member_of_three_and_leaders_that_freeze_in_turn_cost_no_lease_and_little_patience() {
    let lab = Lab::builder().fleet(false).etcd(3).up().unwrap();
    let ttl = Duration::from_secs(7);
    // As many as it takes for some to be with each member.
    let (mut held, oldest) = (Vec::new(), Arc::new(AtomicU64::new(0)));
    for _ in 0..12 {
        let store = connect(&lab);
        let lease = store.grant(ttl).await.unwrap();
        let (acknowledged, sent) = watch::channel(Instant::now());
        let keeping = {
            let store = store.clone();
            async move { lease::keep(&store, lease, ttl, Instant::now, &acknowledged).await }
        };
        held.push((store, tokio::spawn(keeping)));
        tokio::spawn(follow_age(sent, Arc::clone(&oldest)));
    }
    let leader = lab.store_leader().unwrap().unwrap().number();
    let frozen = lab.members().into_iter().find(|member| member.number() != leader).unwrap();
    frozen.pause().unwrap();
    let since = Instant::now();
    let range = Keys::new("fleet").followed();
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
    // One leader after the other hangs until the next is there, as when members are replaced on a slow machine.
    let lab = Arc::new(lab);
    for _ in 0..3 {
        let lab = Arc::clone(&lab);
        let depose = move || {
            let hangs = lab.store_leader().unwrap().unwrap();
            hangs.pause().unwrap();
            let led = eventually(DEADLINE, "another leads", || Ok(lab.store_leader()?.is_some()));
            hangs.resume().unwrap();
            led.unwrap();
        };
        tokio::task::spawn_blocking(depose).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let oldest = Duration::from_millis(oldest.load(Ordering::Relaxed));
    assert!(oldest < ttl - ttl / 10, "a strict unit would have been stopped: nothing was proven for {oldest:?}");
    assert!(held.iter().all(|(_, keeping)| !keeping.is_finished()), "a lease was lost");
    // The members kept still, the leases are the same.
    eventually(DEADLINE, "all leases are there", || {
        Ok(lab.etcdctl(&["lease", "list"])?.lines().filter(|line| line.len() == 16).count() == held.len())
    })
    .unwrap();
}

const COPY: &str = env!("CARGO_BIN_EXE_fleet-copy");

/// Whether a unit can be started and taken away again, within a few tries: a request may be under way to a member
/// that goes.
fn serves(cluster: &Cluster) {
    cluster.write(&[("probe.service", "[Service]\nExecStart=/bin/sleep 10001\n")]);
    for verb in ["start", "destroy"] {
        eventually(DEADLINE, "fleet serves", || Ok(cluster.fleetctl(&[verb, "probe.service"])?.code == 0)).unwrap();
    }
}

#[test]
fn one_member_of_three_may_do_anything_and_no_unit_notices() {
    // Three seconds without a leader, as when one is replaced, are most of what a lease of 5 s leaves a strict unit.
    let mut trial = Trial::new(3, 3, Duration::from_secs(7), COPY);
    let leader = |trial: &Trial| trial.cluster().lab.store_leader().unwrap().unwrap().number();
    let other = |trial: &Trial| if leader(trial) == 1 { 2 } else { 1 };
    let one = |kind, member, seconds| [Fault { member, ..Trial::fault(kind, &[], seconds) }];
    let member = other(&trial);
    trial.does_not_notice(&one(Kind::LeaderMoved, member, 0.0));
    // Longer than any lease lives.
    for kind in [Kind::MemberKilled, Kind::MemberFrozen] {
        let member = leader(&trial);
        trial.does_not_notice(&one(kind, member, 8.0));
    }
    let member = other(&trial);
    trial.does_not_notice(&one(Kind::MemberFrozen, member, 8.0));
    // In the end none of the members is one that was there at the start.
    for member in 1..=3 {
        trial.does_not_notice(&one(Kind::MemberReplaced, member, 0.0));
    }
    serves(trial.cluster());
}

#[test]
fn store_that_is_away_for_longer_than_leases_live_moves_nothing() {
    let mut trial = Trial::new(3, 3, Duration::from_secs(4), COPY);
    // A short one is not noticed by strict units either.
    trial.does_not_notice(&[Trial::fault(Kind::StoreFrozen, &[], 1.0)]);
    trial.does_not_notice(&[Trial::fault(Kind::StoreKilled, &[], 1.0)]);
    for kind in [Kind::StoreFrozen, Kind::StoreKilled, Kind::QuorumLost] {
        trial.does_not_notice(&[Trial::fault(kind, &[], 9.0)]);
    }
    serves(trial.cluster());
}

#[test]
fn five_members_serve_while_two_are_gone_and_a_freeze_of_20_s_is_survived() {
    let mut trial = Trial::new(3, 5, Duration::from_secs(10), COPY);
    let lab = &trial.cluster().lab;
    lab.etcd(1).kill().unwrap();
    lab.etcd(2).kill().unwrap();
    serves(trial.cluster());
    let lab = &trial.cluster().lab;
    lab.etcd(1).start().unwrap();
    lab.etcd(2).start().unwrap();
    trial.does_not_notice(&[Trial::fault(Kind::StoreFrozen, &[], 20.0)]);
    serves(trial.cluster());
}

#[test]
fn host_that_was_cut_off_while_etcd_forgot_its_past_ends_with_what_is_wanted_now() {
    let mut trial = Trial::new(4, 1, Duration::from_secs(4), COPY);
    let h2 = trial.cluster().host("h2");
    let pinned = format!("[Service]\nExecStart=/bin/sleep 1000%i\n[X-Fleet]\nMachineID={}\n", h2.machine_id());
    trial.cluster().write(&[("pinned@.service", &pinned)]);
    trial.cluster().ok(&["start", "pinned@1", "pinned@2"]);
    let kept = trial.cluster().invocations("pinned@2.service");
    h2.partition().unwrap();
    trial.cluster().ok(&["destroy", "--no-block", "pinned@1"]);
    trial.cluster().ok(&["start", "--no-block", "pinned@3"]);
    // Of that nothing is told to a watch that begins in the past.
    trial.cluster().lab.compact().unwrap();
    h2.heal().unwrap();
    eventually(DEADLINE, "what was wanted meanwhile is done", || {
        let is = |unit: &str| h2.sh(&format!("systemctl is-active {unit}")).is_ok();
        Ok(!is("pinned@1") && is("pinned@3"))
    })
    .unwrap();
    assert_eq!(trial.cluster().invocations("pinned@2.service"), kept);
    trial.cluster().ok(&["destroy", "pinned@2", "pinned@3"]);
    trial.suffers(&[Trial::fault(Kind::Compacted, &["h2"], 8.0), Trial::fault(Kind::DaemonKilled, &["h2"], 0.0)]);
}

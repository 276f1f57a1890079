//! Which times without a leader a lease survives, by going through them.

use tokio::{runtime::Builder, task::AbortHandle};

use super::*;
use crate::{
    clock::Clock,
    membership::proof::{Proof, proof},
    registry::memory::{Condition, Faults, Health, MemoryClient, MemoryStore},
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn on_paused_clock<F: Future>(future: F) -> F::Output {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// A lease that is kept, and how long it is proven to live.
struct Kept {
    etcd: MemoryStore,
    client: MemoryClient,
    lease: LeaseId,
    start: Instant,
    clock: Clock,
    proof: watch::Receiver<Proof>,
    tasks: [AbortHandle; 2],
}

impl Kept {
    async fn new(ttl: Duration) -> Self {
        let (etcd, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        let lessor = tokio::spawn(lessor).abort_handle();
        let client = etcd.client("one");
        let lease = client.grant(ttl).await.unwrap();
        let start = Instant::now();
        let clock = Clock::Simulated(start);
        let (proofs, proven) = watch::channel(proof(clock, ttl));
        let keeping = {
            let client = client.clone();
            async move { keep(&client, lease, ttl, || proof(clock, ttl), &proofs).await }
        };
        let keeping = tokio::spawn(keeping).abort_handle();
        Self { etcd, client, lease, start, clock, proof: proven, tasks: [lessor, keeping] }
    }

    /// Returns when the fence of a host with this lease would close.
    async fn closes(&self) {
        let mut proof = self.proof.clone();
        loop {
            let until = proof.borrow_and_update().unwrap_or_default();
            let ends = self.etcd.leases().get(&self.lease).map(|(_, ends)| *ends);
            let proven = self.start + until;
            assert!(ends.is_none_or(|ends| proven <= ends), "what is proven counts from a question that was answered");
            tokio::select! {
                biased;
                changed = proof.changed() => if changed.is_err() { return },
                () = self.clock.sleep_until(until) => return,
            }
        }
    }

    fn beats(&self) -> u64 {
        self.etcd.calls().values().map(|calls| calls.beats).sum()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// There is a leader for so long between two times without one.
const BETWEEN: Duration = millis(500);

/// Whether no strict unit is stopped when the leader is gone for so long each time, the first time so long after a
/// keepalive, while a member hangs.
fn survives(ttl: Duration, phase: Duration, hangs: Option<usize>, gaps: &[Duration]) -> bool {
    on_paused_clock(async {
        let kept = Kept::new(ttl).await;
        let trouble = async {
            sleep(2 * ttl + phase).await;
            if let Some(member) = hangs {
                kept.etcd.set_health(member, Health::Hung);
            }
            for gap in gaps {
                kept.etcd.set_condition(Condition::Leaderless);
                sleep(*gap).await;
                kept.etcd.set_condition(Condition::Up);
                sleep(BETWEEN).await;
            }
            sleep(ttl).await;
        };
        tokio::select! {
            biased;
            () = kept.closes() => false,
            () = trouble => kept.etcd.leases().contains_key(&kept.lease),
        }
    })
}

/// The same at whatever moment it begins.
fn always_survives(ttl: Duration, gaps: &[Duration]) -> bool {
    let third = (ttl / 3).as_millis() as u64;
    let phases = (0..third).step_by(usize::try_from(third / 12).unwrap()).map(millis);
    phases.into_iter().all(|phase| [None, Some(0), Some(1)].iter().all(|hangs| survives(ttl, phase, *hangs, gaps)))
}

/// The table of the document: a TTL, and the longest times without a leader, by themselves and after such a one.
fn promised() -> Vec<[Duration; 3]> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/faults.md")).unwrap();
    let (_, table) = text.split_once("| `agent_ttl` |").expect("docs/faults.md has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let seconds = |cell: &str| Duration::from_secs_f64(cell.trim().trim_end_matches(" s").parse().unwrap());
    let row = |line: &str| line.trim_matches('|').split('|').map(seconds).collect::<Vec<_>>().try_into().unwrap();
    rows.map(row).collect()
}

#[test]
fn times_without_a_leader_that_docs_faults_md_promises_are_survived_and_longer_ones_are_not() {
    let promised = promised();
    assert!(promised.len() > 3, "{promised:?}");
    for [ttl, first, again] in promised {
        assert!(always_survives(ttl, &[first; 4]), "{first:?} of {ttl:?}, several times");
        assert!(always_survives(ttl, &[first, again, again, again]), "{first:?}, then {again:?} of {ttl:?}");
        let more = ttl / 20 + millis(500);
        assert!(!always_survives(ttl, &[first + more]), "more than {first:?} of {ttl:?}");
        assert!(!always_survives(ttl, &[first, again + more]), "{first:?}, then more than {again:?} of {ttl:?}");
    }
}

#[test]
fn many_times_without_a_leader_of_any_length_and_distance_are_survived() {
    let mut rng = fastrand::Rng::with_seed(1);
    for [ttl, first, _] in promised() {
        let mut upto = |most: Duration| millis(rng.u64(..=most.as_millis() as u64));
        for _ in 0..50 {
            let phase = upto(ttl);
            let gaps: Vec<Duration> = (0..8).map(|_| upto(first)).collect();
            let hangs = [None, Some(0), Some(1), Some(2)][gaps[0].subsec_millis() as usize % 4];
            assert!(survives(ttl, phase, hangs, &gaps), "{ttl:?}, {phase:?} after a keepalive, {hangs:?}: {gaps:?}");
        }
    }
}

#[test]
fn member_that_is_replaced_while_another_is_slow_to_answer_stops_no_strict_unit() {
    // As it was seen: 1.3 s without a leader, 2.8 s with one, 1.4 s without.
    let ttl = Duration::from_secs(7);
    for phase in (0..3000).step_by(50).map(millis) {
        let outcome = on_paused_clock(async {
            let kept = Kept::new(ttl).await;
            let trouble = async {
                sleep(2 * ttl + phase).await;
                kept.etcd.set_health(0, Health::Hung);
                for (without, with) in [(1300, 2800), (1400, 10_000)] {
                    kept.etcd.set_condition(Condition::Leaderless);
                    sleep(millis(without)).await;
                    kept.etcd.set_condition(Condition::Up);
                    sleep(millis(with)).await;
                }
            };
            tokio::select! { biased; () = kept.closes() => false, () = trouble => true }
        });
        assert!(outcome, "{phase:?} after a keepalive");
    }
}

#[test]
fn store_that_answers_is_asked_once_each_third_of_the_ttl() {
    on_paused_clock(async {
        let ttl = Duration::from_secs(9);
        let kept = Kept::new(ttl).await;
        sleep(millis(100)).await;
        let before = kept.beats();
        sleep(100 * ttl).await;
        assert!((298..=300).contains(&(kept.beats() - before)), "{}", kept.beats() - before);
    });
}

#[test]
fn store_that_is_slow_is_not_made_slower() {
    on_paused_clock(async {
        let ttl = Duration::from_secs(9);
        let kept = Kept::new(ttl).await;
        kept.etcd.set_faults(Faults { latency: 400..=400, ..Faults::default() });
        sleep(10 * ttl).await;
        let before = kept.beats();
        sleep(100 * ttl).await;
        let sent = kept.beats() - before;
        assert!((298..=450).contains(&sent), "{sent} keepalives in 300 thirds");
        assert!(kept.etcd.leases().contains_key(&kept.lease));
    });
}

#[test]
fn store_that_is_away_for_long_is_asked_every_other_second_and_the_lease_goes_on_when_it_is_back() {
    on_paused_clock(async {
        let ttl = Duration::from_secs(9);
        let kept = Kept::new(ttl).await;
        kept.etcd.set_condition(Condition::Down);
        sleep(2 * ttl).await;
        let before = kept.beats();
        sleep(Duration::from_secs(600)).await;
        let sent = kept.beats() - before;
        assert!((290..=650).contains(&sent), "{sent} in 10 minutes");
        kept.etcd.set_condition(Condition::Up);
        sleep(Duration::from_secs(3)).await;
        let until = kept.proof.borrow().unwrap_or_default();
        assert!(until > kept.clock.now(), "it is proven again");
    });
}

#[test]
fn end_of_a_lease_is_noticed() {
    on_paused_clock(async {
        let ttl = Duration::from_secs(9);
        let kept = Kept::new(ttl).await;
        let (sender, _) = watch::channel(Instant::now());
        let keeping = keep(&kept.client, kept.lease, ttl, Instant::now, &sender);
        tokio::pin!(keeping);
        assert!(timeout(ttl, &mut keeping).await.is_err());
        kept.client.revoke(kept.lease).await.unwrap();
        timeout(ttl / 2, keeping).await.expect("with the next keepalive");
        let touched = touch(&kept.client, kept.lease, ttl).await;
        assert!(matches!(touched, Err(StoreError::LeaseGone)), "{touched:?}");
    });
}

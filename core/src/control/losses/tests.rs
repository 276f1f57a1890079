//! What is held for how long, case by case and in random histories.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(10);

fn id(n: u32) -> MachineId {
    MachineId::new(&format!("{n:032x}")).unwrap()
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An owner whose keepalives are answered at once, except when they are not.
struct Owner {
    losses: Losses,
    alive: BTreeSet<u32>,
    /// How many of them have missed a keepalive.
    silent: usize,
    now: Duration,
    answered: bool,
}

impl Owner {
    /// One that has led for long.
    fn of(machines: u32) -> Self {
        let mut losses = Losses::new(TTL, s(0), s(0));
        losses.heard(s(1000), s(0));
        Self { losses, alive: (1..=machines).collect(), silent: 0, now: s(1000), answered: true }
    }

    fn vanish(&mut self, machines: impl IntoIterator<Item = u32>) -> &mut Self {
        for n in machines {
            self.alive.remove(&n);
            self.losses.gone(&id(n), 1, self.now);
        }
        self.step()
    }

    fn back(&mut self, n: u32) -> &mut Self {
        self.alive.insert(n);
        self.losses.back(&id(n));
        self.step()
    }

    fn evict(&mut self, n: u32) -> &mut Self {
        self.losses.set_evicted(&id(n), true);
        self.step()
    }

    /// Lets time pass in steps of less than a keepalive's interval.
    fn pass(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(500));
            if self.answered {
                self.losses.heard(self.now, self.now);
            }
            self.step();
        }
        self
    }

    fn step(&mut self) -> &mut Self {
        self.losses.step(self.now, self.alive.len(), self.silent, |_| true);
        self
    }

    fn dead(&self) -> Vec<u32> {
        self.of_state(true)
    }

    fn held(&self) -> Vec<u32> {
        self.of_state(false)
    }

    fn of_state(&self, state: bool) -> Vec<u32> {
        let machines = self.losses.machines().filter(|(_, dead)| *dead == state);
        machines.map(|(machine, _)| u32::from_str_radix(&machine.as_str()[24..], 16).unwrap()).collect()
    }
}

#[test]
fn one_or_two_machines_that_vanish_are_dead_unless_they_are_back_in_a_moment() {
    let mut owner = Owner::of(4);
    assert_eq!(owner.vanish([1]).held(), [1]);
    assert_eq!(owner.losses.held(owner.now)[0].by, HeldBy::Return);
    assert_eq!(owner.losses.wake(owner.now), Some(owner.now + s(1)));
    assert!(owner.back(1).dead().is_empty());
    assert_eq!(owner.pass(s(61)).vanish([1]).pass(s(1)).dead(), [1]);
    assert_eq!(owner.vanish([3]).pass(s(1)).dead(), [1, 3]);
    assert_eq!(owner.losses.wake(owner.now), None);
    assert_eq!(owner.pass(s(61)).vanish([2]).pass(s(1)).dead(), [1, 2, 3], "a minute later it is a loss of its own");
    assert_eq!(owner.back(2).dead(), [1, 3]);
}

#[test]
fn leases_that_end_one_after_the_other_are_held_from_the_first_on() {
    let mut owner = Owner::of(10);
    owner.silent = 2;
    owner.vanish([1]).pass(s(1));
    owner.silent = 1;
    owner.vanish([2]).pass(s(1));
    owner.silent = 0;
    owner.vanish([3]);
    assert_eq!((owner.held(), owner.dead().len()), (vec![1, 2, 3], 0));
}

#[test]
fn machines_that_leave_in_order_are_no_loss_however_many() {
    let mut owner = Owner::of(5);
    for n in 1..=4 {
        owner.alive.remove(&n);
        owner.losses.gone(&id(n), 1, owner.now);
        owner.losses.left(&id(n));
        assert!(!owner.losses.is_new());
        owner.step();
    }
    assert_eq!(owner.dead(), [1, 2, 3, 4]);
    assert_eq!(owner.losses.down_at(&id(1), None), Some(owner.now), "and what they ran is down");
}

#[test]
fn many_that_vanish_together_are_held_and_then_let_go_one_by_one() {
    let mut owner = Owner::of(4);
    owner.vanish([2, 3, 4]);
    assert_eq!((owner.held(), owner.dead()), (vec![2, 3, 4], vec![]));
    let held = owner.losses.held(owner.now);
    let until: Vec<_> = held.iter().map(|held| (held.until.unwrap() - owner.now).as_secs()).collect();
    assert_eq!((until, held[0].by), (vec![20, 25, 30], HeldBy::Brake));
    assert_eq!(owner.losses.wake(owner.now), Some(owner.now + s(20)));
    assert!(owner.pass(s(19)).dead().is_empty());
    assert_eq!(owner.pass(s(1)).dead(), [2]);
    assert_eq!(owner.pass(s(4)).dead(), [2]);
    assert_eq!(owner.pass(s(1)).dead(), [2, 3]);
    assert!(owner.pass(s(5)).held().is_empty());
    assert!(owner.losses.held(owner.now).is_empty() && owner.losses.wake(owner.now).is_none());
}

#[test]
fn those_that_vanished_before_the_brake_stay_dead_and_a_later_one_prolongs_it() {
    let mut owner = Owner::of(4);
    owner.vanish([1]).pass(s(5)).vanish([2]).pass(s(5)).vanish([3]);
    assert_eq!((owner.dead(), owner.held()), (vec![1, 2], vec![3]));
    owner.pass(s(15)).vanish([4]);
    assert_eq!(owner.pass(s(19)).held(), [3, 4]);
    assert_eq!(owner.pass(s(1)).held(), [4]);
    assert!(owner.back(4).back(3).held().is_empty());
}

#[test]
fn a_fifth_of_a_large_cluster_may_vanish() {
    let mut owner = Owner::of(100);
    assert!(owner.vanish(1..=20).pass(s(4)).held().is_empty());
    assert_eq!(owner.vanish([21]).held(), [21]);
}

#[test]
fn machines_that_vanish_in_a_trouble_are_held_until_a_ttl_after_its_end() {
    let mut owner = Owner::of(9);
    owner.answered = false;
    owner.pass(s(6)).vanish([1]);
    assert_eq!(owner.losses.held(owner.now)[0].until, None);
    assert_eq!(owner.losses.wake(owner.now), None);
    assert_eq!(owner.pass(s(2)).held(), [1]);
    owner.answered = true;
    owner.pass(Duration::from_millis(500)).vanish([2]);
    let until = owner.now + TTL;
    let held = &owner.losses.held(owner.now)[1];
    assert_eq!((held.until, held.by, owner.losses.wake(owner.now)), (Some(until), HeldBy::Trouble, Some(until)));
    assert_eq!(owner.pass(s(9)).held(), [1, 2]);
    assert_eq!(owner.back(1).pass(s(1)).dead(), [2]);
}

#[test]
fn new_leader_waits_for_a_ttl_of_its_own_lease() {
    let mut losses = Losses::new(TTL, s(0), s(0));
    losses.heard(s(3), s(3));
    losses.gone(&id(1), 0, s(3));
    losses.step(s(3), 2, 0, |_| true);
    assert_eq!(losses.wake(s(3)), Some(s(10)));
    losses.heard(s(9), s(6));
    losses.step(s(10), 2, 0, |_| true);
    assert_eq!(losses.machines().collect::<Vec<_>>(), [(&id(1), true)]);
}

#[test]
fn eviction_passes_over_brake_and_trouble_and_the_time_to_stop() {
    let mut owner = Owner::of(4);
    owner.vanish([1, 2, 3]).evict(2);
    assert_eq!((owner.dead(), owner.held()), (vec![2], vec![1, 3]));
    let since = owner.now;
    let down_at = |owner: &Owner, n, bound| owner.losses.down_at(&id(n), bound);
    assert_eq!(down_at(&owner, 2, None), Some(since));
    assert_eq!(down_at(&owner, 1, Some(s(90))), Some(since + s(90)));
    assert_eq!(down_at(&owner, 1, None), None);
    assert_eq!(down_at(&owner, 1, Some(Duration::MAX)), None);
    assert_eq!(down_at(&owner, 4, Some(s(90))), None, "it is there");
}

#[test]
fn machine_that_was_back_for_a_moment_is_lost_anew() {
    let mut owner = Owner::of(4);
    owner.vanish([1]).pass(s(80));
    owner.losses.gone(&id(1), 2, owner.now);
    assert_eq!(owner.losses.down_at(&id(1), Some(s(90))), Some(owner.now + s(90)));
    owner.losses.gone(&id(1), 2, owner.now + s(1));
    assert_eq!(owner.losses.down_at(&id(1), Some(s(90))), Some(owner.now + s(90)), "and only once");
}

#[test]
fn machine_of_which_nothing_is_expected_is_forgotten() {
    let mut losses = Losses::new(TTL, s(0), s(0));
    losses.heard(s(100), s(1));
    losses.gone(&id(1), 1, s(100));
    losses.step(s(100), 3, 0, |_| false);
    losses.heard(s(110), s(104));
    losses.step(s(110), 3, 0, |_| false);
    assert_eq!(losses.machines().count(), 1);
    losses.step(s(160), 3, 0, |_| false);
    assert_eq!(losses.machines().count(), 0);
}

#[derive(Clone, Debug)]
enum Event {
    Vanish(Vec<u32>),
    Back(u32),
    Evict(u32),
    Silence(u64),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop::collection::vec(1_u32..=8, 1..5).prop_map(Event::Vanish),
        3 => (1_u32..=8).prop_map(Event::Back),
        1 => (1_u32..=8).prop_map(Event::Evict),
        1 => (1_u64..15).prop_map(Event::Silence),
        5 => (1_u64..40).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold(events in prop::collection::vec(event(), 1..30)) {
        let mut owner = Owner::of(8);
        for event in events {
            let (dead, before) = (owner.dead(), owner.now);
            match event {
                Event::Vanish(machines) => {
                    let machines: BTreeSet<u32> = machines.into_iter().filter(|n| owner.alive.contains(n)).collect();
                    let many = machines.len() > 2;
                    owner.vanish(machines.clone());
                    if many {
                        prop_assert!(machines.iter().all(|n| owner.held().contains(n)), "the brake holds all of them");
                    }
                }
                Event::Back(n) => {
                    owner.back(n);
                    prop_assert!(!owner.dead().contains(&n) && !owner.held().contains(&n));
                }
                Event::Evict(n) => {
                    owner.evict(n);
                    prop_assert!(!owner.held().contains(&n));
                }
                Event::Silence(seconds) => {
                    owner.answered = false;
                    owner.pass(s(6));
                    let dead = owner.dead();
                    owner.pass(s(seconds));
                    prop_assert_eq!(dead, owner.dead(), "nobody dies in a trouble");
                    owner.answered = true;
                    owner.pass(Duration::from_millis(500));
                }
                Event::Pass(seconds) => { owner.pass(s(seconds)); }
            }
            // The dead stay dead until they are back, and what is told of the held comes true.
            prop_assert!(dead.iter().all(|n| owner.alive.contains(n) || owner.dead().contains(n)), "{before:?}");
            let held = owner.losses.held(owner.now);
            prop_assert_eq!(held.is_empty(), owner.losses.wake(owner.now).is_none());
            let first = held.iter().filter_map(|held| held.until).min();
            prop_assert_eq!(owner.losses.wake(owner.now), first);
        }
        // In peace nobody is held for ever, and those left at the end die when they were said to.
        let told: Vec<_> = owner.losses.held(owner.now).into_iter().map(|held| held.until.unwrap()).collect();
        let ids = owner.held();
        for (n, until) in ids.into_iter().zip(told) {
            owner.pass(until.saturating_sub(owner.now) + Duration::from_millis(1));
            prop_assert!(owner.dead().contains(&n));
        }
        prop_assert!(owner.held().is_empty());
    }
}

#[test]
fn machine_that_comes_and_goes_does_not_hold_the_others_for_ever() {
    let mut owner = Owner::of(6);
    owner.vanish([2, 3, 4, 5]);
    for _ in 0..4 {
        owner.pass(s(5)).back(5).pass(s(3)).vanish([5]);
    }
    assert_eq!(owner.dead(), [2, 3, 4], "the others are gone for good");
    // What vanishes anew counts, once.
    let mut owner = Owner::of(6);
    owner.vanish([2, 3, 4]).pass(s(15)).vanish([5]).pass(s(15));
    assert!(owner.dead().is_empty());
}

//! What a seed draws.

use std::time::Duration;

use fleet_core::model::Desired;
use fleetd::{
    registry::memory::{Condition, Faults as StoreFaults, Health, Link, MEMBERS},
    systemd::memory::Faults as SystemdFaults,
};

use super::{CALM, Event, Scenario, Script, Whom};
use crate::units::{self, Unit};

/// Makes the draws of what one scenario of four has beside its faults, so that those are drawn as in the others.
const ASIDE: u64 = 0x0e1e_c710;
/// And those of clusters that begin with old hosts, and of global units in conflict.
const OLD: u64 = 0x01d0_4057;

/// Events, with their times in milliseconds.
type Events = Vec<(u64, Event)>;

impl Script {
    /// Draws a scenario.
    #[must_use]
    pub fn draw(scenario: Scenario, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut units = units::draw(&mut rng);
        let hosts = rng.usize(3..=6);
        let mut events = faults(&mut rng, hosts, &units);
        let ttl = Duration::from_secs(*rng.choice(&[4, 6, 10]).unwrap_or(&10));
        let mut aside = fastrand::Rng::with_seed(seed ^ ASIDE);
        match scenario {
            Scenario::Elections => events = elections(&mut aside, &units, ttl),
            Scenario::Faults if aside.u8(..4) == 0 => disturb(&mut events, &mut aside),
            Scenario::Faults => {}
        }
        let mut old = fastrand::Rng::with_seed(seed ^ OLD);
        if scenario == Scenario::Faults {
            age(&mut events, &mut old, hosts, &mut units);
        }
        events.sort_by_key(|(at, _)| *at);
        let events = events.into_iter().map(|(at, event)| (Duration::from_millis(at), event)).collect();
        Self { scenario, seed, twins: rng.get_seed(), hosts, ttl, units, events }
    }
}

/// Units that start, faults, and a few orders.
fn faults(rng: &mut fastrand::Rng, hosts: usize, units: &[Unit]) -> Events {
    let calm = CALM.as_millis() as u64;
    let length = rng.u64(20_000..120_000);
    let mut events = Vec::new();
    for unit in 0..units.len() {
        events.push((rng.u64(1_000..4_000), Event::Want(unit, Desired::Launched)));
    }
    // Some scenarios begin before anything is at rest.
    let first = if rng.u8(..5) == 0 { 0 } else { calm };
    for _ in 0..rng.usize(1..9) {
        events.push((first + rng.u64(..length), fault(rng, hosts)));
    }
    for _ in 0..rng.usize(..4) {
        events.push((calm + rng.u64(..length), order(rng, units.len(), hosts)));
    }
    events
}

/// A store that is without a leader again and again, but never for longer than a lease of this TTL survives, while one
/// of its members hangs or is gone; and nothing else.
fn elections(rng: &mut fastrand::Rng, units: &[Unit], ttl: Duration) -> Events {
    let calm = CALM.as_millis() as u64;
    let upto = longest_without_leader(ttl).as_millis() as u64;
    let mut events: Events = (0..units.len()).map(|unit| (1_000, Event::Want(unit, Desired::Launched))).collect();
    let mut at = calm + rng.u64(..10_000);
    for _ in 0..rng.usize(1..12) {
        let lasts = rng.u64(100..=upto);
        events.push((at, Event::Store(Condition::Leaderless, Duration::from_millis(lasts))));
        at += lasts + rng.u64(500..10_000);
    }
    if rng.u8(..4) > 0 {
        let health = if rng.bool() { Health::Hung } else { Health::Down };
        let (from, lasts) = (rng.u64(calm..at), rng.u64(1_000..=at));
        events.push((from, Event::Member(rng.usize(..MEMBERS), health, Duration::from_millis(lasts))));
    }
    events
}

/// Adds times without a leader of any length, and a member that ails.
fn disturb(events: &mut Events, rng: &mut fastrand::Rng) {
    let over = events.iter().map(|(at, event)| *at + event.lasts().as_millis() as u64).max();
    let length = over.unwrap_or_default().max(CALM.as_millis() as u64);
    let mut add = |rng: &mut fastrand::Rng, event: fn(&mut fastrand::Rng, Duration) -> Event| {
        let (at, lasts) = (rng.u64(..length), Duration::from_millis(rng.u64(100..15_000)));
        events.push((at, event(rng, lasts)));
    };
    for _ in 0..rng.usize(1..5) {
        add(rng, |_, lasts| Event::Store(Condition::Leaderless, lasts));
    }
    add(rng, |rng, lasts| {
        let health = if rng.bool() { Health::Hung } else { Health::Down };
        Event::Member(rng.usize(..MEMBERS), health, lasts)
    });
}

/// In one cluster of four, some hosts are old and are upgraded one after the other. In one of three there are global units
/// in conflict with another unit, and with each other.
fn age(events: &mut Events, rng: &mut fastrand::Rng, hosts: usize, units: &mut Vec<Unit>) {
    let over = events.iter().map(|(at, event)| *at + event.lasts().as_millis() as u64).max();
    let length = over.unwrap_or_default().max(CALM.as_millis() as u64);
    if rng.u8(..4) == 0 {
        let mut old: Vec<usize> = (0..hosts).collect();
        rng.shuffle(&mut old);
        old.truncate(rng.usize(1..=hosts));
        for host in old {
            events.push((rng.u64(5_000..length), Event::Upgrade(host, Duration::from_millis(rng.u64(10..4_000)))));
        }
    }
    if rng.u8(..3) == 0 {
        for unit in units::contentious() {
            events.push((rng.u64(1_000..4_000), Event::Want(units.len(), Desired::Launched)));
            units.push(unit);
        }
    }
}

/// How long the store may be without a leader, as often as it likes, and no lease of this TTL is the worse for it: see
/// `docs/faults.md`.
fn longest_without_leader(ttl: Duration) -> Duration {
    ttl - ttl / 10 - ttl / 3 - Duration::from_millis(500)
}

fn order(rng: &mut fastrand::Rng, units: usize, hosts: usize) -> Event {
    let unit = rng.usize(..units);
    match rng.u8(..8) {
        0 => Event::Want(unit, Desired::Loaded),
        1 => Event::Want(unit, Desired::Inactive),
        2 => Event::Want(unit, Desired::Launched),
        3 => Event::Restart(unit),
        4 => Event::Edit(unit),
        5 | 6 => Event::Drain(Whom::Host(rng.usize(..hosts)), Duration::from_millis(rng.u64(1_000..90_000))),
        _ => Event::Destroy(unit),
    }
}

fn fault(rng: &mut fastrand::Rng, hosts: usize) -> Event {
    let whom = if rng.u8(..4) == 0 { Whom::Leader } else { Whom::Host(rng.usize(..hosts)) };
    // Short ones are over before a lease can be, long ones are not.
    let short = Duration::from_millis(rng.u64(10..3_000));
    let long = Duration::from_millis(rng.u64(1_000..40_000));
    match rng.u8(..19) {
        0 | 1 => Event::Link(whom, Link::Cut, long),
        2 => Event::Link(whom, Link::Deaf, long),
        3 => Event::Link(whom, Link::Cut, short),
        4 => Event::Store(Condition::Frozen, long),
        5 => Event::Store(Condition::Down, long),
        6 => Event::Store(Condition::Frozen, short),
        7 => Event::Disconnect(whom),
        8 => Event::Compact(share(rng, 1000)),
        9 => Event::Kill(whom, short),
        10 => Event::Kill(whom, long),
        11 => Event::RestartDaemon(whom, short),
        12 => {
            if rng.bool() {
                Event::Leave(whom, long)
            } else {
                Event::PowerLoss(whom, long)
            }
        }
        13 => Event::Reexecute(whom, short),
        14 => {
            if rng.u8(..4) == 0 {
                Event::FullDisk(whom, long)
            } else {
                let faults = SystemdFaults {
                    latency: 0..=rng.u64(1..200),
                    silent: share(rng, 200),
                    lose_signal: share(rng, 200),
                    leave_out: share(rng, 200),
                    ..SystemdFaults::default()
                };
                Event::SystemdFaults(whom, faults, long)
            }
        }
        15 | 16 => Event::Slow(whom, rng.u64(500..12_000), long),
        17 => Event::CutMany(rng.usize(..hosts), rng.usize(2..=hosts), long),
        _ => {
            let faults = StoreFaults {
                latency: 0..=rng.u64(1..400),
                refuse: share(rng, 200),
                lose_answer: share(rng, 200),
                break_watch: share(rng, 200),
                behind: 0.3,
            };
            Event::NetworkFaults(faults, long)
        }
    }
}

/// A probability below so many thousandths.
fn share(rng: &mut fastrand::Rng, below: u16) -> f64 {
    f64::from(rng.u16(..below)) / 1000.0
}

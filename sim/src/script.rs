//! What happens to a simulated cluster, drawn by seed.

use std::time::Duration;

use fleet_core::model::Desired;
use fleetd::registry::memory::{Condition, Health, Link, MEMBERS};

use crate::units::Unit;

/// Who something happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// A host by its number.
    Host(usize),
    /// The host whose engine leads then.
    Leader,
}

/// What somebody wants or does not want to happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The operator wants this of a unit.
    Want(usize, Desired),
    /// The operator asks for a restart.
    Restart(usize),
    /// The operator submits other contents.
    Edit(usize),
    /// The operator destroys a unit.
    Destroy(usize),
    /// The operator drains a host, and takes that back after a while.
    Drain(Whom, Duration),
    /// A link changes.
    Link(Whom, Link, Duration),
    /// The store changes.
    Store(Condition, Duration),
    /// One of its members hangs or is gone for a while.
    Member(usize, Health, Duration),
    /// All streams of a host break.
    Disconnect(Whom),
    /// The store forgets its history.
    Compact,
    /// fleetd is killed, and started again after a while.
    Kill(Whom, Duration),
    /// fleetd is restarted in order.
    RestartDaemon(Whom, Duration),
    /// The host leaves, and joins again after a while.
    Leave(Whom, Duration),
    /// The host loses its power, and boots after a while.
    PowerLoss(Whom, Duration),
    /// PID 1 is re-executed.
    Reexecute(Whom, Duration),
    /// Systemd answers badly for a while.
    SystemdFaults(Whom, Duration),
    /// The network to the store is bad for a while.
    NetworkFaults(Duration),
    /// What one host sends and gets takes so many milliseconds at most each way for a while, as when it swaps.
    Slow(Whom, u64, Duration),
    /// Several hosts, from this one on, are cut off together.
    CutMany(usize, usize, Duration),
    /// The disk is full for a while.
    FullDisk(Whom, Duration),
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Script {
    /// What happens, and when, in order.
    pub events: Vec<(Duration, Event)>,
    /// When all faults are over.
    pub end: Duration,
}

/// When the first fault may come: by then all units run.
const CALM: u64 = 20_000;

impl Script {
    /// Draws one for so many hosts.
    #[must_use]
    pub fn draw(rng: &mut fastrand::Rng, hosts: usize, units: &[Unit]) -> Self {
        let length = rng.u64(20_000..120_000);
        let mut events = Vec::new();
        for unit in 0..units.len() {
            events.push((rng.u64(1_000..4_000), Event::Want(unit, Desired::Launched)));
        }
        // Some scenarios begin before anything is at rest.
        let calm = if rng.u8(..5) == 0 { 0 } else { CALM };
        for _ in 0..rng.usize(1..9) {
            events.push((calm + rng.u64(..length), fault(rng, hosts)));
        }
        for _ in 0..rng.usize(..4) {
            events.push((CALM + rng.u64(..length), order(rng, units.len(), hosts)));
        }
        Self::of(events)
    }

    /// Draws one in which the store is without a leader again and again, but never for longer than a lease of this TTL
    /// survives, while one of its members hangs or is gone; and nothing else happens.
    #[must_use]
    pub fn elections(rng: &mut fastrand::Rng, units: &[Unit], ttl: Duration) -> Self {
        let upto = longest_without_leader(ttl).as_millis() as u64;
        let mut events: Vec<_> = (0..units.len()).map(|unit| (1_000, Event::Want(unit, Desired::Launched))).collect();
        let mut at = CALM + rng.u64(..10_000);
        for _ in 0..rng.usize(1..12) {
            let lasts = rng.u64(100..=upto);
            events.push((at, Event::Store(Condition::Leaderless, Duration::from_millis(lasts))));
            at += lasts + rng.u64(500..10_000);
        }
        if rng.u8(..4) > 0 {
            let health = if rng.bool() { Health::Hung } else { Health::Down };
            let (from, lasts) = (rng.u64(CALM..at), rng.u64(1_000..=at));
            events.push((from, Event::Member(rng.usize(..MEMBERS), health, Duration::from_millis(lasts))));
        }
        Self::of(events)
    }

    /// Adds times without a leader of any length, and a member that ails.
    pub fn disturb(&mut self, rng: &mut fastrand::Rng) {
        let mut events = std::mem::take(&mut self.events);
        let length = self.end.as_millis() as u64;
        let mut add = |rng: &mut fastrand::Rng, event: fn(&mut fastrand::Rng, Duration) -> Event| {
            let (at, lasts) = (Duration::from_millis(rng.u64(..length)), Duration::from_millis(rng.u64(100..15_000)));
            events.push((at, event(rng, lasts)));
        };
        for _ in 0..rng.usize(1..5) {
            add(rng, |_, lasts| Event::Store(Condition::Leaderless, lasts));
        }
        add(rng, |rng, lasts| {
            let health = if rng.bool() { Health::Hung } else { Health::Down };
            Event::Member(rng.usize(..MEMBERS), health, lasts)
        });
        events.sort_by_key(|(at, _)| *at);
        let over = events.iter().map(|(at, event)| *at + event.lasts()).max().unwrap_or_default();
        *self = Self { events, end: self.end.max(over) };
    }

    fn of(mut events: Vec<(u64, Event)>) -> Self {
        events.sort_by_key(|(at, _)| *at);
        let events: Vec<_> = events.into_iter().map(|(at, event)| (Duration::from_millis(at), event)).collect();
        let over = events.iter().map(|(at, event)| *at + event.lasts()).max();
        Self { events, end: over.unwrap_or_default().max(Duration::from_millis(CALM)) }
    }
}

/// How long the store may be without a leader, as often as it likes, and no lease of this TTL is the worse for it: see
/// `docs/faults.md`.
#[must_use]
pub fn longest_without_leader(ttl: Duration) -> Duration {
    ttl - ttl / 10 - ttl / 3 - Duration::from_millis(500)
}

impl Event {
    /// The host that it happens to, if it is one.
    #[must_use]
    pub fn whom(&self) -> Option<Whom> {
        match self {
            Self::Link(whom, ..)
            | Self::Disconnect(whom)
            | Self::Kill(whom, _)
            | Self::RestartDaemon(whom, _)
            | Self::Leave(whom, _)
            | Self::PowerLoss(whom, _)
            | Self::Reexecute(whom, _)
            | Self::SystemdFaults(whom, _)
            | Self::Drain(whom, _)
            | Self::Slow(whom, ..)
            | Self::FullDisk(whom, _) => Some(*whom),
            _ => None,
        }
    }

    /// How long it goes on.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        match self {
            Self::Link(_, _, lasts)
            | Self::Store(_, lasts)
            | Self::Member(_, _, lasts)
            | Self::Kill(_, lasts)
            | Self::RestartDaemon(_, lasts)
            | Self::Leave(_, lasts)
            | Self::PowerLoss(_, lasts)
            | Self::Reexecute(_, lasts)
            | Self::SystemdFaults(_, lasts)
            | Self::NetworkFaults(lasts)
            | Self::Drain(_, lasts)
            | Self::Slow(_, _, lasts)
            | Self::CutMany(_, _, lasts)
            | Self::FullDisk(_, lasts) => *lasts,
            _ => Duration::ZERO,
        }
    }
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
        8 => Event::Compact,
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
                Event::SystemdFaults(whom, long)
            }
        }
        15 | 16 => Event::Slow(whom, rng.u64(500..12_000), long),
        17 => Event::CutMany(rng.usize(..hosts), rng.usize(2..=hosts), long),
        _ => Event::NetworkFaults(long),
    }
}

//! What happens to a simulated cluster: who is in it, and what is done to whom, when.
//!
//! A seed draws a script ([`Script::draw`]), and a script is played. One that found a fault is kept as text (`text.rs`):
//! a new kind of event changes what seeds mean, but no script.

mod draw;
mod text;

use std::time::Duration;

use fleet_core::model::Desired;
use fleetd::{
    registry::memory::{self as store, Condition, Health, Link},
    systemd::memory as systemd,
};

use crate::units::Unit;

/// What kind of scenario a script is: the judges ask more of a cluster to which less is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Faults of all kinds.
    Faults,
    /// A store that elects one leader after the other, and nothing else.
    Elections,
}

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
    /// The store forgets this share of its history.
    Compact(f64),
    /// fleetd is killed, and started again after a while.
    Kill(Whom, Duration),
    /// fleetd is restarted in order.
    RestartDaemon(Whom, Duration),
    /// fleetd is ended in order, and a newer one is started after a while: until then the host is as one of before
    /// global units were placements.
    Upgrade(usize, Duration),
    /// The host leaves, and joins again after a while.
    Leave(Whom, Duration),
    /// The host loses its power, and boots after a while.
    PowerLoss(Whom, Duration),
    /// PID 1 is re-executed.
    Reexecute(Whom, Duration),
    /// Systemd answers badly for a while.
    SystemdFaults(Whom, systemd::Faults, Duration),
    /// The network to the store is bad for a while.
    NetworkFaults(store::Faults, Duration),
    /// What one host sends and gets takes so many milliseconds at most each way for a while, as when it swaps.
    Slow(Whom, u64, Duration),
    /// Several hosts, from this one on, are cut off together.
    CutMany(usize, usize, Duration),
    /// The disk is full for a while.
    FullDisk(Whom, Duration),
}

/// A scenario: all that a run comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// What kind it is.
    pub scenario: Scenario,
    /// What fleetd's jitter, and the order in which tokio wakes its tasks, are seeded with.
    pub seed: u64,
    /// What the twins of etcd and systemd draw with: how long a message takes, and which one is lost.
    pub twins: u64,
    /// How many hosts there are.
    pub hosts: usize,
    /// The TTL of machines and leaders.
    pub ttl: Duration,
    /// The units, by whose numbers events name them.
    pub units: Vec<Unit>,
    /// What happens, and when, in order.
    pub events: Vec<(Duration, Event)>,
}

/// When the first fault may come: by then all units run.
const CALM: Duration = Duration::from_secs(20);

impl Script {
    /// When all faults are over.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.events.iter().map(|(at, event)| *at + event.lasts()).max().unwrap_or_default().max(CALM)
    }
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
            | Self::SystemdFaults(whom, ..)
            | Self::Drain(whom, _)
            | Self::Slow(whom, ..)
            | Self::FullDisk(whom, _) => Some(*whom),
            Self::Upgrade(number, _) => Some(Whom::Host(*number)),
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
            | Self::Upgrade(_, lasts)
            | Self::Leave(_, lasts)
            | Self::PowerLoss(_, lasts)
            | Self::Reexecute(_, lasts)
            | Self::SystemdFaults(_, _, lasts)
            | Self::NetworkFaults(_, lasts)
            | Self::Drain(_, lasts)
            | Self::Slow(_, _, lasts)
            | Self::CutMany(_, _, lasts)
            | Self::FullDisk(_, lasts) => *lasts,
            _ => Duration::ZERO,
        }
    }
}

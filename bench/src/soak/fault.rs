//! The faults: what there is to draw, and what each entitles fleet to.

mod strike;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

pub use strike::restore;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "`name` says it")]
pub enum Kind {
    MemberKilled,
    MemberFrozen,
    MemberReplaced,
    LeaderMoved,
    Compacted,
    StoreKilled,
    StoreFrozen,
    QuorumLost,
    Cut,
    CutInbound,
    CutOutbound,
    Lossy,
    Thin,
    ManyCut,
    PowerLost,
    PowerLostWithoutStore,
    Rebooted,
    ManyPowerLost,
    DaemonKilled,
    DaemonsKilled,
    DaemonRestarted,
    DaemonsRestarted,
    DaemonFrozen,
    HostLeft,
    SystemdReplaced,
    BusRestarted,
    RootFull,
    RunFull,
    ClockTurned,
}

/// Each with the number of lots that it has in the draw.
pub const KINDS: &[(Kind, u32)] = &[
    (Kind::MemberKilled, 2),
    (Kind::MemberFrozen, 3),
    (Kind::MemberReplaced, 1),
    (Kind::LeaderMoved, 2),
    (Kind::Compacted, 2),
    (Kind::StoreKilled, 2),
    (Kind::StoreFrozen, 4),
    (Kind::QuorumLost, 2),
    (Kind::Cut, 4),
    (Kind::CutInbound, 2),
    (Kind::CutOutbound, 2),
    (Kind::Lossy, 1),
    (Kind::Thin, 1),
    (Kind::ManyCut, 2),
    (Kind::PowerLost, 5),
    (Kind::PowerLostWithoutStore, 2),
    (Kind::Rebooted, 2),
    (Kind::ManyPowerLost, 2),
    (Kind::DaemonKilled, 2),
    (Kind::DaemonsKilled, 2),
    (Kind::DaemonRestarted, 1),
    (Kind::DaemonsRestarted, 2),
    (Kind::DaemonFrozen, 2),
    (Kind::HostLeft, 2),
    (Kind::SystemdReplaced, 2),
    (Kind::BusRestarted, 2),
    (Kind::RootFull, 2),
    (Kind::RunFull, 2),
    (Kind::ClockTurned, 2),
];

/// What a fault may do to units. What it may not do is a broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Harm {
    /// The host's copies have ended; its units start again, there or elsewhere.
    Down,
    /// The same on many hosts that are back before the patience with them ends: their units start where they were.
    DownTogether,
    /// Nobody hears of the host: its units may be started elsewhere, and strict ones stop on it.
    Silent,
    /// Nobody hears of anybody, or of many: strict units stop, and start again where they were.
    SilentTogether,
}

/// Who is hit by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What is done.
    pub kind: Kind,
    /// To these hosts.
    pub hosts: Vec<String>,
    /// To this etcd member, where it is about one.
    pub member: u8,
    /// How long it lasts.
    pub hold: Duration,
    /// A host that lost its power gets it back when its units run elsewhere.
    pub until_moved: bool,
}

impl Kind {
    /// As the table names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MemberKilled => "one etcd member killed, started again",
            Self::MemberFrozen => "one etcd member frozen",
            Self::MemberReplaced => "one etcd member lost its disk, replaced",
            Self::LeaderMoved => "etcd's leader moved",
            Self::Compacted => "etcd compacted while a host is cut off",
            Self::StoreKilled => "all etcd members killed, started again",
            Self::StoreFrozen => "all etcd members frozen",
            Self::QuorumLost => "a majority of etcd killed, started again",
            Self::Cut => "host cut off",
            Self::CutInbound => "host hears nothing",
            Self::CutOutbound => "host is not heard",
            Self::Lossy => "host loses 15 % of its packets",
            Self::Thin => "host on a line of 256 kbit/s",
            Self::ManyCut => "most hosts cut off at once",
            Self::PowerLost => "host loses power",
            Self::PowerLostWithoutStore => "host loses power and boots while etcd is away",
            Self::Rebooted => "host reboots in order",
            Self::ManyPowerLost => "most hosts lose power at once",
            Self::DaemonKilled => "fleetd killed (SIGKILL)",
            Self::DaemonsKilled => "every fleetd killed (SIGKILL)",
            Self::DaemonRestarted => "fleetd restarted",
            Self::DaemonsRestarted => "every fleetd restarted",
            Self::DaemonFrozen => "fleetd frozen (SIGSTOP)",
            Self::HostLeft => "fleetd stopped (the host leaves), started again",
            Self::SystemdReplaced => "PID 1 executed anew",
            Self::BusRestarted => "dbus-daemon restarted",
            Self::RootFull => "/ full",
            Self::RunFull => "/run full",
            Self::ClockTurned => "wall clock of fleetd jumps",
        }
    }

    /// Whether it is about etcd. Two such faults at once would be a third one.
    #[must_use]
    pub fn is_of_store(self) -> bool {
        use Kind::{
            Compacted, LeaderMoved, MemberFrozen, MemberKilled, MemberReplaced, PowerLostWithoutStore, QuorumLost,
            StoreFrozen, StoreKilled,
        };
        matches!(
            self,
            MemberKilled
                | MemberFrozen
                | MemberReplaced
                | LeaderMoved
                | Compacted
                | StoreKilled
                | StoreFrozen
                | QuorumLost
                | PowerLostWithoutStore
        )
    }

    /// Whether most hosts are hit together.
    #[must_use]
    pub fn is_of_many(self) -> bool {
        matches!(self, Self::ManyCut | Self::ManyPowerLost)
    }

    /// Whether it can be done to a host beside another fault that leaves the host up, and the other way round.
    #[must_use]
    pub fn goes_with(self, other: Self) -> bool {
        use Kind::{
            BusRestarted, ClockTurned, Compacted, Cut, CutInbound, CutOutbound, DaemonKilled, DaemonRestarted, Lossy,
            RootFull, RunFull, SystemdReplaced, Thin,
        };
        let stumbles = |kind| {
            matches!(
                kind,
                DaemonKilled | DaemonRestarted | SystemdReplaced | BusRestarted | RootFull | RunFull | ClockTurned
            )
        };
        let severs = |kind| matches!(kind, Cut | CutInbound | CutOutbound | Compacted | Lossy | Thin);
        (stumbles(self) && severs(other)) || (severs(self) && stumbles(other))
    }

    fn is_of_all(self) -> bool {
        matches!(self, Self::DaemonsKilled | Self::DaemonsRestarted)
    }
}

impl Fault {
    /// Draws a fault of this kind.
    #[must_use]
    pub fn draw(kind: Kind, hosts: &[String], members: u8, ttl: Duration, rng: &mut fastrand::Rng) -> Self {
        let mut shuffled = hosts.to_vec();
        rng.shuffle(&mut shuffled);
        let count = if kind.is_of_many() {
            // More than the most that counts as ordinary loss: 2, or 20 %.
            (hosts.len() / 2 + 1).max(3)
        } else if kind.is_of_all() {
            hosts.len()
        } else if kind.is_of_store() && !matches!(kind, Kind::Compacted | Kind::PowerLostWithoutStore) {
            0
        } else {
            1
        };
        shuffled.truncate(count);
        shuffled.sort();
        let short = ttl / 4;
        let long = ttl + ttl / 2 + Duration::from_millis(rng.u64(0..=ttl.as_millis() as u64));
        let hold = match kind {
            Kind::LeaderMoved
            | Kind::MemberReplaced
            | Kind::DaemonKilled
            | Kind::DaemonsKilled
            | Kind::DaemonRestarted
            | Kind::DaemonsRestarted
            | Kind::SystemdReplaced
            | Kind::BusRestarted
            | Kind::Rebooted => Duration::ZERO,
            // A freeze of 5 and 20 s is what leases of 10 s do and do not survive; 90 s is now and then.
            Kind::MemberFrozen | Kind::StoreFrozen => {
                Duration::from_secs([2, 5, 5, 20, 20, 20, 20, 90][rng.usize(0..8)])
            }
            Kind::ManyCut | Kind::ManyPowerLost => ttl + short,
            Kind::Compacted | Kind::Lossy | Kind::Thin => long,
            Kind::RootFull | Kind::RunFull | Kind::ClockTurned => ttl,
            _ => [short, long, long][rng.usize(0..3)],
        };
        let until_moved = kind == Kind::PowerLost && rng.u8(0..3) > 0;
        Self { kind, hosts: shuffled, member: rng.u8(1..=members), hold, until_moved }
    }

    /// What it entitles fleet to, on which hosts. Empty: no unit may notice.
    #[must_use]
    pub fn harms(&self, all: &[String], ttl: Duration) -> Vec<(Harm, Vec<String>)> {
        let brief = self.hold <= ttl / 4;
        let these = || self.hosts.clone();
        match self.kind {
            Kind::StoreKilled | Kind::StoreFrozen | Kind::QuorumLost if !brief => {
                vec![(Harm::SilentTogether, all.to_vec())]
            }
            // One that led takes back leases that live when it is thawed (etcd 3.4).
            Kind::MemberFrozen if self.hold > ttl / 2 => vec![(Harm::SilentTogether, all.to_vec())],
            Kind::ManyCut => vec![(Harm::SilentTogether, these())],
            Kind::Cut | Kind::CutInbound | Kind::CutOutbound | Kind::DaemonFrozen | Kind::Compacted if !brief => {
                vec![(Harm::Silent, these())]
            }
            Kind::Lossy => vec![(Harm::Silent, these())],
            Kind::PowerLost | Kind::Rebooted | Kind::HostLeft => vec![(Harm::Down, these())],
            Kind::PowerLostWithoutStore => {
                vec![(Harm::Down, these()), (Harm::SilentTogether, all.to_vec())]
            }
            Kind::ManyPowerLost => vec![(Harm::DownTogether, these())],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match (self.hosts.as_slice(), self.kind.is_of_store()) {
            ([], true) => format!("member {}", self.member),
            (hosts, _) => hosts.join(" "),
        };
        let time = match (self.until_moved, self.hold.as_secs()) {
            (true, _) => ", until its units run elsewhere".to_owned(),
            (false, 0) => String::new(),
            (false, seconds) => format!(", {seconds} s"),
        };
        write!(f, "{} ({place}{time})", self.kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn hosts() -> Vec<String> {
        (1..=5).map(|number| format!("h{number}")).collect()
    }

    #[test]
    fn seed_decides_what_is_drawn() {
        let draw = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            KINDS.iter().map(|(kind, _)| Fault::draw(*kind, &hosts(), 3, TTL, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn one_member_of_three_entitles_to_nothing_and_all_or_a_thawed_leader_to_the_stop_of_strict_units() {
        let fault = |kind, seconds| Fault {
            kind,
            hosts: Vec::new(),
            member: 1,
            hold: Duration::from_secs(seconds),
            until_moved: false,
        };
        assert_eq!(fault(Kind::MemberKilled, 90).harms(&hosts(), TTL), []);
        assert_eq!(fault(Kind::MemberFrozen, 2).harms(&hosts(), TTL), []);
        assert_eq!(fault(Kind::MemberFrozen, 90).harms(&hosts(), TTL), [(Harm::SilentTogether, hosts())]);
        assert_eq!(fault(Kind::StoreFrozen, 2).harms(&hosts(), TTL), []);
        assert_eq!(fault(Kind::StoreFrozen, 20).harms(&hosts(), TTL), [(Harm::SilentTogether, hosts())]);
    }

    #[test]
    fn most_hosts_are_more_than_what_counts_as_ordinary_loss() {
        let mut rng = fastrand::Rng::with_seed(7);
        assert_eq!(Fault::draw(Kind::ManyCut, &hosts(), 3, TTL, &mut rng).hosts.len(), 3);
    }
}

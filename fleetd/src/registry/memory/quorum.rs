//! The members of a simulated etcd: which of them answer, and whether they have a leader. No IO; time is an argument.
//!
//! As it was read in etcd 3.4 and seen there: when a leader is gone, the others trust it for as long as an election
//! timeout, and what they forward to it until then is lost, also when another leads by the time its sender gives up.
//! After that they refuse what is new at once, and let wait what comes over a stream that is open, with a look for a
//! leader now and then. Leases do not run out meanwhile: whoever leads next gives all of them their whole time again.

use std::time::Duration;

use tokio::time::Instant;

/// How many there are.
pub const MEMBERS: usize = 3;
/// How long a leader that is gone is trusted, and how long it is between two looks for one.
pub const ELECTION: Duration = Duration::from_secs(1);
/// Streams do not outlive so long a time without a leader: fleet asks for that.
const STREAMS: Duration = ELECTION.saturating_mul(3);

/// How a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    #[default]
    Up,
    /// It does nothing, and its connections stay open.
    Hung,
    /// It is gone, and its host says so.
    Down,
}

#[derive(Default)]
struct Member {
    health: Health,
    since: Option<Instant>,
    /// Counts its lives: connections do not outlive it.
    life: u64,
}

/// Whether a member that is asked knows a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    /// It does, and the leader answers.
    Known,
    /// It does, but the leader is gone.
    Trusted,
    /// It does not.
    Unknown,
}

/// All members.
#[derive(Default)]
pub struct Quorum {
    members: [Member; MEMBERS],
    leaderless: Option<Instant>,
}

impl Quorum {
    /// A member is like this from now on.
    pub fn set_health(&mut self, member: usize, health: Health, now: Instant) {
        let member = &mut self.members[member];
        member.life += u64::from(health == Health::Down && member.health != health);
        member.since = (health == Health::Hung).then(|| member.since.unwrap_or(now));
        member.health = health;
    }

    pub fn health(&self, member: usize) -> Health {
        self.members[member].health
    }

    /// Since when nothing has come from a member, if that is so.
    pub fn hung_since(&self, member: usize) -> Option<Instant> {
        self.members[member].since
    }

    pub fn life(&self, member: usize) -> u64 {
        self.members[member].life
    }

    /// The leader is gone.
    pub fn lose_leader(&mut self, now: Instant) {
        self.leaderless.get_or_insert(now);
    }

    /// There is a leader. Returns whether streams have outlived the time without one.
    pub fn elect(&mut self, now: Instant) -> bool {
        self.leaderless.take().is_none_or(|since| now < since + STREAMS)
    }

    /// What members know of a leader.
    pub fn leader(&self, now: Instant) -> Leader {
        match self.leaderless {
            None => Leader::Known,
            Some(since) if now < since + ELECTION => Leader::Trusted,
            Some(_) => Leader::Unknown,
        }
    }
}

//! Which machines that are gone count as dead, and from when on.
//!
//! One machine that vanishes is dead a moment later: its units are needed elsewhere. Many that vanish together are more likely well,
//! and it is the network or the store that is not; moving their units would restart what runs. So the leader *holds*
//! machines that vanished, which means that their units stay as they are:
//!
//! ```text
//!            gone                                 nothing speaks against it
//!  alive ───────────▶ held ◀──── trouble, brake ─────────────┬──────────▶ dead: its units move
//!    ▲                 │                                     │              │
//!    └──── back ───────┴─────────────────────────────────────┴── back ──────┘
//! ```
//!
//! * **Return**: a store may take back the lease of a machine that is well; etcd does so when a member that led is
//!   thawed. Such a machine notices and is back within a moment, so every loss is held for that long.
//! * **Trouble**: the store was slow or away. A lease that ran out meanwhile may have lost nobody, and those that are
//!   well come back within a TTL; so machines are held until one TTL after the trouble has ended. A leader that is new
//!   does not know what was before, and takes the beginning of its own lease for the end of a trouble.
//! * **Brake**: more than two machines, and more than a fifth of all, vanished within a minute. They are held for two
//!   TTLs after the last of them, of which each counts once; then they are let go one after the other, half a TTL apart,
//!   by ID. Leases that are lost at one moment end up to a third of a TTL apart, because keepalives are sent that far
//!   apart; so machines that have missed one when the first of them vanishes count as well: the *silent* ones.
//! * **Eviction**: an operator says that a machine is gone for good, or it has said so itself. It is not held, whatever
//!   else is so.
//!
//! A machine once let go is dead until it is back. Units that stop themselves on a machine that is cut off
//! (`OnPartition=stop`) need longer than that: [`Losses::down_at`].
//!
//! Nothing in here knows a clock: every time is a duration since some moment that the owner has chosen.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use self::hold::hold;
use crate::model::MachineId;

/// Machines that vanish within this time vanish together.
pub const TOGETHER: Duration = Duration::from_secs(60);
/// So many may vanish together, in any cluster.
const FEW: usize = 2;
/// How long a machine that is well takes at most to be back.
const RETURN: Duration = Duration::from_secs(1);
/// Of a large cluster, one in so many may vanish together.
const FRACTION: usize = 5;

/// Keeps account of machines that vanished. See the [module](self).
#[derive(Debug)]
pub struct Losses {
    ttl: Duration,
    /// When the last keepalive was sent that the store has answered.
    sent: Duration,
    /// When the last trouble has been over for a TTL.
    calm: Duration,
    gone: BTreeMap<MachineId, Loss>,
    /// When the brake lets the next machine go.
    brake: Option<Duration>,
    /// The machines that have set this brake or prolonged it: one that comes and goes does so once.
    braking: BTreeSet<MachineId>,
}

#[derive(Debug)]
struct Loss {
    since: Duration,
    /// How often it had vanished when it was found gone.
    departures: u64,
    /// Not yet looked at by the brake.
    new: bool,
    dead: bool,
    evicted: bool,
    left: bool,
}

impl Loss {
    /// Nobody need wonder whether it comes back.
    fn is_certain(&self) -> bool {
        self.evicted || self.left
    }
}

/// Why a machine is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldBy {
    /// It may be back in a moment.
    Return,
    /// The store is, or was a moment ago, slow or away; or the leader is new.
    Trouble,
    /// Many machines vanished together.
    Brake,
}

/// A machine that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMachine {
    /// The machine.
    pub machine: MachineId,
    /// When it was found gone.
    pub since: Duration,
    /// When it will be dead if nothing else happens; `None` while a trouble lasts.
    pub until: Option<Duration>,
    /// Why.
    pub by: HeldBy,
}

impl Losses {
    /// The account of an owner whose own lease has lived since `lease`, and is alive by a keepalive sent at `sent`.
    #[must_use]
    pub fn new(ttl: Duration, lease: Duration, sent: Duration) -> Self {
        Self { ttl, sent, calm: lease + ttl, gone: BTreeMap::new(), brake: None, braking: BTreeSet::new() }
    }

    /// The store has answered a keepalive that was sent at `sent`.
    pub fn heard(&mut self, sent: Duration, now: Duration) {
        if sent > self.sent {
            if self.is_in_trouble(now) {
                self.calm = self.calm.max(now + self.ttl);
            }
            self.sent = sent;
        }
    }

    /// A machine is not there. `departures` counts how often it was seen to vanish: when it was there again since it
    /// was found gone, however shortly, it is found gone anew.
    pub fn gone(&mut self, machine: &MachineId, departures: u64, now: Duration) {
        if self.gone.get(machine).is_none_or(|loss| loss.departures != departures) {
            let loss = Loss { since: now, departures, new: true, dead: false, evicted: false, left: false };
            self.gone.insert(machine.clone(), loss);
        }
    }

    /// A machine is there.
    pub fn back(&mut self, machine: &MachineId) {
        self.gone.remove(machine);
    }

    /// An operator says whether a machine that is not there is gone for good.
    pub fn set_evicted(&mut self, machine: &MachineId, evicted: bool) {
        if let Some(loss) = self.gone.get_mut(machine) {
            loss.evicted = evicted;
        }
    }

    /// A machine that is not there had stopped its units and said that it goes.
    pub fn left(&mut self, machine: &MachineId) {
        if let Some(loss) = self.gone.get_mut(machine) {
            loss.left = true;
        }
    }

    /// Whether machines were found gone since the last step of which it matters how many others are silent.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.gone.values().any(|loss| loss.new && !loss.is_certain())
    }

    /// Lets go what need not be held any more. `alive` machines are there, and of these so many are `silent`; of those
    /// that are not there, the ones that nothing is `expected` of are forgotten in time.
    pub fn step(&mut self, now: Duration, alive: usize, silent: usize, expected: impl Fn(&MachineId) -> bool) {
        let together = |loss: &Loss| now < loss.since + TOGETHER;
        self.gone.retain(|machine, loss| together(loss) || !loss.dead || expected(machine));
        let recent = self.gone.values().filter(|loss| together(loss) && !loss.left).count();
        let missing = recent + silent;
        let many = missing > FEW && missing * FRACTION > alive + recent;
        if self.gone.values().all(|loss| loss.dead || loss.new) {
            // Those it was for are dead or back.
            self.brake = None;
        }
        if self.brake.is_none() {
            self.braking.clear();
        }
        if many || self.brake.is_some() {
            let news = self.gone.iter().filter(|(_, loss)| loss.new && !loss.is_certain()).map(|(machine, _)| machine);
            let mut prolonged = false;
            for machine in news {
                prolonged |= self.braking.insert(machine.clone());
            }
            if prolonged {
                self.brake = Some(now + 2 * self.ttl);
            }
        }
        for loss in self.gone.values_mut() {
            loss.new = false;
            loss.dead |= loss.is_certain();
        }
        if self.is_in_trouble(now) || now < self.calm {
            return;
        }
        let mut held = self.gone.values_mut().filter(|loss| !loss.dead);
        match self.brake {
            None => held.for_each(|loss| loss.dead = now >= loss.since + RETURN),
            Some(at) if now < at => {}
            Some(_) => {
                if let Some(first) = held.next() {
                    first.dead = true;
                }
                self.brake = held.next().map(|_| now + self.ttl / 2);
            }
        }
    }

    /// The machines that are not there, and whether they count as dead.
    pub fn machines(&self) -> impl Iterator<Item = (&MachineId, bool)> {
        self.gone.iter().map(|(machine, loss)| (machine, loss.dead))
    }

    /// Whether a machine that is not there counts as dead; `None` when it is there.
    #[must_use]
    pub fn is_dead(&self, machine: &MachineId) -> Option<bool> {
        self.gone.get(machine).map(|loss| loss.dead)
    }

    /// When a machine was found gone; `None` when it is there.
    #[must_use]
    pub fn gone_since(&self, machine: &MachineId) -> Option<Duration> {
        self.gone.get(machine).map(|loss| loss.since)
    }

    /// The machines that are held, by ID.
    #[must_use]
    pub fn held(&self, now: Duration) -> Vec<HeldMachine> {
        let trouble = self.is_in_trouble(now);
        let mut brake = self.brake;
        let held = self.gone.iter().filter(|(_, loss)| !loss.dead).map(|(machine, loss)| {
            let at = self.due(loss, brake);
            let by = match brake {
                Some(brake) if brake >= self.calm => HeldBy::Brake,
                None if !trouble && at > self.calm => HeldBy::Return,
                _ => HeldBy::Trouble,
            };
            brake = brake.map(|_| at + self.ttl / 2);
            let until = (!trouble).then_some(at);
            HeldMachine { machine: machine.clone(), since: loss.since, until, by }
        });
        held.collect()
    }

    /// When a unit that stops itself on a machine that is not there is down, at the latest: `bound` after the machine
    /// was found gone. `None`: at no time that is known, or the machine is there.
    #[must_use]
    pub fn down_at(&self, machine: &MachineId, bound: Option<Duration>) -> Option<Duration> {
        let loss = self.gone.get(machine)?;
        if loss.is_certain() { Some(loss.since) } else { loss.since.checked_add(bound?) }
    }

    /// When [`Losses::step`] should be called next, though nothing may have happened. While a trouble lasts only its
    /// end, which [`Losses::heard`] tells, changes anything.
    #[must_use]
    pub fn wake(&self, now: Duration) -> Option<Duration> {
        if self.is_in_trouble(now) {
            return None;
        }
        let held = self.gone.values().filter(|loss| !loss.dead);
        held.map(|loss| self.due(loss, self.brake)).min()
    }

    /// When a machine that is held is dead, if the brake lets it go at `brake`.
    fn due(&self, loss: &Loss, brake: Option<Duration>) -> Duration {
        brake.unwrap_or(loss.since + RETURN).max(self.calm)
    }

    /// Whether the store has been silent for longer than it is between two keepalives.
    fn is_in_trouble(&self, now: Duration) -> bool {
        now.saturating_sub(self.sent) > self.ttl / 2
    }
}

mod follow;
mod hold;
#[cfg(test)]
mod tests;

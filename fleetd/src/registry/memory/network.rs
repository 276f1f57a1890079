//! Between a client and the simulated etcd: what gets through, when, and what becomes of what does not.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    keyspace::Keyspace,
    quorum::{ELECTION, Health, Leader, MEMBERS, Quorum},
};
use crate::registry::StoreError;

/// How long the HTTP/2 keepalive takes to notice silence: the next ping, and its timeout.
const SILENCE: RangeInclusive<u64> = 3000..=9000;
/// How long a client tries to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a member waits for a leader to answer what it has forwarded.
const FORWARDED: Duration = Duration::from_secs(7);

/// How the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It serves.
    Up,
    /// It does nothing, and its connections stay open: `SIGSTOP`, or a disk that hangs.
    Frozen,
    /// It is gone, and its host says so: `SIGKILL`.
    Down,
    /// Its members are there, but none of them leads.
    Leaderless,
}

/// What passes between a client and the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Everything.
    #[default]
    Up,
    /// Requests pass, answers do not.
    Deaf,
    /// Nothing.
    Cut,
}

/// How often something goes wrong by itself. Each is a probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Milliseconds that a message takes one way.
    pub latency: RangeInclusive<u64>,
    /// A request fails at once and nothing is done: the balancer picked a dead member.
    pub refuse: f64,
    /// A request is carried out and its answer is lost with the connection.
    pub lose_answer: f64,
    /// A watch breaks before a message.
    pub break_watch: f64,
    /// The member that answers a read of what never changes has not heard of it yet.
    pub behind: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self { latency: 0..=2, refuse: 0.0, lose_answer: 0.0, break_watch: 0.0, behind: 0.0 }
    }
}

/// What one client has asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Lists and reads.
    pub reads: u64,
    /// Transactions, grants, revocations and candidacies.
    pub writes: u64,
    /// Keepalives.
    pub beats: u64,
    /// Watches opened.
    pub watches: u64,
}

impl Calls {
    /// All but the keepalives.
    #[must_use]
    pub fn but_beats(&self) -> u64 {
        self.reads + self.writes + self.watches
    }
}

/// A request that was given up while it was on its way, and that may yet arrive.
type Late = Box<dyn FnOnce(&mut Keyspace) + Send>;

pub(super) struct State {
    pub keyspace: Keyspace,
    pub rng: fastrand::Rng,
    pub condition: Condition,
    /// Counts the lives of the store: streams do not outlive it.
    pub life: u64,
    pub quorum: Quorum,
    pub faults: Faults,
    /// When the silence began that the store keeps.
    frozen: Option<Instant>,
    peers: BTreeMap<String, Peer>,
    late: Vec<Given>,
}

/// Who gave up a request to which member.
struct Given {
    up: String,
    to: usize,
    request: Late,
}

#[derive(Default)]
pub(super) struct Peer {
    /// The member that answered last.
    pub member: usize,
    pub link: Link,
    since: Option<Instant>,
    /// Counts the connections: streams do not outlive one.
    pub connection: u64,
    pub faults: Option<Faults>,
    pub calls: Calls,
}

impl State {
    pub fn peer(&mut self, name: &str) -> &mut Peer {
        let count = self.peers.len();
        self.peers.entry(name.into()).or_insert_with(|| Peer { member: count % MEMBERS, ..Peer::default() })
    }

    pub fn calls(&self) -> BTreeMap<String, Calls> {
        self.peers.iter().map(|(name, peer)| (name.clone(), peer.calls.clone())).collect()
    }

    pub fn faults(&mut self, name: &str) -> Faults {
        self.peer(name).faults.clone().unwrap_or_else(|| self.faults.clone())
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        // Nothing is drawn for what cannot happen: a fault that is switched off changes no other draw.
        probability > 0.0 && self.rng.f64() < probability
    }

    /// Since when nothing has come from a member of the store to this client, if that is so.
    fn silent_since(&mut self, name: &str, member: usize, deaf_counts: bool) -> Option<Instant> {
        let (frozen, hung) = (self.frozen, self.quorum.hung_since(member));
        let peer = self.peer(name);
        let cut = peer.since.filter(|_| deaf_counts || peer.link == Link::Cut);
        [frozen, hung, cut].into_iter().flatten().min()
    }

    /// Lets arrive what nothing holds up any more.
    fn arrive_late(&mut self) {
        if self.condition != Condition::Up {
            return;
        }
        let (peers, quorum) = (&self.peers, &self.quorum);
        let arrives = |given: &Given| {
            let cut = peers.get(&given.up).is_some_and(|peer| peer.link == Link::Cut);
            !cut && quorum.health(given.to) == Health::Up
        };
        let (now, later): (Vec<Given>, Vec<Given>) = std::mem::take(&mut self.late).into_iter().partition(arrives);
        self.late = later;
        now.into_iter().for_each(|given| (given.request)(&mut self.keyspace));
    }
}

/// The identity of a connection: what was opened over it ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub member: usize,
    lives: (u64, u64),
    number: u64,
}

/// The simulated store and the network around it.
pub(super) struct Network {
    state: Mutex<State>,
    /// Wakes everybody who waits for anything to change.
    changed: watch::Sender<()>,
}

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    There,
    Back,
}

impl Network {
    pub fn new(rng: fastrand::Rng) -> Self {
        let state = State {
            keyspace: Keyspace::new(),
            rng,
            condition: Condition::Up,
            life: 0,
            quorum: Quorum::default(),
            faults: Faults::default(),
            frozen: None,
            peers: BTreeMap::new(),
            late: Vec::new(),
        };
        Self { state: Mutex::new(state), changed: watch::channel(()).0 }
    }

    /// Looks at the state without telling anybody.
    pub fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes who waits for that.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.look());
        self.changed.send_replace(());
        result
    }

    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn set_condition(&self, condition: Condition) {
        self.change(|state| {
            let before = std::mem::replace(&mut state.condition, condition);
            let now = Instant::now();
            if before == condition {
                return;
            }
            if condition == Condition::Down {
                state.life += 1;
                state.late.clear();
            }
            if condition == Condition::Leaderless {
                state.quorum.lose_leader(now);
            } else if before == Condition::Leaderless && !state.quorum.elect(now) {
                state.life += 1;
            }
            if before == Condition::Down || before == Condition::Leaderless {
                state.keyspace.renew_all(now);
            }
            if condition == Condition::Frozen {
                state.frozen = Some(now);
            } else {
                state.frozen = None;
            }
            if condition == Condition::Up && before == Condition::Frozen {
                // What had arrived is worked off while the leases end: either may come first.
                let leases_first = state.rng.bool();
                if leases_first {
                    state.keyspace.expire(now);
                }
                state.arrive_late();
                state.keyspace.expire(now);
            }
            state.arrive_late();
        });
    }

    pub fn set_health(&self, member: usize, health: Health) {
        self.change(|state| {
            state.quorum.set_health(member, health, Instant::now());
            if health == Health::Down {
                state.late.retain(|given| given.to != member);
            }
            state.arrive_late();
        });
    }

    pub fn set_link(&self, name: &str, link: Link) {
        self.change(|state| {
            let peer = state.peer(name);
            if peer.link == link {
                return;
            }
            peer.link = link;
            peer.since = (link != Link::Up).then(Instant::now);
            state.arrive_late();
        });
    }

    /// The connection with a member that a stream opened now goes over; by itself with the one that answered last.
    pub fn connection(&self, name: &str, member: Option<usize>) -> Connection {
        let mut state = self.look();
        let peer = state.peer(name);
        let (member, number) = (member.unwrap_or(peer.member), peer.connection);
        Connection { member, lives: (state.life, state.quorum.life(member)), number }
    }

    /// Whether a connection is still there.
    pub fn is_open(&self, name: &str, connection: Connection) -> bool {
        let mut state = self.look();
        let Connection { member, lives, number } = connection;
        let up = state.condition != Condition::Down && state.quorum.health(member) != Health::Down;
        up && lives == (state.life, state.quorum.life(member)) && state.peer(name).connection == number
    }

    /// Notes which member has answered, or is to be asked next.
    pub fn prefer(&self, name: &str, member: usize) {
        self.look().peer(name).member = member % MEMBERS;
    }

    /// Whether a member answers, as far as it is up to the member.
    pub fn is_well(&self, member: usize) -> bool {
        self.look().quorum.health(member) == Health::Up
    }

    /// Takes the time that a message takes.
    pub async fn travel(&self, name: &str) {
        let latency = {
            let mut state = self.look();
            let latency = state.faults(name).latency;
            state.rng.u64(latency)
        };
        match latency {
            // Others run at every point where they could in earnest.
            0 => tokio::task::yield_now().await,
            latency => sleep(Duration::from_millis(latency)).await,
        }
    }

    /// Waits until a message gets through, or the connection is given up, at the latest at `deadline`.
    pub async fn pass(
        &self,
        name: &str,
        way: Way,
        over: Connection,
        deadline: Option<Instant>,
    ) -> Result<(), StoreError> {
        let mut changes = self.changes();
        let mut dies: Option<Instant> = None;
        loop {
            changes.borrow_and_update();
            if !self.is_open(name, over) {
                return Err(unavailable("broken pipe"));
            }
            let dies = {
                let mut state = self.look();
                let Some(since) = state.silent_since(name, over.member, way == Way::Back) else { return Ok(()) };
                *dies.get_or_insert_with(|| {
                    let patience = Duration::from_millis(state.rng.u64(SILENCE));
                    // What begins when the old connection has been given up fails with its connecting.
                    (since + patience).max(Instant::now() + CONNECT)
                })
            };
            let until = deadline.map_or(dies, |deadline| deadline.min(dies));
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => return Err(unavailable("the store is silent")),
                _ = changes.changed() => {}
            }
        }
    }

    /// Waits until the member that a request has come to can have it done. `waits`: it came over a stream that was
    /// open; what is new is refused by a member that knows no leader.
    pub async fn lead(
        &self,
        name: &str,
        over: Connection,
        waits: bool,
        deadline: Option<Instant>,
    ) -> Result<(), StoreError> {
        let mut changes = self.changes();
        let mut deadline = deadline;
        let mut look = Instant::now();
        loop {
            changes.borrow_and_update();
            let now = Instant::now();
            if !self.is_open(name, over) {
                return Err(unavailable("broken pipe"));
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(unavailable("etcdserver: request timed out"));
            }
            if look <= now {
                look = now + ELECTION;
                match self.look().quorum.leader(now) {
                    Leader::Known => return Ok(()),
                    Leader::Unknown if waits => {}
                    Leader::Unknown => return Err(unavailable("etcdserver: no leader")),
                    // Nobody will answer that, whoever leads then.
                    Leader::Trusted => {
                        look = now + FORWARDED;
                        deadline = deadline.into_iter().chain([look]).min();
                    }
                }
            }
            let until = deadline.into_iter().chain([look]).min().unwrap_or(look);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Leaves a request behind that its client has given up. It may yet arrive.
    pub fn leave_behind(&self, name: &str, over: Connection, request: Late) {
        let mut state = self.look();
        if state.condition != Condition::Down && state.rng.bool() {
            state.late.push(Given { up: name.into(), to: over.member, request });
        }
    }
}

pub(super) fn unavailable(why: &'static str) -> StoreError {
    StoreError::Unavailable(why.into())
}

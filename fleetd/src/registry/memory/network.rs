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

use super::keyspace::Keyspace;
use crate::registry::StoreError;

/// How long the HTTP/2 keepalive takes to notice silence: the next ping, and its timeout.
const SILENCE: RangeInclusive<u64> = 3000..=9000;
/// How long a client tries to connect.
const CONNECT: Duration = Duration::from_secs(2);

/// How the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It serves.
    Up,
    /// It does nothing, and its connections stay open: `SIGSTOP`, or a disk that hangs.
    Frozen,
    /// It is gone, and its host says so: `SIGKILL`.
    Down,
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
    pub faults: Faults,
    /// When the silence began that the store keeps.
    frozen: Option<Instant>,
    peers: BTreeMap<String, Peer>,
    late: Vec<(String, Late)>,
}

#[derive(Default)]
pub(super) struct Peer {
    pub link: Link,
    since: Option<Instant>,
    /// Counts the connections: streams do not outlive one.
    pub connection: u64,
    pub faults: Option<Faults>,
    pub calls: Calls,
}

impl State {
    pub fn peer(&mut self, name: &str) -> &mut Peer {
        self.peers.entry(name.into()).or_default()
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

    /// Since when nothing has come from the store to this client, if that is so.
    fn silent_since(&mut self, name: &str, deaf_counts: bool) -> Option<Instant> {
        let frozen = self.frozen;
        let peer = self.peer(name);
        let cut = peer.since.filter(|_| deaf_counts || peer.link == Link::Cut);
        [frozen, cut].into_iter().flatten().min()
    }

    fn arrive_late(&mut self, is_now: impl Fn(&str) -> bool) {
        let (now, later) = std::mem::take(&mut self.late).into_iter().partition(|(name, _)| is_now(name));
        self.late = later;
        let now: Vec<(String, Late)> = now;
        now.into_iter().for_each(|(_, request)| request(&mut self.keyspace));
    }
}

/// The identity of a connection: what was opened over it ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    life: u64,
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
            if before == Condition::Down {
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
                let cut: Vec<String> = state
                    .peers
                    .iter()
                    .filter(|(_, peer)| peer.link == Link::Cut)
                    .map(|(name, _)| name.clone())
                    .collect();
                state.arrive_late(|name| !cut.iter().any(|cut| cut == name));
                state.keyspace.expire(now);
            }
        });
    }

    pub fn set_link(&self, name: &str, link: Link) {
        self.change(|state| {
            let up = state.condition == Condition::Up;
            let peer = state.peer(name);
            if peer.link == link {
                return;
            }
            peer.link = link;
            peer.since = (link != Link::Up).then(Instant::now);
            if link != Link::Cut && up {
                state.arrive_late(|late| late == name);
            }
        });
    }

    /// The connection that a stream opened now goes over.
    pub fn connection(&self, name: &str) -> Connection {
        let mut state = self.look();
        Connection { life: state.life, number: state.peer(name).connection }
    }

    /// Whether a connection is still there.
    pub fn is_open(&self, name: &str, connection: Connection) -> bool {
        let mut state = self.look();
        state.condition != Condition::Down
            && state.life == connection.life
            && state.peer(name).connection == connection.number
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
                let Some(since) = state.silent_since(name, way == Way::Back) else { return Ok(()) };
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

    /// Leaves a request behind that its client has given up. It may yet arrive.
    pub fn leave_behind(&self, name: &str, request: Late) {
        let mut state = self.look();
        if state.condition != Condition::Down && state.rng.bool() {
            state.late.push((name.into(), request));
        }
    }
}

pub(super) fn unavailable(why: &'static str) -> StoreError {
    StoreError::Unavailable(why.into())
}

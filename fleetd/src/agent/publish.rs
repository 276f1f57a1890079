//! Publishing the states of this host's units.
//!
//! In: the states as the agent sees them now (`None` before it has looked), and the lease to write them with. Out: `state/<machine>/<unit>` in
//! the store, equal to them. States are written when they change: a few times at once, then every 200 ms, up to 100
//! in a transaction; a unit that flaps is written every 2 s at most, its last state always.
//! A new lease begins with a look at what the store already has, so taking up an old lease again writes nothing;
//! so does each resync, unless somebody else has written there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    model::{Key, Keys, MachineId, Record, StateRecord},
    unit::UnitName,
};
use imbl::{OrdMap, ordmap::DiffItem};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use crate::{
    backoff::{Backoff, jitter},
    machine::Registration,
    pace::Pacer,
    registry::{Guard, Store, StoreError, Transaction, Write},
};

/// The states of a host's units.
pub type States = OrdMap<UnitName, Arc<StateRecord>>;

/// Rounds of writing: a few at once, then one each interval.
const ROUNDS: (Duration, u32) = (Duration::from_millis(200), 10);
/// Most states in one transaction.
const BATCH: usize = 100;
/// Writes of one unit: so many at once, then one each interval. One that needs more is flapping.
const FLAPPING: (Duration, u32) = (Duration::from_secs(2), 10);

/// How often what the store has is looked at though nobody but this host should write it.
const RESYNC: Duration = Duration::from_secs(600);

/// Keeps the store equal to `states`. Runs until dropped.
pub async fn run<S: Store>(
    store: S,
    keys: Keys,
    machine: MachineId,
    mut states: watch::Receiver<Option<States>>,
    mut registration: watch::Receiver<Option<Registration>>,
) {
    let mut publisher = Publisher {
        store,
        keys,
        machine,
        published: BTreeMap::new(),
        seen: States::default(),
        open: BTreeSet::new(),
        pacers: HashMap::new(),
    };
    let mut known: Option<Registration> = None;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut pacer = Pacer::new(ROUNDS.0, ROUNDS.1);
    let mut resync = Instant::now() + jitter(RESYNC);
    loop {
        pacer.round().await;
        if resync <= Instant::now() {
            resync = Instant::now() + jitter(RESYNC);
            known = None;
        }
        let current = registration.borrow_and_update().clone();
        let now = states.borrow_and_update().clone();
        let outcome = match (&current, &now) {
            (None, _) | (_, None) => Ok(None),
            (Some(registered), Some(now)) => {
                let synced =
                    if known.as_ref() == Some(registered) { Ok(()) } else { publisher.read_back(registered).await };
                match synced {
                    Ok(()) => {
                        known.clone_from(&current);
                        publisher.write(registered, now).await
                    }
                    Err(error) => Err(error),
                }
            }
        };
        let due = match outcome {
            Ok(due) => {
                backoff.reset();
                due
            }
            Err(error) => {
                debug!(error = %crate::chain(&error), "states not published, trying again");
                // A write may have happened all the same: look again before the next.
                known = None;
                Some(Instant::now() + backoff.delay())
            }
        };
        // Both receivers keep what they have not shown yet, so no arm loses anything when another wins.
        let waited = tokio::select! {
            biased;
            changed = states.changed() => changed,
            changed = registration.changed() => changed,
            () = sleep_until(due.map_or(resync, |due| due.min(resync))) => Ok(()),
        };
        if waited.is_err() {
            return;
        }
    }
}

struct Publisher<S> {
    store: S,
    keys: Keys,
    machine: MachineId,
    published: BTreeMap<UnitName, Arc<StateRecord>>,
    /// The states as they were when they were last compared with what is published.
    seen: States,
    /// Units whose state may not be what is published.
    open: BTreeSet<UnitName>,
    pacers: HashMap<UnitName, Pacer>,
}

impl<S: Store> Publisher<S> {
    /// Reads what the store has of this machine. What lives with another lease dies with it, and counts for nothing.
    async fn read_back(&mut self, registered: &Registration) -> Result<(), StoreError> {
        self.published.clear();
        let mut range = self.keys.under(&format!("state/{}/", self.machine));
        loop {
            let page = self.store.list(&range, None, 1000).await?;
            for stored in page.entries.iter().filter(|stored| stored.lease == Some(registered.lease)) {
                let Some(Key::State(_, unit)) = self.keys.parse(&stored.key) else { continue };
                match StateRecord::decode(&stored.value) {
                    Ok(record) => drop(self.published.insert(unit, Arc::new(record))),
                    Err(error) => warn!(key = stored.key, error = %crate::chain(&error), "state cannot be read"),
                }
            }
            match page.entries.last().filter(|_| page.more) {
                Some(last) => range.0 = format!("{}\0", last.key),
                None => break,
            }
        }
        // What has been shown so far is compared anew with what is there.
        self.seen = States::default();
        self.open = self.published.keys().cloned().collect();
        Ok(())
    }

    /// Writes what differs. Returns when to write again those that flap, if there are such.
    async fn write(&mut self, registered: &Registration, states: &States) -> Result<Option<Instant>, StoreError> {
        let now = Instant::now();
        let mut due: Option<Instant> = None;
        let mut changes: Vec<(UnitName, Option<Arc<StateRecord>>)> = Vec::new();
        for item in self.seen.diff(states) {
            let (DiffItem::Add(unit, _) | DiffItem::Update { new: (unit, _), .. } | DiffItem::Remove(unit, _)) = item;
            self.open.insert(unit.clone());
        }
        self.seen = states.clone();
        for unit in std::mem::take(&mut self.open) {
            match (states.get(&unit), self.published.get(&unit)) {
                (Some(state), Some(published)) if same(published, state) => {}
                (Some(state), _) => {
                    match self.pacers.get(&unit).map(Pacer::next_round).filter(|earliest| *earliest > now) {
                        Some(later) => {
                            due = Some(due.map_or(later, |due| due.min(later)));
                            self.open.insert(unit);
                        }
                        None => changes.push((unit, Some(Arc::clone(state)))),
                    }
                }
                (None, Some(_)) => changes.push((unit, None)),
                (None, None) => {}
            }
        }
        for changes in changes.chunks(BATCH) {
            let writes = changes.iter().map(|(unit, state)| {
                let key = self.keys.format(&Key::State(self.machine.clone(), unit.clone()));
                match state {
                    Some(state) => Write::Put { key, value: state.encode(), lease: Some(registered.lease) },
                    None => Write::Delete { key },
                }
            });
            let machine = self.keys.format(&Key::Machine(self.machine.clone()));
            let transaction =
                Transaction { guards: vec![Guard::CreatedAt(machine, registered.revision)], writes: writes.collect() };
            if self.store.commit(transaction).await?.is_none() {
                // This registration is over; the next one begins with what the store has.
                return Err(StoreError::LeaseGone);
            }
            for (unit, state) in changes {
                match state {
                    Some(state) => {
                        self.published.insert(unit.clone(), Arc::clone(state));
                        self.pacers.entry(unit.clone()).or_insert_with(|| Pacer::new(FLAPPING.0, FLAPPING.1)).take();
                    }
                    None => {
                        self.published.remove(unit);
                        self.pacers.remove(unit);
                    }
                }
            }
        }
        Ok(due)
    }
}

/// Equal but for the times: a restarted fleetd does not know since when a unit has been as it is, nor how it started.
fn same(one: &StateRecord, other: &StateRecord) -> bool {
    let StateRecord { hash, load, active, sub, current, generation, job, since: _, problem, released, start: _ } = one;
    (hash, load, active, sub, current) == (&other.hash, &other.load, &other.active, &other.sub, &other.current)
        && (generation, job, problem, released) == (&other.generation, &other.job, &other.problem, &other.released)
}

//! Publishing the states of this host's units.
//!
//! In: the states as the agent sees them now (`None` before it has looked), and the lease to write them with. Out:
//! `state/<machine>/<unit>` in the store, equal to them. States are written when they change: a few times at once, then
//! every 200 ms, up to 100 in a transaction; a unit that flaps is written every 2 s at most, its last state always.
//! A new lease begins with a look at what the store already has, so taking up an old lease again writes nothing. What
//! others delete there is written again when the store tells of it; what they overwrite, with the next look, which comes
//! once an hour: nobody but this host writes there.

mod published;

use std::{
    collections::{BTreeSet, HashMap},
    future::pending,
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
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use self::published::Published;
use crate::{
    backoff::{Backoff, jitter},
    membership::Registration,
    pace::Pacer,
    registry::{Store, StoreError, Transaction, Write},
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
const RESYNC: Duration = Duration::from_secs(3600);

/// Keeps the store equal to `states`. Runs until dropped.
pub async fn run<S: Store>(
    store: S,
    keys: Keys,
    machine: MachineId,
    mut states: watch::Receiver<Option<States>>,
    mut registration: watch::Receiver<Option<Registration>>,
) {
    let mut publisher =
        Publisher { keys, machine, seen: States::default(), open: BTreeSet::new(), pacers: HashMap::new(), store };
    let mut published: Option<Published<S>> = None;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut pacer = Pacer::new(ROUNDS.0, ROUNDS.1);
    let mut resync = Instant::now() + jitter(RESYNC);
    loop {
        pacer.round().await;
        if resync <= Instant::now() {
            resync = Instant::now() + jitter(RESYNC);
            published = None;
        }
        let current = registration.borrow_and_update().clone();
        let now = states.borrow_and_update().clone();
        let outcome = match (&current, &now) {
            (None, _) | (_, None) => Ok(None),
            (Some(registered), Some(now)) => publisher.publish(&mut published, registered, now).await,
        };
        let due = match outcome {
            Ok(due) => {
                backoff.reset();
                due
            }
            Err(error) => {
                debug!(error = %crate::chain(&error), "states not published, trying again");
                Some(Instant::now() + backoff.delay())
            }
        };
        // All keep what they have not shown yet, so no arm loses anything when another wins.
        let waited = tokio::select! {
            biased;
            changed = states.changed() => changed,
            changed = registration.changed() => changed,
            deleted = async { match &mut published { Some(it) => it.foreign_deletes().await, None => pending().await } } => {
                match deleted {
                    Ok(units) => publisher.open.extend(units),
                    Err(error) => {
                        debug!(error = %crate::chain(&error), "states in the store cannot be followed, reading them anew");
                        published = None;
                        sleep(backoff.delay()).await;
                    }
                }
                Ok(())
            }
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
    /// The states as they were when they were last compared with what is published.
    seen: States,
    /// Units whose state may not be what is published.
    open: BTreeSet<UnitName>,
    pacers: HashMap<UnitName, Pacer>,
}

impl<S: Store> Publisher<S> {
    /// Makes what is published equal to the states. Returns when to do so again for those that flap, if there are such.
    async fn publish(
        &mut self,
        published: &mut Option<Published<S>>,
        registered: &Registration,
        states: &States,
    ) -> Result<Option<Instant>, StoreError> {
        // When this fails a write may have happened all the same: then it is read anew.
        let mut known = match published.take() {
            Some(known) if known.lease() == registered.lease => known,
            _ => {
                let read = Published::read(&self.store, &self.keys, &self.machine, registered.lease).await?;
                // What has been shown so far is compared anew with what is there.
                self.seen = States::default();
                self.open = read.units().cloned().collect();
                read
            }
        };
        let due = self.write(&mut known, registered, states).await?;
        *published = Some(known);
        Ok(due)
    }

    /// Writes what differs. Returns when to write again those that flap, if there are such.
    async fn write(
        &mut self,
        published: &mut Published<S>,
        registered: &Registration,
        states: &States,
    ) -> Result<Option<Instant>, StoreError> {
        let now = Instant::now();
        let mut due: Option<Instant> = None;
        let mut changes: Vec<(UnitName, Option<Arc<StateRecord>>)> = Vec::new();
        for item in self.seen.diff(states) {
            let (DiffItem::Add(unit, _) | DiffItem::Update { new: (unit, _), .. } | DiffItem::Remove(unit, _)) = item;
            self.open.insert(unit.clone());
        }
        self.seen = states.clone();
        for unit in std::mem::take(&mut self.open) {
            match (states.get(&unit), published.get(&unit)) {
                (Some(state), Some(known)) if same(known, state) => {}
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
            let transaction = Transaction { guards: vec![registered.guard(machine)], writes: writes.collect() };
            // This registration is over; the next one begins with what the store has.
            let revision = self.store.commit(transaction).await?.ok_or(StoreError::LeaseGone)?;
            for (unit, state) in changes {
                published.wrote(unit, state.clone(), revision);
                match state {
                    Some(_) => {
                        self.pacers.entry(unit.clone()).or_insert_with(|| Pacer::new(FLAPPING.0, FLAPPING.1)).take();
                    }
                    None => drop(self.pacers.remove(unit)),
                }
            }
        }
        Ok(due)
    }
}

/// Equal but for the times: a restarted fleetd does not know since when a unit has been as it is, nor how it started.
fn same(one: &StateRecord, other: &StateRecord) -> bool {
    let timeless = |state: &StateRecord| StateRecord { since: 0, start: None, ..state.clone() };
    timeless(one) == timeless(other)
}

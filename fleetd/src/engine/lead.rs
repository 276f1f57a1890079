//! What the engine does while it leads.
//!
//! The planner is fed with the difference between the cluster as it was last looked at and as it is, decides about
//! what that made dirty, and the decisions are written. Nothing is decided on a picture that does not show all that
//! this leader and those before it have written.
//!
//! Machines that are not there are held for as long as [`Losses`] says: a store that was away may have lost the leases
//! of machines that are well.

mod feed;
mod write;

use std::{collections::BTreeSet, time::Duration};

use fleet_core::{
    model::{Delta, Features, HeldUnitRecord, Key, Kind, LeaderRecord, MachineId, Record, Snapshot, Unknown},
    sched::{Losses, Planner},
    unit::UnitName,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Engine,
    changes::Changes,
    contents::Contents,
    held::Held,
    moves::{self, Moves},
    placements::Placements,
    silence::Silence,
    situation::Situation,
    unused::Unused,
};
use crate::pace::Pacer;
use crate::registry::{Leadership, LeaseId, Revision, Store, StoreError, Transaction, Write};

/// Passes: a few at once, then one each interval, so that a burst of changes is planned as one.
const PASSES: (Duration, u32) = (Duration::from_millis(50), 4);
/// After a pass that the store did not take whole.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks for files that the store should have.
const MISSING: Duration = Duration::from_secs(10);

/// A term of office.
pub(super) struct Term<'t> {
    /// The proof.
    pub leadership: &'t Leadership,
    /// The lease that it rests on.
    pub lease: LeaseId,
    /// Since when that lease has lived: what kept it alive has kept those of the machines alive, too.
    pub since: Instant,
    /// When the last keepalive was sent that the store has answered.
    pub acknowledged: watch::Receiver<Instant>,
    /// The machines that were there a moment ago.
    pub machines: BTreeSet<MachineId>,
}

/// Leads until the leadership is lost.
pub(super) async fn lead<S: Store>(engine: &Engine<S>, mut term: Term<'_>) -> Result<(), StoreError> {
    // As it was when this one was elected: an answer that comes while it signs is the end of a trouble before.
    let sent = *term.acknowledged.borrow();
    let began = sign(engine, term.leadership, term.lease).await?;
    let (_running, mut changes) = engine.view.open();
    let mut leader = Leader::new(engine, &term, sent, began);
    let mut pacer = Pacer::new(PASSES.0, PASSES.1);
    loop {
        pacer.round().await;
        leader.hear(*term.acknowledged.borrow_and_update());
        let sure = leader.make_sure().await?;
        let current = changes.borrow_and_update().clone();
        let ready = sure && leader.may_decide_on(&current);
        let again = if ready { leader.pass(current).await? } else { (!sure).then(|| Instant::now() + RETRY) };
        loop {
            tokio::select! {
                biased;
                changed = term.acknowledged.changed() => {
                    if changed.is_err() { return Ok(()) }
                    // The end of a trouble sets a time for what it has held up.
                    if leader.hear(*term.acknowledged.borrow_and_update()) { break }
                    continue;
                }
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = async { match again { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => break,
            }
            // Most changes are states, which decide nothing. After a stale picture any is welcome: a time to decide
            // may have passed unused.
            if !ready || leader.is_concerned(&changes.borrow_and_update()) {
                break;
            }
        }
    }
}

/// Says who leads. Whoever sees this written has seen all that leaders have written before; also what this one does
/// not know of, because an answer was lost.
async fn sign<S: Store>(engine: &Engine<S>, leadership: &Leadership, lease: LeaseId) -> Result<Revision, StoreError> {
    let (key, lease) = (engine.keys.format(&Key::Leader), Some(lease));
    let (machine, features) = (engine.machine.clone(), Features::of_this_daemon());
    let record = LeaderRecord { machine, features, unknown: Unknown::default() };
    let writes = vec![Write::Put { key, value: record.encode(), lease }];
    let transaction = Transaction { guards: vec![leadership.guard()], writes };
    engine.store.commit(transaction).await?.ok_or(StoreError::LeaseGone)
}

struct Leader<'e, S> {
    engine: &'e Engine<S>,
    leadership: &'e Leadership,
    lease: LeaseId,
    /// The moment that this leader's time counts from.
    epoch: Instant,
    planner: Planner,
    /// The cluster as the planner knows it.
    seen: Snapshot,
    contents: Contents,
    placements: Placements,
    losses: Losses,
    /// Machines that were there before this leader was, and have not been looked for yet.
    witnessed: BTreeSet<MachineId>,
    silence: Silence,
    moves: Moves,
    held: Held,
    /// The last revision that leaders have written.
    written: Revision,
    /// It is not known whether all that was written last is in the store.
    unsure: bool,
    /// Units of transactions that did not go through.
    unwritten: BTreeSet<UnitName>,
    /// The machines that an operator has evicted.
    evicted: BTreeSet<MachineId>,
    /// Units that are strict only because of what is scheduled of them.
    formerly_strict: BTreeSet<UnitName>,
    unused: Unused,
}

impl<'e, S: Store> Leader<'e, S> {
    fn new(engine: &'e Engine<S>, term: &Term<'e>, sent: Instant, began: Revision) -> Self {
        let epoch = term.since;
        let sent = sent.saturating_duration_since(epoch);
        Self {
            engine,
            leadership: term.leadership,
            lease: term.lease,
            epoch,
            planner: Planner::new(),
            seen: Snapshot::default(),
            contents: Contents::default(),
            placements: Placements::default(),
            losses: Losses::new(engine.ttl, Duration::ZERO, sent),
            witnessed: term.machines.clone(),
            silence: Silence::default(),
            moves: Moves::default(),
            held: Held::new(epoch.elapsed()),
            written: began,
            unsure: false,
            unwritten: BTreeSet::new(),
            evicted: BTreeSet::new(),
            formerly_strict: BTreeSet::new(),
            unused: Unused::new(),
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The store has answered a keepalive sent at this time. Whether anything waits for such news.
    fn hear(&mut self, sent: Instant) -> bool {
        let now = self.now();
        let waited = self.losses.wake(now);
        self.losses.heard(sent.saturating_duration_since(self.epoch), now);
        self.losses.wake(now) != waited
    }

    /// Whether a picture of the cluster is fit to decide on. One that was not needed for a while begins with what it
    /// knew then.
    fn may_decide_on(&self, current: &Snapshot) -> bool {
        current.is_fresh() && current.revision >= self.written
    }

    /// Whether a picture of the cluster holds anything new to decide on.
    fn is_concerned(&self, current: &Snapshot) -> bool {
        let delta = Delta::between(&self.seen, current);
        delta.touches(&[Kind::Unit, Kind::Global, Kind::Sched, Kind::Machine, Kind::Metadata])
            || delta.touches(&[Kind::State]) && self.moves.is_waiting(&self.placements)
    }

    /// Feeds, plans and writes once. Returns when to do so again though nothing may have changed.
    async fn pass(&mut self, current: Snapshot) -> Result<Option<Instant>, StoreError> {
        let mut changes = Changes::of(Delta::between(&self.seen, &current));
        changes.add_users(self.contents.missing(), &current);
        let units = changes.set.iter().map(|(unit, _, record)| (unit, &**record));
        let scheduled = changes.scheduled.iter().map(|(unit, record)| (unit, &**record));
        match self.contents.read(&self.engine.files, units, scheduled).await {
            // Nothing is lost: the next pass sees the same changes.
            Err(StoreError::Unavailable(_)) => return Ok(Some(Instant::now() + RETRY)),
            read => read?,
        }
        let before = std::mem::replace(&mut self.seen, current.clone());
        let mut touched = std::mem::take(&mut self.unwritten);
        let delta = Delta::between(&before, &current);
        let scheduled_to = self.feed_placements(delta, &mut touched);
        self.feed_units(changes, &current, &mut touched);
        self.feed_machines(delta, scheduled_to, &mut touched);
        let now = self.now();
        let silent = if self.losses.is_new() { self.silence.count(self.engine, &current).await } else { 0 };
        let held_units = self.feed_losses(&current, silent, now);
        let situation = Situation {
            current: &current,
            placements: &self.placements,
            contents: &self.contents,
            losses: &self.losses,
            now,
        };
        self.moves.prepare(&mut self.planner, &situation);
        let decisions = self.planner.plan();
        let mut orders = self.moves.orders(decisions, &mut self.planner, &situation);
        for order in &orders {
            touched.remove(&order.unit);
        }
        orders.extend(touched.into_iter().filter_map(|unit| moves::outdated(unit, &situation)));
        self.write(orders, &current).await?;
        let told = self.tell(&current, &held_units, now).await?;
        if let Some(used) = self.unused.collect(self.engine, self.leadership, &current).await {
            self.contents.retain(&used);
        }
        let retry = (!told || !self.unwritten.is_empty()).then(|| Instant::now() + RETRY);
        let down = held_units.iter().filter_map(|(_, at)| *at).min();
        let losses = self.losses.wake(now).into_iter().chain(down).min();
        let losses = losses.and_then(|at| self.epoch.checked_add(at));
        let missing = (!self.contents.missing().is_empty()).then(|| Instant::now() + MISSING);
        let times = [retry, missing, losses, self.moves.due(), self.unused.due()];
        Ok(times.into_iter().flatten().min())
    }

    /// Whether it is known what was written last. If not, signs anew: whoever sees that has seen it, too.
    async fn make_sure(&mut self) -> Result<bool, StoreError> {
        if !self.unsure {
            return Ok(true);
        }
        match sign(self.engine, self.leadership, self.lease).await {
            Ok(revision) => {
                self.written = self.written.max(revision);
                self.unsure = false;
                Ok(true)
            }
            Err(StoreError::Unavailable(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Shows what is held, and takes back evictions that are over. Whether the store has taken all of it.
    async fn tell(
        &mut self,
        current: &Snapshot,
        units: &[(HeldUnitRecord, Option<Duration>)],
        now: Duration,
    ) -> Result<bool, StoreError> {
        // Of one that nothing is scheduled to, nothing is held back.
        let has_units = |machine: &MachineId| self.placements.on(machine).next().is_some();
        let held = self.losses.held(now).into_iter().filter(|held| has_units(&held.machine));
        let machines = held.filter_map(|held| self.held.machine(&held)).collect();
        let units = units.iter().map(|(unit, _)| unit.clone()).collect();
        let shown = self.held.show(self.engine, self.leadership, machines, units).await?;
        Ok(self.end_evictions(current).await? && shown)
    }
}

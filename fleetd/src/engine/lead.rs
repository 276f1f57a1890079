//! What the engine does while it leads.
//!
//! The planner is fed with the difference between the cluster as it was last looked at and as it is, decides about
//! what that made dirty, and the decisions are written.
//!
//! A store that was away may have lost the leases of machines that are well, and those come back within a TTL. So a
//! leader counts a machine that it does not see as dead only when its own lease is older than a TTL; until then it
//! neither moves that machine's units nor counts on it. One that has waited for long to lead acts at once.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    model::{Desired, Key, MachineId, UnitRecord, apply_edits},
    sched::{Decision, Planner},
    unit::{Requirements, UnitHash, UnitName},
};
use futures_util::{StreamExt, stream};
use imbl::ordmap::DiffItem;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::{
    Engine,
    translate::{Batch, Order, translate},
};
use crate::pace::Pacer;
use crate::registry::{Cluster, Guard, Leadership, Revision, Store, StoreError, Transaction, Versioned, Write};

/// Passes: a few at once, then one each interval, so that a burst of changes is planned as one.
const PASSES: (Duration, u32) = (Duration::from_millis(50), 4);
/// Transactions under way at a time.
const IN_FLIGHT: usize = 8;
/// How long a file stays that nothing uses: a unit that comes back soon finds it.
const UNUSED: Duration = Duration::from_secs(60);
/// After a pass that the store did not take whole.
const RETRY: Duration = Duration::from_secs(1);

/// Leads until the leadership is lost. Until `grace`, machines that are not seen may yet show up.
pub(super) async fn lead<S: Store>(
    engine: &Engine<S>,
    leadership: &Leadership,
    grace: Instant,
) -> Result<(), StoreError> {
    let (_running, mut changes) = engine.view.open();
    let mut leader = Leader::new(engine, leadership, grace);
    let mut pacer = Pacer::new(PASSES.0, PASSES.1);
    loop {
        pacer.round().await;
        let current = changes.borrow_and_update().clone();
        // A view that was not needed for a while begins with what it knew then: nothing to decide on.
        let fresh = current.is_fresh();
        let again = if fresh { leader.pass(current).await? } else { None };
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = async { match again { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => break,
            }
            // Most changes are states, which decide nothing. After a stale picture any is welcome: a time to decide
            // may have passed unused.
            if !fresh || leader.is_concerned(&changes.borrow_and_update()) {
                break;
            }
        }
    }
}

struct Leader<'e, S> {
    engine: &'e Engine<S>,
    leadership: &'e Leadership,
    planner: Planner,
    /// The cluster as the planner knows it.
    seen: Cluster,
    /// What each unit asks for, by contents.
    requirements: HashMap<UnitName, (UnitHash, Arc<Requirements>)>,
    /// Where units are in the store.
    placements: HashMap<UnitName, HashSet<MachineId>>,
    /// Until when machines that are not seen count as on their way.
    grace: Option<Instant>,
    /// Units of transactions that did not go through.
    unwritten: HashSet<UnitName>,
    /// Files that nothing uses any more, and when to delete them.
    unused: HashMap<UnitHash, Instant>,
}

impl<'e, S: Store> Leader<'e, S> {
    fn new(engine: &'e Engine<S>, leadership: &'e Leadership, grace: Instant) -> Self {
        Self {
            engine,
            leadership,
            planner: Planner::new(),
            seen: Cluster::default(),
            requirements: HashMap::new(),
            placements: HashMap::new(),
            grace: Some(grace),
            unwritten: HashSet::new(),
            unused: HashMap::new(),
        }
    }

    /// Whether a picture of the cluster holds anything new to decide on.
    fn is_concerned(&self, current: &Cluster) -> bool {
        let seen = &self.seen;
        !(seen.units.ptr_eq(&current.units)
            && seen.globals.ptr_eq(&current.globals)
            && seen.scheduled.ptr_eq(&current.scheduled)
            && seen.machines.ptr_eq(&current.machines)
            && seen.metadata.ptr_eq(&current.metadata)
            && seen.unreadable == current.unreadable)
    }

    /// Feeds, plans and writes once. Returns when to do so again though nothing may have changed.
    async fn pass(&mut self, current: Cluster) -> Result<Option<Instant>, StoreError> {
        let changes = Changes::between(&self.seen, &current);
        match self.read_requirements(&changes).await {
            // Nothing is lost: the next pass sees the same changes.
            Err(StoreError::Unavailable(_)) => return Ok(Some(Instant::now() + RETRY)),
            read => read?,
        }
        let before = std::mem::replace(&mut self.seen, current.clone());
        let mut touched = std::mem::take(&mut self.unwritten);
        self.feed_machines(&before, &current);
        self.feed_placements(&before, &current, &mut touched);
        self.feed_units(changes, &current, &mut touched);
        self.end_grace(&current);
        let mut orders = Vec::new();
        for Decision { unit, from, to, reason } in self.planner.plan() {
            if is_frozen(&unit, &current) {
                self.planner.refused(&unit);
                continue;
            }
            match &to {
                Some(machine) => info!(%unit, %machine, %reason, "unit scheduled"),
                None => info!(%unit, ?from, %reason, "unit unscheduled"),
            }
            touched.remove(&unit);
            orders.push(Order { unit, from, to });
        }
        orders.extend(touched.into_iter().filter_map(|unit| self.outdated(unit, &current)));
        self.write(orders, &current).await?;
        self.collect_files(&current).await;
        let retry = (!self.unwritten.is_empty()).then(|| Instant::now() + RETRY);
        let times = [retry, self.grace, self.unused.values().min().copied()];
        Ok(times.into_iter().flatten().min())
    }

    /// Reads what the changed units ask for.
    async fn read_requirements(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let read = &self.requirements;
        let unread = changes.set.iter().map(|(unit, _, record)| (unit, record.hash));
        let unread: Vec<_> = unread.filter(|(unit, hash)| read.get(*unit).is_none_or(|read| read.0 != *hash)).collect();
        let files = self.engine.files.get(unread.iter().map(|(_, hash)| *hash)).await?;
        for (unit, hash) in unread {
            let Some(file) = files.get(&hash) else {
                warn!(%unit, %hash, "the unit's file is missing in the store, submit it again");
                continue;
            };
            match Requirements::read(file, unit) {
                Ok((requirements, _)) => {
                    self.requirements.insert(unit.clone(), (hash, Arc::new(requirements)));
                }
                Err(error) => warn!(%unit, %error, "what the unit asks for is passed over"),
            }
        }
        Ok(())
    }

    fn feed_machines(&mut self, before: &Cluster, current: &Cluster) {
        for item in before.machines.diff(&current.machines) {
            match item {
                DiffItem::Add(id, _) | DiffItem::Update { new: (id, _), .. } => self.set_machine(id, current),
                DiffItem::Remove(id, _) => {
                    warn!(machine = %id, "machine is gone, its units move");
                    self.planner.remove_machine(id);
                }
            }
        }
        for item in before.metadata.diff(&current.metadata) {
            let (DiffItem::Add(id, _) | DiffItem::Update { new: (id, _), .. } | DiffItem::Remove(id, _)) = item;
            self.set_machine(id, current);
        }
        let is_nowhere = |id: &MachineId| !is_there(id, current);
        for key in &before.unreadable {
            if let Key::Machine(id) = key
                && is_nowhere(id)
                && !before.machines.contains_key(id)
            {
                warn!(machine = %id, "machine is gone, its units move");
                self.planner.remove_machine(id);
            }
        }
        if self.grace.is_some() {
            absent(current).for_each(|machine| self.planner.hold_machine(machine.clone()));
        }
        // Also one that is known from before: no transaction that gives it a unit would find its entry unchanged.
        for key in &current.unreadable {
            if let Key::Machine(id) = key {
                self.planner.hold_machine(id.clone());
            }
        }
    }

    fn feed_placements(&mut self, before: &Cluster, current: &Cluster, touched: &mut HashSet<UnitName>) {
        for item in before.scheduled.diff(&current.scheduled) {
            let (DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } | DiffItem::Remove(key, _)) = item;
            let (machine, unit) = key;
            touched.insert(unit.clone());
            if let DiffItem::Remove(..) = item {
                self.planner.unplaced(unit, machine);
                if let Entry::Occupied(mut machines) = self.placements.entry(unit.clone()) {
                    machines.get_mut().remove(machine);
                    if machines.get().is_empty() {
                        machines.remove();
                    }
                }
            } else {
                self.planner.placed(unit.clone(), machine.clone());
                self.placements.entry(unit.clone()).or_default().insert(machine.clone());
            }
        }
    }

    fn feed_units(&mut self, changes: Changes, current: &Cluster, touched: &mut HashSet<UnitName>) {
        let later = Instant::now() + UNUSED;
        self.unused.extend(changes.dropped.into_iter().map(|hash| (hash, later)));
        for (unit, global) in changes.removed {
            if global {
                self.planner.remove_global(&unit);
            } else {
                self.planner.remove_unit(&unit);
            }
            // Unless it has become global, or is no longer.
            if !current.units.contains_key(&unit) && !current.globals.contains_key(&unit) {
                self.requirements.remove(&unit);
            }
        }
        for (unit, global, record) in changes.set {
            let wanted = record.desired != Desired::Inactive;
            let requirements = match self.requirements.get(&unit) {
                Some((_, requirements)) => Arc::clone(requirements),
                // Without knowing what it asks for, nothing can be decided but that it must go.
                None if wanted => continue,
                None => Arc::default(),
            };
            if global {
                self.planner.set_global(unit, requirements, wanted);
            } else {
                self.planner.set_unit(unit.clone(), requirements, wanted);
                touched.insert(unit);
            }
        }
    }

    /// Once a TTL has passed, machines that are not there count as dead.
    fn end_grace(&mut self, current: &Cluster) {
        if self.grace.is_some_and(|until| until <= Instant::now()) {
            self.grace = None;
            for machine in absent(current) {
                warn!(%machine, "machine has not shown up, its units move");
                self.planner.remove_machine(machine);
            }
        }
    }

    fn set_machine(&mut self, id: &MachineId, current: &Cluster) {
        if let Some(machine) = current.machines.get(id) {
            let edits = current.metadata.get(id).map(|edits| &*edits.record);
            self.planner.set_machine(id.clone(), apply_edits(machine.record.metadata.clone(), edits));
        }
    }

    /// The order for a unit that stays where it is while what is wanted of it changed: its machine is told.
    fn outdated(&self, unit: UnitName, current: &Cluster) -> Option<Order> {
        let wanted = &current.units.get(&unit)?.record;
        let machine = self.placements.get(&unit)?.iter().next()?.clone();
        let scheduled = current.scheduled.get(&(machine.clone(), unit.clone()))?;
        let differs = scheduled.record != *wanted && wanted.desired != Desired::Inactive;
        differs.then_some(Order { unit, from: Vec::new(), to: Some(machine) })
    }

    /// Writes, several transactions at a time. The orders of one that is refused are written each by itself, so that
    /// one unit that has changed meanwhile holds up no other. What did not go through is decided again.
    async fn write(&mut self, orders: Vec<Order>, current: &Cluster) -> Result<(), StoreError> {
        let engine = self.engine;
        let batches = translate(orders, current, &engine.keys, self.leadership);
        let commit = |batch: Batch| async move { (batch.orders, engine.store.commit(batch.transaction).await) };
        let mut outcomes: Vec<_> = stream::iter(batches).map(commit).buffer_unordered(IN_FLIGHT).collect().await;
        if outcomes.iter().any(|(_, outcome)| matches!(outcome, Ok(None))) {
            if !self.still_leads().await? {
                return Err(StoreError::LeaseGone);
            }
            let refused = outcomes.extract_if(.., |(_, outcome)| matches!(outcome, Ok(None)));
            let single = refused
                .flat_map(|(orders, _)| orders)
                .flat_map(|order| translate(vec![order], current, &engine.keys, self.leadership));
            let again: Vec<Batch> = single.collect();
            outcomes.extend(stream::iter(again).map(commit).buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await);
        }
        for (orders, outcome) in outcomes {
            match outcome {
                Ok(Some(_)) => {
                    engine.metrics.placements.inc_by(orders.len() as u64);
                    continue;
                }
                Ok(None) | Err(StoreError::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
            for order in orders {
                self.planner.refused(&order.unit);
                self.unwritten.insert(order.unit);
            }
        }
        Ok(())
    }

    /// Whether a refusal was about the units and not about the leadership.
    async fn still_leads(&self) -> Result<bool, StoreError> {
        let page = match self.engine.store.get(std::slice::from_ref(&self.leadership.key)).await {
            Err(StoreError::Unavailable(_)) => return Ok(true),
            page => page?,
        };
        Ok(page.entries.first().is_some_and(|stored| stored.create_revision == self.leadership.revision))
    }

    /// Deletes files that nothing has used for a while.
    async fn collect_files(&mut self, current: &Cluster) {
        let now = Instant::now();
        let due: Vec<UnitHash> = self.unused.iter().filter(|(_, at)| **at <= now).map(|(hash, _)| *hash).collect();
        if due.is_empty() {
            return;
        }
        self.unused.retain(|_, at| *at > now);
        let records = current.units.values().chain(current.globals.values()).chain(current.scheduled.values());
        let used: HashSet<UnitHash> = records.map(|record| record.record.hash).collect();
        let unused: Vec<UnitHash> = due.into_iter().filter(|hash| !used.contains(hash)).collect();
        if let Err(error) = self.delete_files(&unused, current.revision).await {
            debug!(error = %crate::chain(&error), "unused files not deleted, trying again");
            self.unused.extend(unused.into_iter().map(|hash| (hash, now + UNUSED)));
        }
        self.engine.files.retain(&used);
    }

    /// Deletes files that nothing used at a revision. One that was written after that came with a unit that uses it.
    async fn delete_files(&self, hashes: &[UnitHash], unused_at: Revision) -> Result<(), StoreError> {
        let keys: Vec<String> = hashes.iter().map(|hash| self.engine.keys.format(&Key::File(*hash))).collect();
        let stored = self.engine.store.get(&keys).await?.entries;
        for stored in stored.into_iter().filter(|stored| stored.mod_revision <= unused_at) {
            let guards = vec![self.leadership.guard(), Guard::Unchanged(stored.key.clone(), stored.mod_revision)];
            let writes = vec![Write::Delete { key: stored.key }];
            self.engine.store.commit(Transaction { guards, writes }).await?;
        }
        Ok(())
    }
}

/// How the units of two pictures of the cluster differ.
#[derive(Default)]
struct Changes {
    /// New and changed units, whether they are global, and their record. Templates are not among them.
    set: Vec<(UnitName, bool, Arc<UnitRecord>)>,
    /// Units that are gone, and whether they were global.
    removed: Vec<(UnitName, bool)>,
    /// Contents that a unit does not have any more.
    dropped: Vec<UnitHash>,
}

impl Changes {
    fn between(before: &Cluster, current: &Cluster) -> Self {
        let mut changes = Self::default();
        for (global, before, current) in
            [(false, &before.units, &current.units), (true, &before.globals, &current.globals)]
        {
            for item in before.diff(current) {
                match item {
                    DiffItem::Add(unit, new) => changes.set(unit, global, new),
                    DiffItem::Update { old: (_, old), new: (unit, new) } => {
                        changes.set(unit, global, new);
                        if old.record.hash != new.record.hash {
                            changes.dropped.push(old.record.hash);
                        }
                    }
                    DiffItem::Remove(unit, old) => {
                        changes.removed.push((unit.clone(), global));
                        changes.dropped.push(old.record.hash);
                    }
                }
            }
        }
        changes
    }

    fn set(&mut self, unit: &UnitName, global: bool, value: &Versioned<UnitRecord>) {
        if !unit.is_template() {
            self.set.push((unit.clone(), global, Arc::clone(&value.record)));
        }
    }
}

/// The machines that units are scheduled to and that are not there.
fn absent(cluster: &Cluster) -> impl Iterator<Item = &MachineId> {
    let machines: BTreeSet<&MachineId> = cluster.scheduled.keys().map(|(machine, _)| machine).collect();
    machines.into_iter().filter(move |machine| !is_there(machine, cluster))
}

/// Whether a machine has an entry, be it one that cannot be read.
fn is_there(machine: &MachineId, cluster: &Cluster) -> bool {
    cluster.machines.contains_key(machine) || cluster.unreadable.contains(&Key::Machine(machine.clone()))
}

/// Whether something of a unit cannot be read here, so that nothing is to be decided about it.
fn is_frozen(unit: &UnitName, cluster: &Cluster) -> bool {
    cluster.unreadable.iter().any(|key| matches!(key, Key::Unit(name) | Key::Sched(_, name) if name == unit))
}

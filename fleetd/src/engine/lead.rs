//! What the engine does while it leads.
//!
//! The planner is fed with the difference between the cluster as it was last looked at and as it is, decides about
//! what that made dirty, and the decisions are written. A new leader gives machines that it does not see one TTL to
//! show up before it counts them as dead: until then it neither moves their units nor counts on them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    model::{Desired, Key, MachineId, UnitRecord, apply_edits},
    sched::Planner,
    unit::{Requirements, UnitHash, UnitName},
};
use futures_util::{StreamExt, stream};
use imbl::ordmap::DiffItem;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::{
    Engine,
    translate::{Batch, Order, translate},
};
use crate::registry::{Cluster, Guard, Leadership, Store, StoreError, Transaction, Versioned, Write};

/// Shortest time between two passes, so that a burst of changes is planned as one.
const COALESCE: Duration = Duration::from_millis(50);
/// Transactions under way at a time.
const IN_FLIGHT: usize = 8;
/// How long a file stays that nothing uses: a unit that comes back soon finds it.
const UNUSED: Duration = Duration::from_secs(60);
/// After a pass that the store did not take whole.
const RETRY: Duration = Duration::from_secs(1);

/// Leads until the leadership is lost.
pub(super) async fn lead<S: Store>(engine: &Engine<S>, leadership: &Leadership) -> Result<(), StoreError> {
    let (_running, mut changes) = engine.view.open();
    let mut leader = Leader::new(engine, leadership);
    loop {
        let current = changes.borrow_and_update().clone();
        let paced = Instant::now() + COALESCE;
        // A view that was not needed for a while begins with what it knew then: nothing to decide on.
        let fresh = current.complete && current.stale_since.is_none();
        let again = if fresh { leader.pass(current).await? } else { None };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            () = async { match again { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
        }
        sleep_until(paced).await;
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
    /// Files that nothing uses any more, and when to delete them.
    unused: HashMap<UnitHash, Instant>,
}

impl<'e, S: Store> Leader<'e, S> {
    fn new(engine: &'e Engine<S>, leadership: &'e Leadership) -> Self {
        Self {
            engine,
            leadership,
            planner: Planner::new(),
            seen: Cluster::default(),
            requirements: HashMap::new(),
            placements: HashMap::new(),
            grace: Some(Instant::now() + engine.ttl),
            unused: HashMap::new(),
        }
    }

    /// Feeds, plans and writes once. Returns when to do so again though nothing may have changed.
    async fn pass(&mut self, current: Cluster) -> Result<Option<Instant>, StoreError> {
        let before = std::mem::replace(&mut self.seen, current.clone());
        let touched = self.feed(&before, &current).await?;
        let decisions = self.planner.plan();
        let mut orders = Vec::with_capacity(decisions.len());
        for decision in decisions {
            let (unit, reason) = (&decision.unit, &decision.reason);
            match &decision.to {
                Some(machine) => info!(%unit, %machine, %reason, "unit scheduled"),
                None => info!(%unit, from = ?decision.from, %reason, "unit unscheduled"),
            }
            orders.push(Order { unit: decision.unit, from: decision.from, to: decision.to });
        }
        let planned: HashSet<UnitName> = orders.iter().map(|order| order.unit.clone()).collect();
        orders.extend(self.outdated(touched.into_iter().filter(|unit| !planned.contains(unit)), &current));
        let refused = self.write(translate(orders, &current, &self.engine.keys, self.leadership)).await?;
        self.collect_files(&current).await?;
        let retry = (refused > 0).then(|| Instant::now() + RETRY);
        let times = [retry, self.grace, self.unused.values().min().copied()];
        Ok(times.into_iter().flatten().min())
    }

    /// Tells the planner what changed. Returns the units whose record or placement changed.
    async fn feed(&mut self, before: &Cluster, current: &Cluster) -> Result<HashSet<UnitName>, StoreError> {
        let mut touched = HashSet::new();
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
        if self.grace.is_some() {
            absent(current).for_each(|machine| self.planner.hold_machine(machine.clone()));
        }
        for item in before.scheduled.diff(&current.scheduled) {
            let (DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } | DiffItem::Remove(key, _)) = item;
            let (machine, unit) = key;
            touched.insert(unit.clone());
            if let DiffItem::Remove(..) = item {
                self.placements.entry(unit.clone()).or_default().remove(machine);
                self.planner.unplaced(unit, machine);
            } else {
                self.placements.entry(unit.clone()).or_default().insert(machine.clone());
                self.planner.placed(unit.clone(), machine.clone());
            }
        }
        self.feed_units(before, current, &mut touched).await?;
        if self.grace.is_some_and(|until| until <= Instant::now()) {
            self.grace = None;
            for machine in absent(current) {
                warn!(%machine, "machine has not shown up, its units move");
                self.planner.remove_machine(machine);
            }
        }
        Ok(touched)
    }

    async fn feed_units(
        &mut self,
        before: &Cluster,
        current: &Cluster,
        touched: &mut HashSet<UnitName>,
    ) -> Result<(), StoreError> {
        let mut changed: Vec<(UnitName, bool, Versioned<UnitRecord>)> = Vec::new();
        for (global, before, current) in
            [(false, &before.units, &current.units), (true, &before.globals, &current.globals)]
        {
            for item in before.diff(current) {
                match item {
                    DiffItem::Add(unit, record) | DiffItem::Update { new: (unit, record), .. } => {
                        if !unit.is_template() {
                            changed.push((unit.clone(), global, record.clone()));
                        }
                        if let DiffItem::Update { old: (_, old), .. } = item {
                            self.unused.insert(old.record.hash, Instant::now() + UNUSED);
                        }
                    }
                    DiffItem::Remove(unit, old) => {
                        self.unused.insert(old.record.hash, Instant::now() + UNUSED);
                        if global {
                            self.planner.remove_global(unit);
                        } else {
                            self.planner.remove_unit(unit);
                        }
                    }
                }
            }
        }
        let unread = changed.iter().map(|(unit, _, record)| (unit, record.record.hash));
        let unread = unread.filter(|(unit, hash)| self.requirements.get(*unit).is_none_or(|read| read.0 != *hash));
        let files = self.engine.files.get(unread.map(|(_, hash)| hash)).await.inspect_err(|_| {
            // Nothing is lost: the next pass sees the same differences.
            self.seen.units = before.units.clone();
            self.seen.globals = before.globals.clone();
        })?;
        for (unit, global, record) in changed {
            let hash = record.record.hash;
            if self.requirements.get(&unit).is_none_or(|read| read.0 != hash) {
                let Some(file) = files.get(&hash) else {
                    warn!(%unit, %hash, "the unit's file is missing in the store, it stays as it is: submit it again");
                    continue;
                };
                match Requirements::read(file, &unit) {
                    Ok((requirements, _)) => {
                        self.requirements.insert(unit.clone(), (hash, Arc::new(requirements)));
                    }
                    Err(error) => {
                        warn!(%unit, %error, "the unit cannot be scheduled");
                        continue;
                    }
                }
            }
            let Some((_, requirements)) = self.requirements.get(&unit) else { continue };
            let requirements = Arc::clone(requirements);
            let wanted = record.record.desired != Desired::Inactive;
            if global {
                self.planner.set_global(unit, requirements, wanted);
            } else {
                self.planner.set_unit(unit.clone(), requirements, wanted);
                touched.insert(unit);
            }
        }
        self.requirements.retain(|unit, _| current.units.contains_key(unit) || current.globals.contains_key(unit));
        Ok(())
    }

    fn set_machine(&mut self, id: &MachineId, current: &Cluster) {
        if let Some(machine) = current.machines.get(id) {
            let edits = current.metadata.get(id).map(|edits| &*edits.record);
            self.planner.set_machine(id.clone(), apply_edits(machine.record.metadata.clone(), edits));
        }
    }

    /// Units that stay where they are while what is wanted of them changed: their machine is told.
    fn outdated<'a>(
        &'a self,
        units: impl Iterator<Item = UnitName> + 'a,
        current: &'a Cluster,
    ) -> impl Iterator<Item = Order> + 'a {
        units.filter_map(|unit| {
            let wanted = &current.units.get(&unit)?.record;
            let machine = self.placements.get(&unit)?.iter().next()?.clone();
            let scheduled = current.scheduled.get(&(machine.clone(), unit.clone()))?;
            (scheduled.record != *wanted && wanted.desired != Desired::Inactive).then_some(Order {
                unit,
                from: Vec::new(),
                to: Some(machine),
            })
        })
    }

    /// Writes, several transactions at a time. Returns how many were refused.
    async fn write(&mut self, batches: Vec<Batch>) -> Result<usize, StoreError> {
        let store = &self.engine.store;
        let commits = stream::iter(batches)
            .map(|batch| async move { (batch.units, store.commit(batch.transaction).await) })
            .buffer_unordered(IN_FLIGHT);
        let outcomes: Vec<_> = commits.collect().await;
        let (mut refused, mut failure) = (0, None);
        for (units, outcome) in outcomes {
            match outcome {
                Ok(Some(_)) => drop(self.engine.metrics.placements.inc_by(units.len() as u64)),
                Ok(None) => {
                    refused += 1;
                    units.iter().for_each(|unit| self.planner.refused(unit));
                }
                Err(error) => {
                    units.iter().for_each(|unit| self.planner.refused(unit));
                    failure = Some(error);
                }
            }
        }
        if refused > 0 && !self.still_leads().await? {
            return Err(StoreError::LeaseGone);
        }
        match failure {
            // Whether it happened shows in the mirror once the store is back.
            Some(StoreError::Unavailable(_)) => Ok(refused + 1),
            Some(error) => Err(error),
            None => Ok(refused),
        }
    }

    /// Whether a refusal was about the units and not about the leadership.
    async fn still_leads(&self) -> Result<bool, StoreError> {
        let page = self.engine.store.get(std::slice::from_ref(&self.leadership.key)).await?;
        Ok(page.entries.first().is_some_and(|stored| stored.create_revision == self.leadership.revision))
    }

    /// Deletes files that nothing has used for a while. One that is written again meanwhile fails the guard.
    async fn collect_files(&mut self, current: &Cluster) -> Result<(), StoreError> {
        let now = Instant::now();
        let due: Vec<UnitHash> = self.unused.iter().filter(|(_, at)| **at <= now).map(|(hash, _)| *hash).collect();
        if due.is_empty() {
            return Ok(());
        }
        self.unused.retain(|_, at| *at > now);
        let records = current.units.values().chain(current.globals.values()).chain(current.scheduled.values());
        let used: HashSet<UnitHash> = records.map(|record| record.record.hash).collect();
        let keys: Vec<String> = due
            .into_iter()
            .filter(|hash| !used.contains(hash))
            .map(|hash| self.engine.keys.format(&Key::File(hash)))
            .collect();
        for stored in self.engine.store.get(&keys).await?.entries {
            let guards = vec![self.leadership.guard(), Guard::Unchanged(stored.key.clone(), stored.mod_revision)];
            let writes = vec![Write::Delete { key: stored.key }];
            self.engine.store.commit(Transaction { guards, writes }).await?;
        }
        self.engine.files.retain(&used);
        Ok(())
    }
}

/// The machines that units are scheduled to and that are not there.
fn absent(cluster: &Cluster) -> impl Iterator<Item = &MachineId> {
    let machines: BTreeSet<&MachineId> = cluster.scheduled.keys().map(|(machine, _)| machine).collect();
    machines.into_iter().filter(|machine| !cluster.machines.contains_key(*machine))
}

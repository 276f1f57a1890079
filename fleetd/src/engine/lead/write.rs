//! What the leader writes.

use std::time::Duration;

use fleet_core::{
    model::{Key, MetadataEdits, Record, Snapshot},
    unit::{UnitHash, UnitName},
};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    super::translate::{Batch, Files, Order, translate},
    Leader, sign,
};
use crate::registry::{Guard, Store, StoreError, Transaction, Write};

/// Transactions under way at a time.
const IN_FLIGHT: usize = 8;
/// How long orders wait for files to be sent along.
const PATIENCE: Duration = Duration::from_millis(500);
/// Orders whose files are in memory at a time.
const AT_ONCE: usize = 1024;

impl<S: Store> Leader<'_, S> {
    /// Writes, several transactions at a time. The orders of one that is refused are written each by itself, so that
    /// one unit that has changed meanwhile holds up no other. What did not go through is decided again.
    ///
    /// # Errors
    /// The leadership is over, or given up because it cannot be told what the store holds. It also is when nobody knows
    /// whether a strict unit was placed: that transaction may still be on its way, and only the end of this term stops
    /// it before another one for the same unit.
    pub(super) async fn write(&mut self, orders: Vec<Order>, current: &Snapshot) -> Result<(), StoreError> {
        let engine = self.engine;
        let commit = |Batch { transaction, orders }: Batch| async move {
            let puts = transaction.writes.iter().any(|write| matches!(write, Write::Put { .. }));
            // One that lands after it was answered could hand a unit over a second time, without waiting for its end.
            let outcome = if orders.iter().any(Order::starts_strict) {
                engine.store.commit_once(transaction).await
            } else {
                engine.store.commit(transaction).await
            };
            (orders, puts, outcome)
        };
        let mut outcomes = Vec::new();
        let mut parts = orders.chunks(AT_ONCE);
        for part in parts.by_ref() {
            let files = self.new_files(part, current).await;
            let batches = translate(part.to_vec(), current, &files, &engine.keys, self.leadership);
            outcomes.extend(stream::iter(batches).map(commit).buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await);
            if outcomes.iter().any(|(_, _, outcome)| outcome.is_err()) {
                break;
            }
        }
        parts.flatten().for_each(|order| self.put_back(&order.unit));
        self.forget_files();
        if outcomes.iter().any(|(_, _, outcome)| matches!(outcome, Ok(None))) {
            if !self.still_leads().await? {
                return Err(StoreError::LeaseGone);
            }
            let refused = outcomes.extract_if(.., |(_, _, outcome)| matches!(outcome, Ok(None)));
            let single = refused
                .flat_map(|(orders, _, _)| orders)
                .flat_map(|order| translate(vec![order], current, &Files::new(), &engine.keys, self.leadership));
            let again: Vec<Batch> = single.collect();
            outcomes.extend(stream::iter(again).map(commit).buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await);
            // A transaction that was sent twice, because its first answer got lost, is refused for what it has done
            // itself. The next decisions rest on a picture that shows it.
            self.written = sign(engine, self.leadership, self.lease).await?;
        }
        for (orders, puts, outcome) in outcomes {
            match outcome {
                Ok(Some(revision)) => {
                    // What is only deleted may have been gone: then the revision is that of another's write, which
                    // the view may never show.
                    if puts {
                        self.written = self.written.max(revision);
                    }
                    engine.metrics.placements.inc_by(orders.len() as u64);
                    continue;
                }
                Err(error @ StoreError::Unavailable(_)) if orders.iter().any(Order::starts_strict) => {
                    warn!("it is not known whether strict units were scheduled: leaving the lead to find out");
                    return Err(error);
                }
                // Nobody knows whether it was written: what comes next must rest on a picture that shows it.
                Err(StoreError::Unavailable(_)) => self.unsure = true,
                Ok(None) => {}
                Err(error) => return Err(error),
            }
            orders.iter().for_each(|order| self.put_back(&order.unit));
        }
        Ok(())
    }

    /// What was decided about a unit has not been written, and is decided again.
    fn put_back(&mut self, unit: &UnitName) {
        self.planner.refused(unit);
        self.unwritten.insert(unit.clone());
    }

    /// The files that machines will need for what they are given. To send them along costs one request for many
    /// machines, where each would ask for its own.
    async fn new_files(&self, orders: &[Order], current: &Snapshot) -> Files {
        let new: Vec<UnitHash> = orders.iter().filter_map(|order| order.new_contents(current)).collect();
        // For others the machines ask, so nothing waits for a store that is slow.
        let files = match timeout(PATIENCE, self.engine.files.get(new.iter().copied())).await {
            Ok(Ok(files)) => files,
            _ => self.engine.files.at_hand(new),
        };
        self.forget_files();
        files
    }

    /// Memory is to hold few files, and what is still of use was read in them.
    fn forget_files(&self) {
        self.engine.files.retain(|hash| self.contents.missing().contains(hash));
    }

    /// Whether a refusal was about the units and not about the leadership.
    async fn still_leads(&self) -> Result<bool, StoreError> {
        let page = match self.engine.store.get(std::slice::from_ref(&self.leadership.key)).await {
            Err(StoreError::Unavailable(_)) => return Ok(true),
            page => page?,
        };
        Ok(page.entries.first().is_some_and(|stored| stored.create_revision == self.leadership.revision))
    }

    /// Takes evictions back: of machines that are there, and of those that have nothing left to be moved. Whether the
    /// store has taken it.
    pub(super) async fn end_evictions(&mut self, current: &Snapshot) -> Result<bool, StoreError> {
        for machine in &self.evicted {
            let Some(edits) = current.metadata.get(machine) else { continue };
            let there =
                current.machines.contains_key(machine) || current.unreadable.contains(&Key::Machine(machine.clone()));
            if !there && self.placements.on(machine).next().is_some() {
                continue;
            }
            let key = self.engine.keys.format(&Key::Metadata(machine.clone()));
            let record = MetadataEdits { evicted: false, ..(*edits.record).clone() };
            let guards = vec![self.leadership.guard(), Guard::Unchanged(key.clone(), edits.revision)];
            let writes = vec![Write::put(key, record.encode())];
            match self.engine.store.commit(Transaction { guards, writes }).await {
                Ok(Some(revision)) => {
                    info!(%machine, there, "its eviction is over");
                    self.written = self.written.max(revision);
                }
                // Changed meanwhile, which is news; or the leadership is over, which the next write finds out.
                Ok(None) => {}
                Err(StoreError::Unavailable(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

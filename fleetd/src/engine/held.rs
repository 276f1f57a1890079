//! What the leader holds back, shown in the store for all to see.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleet_core::{
    model::{HeldMachineRecord, HeldRecord, HeldUnitRecord, Key, Record, timestamp},
    sched::{HeldBy, HeldMachine},
};
use tracing::debug;

use super::Engine;
use crate::registry::{Leadership, Store, StoreError, Transaction, Write};

/// Most units that are named: the value has to fit into a request.
const UNITS: usize = 1000;

/// Keeps `engine/held` as it should be.
pub struct Held {
    /// The time of day at which the leader's own time began. Fixed, so that a moment is always written alike.
    began: Duration,
    /// What is in the store; `None` before this leader has written anything.
    shown: Option<HeldRecord>,
}

impl Held {
    /// At a term's beginning; the leader's own time is `now`.
    pub fn new(now: Duration) -> Self {
        let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: today.saturating_sub(now), shown: None }
    }

    /// What a machine's being held looks like in the store; `None` when that is over too soon to be told.
    pub fn machine(&self, held: &HeldMachine) -> Option<HeldMachineRecord> {
        let reason = match held.by {
            // Over before anybody could read it.
            HeldBy::Return => return None,
            HeldBy::Trouble => "etcd was slow or away, or the engine is new: machines that are well come back",
            HeldBy::Brake => "many machines vanished together",
        };
        Some(HeldMachineRecord {
            id: held.machine.clone(),
            since: self.time(held.since),
            until: held.until.map(|at| self.time(at)),
            reason: reason.into(),
        })
    }

    /// A moment of the leader's time as a time of day.
    pub fn time(&self, at: Duration) -> String {
        timestamp(self.began.saturating_add(at).as_secs())
    }

    /// Writes what is held when it is something else than before. Whether the store took it.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn show<S: Store>(
        &mut self,
        engine: &Engine<S>,
        leadership: &Leadership,
        machines: Vec<HeldMachineRecord>,
        mut units: Vec<HeldUnitRecord>,
    ) -> Result<bool, StoreError> {
        engine.metrics.held_machines.set(machines.len() as i64);
        units.truncate(UNITS);
        let record = HeldRecord { machines, units, ..HeldRecord::default() };
        if self.shown.as_ref() == Some(&record) {
            return Ok(true);
        }
        let key = engine.keys.format(&Key::Held);
        let write =
            if record == HeldRecord::default() { Write::Delete { key } } else { Write::put(key, record.encode()) };
        match engine.store.commit(Transaction { guards: vec![leadership.guard()], writes: vec![write] }).await {
            Ok(Some(_)) => {
                self.shown = Some(record);
                Ok(true)
            }
            Ok(None) => Err(StoreError::LeaseGone),
            Err(StoreError::Unavailable(error)) => {
                debug!(%error, "what is held is not shown, trying again");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

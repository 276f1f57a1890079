//! The operator of a simulated cluster, who gives one order after the other, on the very way that the API goes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleet_core::{model::Keys, ops::Operation, unit::UnitName};
use fleetd::registry::{
    StoreError,
    commit::{Failure, carry_out},
    memory::{MemoryClient, MemoryStore},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::broke;

/// The operator's client of the store.
const NAME: &str = "operator";
/// How long the operator waits when the API answers 503.
const PAUSE: Duration = Duration::from_secs(1);
/// More orders than a script has.
const ORDERS: usize = 256;

/// Gives orders.
pub struct Operator {
    orders: mpsc::Sender<Operation>,
    given: Arc<Mutex<Vec<(Instant, UnitName)>>>,
    _task: AbortOnDropHandle<()>,
}

impl Operator {
    pub fn new(store: &MemoryStore, keys: &Keys) -> Self {
        let (orders, next) = mpsc::channel(ORDERS);
        let given = Arc::default();
        let work = Work { client: store.client(NAME), keys: keys.clone(), given: Arc::clone(&given) };
        Self { orders, given, _task: AbortOnDropHandle::new(tokio::spawn(work.run(next))) }
    }

    /// Gives an order, which is carried out after those before it.
    pub fn order(&self, operation: Operation) {
        if self.orders.try_send(operation).is_err() {
            broke("the operator has too much to do".into());
        }
    }

    /// The units that something was done to, and when that was tried.
    pub fn given(&self) -> Vec<(Instant, UnitName)> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Work {
    client: MemoryClient,
    keys: Keys,
    given: Arc<Mutex<Vec<(Instant, UnitName)>>>,
}

impl Work {
    async fn run(self, mut next: mpsc::Receiver<Operation>) {
        while let Some(operation) = next.recv().await {
            loop {
                self.note(&operation);
                match carry_out(&self.client, &self.keys, &operation).await {
                    // It may have been carried out all the same; then it is asked for again.
                    Err(Failure::Store(error)) if matches!(*error, StoreError::Unavailable(_)) => sleep(PAUSE).await,
                    Err(Failure::Store(error)) => break broke(format!("the operator cannot {operation}: {error}")),
                    // A unit that is not there is not restarted, and a machine that is gone is not drained.
                    Ok(_) | Err(Failure::Refused(_)) => break,
                }
            }
        }
    }

    fn note(&self, operation: &Operation) {
        let name = match operation {
            Operation::Set(request) => &request.name,
            Operation::Destroy(name) => name,
            Operation::Restart(request) => &request.name,
            _ => return,
        };
        self.given.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), name.clone()));
    }
}

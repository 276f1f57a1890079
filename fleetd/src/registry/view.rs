//! The snapshot of the whole cluster, kept up only while somebody needs it.
//!
//! The leading engine needs it as long as it leads; the API from a request until a minute after. On the other
//! hosts no watch is open, so a placement wakes the host that it is for, and nobody else. What was seen last is
//! kept in memory: it is what the API answers with when the store is out of reach.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use fleet_core::model::{Keys, Snapshot};
use thiserror::Error;
use tokio::{sync::watch, task::AbortHandle, time::timeout};

use super::{Revision, Store, mirror};
use crate::clock::monotonic;

/// How long the mirror stays after it was last asked for.
const LINGER: Duration = Duration::from_secs(60);
/// How long a reader waits for a fresh snapshot before it takes the last one known.
const PATIENCE: Duration = Duration::from_secs(2);

/// The snapshot of the whole cluster. Cheap to clone.
#[derive(Clone)]
pub struct View<S> {
    store: S,
    keys: Keys,
    cluster: Arc<watch::Sender<Snapshot>>,
    running: Arc<Mutex<Weak<Running>>>,
    linger: Arc<Mutex<Option<AbortHandle>>>,
}

/// Keeps the mirror running; it ends with the last of these.
pub struct Running {
    task: AbortHandle,
    cluster: Arc<watch::Sender<Snapshot>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.cluster.send_modify(|cluster| {
            cluster.stale_since.get_or_insert_with(monotonic);
        });
    }
}

/// Nothing is known of the cluster, and the store does not answer.
#[derive(Debug, Error)]
#[error("fleet server unable to communicate with etcd")]
pub struct NothingKnown;

/// A snapshot for a reader.
pub struct Reading {
    /// The snapshot.
    pub cluster: Snapshot,
    /// How old it is when the store is out of reach.
    pub age: Option<Duration>,
}

impl<S: Store> View<S> {
    /// A view that is not running yet.
    #[must_use]
    pub fn new(store: S, keys: Keys) -> Self {
        let (cluster, _) = watch::channel(Snapshot::default());
        Self { store, keys, cluster: Arc::new(cluster), running: Arc::default(), linger: Arc::default() }
    }

    /// Keeps the mirror running as long as the first value lives, and shows what it sees.
    #[must_use]
    pub fn open(&self) -> (Arc<Running>, watch::Receiver<Snapshot>) {
        let mut slot = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = slot.upgrade().unwrap_or_else(|| {
            let (store, keys, cluster) = (self.store.clone(), self.keys.clone(), Arc::clone(&self.cluster));
            cluster.send_modify(|cluster| {
                cluster.stale_since.get_or_insert_with(monotonic);
            });
            let follow = async move { mirror::follow(&store, &keys, &[keys.followed()], &cluster).await };
            let task = tokio::spawn(follow).abort_handle();
            let running = Arc::new(Running { task, cluster: Arc::clone(&self.cluster) });
            *slot = Arc::downgrade(&running);
            running
        });
        (running, self.cluster.subscribe())
    }

    /// The cluster as it is now; when the store is out of reach, as it was when last seen.
    ///
    /// # Errors
    /// When it was never seen.
    pub async fn read(&self) -> Result<Reading, NothingKnown> {
        let (running, mut cluster) = self.open();
        self.linger(running);
        let _ = timeout(PATIENCE, cluster.wait_for(Snapshot::is_fresh)).await;
        let cluster = cluster.borrow().clone();
        if !cluster.complete {
            return Err(NothingKnown);
        }
        let age = cluster.stale_since.map(|since| monotonic().saturating_sub(since));
        Ok(Reading { cluster, age })
    }

    /// Waits until readers see `revision`, when there are any, so that who writes can read what was written.
    pub async fn seen(&self, revision: Revision) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if running.is_some() {
            let mut cluster = self.cluster.subscribe();
            let _ = timeout(PATIENCE, cluster.wait_for(|cluster| cluster.revision >= revision)).await;
        }
    }

    /// Keeps the mirror running for nobody any more: the daemon ends.
    pub fn close(&self) {
        if let Some(linger) = self.linger.lock().unwrap_or_else(PoisonError::into_inner).take() {
            linger.abort();
        }
    }

    fn linger(&self, running: Arc<Running>) {
        let task = tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            drop(running);
        });
        let mut linger = self.linger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = linger.replace(task.abort_handle()) {
            before.abort();
        }
    }
}

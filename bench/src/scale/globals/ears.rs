//! The watches of all machines, each on its own entries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use fleetd::registry::{Etcd, Store, Watch, WatchEvent};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{AT_ONCE, CONNECTIONS, cluster::Cluster, connect};

/// The watches. They end when this is dropped.
pub struct Ears {
    heard: Arc<AtomicU64>,
    _listening: Vec<AbortOnDropHandle<()>>,
}

impl Ears {
    /// Opens them.
    ///
    /// # Errors
    /// Etcd does not open one.
    pub async fn open(cluster: &Cluster, url: &str) -> Result<Self> {
        let stores: Vec<Etcd> = (0..CONNECTIONS).map(|_| connect(url)).collect();
        let from = cluster.revision().await? + 1;
        let heard = Arc::new(AtomicU64::new(0));
        let opening = stream::iter(cluster.machines.iter().enumerate()).map(|(number, machine)| {
            let (store, heard) = (&stores[number % CONNECTIONS], Arc::clone(&heard));
            async move {
                let mut watch = store.watch(&cluster.range(machine), from).await?;
                let listening = async move {
                    while let Ok(WatchEvent::Changed { changes, .. }) = watch.next().await {
                        heard.fetch_add(changes.len() as u64, Ordering::Relaxed);
                    }
                };
                anyhow::Ok(AbortOnDropHandle::new(tokio::spawn(listening)))
            }
        });
        let _listening = opening.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(Self { heard, _listening })
    }

    /// How many changes they have told of.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until they have told of so many.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn until(&self, wanted: u64, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.heard() < wanted {
            if Instant::now() > deadline {
                bail!("not within {patience:?}: {wanted} changes are heard of; last seen: {}", self.heard());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

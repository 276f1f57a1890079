//! Keeping a lease alive.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{KeepAlive, LeaseId, Store, StoreError};
use crate::backoff::Backoff;

/// Keeps `lease` alive until etcd says that it is gone, however long etcd is away in between.
///
/// `acknowledged` gets the time, by `now`, at which the last keepalive that etcd has answered was *sent*: until that
/// time plus the TTL the lease cannot have run out, whatever the network did with the answer.
pub async fn keep<S: Store, T>(
    store: &S,
    lease: LeaseId,
    ttl: Duration,
    now: impl Fn() -> T,
    acknowledged: &watch::Sender<T>,
) {
    let interval = ttl / 3;
    let mut backoff = Backoff::new(Duration::from_millis(100), interval.min(Duration::from_secs(2)));
    loop {
        let error = match beats(store, lease, interval, &now, acknowledged, &mut backoff).await {
            Err(StoreError::LeaseGone) => return,
            Err(error) => error,
            Ok(never) => match never {},
        };
        debug!(error = %crate::chain(&error), "keepalive failed, trying again");
        sleep(backoff.delay()).await;
    }
}

async fn beats<S: Store, T>(
    store: &S,
    lease: LeaseId,
    interval: Duration,
    now: &impl Fn() -> T,
    acknowledged: &watch::Sender<T>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, StoreError> {
    let sent = now();
    let mut stream = store.keep_alive(lease).await?;
    acknowledged.send_replace(sent);
    loop {
        backoff.reset();
        sleep(interval).await;
        let sent = now();
        match timeout(interval, stream.beat()).await {
            Ok(answer) => answer?,
            Err(elapsed) => return Err(StoreError::Unavailable(Box::new(elapsed))),
        }
        acknowledged.send_replace(sent);
    }
}

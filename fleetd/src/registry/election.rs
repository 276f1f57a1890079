//! Standing for election.
//!
//! As etcd's own election API does it, and with the same keys, so that both may stand in one election: a candidate is a
//! key `<election>/<lease>` that lives with a lease, and the oldest leads. Only that here the candidate itself waits for
//! those before it to go. Etcd (3.4) was seen to leave candidates of a cluster of 1,000 machines waiting for ever, all
//! of them, until it was restarted.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;
use tracing::debug;

use super::{Guard, Leadership, LeaseId, Range, Store, StoreError, Stored, Transaction, Watch, WatchEvent, Write};
use crate::backoff::Backoff;

/// Stands for election, and waits until nobody stands who has stood before. A store that is away meanwhile is waited
/// for. The candidacy ends with the lease, and only with it.
///
/// # Errors
/// `LeaseGone` when it has ended; what else the store refuses; that it cannot be reached only while nobody knows whether
/// this candidate stands.
pub async fn campaign<S: Store>(
    store: &S,
    election: &str,
    name: &str,
    lease: LeaseId,
) -> Result<Leadership, StoreError> {
    let key = format!("{election}/{lease}");
    let range = (format!("{election}/"), format!("{election}0"));
    let guards = vec![Guard::Unchanged(key.clone(), 0)];
    let writes = vec![Write::Put { key: key.clone(), value: name.into(), lease: Some(lease) }];
    // One that stands already, perhaps because an answer was lost, goes on to stand.
    store.commit(Transaction { guards, writes }).await?;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        match wait_for_lead(store, &range, &key).await {
            Err(error @ (StoreError::Unavailable(_) | StoreError::Compacted)) => {
                debug!(error = %crate::chain(&error), "election out of sight, looking again");
                sleep(backoff.delay()).await;
            }
            outcome => return outcome,
        }
    }
}

/// Whether a key in an election is a candidate's. One without a lease is nobody's, and would never go.
#[must_use]
pub fn stands(key: &Stored) -> bool {
    key.lease.is_some()
}

/// The candidates among `entries` that have stood before this one.
pub fn before<'e>(own: &'e Stored, entries: &'e [Stored]) -> impl Iterator<Item = &'e Stored> {
    entries.iter().filter(|other| stands(other) && other.create_revision < own.create_revision)
}

async fn wait_for_lead<S: Store>(store: &S, range: &Range, key: &str) -> Result<Leadership, StoreError> {
    let page = store.list(range, None, 0).await?;
    let own = page.entries.iter().find(|stored| stored.key == key).ok_or(StoreError::LeaseGone)?;
    let leadership = Leadership { key: key.to_owned(), revision: own.create_revision };
    let mut older: BTreeSet<String> = before(own, &page.entries).map(|stored| stored.key.clone()).collect();
    if older.is_empty() {
        return Ok(leadership);
    }
    // From what was seen already, because of what a mirror says of compaction.
    let mut watch = store.watch(range, page.revision).await?;
    while !older.is_empty() {
        let WatchEvent::Changed { changes, .. } = watch.next().await? else { return Err(StoreError::Compacted) };
        for gone in changes.into_iter().filter_map(Result::err) {
            if gone == key {
                return Err(StoreError::LeaseGone);
            }
            older.remove(&gone);
        }
    }
    Ok(leadership)
}

#[cfg(test)]
mod tests {
    use tokio::{task::JoinHandle, time::timeout};

    use super::*;
    use crate::registry::memory::{Condition, MemoryStore};

    const ELECTION: &str = "e/engine";

    async fn stand(etcd: &MemoryStore, name: &'static str) -> (LeaseId, JoinHandle<Result<Leadership, StoreError>>) {
        let client = etcd.client(name);
        let lease = client.grant(Duration::from_secs(3600)).await.unwrap();
        let standing = tokio::spawn(async move { campaign(&client, ELECTION, name, lease).await });
        // Long enough to stand, far too short for anything that is waited for.
        sleep(Duration::from_secs(1)).await;
        (lease, standing)
    }

    fn etcd() -> MemoryStore {
        let (etcd, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        tokio::spawn(lessor);
        etcd
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_leads_when_all_before_it_are_gone_and_not_before() {
        let etcd = etcd();
        let (first, leads) = stand(&etcd, "first").await;
        let first_led = leads.await.unwrap().unwrap();
        let (second, waits) = stand(&etcd, "second").await;
        let (_, third) = stand(&etcd, "third").await;
        let client = etcd.client("operator");
        client.revoke(second).await.unwrap();
        assert!(matches!(waits.await.unwrap(), Err(StoreError::LeaseGone)), "its own lease is gone");
        sleep(Duration::from_secs(600)).await;
        assert!(!third.is_finished(), "the first leads");
        client.revoke(first).await.unwrap();
        let led = timeout(Duration::from_secs(1), third).await.expect("nobody stands before it").unwrap().unwrap();
        assert!(led.revision > first_led.revision);
    }

    #[tokio::test(start_paused = true)]
    async fn candidate_keeps_its_place_while_the_store_is_away() {
        let etcd = etcd();
        let (first, leads) = stand(&etcd, "first").await;
        leads.await.unwrap().unwrap();
        let (_, second) = stand(&etcd, "second").await;
        let (_, third) = stand(&etcd, "third").await;
        etcd.set_condition(Condition::Down);
        sleep(Duration::from_secs(60)).await;
        etcd.set_condition(Condition::Up);
        etcd.client("operator").revoke(first).await.unwrap();
        timeout(Duration::from_secs(10), second).await.expect("it is the next").unwrap().unwrap();
        assert!(!third.is_finished());
    }
}

//! What plain etcd takes to write the keys that a cluster has written.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use fleet_tests::EtcdProcess;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::operator::CONNECTIONS;

/// Keys of one kind.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    /// Each with its value and, if it lives with a lease, a name of that.
    pub keys: Vec<(String, Vec<u8>, Option<i64>)>,
    /// How many transactions they are to be written in.
    pub transactions: u64,
}

/// Writes keys, one kind after the other, to an etcd that does nothing else; as many transactions at a time as there
/// are requests of an operator. Returns how long that took.
///
/// # Errors
/// Etcd refuses.
pub async fn write(kinds: &[Batches], ttl: Duration) -> Result<Duration> {
    let etcd = EtcdProcess::start();
    let mut client = Client::connect([etcd.url()], None).await.context("etcd does not answer")?;
    let mut leases = BTreeMap::new();
    for name in kinds.iter().flat_map(|kind| &kind.keys).filter_map(|(_, _, lease)| *lease) {
        if let std::collections::btree_map::Entry::Vacant(entry) = leases.entry(name) {
            // Nothing keeps them alive here.
            entry.insert(client.lease_grant(ttl.as_secs() as i64 * 100, None).await?.id());
        }
    }
    let put = |(key, value, lease): &(String, Vec<u8>, Option<i64>)| {
        let lease = lease.and_then(|name| leases.get(&name));
        TxnOp::put(key.as_str(), value.as_slice(), lease.map(|lease| PutOptions::new().with_lease(*lease)))
    };
    let transactions: Vec<Vec<Txn>> = kinds
        .iter()
        .map(|kind| {
            let count = (kind.transactions as usize).clamp(1, kind.keys.len().max(1));
            let part = |n: usize| &kind.keys[kind.keys.len() * n / count..kind.keys.len() * (n + 1) / count];
            (0..count).map(|n| Txn::new().and_then(part(n).iter().map(put).collect::<Vec<_>>())).collect()
        })
        .collect();
    let start = Instant::now();
    for transactions in transactions {
        let written = stream::iter(transactions).map(|transaction| {
            let mut client = client.clone();
            async move { client.txn(transaction).await }
        });
        written.buffer_unordered(CONNECTIONS).try_for_each(|_| async { Ok(()) }).await?;
    }
    Ok(start.elapsed())
}

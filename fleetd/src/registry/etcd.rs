//! The store in etcd v3.
//!
//! Streams of the client never come back by themselves, and without HTTP/2 keepalives a frozen member hangs them
//! for ever without an error; both are seen to here and in [`super::mirror`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions, GetResponse, KeyValue,
    LeaseKeepAliveStream, LeaseKeeper, LeaseTimeToLiveResponse, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
    WatchFilterType, WatchOptions, WatchStream,
};
use futures_util::{StreamExt, TryStreamExt, stream};

pub use super::endpoints::Endpoints;
use super::{
    Detail, Guard, KeepAlive, LeaseId, MAX_OPERATIONS, Origin, Page, Range, Remaining, Revision, Store, StoreError,
    Stored, Transaction, Watch, WatchEvent, Write,
    cause::classify,
    endpoints::{Clients, Members},
};

/// Largest answer accepted, in bytes. Catching up a watch can bring 11 MB in one message; the default of 4 MiB
/// would end the stream for good.
const MAX_MESSAGE: usize = 64 << 20;

/// Requests under way at a time, where many are made.
const IN_FLIGHT: usize = 32;

/// Handle to etcd. Cheap to clone.
#[derive(Clone)]
pub struct Etcd(Arc<Members>);

impl Etcd {
    /// A handle that connects when it is first used, and tries again each time it is while that fails.
    #[must_use]
    pub fn new(endpoints: Endpoints) -> Self {
        Self(Arc::new(Members::new(endpoints)))
    }

    /// Has the next requests go over new connections, because those that there are may be dead without a sign of it.
    pub async fn reconnect(&self) {
        self.0.reconnect().await;
    }

    /// Asks for a part of a range.
    async fn range(&self, from: &[u8], options: GetOptions) -> Result<GetResponse, StoreError> {
        let request = |clients: Clients| {
            let options = options.clone();
            async move {
                let mut kv = clients.requests.kv_client().max_decoding_message_size(MAX_MESSAGE);
                kv.get(from, Some(options)).await
            }
        };
        self.0.ask("list keys", request).await
    }

    /// Asks for single keys.
    async fn read(&self, keys: &[String], options: &GetOptions) -> Result<Page, StoreError> {
        let mut entries = Vec::with_capacity(keys.len());
        let mut revision = None;
        let mut chunks: Vec<&[String]> = keys.rchunks(MAX_OPERATIONS).collect();
        while let Some(keys) = chunks.pop() {
            let gets: Vec<TxnOp> = keys.iter().map(|key| TxnOp::get(key.as_str(), Some(options.clone()))).collect();
            let answer = self
                .0
                .ask("read keys", |clients| {
                    let gets = gets.clone();
                    async move {
                        let mut kv = clients.requests.kv_client().max_decoding_message_size(MAX_MESSAGE);
                        kv.txn(Txn::new().and_then(gets)).await
                    }
                })
                .await;
            let answer = match answer {
                Err(StoreError::TooLarge) if keys.len() > 1 => {
                    let (first, second) = keys.split_at(keys.len() / 2);
                    chunks.extend([second, first]);
                    continue;
                }
                answer => answer?,
            };
            revision = revision.or_else(|| answer.header().map(|header| header.revision()));
            for response in answer.op_responses() {
                if let TxnOpResponse::Get(response) = response {
                    entries.extend(response.kvs().iter().map(stored));
                }
            }
        }
        Ok(Page { entries, revision: revision.unwrap_or_default(), more: false })
    }

    /// Opens a watch.
    async fn open(
        &self,
        (from, to): &Range,
        revision: Revision,
        options: WatchOptions,
    ) -> Result<EtcdWatch, StoreError> {
        let options = options.with_range(to.as_str()).with_start_revision(revision).with_progress_notify();
        let (stream, created) = self
            .0
            .ask("watch", |clients| {
                let options = options.clone();
                let mut watch = clients.requests.watch_client().max_decoding_message_size(MAX_MESSAGE);
                async move {
                    let mut stream = watch.watch(from.as_str(), Some(options)).await?;
                    // Before all else etcd says that the watch is there.
                    let created = stream.message().await?;
                    match created {
                        // "permission denied" is also what etcd says of a token that it has forgotten.
                        Some(created) if created.canceled() && created.compact_revision() == 0 => {
                            Err(Error::WatchError(created.cancel_reason().to_owned()))
                        }
                        created => Ok((stream, created)),
                    }
                }
            })
            .await?;
        let created = created.ok_or_else(closed)?;
        let header = created.header();
        let origin = Origin {
            cluster: header.map_or(0, |header| header.cluster_id()),
            term: header.map_or(0, |header| header.raft_term()),
        };
        // One that was restored from a backup counts again from there, and would be silent until it has come as far as
        // it was.
        let behind = header.is_some_and(|header| header.revision() + 1 < revision);
        Ok(EtcdWatch { stream, origin, forgotten: behind || created.compact_revision() > 0 })
    }
}

fn txn(transaction: Transaction) -> Txn {
    let guards = transaction.guards.into_iter().map(|guard| match guard {
        Guard::Unchanged(key, revision) => Compare::mod_revision(key, CompareOp::Equal, revision),
        Guard::CreatedAt(key, revision) => Compare::create_revision(key, CompareOp::Equal, revision),
        // Of a key that does not exist etcd takes the revision for 0.
        Guard::NotAfter(key, revision) => Compare::mod_revision(key, CompareOp::Less, revision + 1),
        Guard::NoneAfter((from, to), revision) => {
            Compare::mod_revision(from, CompareOp::Less, revision + 1).with_range(to)
        }
    });
    let writes = transaction.writes.into_iter().map(|write| match write {
        Write::Put { key, value, lease } => {
            TxnOp::put(key, value, lease.map(|lease| PutOptions::new().with_lease(lease.0)))
        }
        Write::Delete { key } => TxnOp::delete(key, None),
        Write::DeleteRange { range: (from, to) } => TxnOp::delete(from, Some(DeleteOptions::new().with_range(to))),
    });
    Txn::new().when(guards.collect::<Vec<_>>()).and_then(writes.collect::<Vec<_>>())
}

fn outcome(answer: &TxnResponse) -> Option<Revision> {
    let revision = answer.header().map_or(0, |header| header.revision());
    answer.succeeded().then_some(revision)
}

fn stored(kv: &KeyValue) -> Stored {
    Stored {
        key: String::from_utf8_lossy(kv.key()).into_owned(),
        value: kv.value().to_vec(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        lease: (kv.lease() != 0).then(|| LeaseId(kv.lease())),
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the stream ended".into())
}

impl Store for Etcd {
    type Watch = EtcdWatch;
    type KeepAlive = EtcdKeepAlive;

    async fn list_in(
        &self,
        detail: Detail,
        (from, to): &Range,
        at: Option<Revision>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let (mut from, mut limit) = (from.clone().into_bytes(), limit);
        let mut page = Page { entries: Vec::new(), revision: at.unwrap_or_default(), more: true };
        loop {
            let options = match detail {
                Detail::Values => GetOptions::new(),
                Detail::Keys => GetOptions::new().with_keys_only(),
            };
            let options = options.with_range(to.as_str()).with_limit(limit as i64).with_revision(page.revision);
            let answer = match self.range(&from, options).await {
                // Values may have 1.5 MB each, whoever wrote them.
                Err(StoreError::TooLarge) if limit > 1 => {
                    limit = limit.div_ceil(8);
                    continue;
                }
                answer => answer?,
            };
            if page.revision == 0 {
                page.revision = answer.header().map_or(0, |header| header.revision());
            }
            page.entries.extend(answer.kvs().iter().map(stored));
            page.more = answer.more();
            // Whoever asks for the next page begins behind the last key, which must be one that a string can hold.
            match answer.kvs().last().map(KeyValue::key).filter(|key| std::str::from_utf8(key).is_err()) {
                Some(last) if page.more => from = [last, b"\0"].concat(),
                _ => return Ok(page),
            }
        }
    }

    async fn get(&self, keys: &[String]) -> Result<Page, StoreError> {
        self.read(keys, &GetOptions::new()).await
    }

    async fn get_immutable(&self, keys: &[String]) -> Result<Page, StoreError> {
        self.read(keys, &GetOptions::new().with_serializable()).await
    }

    async fn watch(&self, range: &Range, from: Revision) -> Result<EtcdWatch, StoreError> {
        self.open(range, from, WatchOptions::new()).await
    }

    async fn watch_deletions(&self, range: &Range, from: Revision) -> Result<EtcdWatch, StoreError> {
        self.open(range, from, WatchOptions::new().with_filters([WatchFilterType::NoPut])).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Option<Revision>, StoreError> {
        // One whose first try did land fails its guards when it is repeated: ambiguity ends as a refusal. The first
        // try may still land after that refusal.
        let transaction = txn(transaction);
        let answer = self.0.ask("write", |mut to| {
            let transaction = transaction.clone();
            async move { to.requests.txn(transaction).await }
        });
        Ok(outcome(&answer.await?))
    }

    async fn commit_once(&self, transaction: Transaction) -> Result<Option<Revision>, StoreError> {
        let transaction = txn(transaction);
        let answer = self.0.ask_once("write", |mut to| async move { to.requests.txn(transaction).await });
        Ok(outcome(&answer.await?))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let ttl = ttl.as_secs() as i64;
        let answer =
            self.0.ask("grant a lease", |mut to| async move { to.leases.lease_grant(ttl, None).await }).await?;
        Ok(LeaseId(answer.id()))
    }

    fn members(&self) -> usize {
        self.0.count().max(1)
    }

    fn nearest(&self) -> usize {
        self.0.current()
    }

    async fn keep_alive(&self, lease: LeaseId, member: usize) -> Result<EtcdKeepAlive, StoreError> {
        let open = |mut clients: Clients| async move {
            let (keeper, stream) = clients.leases.lease_keep_alive(lease.0).await?;
            Ok(EtcdKeepAlive { keeper, stream, members: Arc::clone(&self.0), _client: clients.leases })
        };
        self.0.ask_one(member, "keep a lease alive", open).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        match self.0.ask("revoke a lease", |mut to| async move { to.leases.lease_revoke(lease.0).await }).await {
            Ok(_) | Err(StoreError::LeaseGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn remaining(&self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, Remaining>, StoreError> {
        let ask = |lease: LeaseId| async move {
            let request =
                |clients: Clients| async move { clients.requests.lease_client().time_to_live(lease.0, None).await };
            Ok((lease, self.0.ask("read a lease", request).await?))
        };
        let answers: Vec<_> = stream::iter(leases.iter().copied()).map(ask).buffered(IN_FLIGHT).try_collect().await?;
        // -1 stands for a lease that is gone.
        let alive = answers.into_iter().filter(|(_, answer)| answer.ttl() >= 0);
        let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        let remaining = |answer: LeaseTimeToLiveResponse| Remaining {
            left: seconds(answer.ttl()),
            granted: seconds(answer.granted_ttl()),
        };
        Ok(alive.map(|(lease, answer)| (lease, remaining(answer))).collect())
    }
}

/// A watch on etcd.
pub struct EtcdWatch {
    stream: WatchStream,
    origin: Origin,
    /// The store does not know any more what is to be told.
    forgotten: bool,
}

impl Watch for EtcdWatch {
    fn origin(&self) -> Origin {
        self.origin
    }

    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        if self.forgotten {
            return Ok(WatchEvent::Compacted);
        }
        let message = match self.stream.message().await.map_err(|error| classify("watch", &error)) {
            // Too much has changed at once to be told of; a list can be read in parts.
            Err(StoreError::TooLarge) => return Ok(WatchEvent::Compacted),
            message => message?.ok_or_else(closed)?,
        };
        // Compaction comes as a cancel with an empty reason, not as an error.
        if message.compact_revision() > 0 {
            return Ok(WatchEvent::Compacted);
        }
        if message.canceled() {
            return Err(StoreError::Unavailable(message.cancel_reason().into()));
        }
        // While a watch catches up, the header is ahead of the events: only they say how far it has come.
        let header = message.header().map_or(0, |header| header.revision());
        let last = message.events().last().and_then(|event| event.kv());
        let revision = last.map_or(header, KeyValue::mod_revision);
        let changes = message.events().iter().filter_map(|event| {
            let kv = event.kv()?;
            Some(match event.event_type() {
                EventType::Put => Ok(stored(kv)),
                EventType::Delete => Err(String::from_utf8_lossy(kv.key()).into_owned()),
            })
        });
        Ok(WatchEvent::Changed { revision, changes: changes.collect() })
    }
}

/// Keepalives to etcd.
pub struct EtcdKeepAlive {
    keeper: LeaseKeeper,
    stream: LeaseKeepAliveStream,
    members: Arc<Members>,
    /// Ends the connection when it goes, if nothing else uses it.
    _client: Client,
}

impl KeepAlive for EtcdKeepAlive {
    async fn beat(&mut self) -> Result<(), StoreError> {
        self.keeper.keep_alive().await.map_err(|_| closed())?;
        let answer = self.stream.message().await.map_err(|error| classify("keep a lease alive", &error))?;
        let answer = answer.ok_or_else(closed)?;
        self.members.outage.answered();
        match answer.ttl() {
            0 => Err(StoreError::LeaseGone),
            _ => Ok(()),
        }
    }
}

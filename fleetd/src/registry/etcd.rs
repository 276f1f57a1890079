//! The store in etcd v3.
//!
//! Streams of the client never come back by themselves, and without HTTP/2 keepalives a frozen member hangs them
//! for ever without an error; both are seen to here and in [`super::mirror`].

use std::{sync::Arc, time::Duration};

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, EventType, GetOptions, GetResponse, Identity,
    KeyValue, LeaseKeepAliveStream, LeaseKeeper, PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse, WatchOptions,
    WatchStream,
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    Guard, KeepAlive, Leadership, LeaseId, MAX_OPERATIONS, Page, Range, Revision, Store, StoreError, Stored,
    Transaction, Watch, WatchEvent, Write,
};

/// Largest answer accepted, in bytes. Catching up a watch can bring 11 MB in one message; the default of 4 MiB
/// would end the stream for good.
const MAX_MESSAGE: usize = 64 << 20;

/// The gRPC code for a server that cannot be reached.
const UNAVAILABLE: i32 = 14;

/// How often, and for how long, the connection itself is probed.
const PING: Duration = Duration::from_secs(3);

/// How to reach etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// URLs of the members.
    pub urls: Vec<String>,
    /// User and password.
    pub user: Option<(String, String)>,
    /// The certificate authority that signed the members' certificates, as PEM.
    pub ca: Option<Vec<u8>>,
    /// The client's own certificate and key, as PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// How long a request may take.
    pub request_timeout: Duration,
}

/// Handle to etcd. Cheap to clone.
#[derive(Clone)]
pub struct Etcd {
    endpoints: Arc<Endpoints>,
    clients: Arc<OnceCell<Clients>>,
}

/// Two connections: a large list on one cannot hold up a keepalive on the other.
struct Clients {
    requests: Client,
    leases: Client,
}

impl Etcd {
    /// A handle that connects when it is first used, and tries again each time it is while that fails.
    #[must_use]
    pub fn new(endpoints: Endpoints) -> Self {
        Self { endpoints: Arc::new(endpoints), clients: Arc::default() }
    }

    async fn clients(&self) -> Result<&Clients, StoreError> {
        let connect = || async {
            let options = connect_options(&self.endpoints);
            let connect = |options| Client::connect(&self.endpoints.urls, Some(options));
            let requests = connect(options.clone().with_timeout(self.endpoints.request_timeout)).await?;
            // No timeout for requests here: `campaign` is one that waits, for months if need be.
            let leases = connect(options).await?;
            Ok(Clients { requests, leases })
        };
        self.clients.get_or_try_init(connect).await.map_err(|error| classify("connect", error))
    }

    /// Runs an idempotent or guarded request, again at once while a member cannot be reached: the balancer goes on
    /// picking dead members as long as they are down. One that took its time is not repeated.
    async fn request<T, F, O>(&self, what: &'static str, mut attempt: F) -> Result<T, StoreError>
    where
        F: FnMut(Client) -> O,
        O: Future<Output = Result<T, Error>>,
    {
        let clients = self.clients().await?;
        let mut tries = self.endpoints.urls.len();
        loop {
            match attempt(clients.requests.clone()).await {
                Err(Error::GRpcStatus(status)) if status.code() as i32 == UNAVAILABLE && tries > 0 => tries -= 1,
                result => return result.map_err(|error| classify(what, error)),
            }
        }
    }

    /// Asks for a part of a range, at a revision or (0) now.
    async fn range(&self, from: &[u8], to: &str, at: Revision, limit: usize) -> Result<GetResponse, StoreError> {
        let options = GetOptions::new().with_range(to).with_limit(limit as i64).with_revision(at);
        self.request("list keys", |client| {
            let options = options.clone();
            async move {
                let mut kv = client.kv_client().max_decoding_message_size(MAX_MESSAGE);
                kv.get(from, Some(options)).await
            }
        })
        .await
    }

    /// Runs a request on the lease connection, which has no timeout of its own.
    async fn bounded<T, F, O>(&self, what: &'static str, request: F) -> Result<T, StoreError>
    where
        F: FnOnce(Client) -> O,
        O: Future<Output = Result<T, Error>>,
    {
        let client = self.clients().await?.leases.clone();
        match timeout(self.endpoints.request_timeout, request(client)).await {
            Ok(result) => result.map_err(|error| classify(what, error)),
            Err(elapsed) => Err(StoreError::Unavailable(Box::new(elapsed))),
        }
    }
}

fn connect_options(endpoints: &Endpoints) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .with_keep_alive(PING, PING)
        .with_keep_alive_while_idle(true)
        .with_connect_timeout(Duration::from_secs(2))
        .with_require_leader(true);
    if let Some((user, password)) = &endpoints.user {
        options = options.with_user(user, password).with_auto_token_refresh(true);
    }
    if endpoints.ca.is_some() || endpoints.identity.is_some() {
        let mut tls = TlsOptions::new();
        if let Some(ca) = &endpoints.ca {
            tls = tls.ca_certificate(Certificate::from_pem(ca));
        }
        if let Some((certificate, key)) = &endpoints.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        options = options.with_tls(tls);
    }
    options
}

/// Tells what fleet does about an error of the client.
fn classify(what: &'static str, error: Error) -> StoreError {
    // gRPC codes by number, so that tonic need not be a dependency: 1 cancelled, 4 deadline exceeded,
    // 5 not found, 10 aborted, 11 out of range, 13 internal, 14 unavailable, 2 unknown.
    match &error {
        Error::TransportError(_) | Error::IoError(_) => StoreError::Unavailable(Box::new(error)),
        Error::GRpcStatus(status) => match status.code() as i32 {
            // The client's own word for an answer beyond its limit has the number of a compacted revision.
            11 if status.message().contains("message length too large") => StoreError::TooLarge,
            11 => StoreError::Compacted,
            5 => StoreError::LeaseGone,
            1 | 2 | 4 | 10 | 13 | UNAVAILABLE => StoreError::Unavailable(Box::new(error)),
            _ => StoreError::Refused { what, source: Box::new(error) },
        },
        Error::LeaseKeepAliveError(_) => StoreError::LeaseGone,
        _ => StoreError::Refused { what, source: Box::new(error) },
    }
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

    async fn list(&self, (from, to): &Range, at: Option<Revision>, limit: usize) -> Result<Page, StoreError> {
        let (mut from, mut limit) = (from.clone().into_bytes(), limit);
        let mut page = Page { entries: Vec::new(), revision: at.unwrap_or_default(), more: true };
        loop {
            let answer = match self.range(&from, to, page.revision, limit).await {
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
        let mut entries = Vec::with_capacity(keys.len());
        let mut revision = None;
        let mut chunks: Vec<&[String]> = keys.rchunks(MAX_OPERATIONS).collect();
        while let Some(keys) = chunks.pop() {
            let gets: Vec<TxnOp> = keys.iter().map(|key| TxnOp::get(key.as_str(), None)).collect();
            let answer = self
                .request("read keys", |client| {
                    let gets = gets.clone();
                    async move {
                        let mut kv = client.kv_client().max_decoding_message_size(MAX_MESSAGE);
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

    async fn watch(&self, (from, to): &Range, revision: Revision) -> Result<EtcdWatch, StoreError> {
        let options = WatchOptions::new().with_range(to.as_str()).with_start_revision(revision).with_progress_notify();
        let stream = self
            .request("watch", |client| {
                let options = options.clone();
                let mut watch = client.watch_client().max_decoding_message_size(MAX_MESSAGE);
                async move { watch.watch(from.as_str(), Some(options)).await }
            })
            .await?;
        Ok(EtcdWatch(stream))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Option<Revision>, StoreError> {
        let guards: Vec<Compare> = transaction
            .guards
            .into_iter()
            .map(|guard| match guard {
                Guard::Unchanged(key, revision) => Compare::mod_revision(key, CompareOp::Equal, revision),
                Guard::CreatedAt(key, revision) => Compare::create_revision(key, CompareOp::Equal, revision),
            })
            .collect();
        let writes: Vec<TxnOp> = transaction
            .writes
            .into_iter()
            .map(|write| match write {
                Write::Put { key, value, lease } => {
                    TxnOp::put(key, value, lease.map(|lease| PutOptions::new().with_lease(lease.0)))
                }
                Write::Delete { key } => TxnOp::delete(key, None),
            })
            .collect();
        // A repeated transaction whose first try did land fails its guards: ambiguity ends as a refusal.
        let answer = self
            .request("write", |mut client| {
                let transaction = Txn::new().when(guards.clone()).and_then(writes.clone());
                async move { client.txn(transaction).await }
            })
            .await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        Ok(answer.succeeded().then_some(revision))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let ttl = ttl.as_secs() as i64;
        let answer =
            self.bounded("grant a lease", |mut client| async move { client.lease_grant(ttl, None).await }).await?;
        Ok(LeaseId(answer.id()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<EtcdKeepAlive, StoreError> {
        let opened = |mut client: Client| async move { client.lease_keep_alive(lease.0).await };
        let (keeper, stream) = self.bounded("keep a lease alive", opened).await?;
        Ok(EtcdKeepAlive { keeper, stream })
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        match self.bounded("revoke a lease", |mut client| async move { client.lease_revoke(lease.0).await }).await {
            Ok(_) | Err(StoreError::LeaseGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn campaign(&self, election: &str, name: &str, lease: LeaseId) -> Result<Leadership, StoreError> {
        let mut client = self.clients().await?.leases.clone();
        let answer = client.campaign(election, name, lease.0).await.map_err(|error| classify("campaign", error))?;
        let leader = answer.leader().ok_or_else(closed)?;
        Ok(Leadership { key: String::from_utf8_lossy(leader.key()).into_owned(), revision: leader.rev() })
    }
}

/// A watch on etcd.
pub struct EtcdWatch(WatchStream);

impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            let message = match self.0.message().await.map_err(|error| classify("watch", error)) {
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
            if message.created() {
                continue;
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
            return Ok(WatchEvent::Changed { revision, changes: changes.collect() });
        }
    }
}

/// Keepalives to etcd.
pub struct EtcdKeepAlive {
    keeper: LeaseKeeper,
    stream: LeaseKeepAliveStream,
}

impl KeepAlive for EtcdKeepAlive {
    async fn beat(&mut self) -> Result<(), StoreError> {
        self.keeper.keep_alive().await.map_err(|_| closed())?;
        let answer = self.stream.message().await.map_err(|error| classify("keep a lease alive", error))?;
        match answer.ok_or_else(closed)?.ttl() {
            0 => Err(StoreError::LeaseGone),
            _ => Ok(()),
        }
    }
}

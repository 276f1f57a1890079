//! The members of etcd, and which of them to ask.
//!
//! One is asked: the one that answered last. What fails there goes to the next. Leaving that to a balancer over all
//! members is not enough: it goes on picking a member that is down, and a frozen one too, which does not even refuse.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use etcd_client::{Certificate, Channel, Client, ConnectOptions, Error, Identity, TlsOptions};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tonic::transport::Endpoint;
use tracing::debug;

use super::{
    StoreError,
    cause::{SILENCE, classify},
    outage::Outage,
};

/// How often a connection is probed while streams are open on it. etcd takes more than one probe in 5 s
/// (`--grpc-keepalive-min-time`), and any without a stream, for an attack, and closes the connection.
const PING: Duration = Duration::from_secs(6);
/// How long a probe may go unanswered.
const PONG: Duration = Duration::from_secs(3);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// What the URL of a member begins with that listens on a unix socket.
const LOCAL: &str = "unix:";
/// How long a connection may leave a keepalive unanswered before the next is sent over another.
const SILENT: Duration = Duration::from_millis(500);

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

/// Two connections with one member: a large list on one cannot hold up a keepalive on the other.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) requests: Client,
    pub(super) leases: Client,
    /// The how-manieth connections with this member they are.
    generation: u64,
}

/// What there is with one member.
#[derive(Default)]
struct Slot {
    clients: Option<Clients>,
    /// Since when they have left a keepalive unanswered.
    silent: Option<Instant>,
}

impl Slot {
    fn generation(&self) -> Option<u64> {
        self.clients.as_ref().map(|clients| clients.generation)
    }
}

/// All members.
pub(super) struct Members {
    endpoints: Endpoints,
    slots: Vec<Mutex<Slot>>,
    connections: AtomicU64,
    /// The one that answered last.
    current: AtomicUsize,
    /// Whether any of them answers.
    pub(super) outage: Outage,
}

impl Members {
    pub(super) fn new(endpoints: Endpoints) -> Self {
        let slots: Vec<_> = endpoints.urls.iter().map(|_| Mutex::default()).collect();
        // Not all hosts ask the same one first.
        let first = fastrand::usize(..slots.len().max(1));
        Self {
            endpoints,
            slots,
            connections: AtomicU64::new(0),
            current: AtomicUsize::new(first),
            outage: Outage::default(),
        }
    }

    /// Makes an idempotent or guarded request to one member after the other until it is answered. A member that is
    /// alone is asked twice when it cannot be reached, as when it was restarted, and once when it takes its time.
    pub(super) async fn ask<T, F, O>(&self, what: &'static str, mut request: F) -> Result<T, StoreError>
    where
        F: FnMut(Clients) -> O,
        O: Future<Output = Result<T, Error>>,
    {
        let count = self.count();
        let (first, whole) = (self.current(), self.endpoints.request_timeout);
        let patience = if count > 1 { whole / 2 } else { whole };
        let mut turn = 0;
        loop {
            let index = (first + turn) % count.max(1);
            // In a box: a request of the client library is a future of 10 kB, which each one around it would carry twice.
            let mut asked = None;
            let attempt = Box::pin(async {
                let clients = self.clients(index).await?;
                asked = Some(clients.generation);
                request(clients).await.map_err(|error| classify(what, &error))
            });
            turn += 1;
            let since = Instant::now();
            let outcome = within(patience, attempt).await;
            if let (Err(StoreError::Unavailable(_)), Some(generation)) = (&outcome, asked) {
                self.doubt(index, generation).await;
            }
            let turns = if since.elapsed() < patience / 2 { count + 1 } else { count };
            match outcome {
                Err(StoreError::Unavailable(error)) if turn < turns => {
                    debug!(%error, what, member = self.endpoints.urls[index], "member does not answer, asking the next");
                }
                outcome => {
                    if outcome.is_ok() {
                        self.current.store(index, Ordering::Relaxed);
                    }
                    match &outcome {
                        Err(StoreError::Unavailable(cause)) => self.outage.failed(cause),
                        _ => self.outage.answered(),
                    }
                    return outcome;
                }
            }
        }
    }

    /// Makes a request to the member that answered last, and to no other: after an answer nothing of it is under way.
    pub(super) async fn ask_once<T, O>(
        &self,
        what: &'static str,
        request: impl FnOnce(Clients) -> O,
    ) -> Result<T, StoreError>
    where
        O: Future<Output = Result<T, Error>>,
    {
        let index = self.current();
        let attempt = async {
            let clients = self.clients(index).await?;
            request(clients).await.map_err(|error| classify(what, &error))
        };
        let outcome = within(self.endpoints.request_timeout, Box::pin(attempt)).await;
        match outcome {
            Err(StoreError::Unavailable(_)) => self.pass_over(index),
            _ => self.outage.answered(),
        }
        outcome
    }

    /// Makes a request to this member and to no other, over connections that are not known to be silent: after a time
    /// out of reach those may wait for seconds until TCP tries again, while new ones are there at once.
    pub(super) async fn ask_one<T, O>(
        &self,
        index: usize,
        what: &'static str,
        request: impl FnOnce(Clients) -> O,
    ) -> Result<T, StoreError>
    where
        O: Future<Output = Result<T, Error>>,
    {
        let attempt = async {
            let clients = self.clients_that_answer(index).await?;
            let generation = clients.generation;
            let outcome = request(clients).await.map_err(|error| classify(what, &error));
            let mut slot = self.slots[index].lock().await;
            slot.silent = slot.silent.filter(|_| slot.generation() != Some(generation));
            outcome
        };
        let outcome = within(self.endpoints.request_timeout, Box::pin(attempt)).await;
        if outcome.is_ok() {
            self.current.store(index, Ordering::Relaxed);
            self.outage.answered();
            // One connection is enough for as long as it answers.
            let others = self.slots.iter().enumerate().filter(|(other, _)| *other != index);
            others.filter_map(|(_, slot)| slot.try_lock().ok()).for_each(|mut slot| *slot = Slot::default());
        }
        outcome
    }

    /// Asks the next member from now on, unless another request has found one that answers.
    fn pass_over(&self, index: usize) {
        let next = (index + 1) % self.count().max(1);
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    /// The one that answered last.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    async fn clients(&self, index: usize) -> Result<Clients, StoreError> {
        let slot = self.slot(index)?;
        self.fill(index, &mut *slot.lock().await).await
    }

    /// The same, unless they have been silent for too long: then others. They are silent from now on, until they answer.
    async fn clients_that_answer(&self, index: usize) -> Result<Clients, StoreError> {
        let mut slot = self.slot(index)?.lock().await;
        if slot.silent.is_some_and(|since| since.elapsed() > SILENT) {
            *slot = Slot::default();
        }
        slot.silent.get_or_insert_with(Instant::now);
        self.fill(index, &mut slot).await
    }

    fn slot(&self, index: usize) -> Result<&Mutex<Slot>, StoreError> {
        self.slots.get(index).ok_or_else(|| StoreError::Unavailable("etcd has no members".into()))
    }

    async fn fill(&self, index: usize, slot: &mut Slot) -> Result<Clients, StoreError> {
        if let Some(clients) = &slot.clients {
            return Ok(clients.clone());
        }
        let clients = Box::pin(self.connect(index)).await?;
        Ok(slot.clients.insert(clients).clone())
    }

    /// A request on these connections was not answered: with a password, the next one logs in anew. An etcd that was
    /// restored from a backup is silent to tokens that it has not given yet, instead of refusing them.
    async fn doubt(&self, index: usize, generation: u64) {
        if self.endpoints.user.is_some() {
            let mut slot = self.slots[index].lock().await;
            slot.clients.take_if(|clients| clients.generation == generation);
        }
    }

    /// Gives the connections up. What streams there are on them goes on.
    pub(super) async fn reconnect(&self) {
        for slot in &self.slots {
            slot.lock().await.clients = None;
        }
    }

    async fn connect(&self, index: usize) -> Result<Clients, StoreError> {
        let url = &self.endpoints.urls[index];
        let connect = async |timeout: Option<Duration>| {
            let options = connect_options(&self.endpoints, url);
            let connected = match (url.starts_with(LOCAL), timeout) {
                (true, _) => connect_locally(url, options, timeout).await,
                (false, Some(timeout)) => Client::connect([url], Some(options.with_timeout(timeout))).await,
                (false, None) => Client::connect([url], Some(options)).await,
            };
            connected.map_err(|error| classify("connect", &error))
        };
        let requests = connect(Some(self.endpoints.request_timeout)).await?;
        // No timeout here: a stream of keepalives has no end.
        let leases = connect(None).await?;
        let generation = self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Clients { requests, leases, generation })
    }
}

/// Makes an attempt that may take so long.
async fn within<T>(patience: Duration, attempt: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(patience, attempt).await.unwrap_or_else(|_| Err(StoreError::Unavailable(SILENCE.into())))
}

/// Connects with a member that listens on a unix socket, which the client's own `connect` knows nothing of.
async fn connect_locally(url: &str, options: ConnectOptions, timeout: Option<Duration>) -> Result<Client, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .connect_timeout(CONNECT);
    let endpoint = timeout.into_iter().fold(endpoint, Endpoint::timeout);
    Client::from_channel(Channel::Tonic(endpoint.connect_lazy()), Some(options)).await
}

fn connect_options(endpoints: &Endpoints, url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .with_keep_alive(PING, PONG)
        .with_keep_alive_while_idle(false)
        .with_connect_timeout(CONNECT)
        .with_require_leader(true);
    if let Some((user, password)) = &endpoints.user {
        options = options.with_user(user, password).with_auto_token_refresh(true);
    }
    // The client takes certificates for nothing else.
    if url.starts_with("https:") && (endpoints.ca.is_some() || endpoints.identity.is_some()) {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn requests_in_many_layers_do_not_fill_the_stack() {
        let members = Members::new(Endpoints::default());
        let ask = members.ask("read", |mut to: Clients| async move { to.requests.get("key", None).await });
        assert!(size_of_val(&ask) < 1024, "{} bytes", size_of_val(&ask));
        let once = members.ask_once("read", |mut to: Clients| async move { to.requests.get("key", None).await });
        assert!(size_of_val(&once) < 1024, "{} bytes", size_of_val(&once));
    }

    #[tokio::test(start_paused = true)]
    async fn request_that_must_not_land_late_is_made_to_one_member_only() {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let request_timeout = Duration::from_secs(5);
        let members = Members::new(Endpoints { urls: vec![url(1), url(2)], request_timeout, ..Endpoints::default() });
        let (first, made) = (members.current(), AtomicUsize::new(0));
        let frozen = |_| {
            made.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<(), Error>>()
        };
        let outcome = members.ask_once("write", frozen).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        assert_eq!(made.load(Ordering::Relaxed), 1);
        assert_ne!(members.current(), first, "the next request goes to another one");
        assert!(members.ask("read", frozen).await.is_err());
        assert_eq!(made.load(Ordering::Relaxed), 3, "others go on to the next");
    }
}

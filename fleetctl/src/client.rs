//! The HTTP API as methods. Types are those of [`fleet_core::model::api`].
//!
//! Connections are kept and used again, up to as many as the transport finds reasonable. A request that no
//! answer comes to within `--request-timeout` fails; nothing is sent twice unless the first was surely not taken.
//! When nobody listens, fleetd may just be being restarted, and is looked for once more after [`RETURN`].

mod changes;

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fleet_api::{
    Drain, ErrorEntity, Failed, FailedUnit, Held, Machine, MachinePage, Trace, Unit, UnitOption, UnitPage, UnitState,
    UnitStatePage, UnitStatus, Why,
};
use fleet_core::model::json;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    error::{ClientError, os_message},
    output,
    transport::{Stream, Transport},
};

/// Every route begins with this.
const PREFIX: &str = "/fleet/v1";
/// On answers from memory while etcd is away: how many seconds ago they were true.
const AGE_HEADER: &str = "fleet-age";
/// On answers to changes: when they were received, and when they went to etcd.
const RECEIVED_HEADER: &str = "fleet-received";
const CHECKED_HEADER: &str = "fleet-checked";

/// Most bytes of an answer: pages of units with contents have some megabytes.
const MAX_BODY: usize = 256 << 20;
/// Most bytes of a line of a watch: what ten thousand machines report of a global unit has a few megabytes.
const MAX_LINE: usize = 16 << 20;
/// Most pages of a list, as many as a page token can number.
const MAX_PAGES: usize = 1 << 16;

/// What fleetd's socket may be gone for while fleetd is being restarted.
const RETURN: Duration = Duration::from_millis(300);

type Sender = http1::SendRequest<Full<Bytes>>;
type Result<T> = std::result::Result<T, ClientError>;

/// A client of one fleetd.
pub struct Client {
    transport: Transport,
    timeout: Duration,
    debug: bool,
    idle: Mutex<Vec<Sender>>,
    /// The tasks that drive the connections; they end with the client.
    drivers: Mutex<JoinSet<()>>,
    warned_of_age: AtomicBool,
    /// Whether the last answer told what was known before etcd went out of reach.
    aged: AtomicBool,
    /// When fleetd took what was sent of each unit.
    taken: Mutex<BTreeMap<String, Taken>>,
}

/// How far the restart of a global unit is to go, when it goes from machine to machine.
#[derive(Clone, Debug, Default)]
pub struct Rolling {
    /// The last machine, in the order of their IDs, that restarts for now; without, all do.
    pub up_to: Option<String>,
    /// The restart that goes on; without, another one begins.
    pub generation: Option<u64>,
}

/// When a change was taken: sent by our clock, the rest by fleetd's, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The request was sent.
    pub sent: Instant,
    /// It came to fleetd.
    pub received: i64,
    /// What it wants had been compared with what was there, and went to etcd.
    pub checked: i64,
}

/// An answer.
struct Answer {
    bytes: Bytes,
    /// What it says of when it was received and checked.
    times: Option<(i64, i64)>,
}

/// The lines of a watch.
pub struct StatusLines {
    body: Incoming,
    unread: Vec<u8>,
    /// How much of that has no line end in it.
    searched: usize,
    endpoint: String,
    /// The connection lives as long as somebody could ask it more.
    _sender: Sender,
}

/// A page of a list.
trait Page: DeserializeOwned {
    type Item;
    fn split(self) -> (Vec<Self::Item>, Option<String>);
}

macro_rules! pages {
    ($($page:ident.$items:ident: $item:ident),*) => {$(
        impl Page for $page {
            type Item = $item;
            fn split(self) -> (Vec<$item>, Option<String>) {
                (self.$items, self.next_page_token)
            }
        }
    )*};
}

pages!(MachinePage.machines: Machine, UnitPage.units: Unit, UnitStatePage.states: UnitState);

impl Client {
    /// A client that connects when it is first asked something.
    pub fn new(transport: Transport, timeout: Duration, debug: bool) -> Self {
        Self {
            transport,
            timeout,
            debug,
            idle: Mutex::default(),
            drivers: Mutex::default(),
            warned_of_age: AtomicBool::default(),
            aged: AtomicBool::default(),
            taken: Mutex::default(),
        }
    }

    /// The machines that are alive.
    pub async fn machines(&self) -> Result<Vec<Machine>> {
        self.list::<MachinePage>("/machines", "").await
    }

    /// Empties a machine, or lets it have units again.
    pub async fn set_drained(&self, machine: &str, drained: bool) -> Result<()> {
        let method = if drained { Method::PUT } else { Method::DELETE };
        self.tell(method, &format!("/machines/{}/drain", escape(machine)), None::<&Unit>).await
    }

    /// Whether the last answer told what was known before etcd went out of reach.
    pub fn was_aged(&self) -> bool {
        self.aged.load(Ordering::Relaxed)
    }

    /// How far a machine is from being empty. `None` for one that does not exist.
    pub async fn drain(&self, machine: &str) -> Result<Option<Drain>> {
        self.get(&format!("/machines/{}/drain", escape(machine))).await
    }

    /// Says that a machine which is not there is gone for good.
    pub async fn evict(&self, machine: &str) -> Result<()> {
        self.tell(Method::PUT, &format!("/machines/{}/evict", escape(machine)), None::<&Unit>).await
    }

    /// What the engine holds back. Nothing, from a fleetd that holds nothing back.
    pub async fn held(&self) -> Result<Held> {
        match self.get("/held").await {
            Ok(held) => Ok(held.unwrap_or_default()),
            Err(ClientError::Api { code: 404, .. }) => Ok(Held::default()),
            Err(error) => Err(error),
        }
    }

    /// All units.
    pub async fn units(&self) -> Result<Vec<Unit>> {
        self.list::<UnitPage>("/units", "").await
    }

    /// All states that agents report.
    pub async fn states(&self) -> Result<Vec<UnitState>> {
        self.list::<UnitStatePage>("/state", "").await
    }

    /// The states of one unit.
    pub async fn states_of(&self, name: &str) -> Result<Vec<UnitState>> {
        self.list::<UnitStatePage>("/state", &format!("unitName={}", escape(name))).await
    }

    /// One unit, if the cluster knows it.
    pub async fn unit(&self, name: &str) -> Result<Option<Unit>> {
        self.get(&format!("/units/{}", escape(name))).await
    }

    /// Where a unit runs or could run. `None` for units that do not exist.
    ///
    /// # Errors
    /// Also that fleetd is CoreOS fleet's, which does not know such questions.
    pub async fn why(&self, name: &str) -> Result<Option<Why>> {
        match self.get::<Why>(&format!("/units/{}/why", escape(name))).await? {
            Some(why) if why.summary.is_empty() => Err(self.unreadable("it does not say why")),
            why => Ok(why),
        }
    }

    /// The units that are wanted and do not run.
    pub async fn failed(&self) -> Result<Vec<FailedUnit>> {
        let failed = self.get::<Failed>("/failed").await?;
        // Everything else answers 404 with a message.
        failed.map(|failed| failed.units).ok_or(ClientError::Api { code: 404, message: String::new() })
    }

    /// Creates a unit or gives it new contents, and says what is wanted of it.
    pub async fn put(&self, name: &str, options: Vec<UnitOption>, desired: &str) -> Result<()> {
        let unit = Unit { name: name.into(), options, desired_state: desired.into(), ..Unit::default() };
        let sent = Instant::now();
        let answer = self.send_json(Method::PUT, &format!("/units/{}", escape(name)), Some(&unit)).await?;
        self.note_taken([name], sent, &answer);
        Ok(())
    }

    /// When fleetd took the last change of a unit that was sent; `None` also when it does not say.
    pub fn taken(&self, name: &str) -> Option<Taken> {
        self.taken.lock().expect(UNPOISONED).get(name).copied()
    }

    fn note_taken<'n>(&self, names: impl IntoIterator<Item = &'n str>, sent: Instant, answer: &Answer) {
        let Some((received, checked)) = answer.times else { return };
        let names = names.into_iter().map(|name| (name.to_owned(), Taken { sent, received, checked }));
        self.taken.lock().expect(UNPOISONED).extend(names);
    }

    /// When the last start of a unit went through the cluster. `None` when that is not known.
    pub async fn trace(&self, name: &str) -> Result<Option<Trace>> {
        match self.get::<Trace>(&format!("/units/{}/trace", escape(name))).await {
            Err(ClientError::Api { code: 404 | 409, .. }) => Ok(None),
            answer => answer,
        }
    }

    /// Forgets a unit. Says whether there was one.
    pub async fn destroy(&self, name: &str) -> Result<bool> {
        match self.tell(Method::DELETE, &format!("/units/{}", escape(name)), None::<&Unit>).await {
            Ok(()) => Ok(true),
            Err(ClientError::Api { code: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for one restart of a unit that is launched.
    pub async fn restart(&self, name: &str, rolling: &Rolling) -> Result<()> {
        let generation = rolling.generation.map(|generation| format!("generation={generation}"));
        let up_to = rolling.up_to.as_ref().map(|machine| format!("upTo={machine}"));
        let query: Vec<String> = generation.into_iter().chain(up_to).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        self.tell(Method::POST, &format!("/units/{}/restart{query}", escape(name)), None::<&Unit>).await
    }

    /// The status of `names` now, and whenever it changes. `None` from a fleetd that has no such route.
    pub async fn watch(&self, names: &[String]) -> Result<Option<StatusLines>> {
        let query: Vec<_> = names.iter().map(|name| format!("unit={}", escape(name))).collect();
        let request = self.request(Method::GET, &format!("/watch?{}", query.join("&")), None);
        // A connection of its own, as it never comes back.
        let (sender, response) = self.in_time(true, self.send_fresh(request)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !response.status().is_success() {
            let status = response.status();
            return Err(api_error(status, &self.in_time(false, self.collect(response)).await?));
        }
        Ok(Some(StatusLines {
            body: response.into_body(),
            unread: Vec::new(),
            searched: 0,
            endpoint: self.transport.to_string(),
            _sender: sender,
        }))
    }

    /// Does `work` with every item, several at a time. The results are in the order of the items.
    ///
    /// # Errors
    /// The first error; what has not begun by then is left undone.
    pub async fn each<I, T, F, E>(
        self: &Arc<Self>,
        items: impl IntoIterator<Item = I>,
        work: impl Fn(Arc<Self>, I) -> F,
    ) -> std::result::Result<Vec<T>, E>
    where
        F: Future<Output = std::result::Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut items = items.into_iter().enumerate();
        let mut running = JoinSet::new();
        let mut done = Vec::new();
        loop {
            while running.len() < self.transport.connections() {
                let Some((place, item)) = items.next() else { break };
                let job = work(Arc::clone(self), item);
                running.spawn(async move { (place, job.await) });
            }
            let Some(joined) = running.join_next().await else { break };
            let (place, result) = joined.expect("requests do not panic, and nobody cancels them");
            done.push((place, result?));
        }
        done.sort_unstable_by_key(|(place, _)| *place);
        Ok(done.into_iter().map(|(_, value)| value).collect())
    }

    async fn list<P: Page>(&self, path: &str, query: &str) -> Result<Vec<P::Item>> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        for _page in 0..MAX_PAGES {
            let token_query = token.as_ref().map(|token| format!("nextPageToken={}", escape(token)));
            let query = [Some(query.to_owned()).filter(|query| !query.is_empty()), token_query];
            let query = query.into_iter().flatten().collect::<Vec<_>>().join("&");
            let mark = if query.is_empty() { "" } else { "?" };
            let answer = self.ask(Method::GET, &format!("{path}{mark}{query}"), None).await?;
            let (items, next) = self.decode::<P>(&answer.bytes)?.split();
            all.extend(items);
            match next.filter(|token| !token.is_empty()) {
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                Some(_) => break,
                None => return Ok(all),
            }
        }
        Err(self.unreadable("its list has no end"))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        match self.ask(Method::GET, path, None).await {
            Ok(answer) => self.decode(&answer.bytes).map(Some),
            // An empty message means that the route is unknown, not the unit.
            Err(ClientError::Api { code: 404, message }) if !message.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tell<T: Serialize>(&self, method: Method, path: &str, body: Option<&T>) -> Result<()> {
        self.send_json(method, path, body).await.map(drop)
    }

    async fn send_json<T: Serialize>(&self, method: Method, path: &str, body: Option<&T>) -> Result<Answer> {
        let body = body.map(|body| serde_json::to_vec(body).expect("API types are plain JSON objects"));
        self.ask(method, path, body).await
    }

    /// One request and its whole answer.
    async fn ask(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer> {
        let request = self.request(method, path, body);
        let unopened = self.idle.lock().expect(UNPOISONED).is_empty();
        let exchange = async {
            let (sender, response) = self.send(request).await?;
            let status = response.status();
            self.warn_of_age(&response);
            let time = |name| response.headers().get(name)?.to_str().ok()?.parse::<i64>().ok();
            let times = time(RECEIVED_HEADER).zip(time(CHECKED_HEADER));
            let bytes = self.collect(response).await?;
            self.idle.lock().expect(UNPOISONED).push(sender);
            if status.is_success() { Ok(Answer { bytes, times }) } else { Err(api_error(status, &bytes)) }
        };
        self.in_time(unopened, exchange).await
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Request<Full<Bytes>> {
        if self.debug {
            output::note(&format!("debug: {method} {PREFIX}{path} at {}", self.transport));
        }
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{PREFIX}{path}"))
            .header(header::HOST, self.transport.endpoint().authority())
            .header(header::USER_AGENT, concat!("fleetctl/", env!("CARGO_PKG_VERSION")));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::from(body.unwrap_or_default())).expect("paths are escaped, headers are plain")
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<(Sender, Response<Incoming>)> {
        loop {
            let idle = self.idle.lock().expect(UNPOISONED).pop();
            let Some(mut idle) = idle else { return self.send_fresh(request).await };
            match idle.try_send_request(request).await {
                Ok(response) => return Ok((idle, response)),
                Err(mut error) => match error.take_message() {
                    // Fleetd had closed this connection before it took anything.
                    Some(unsent) => request = unsent,
                    None => return Err(self.lost(error.error())),
                },
            }
        }
    }

    async fn send_fresh(&self, request: Request<Full<Bytes>>) -> Result<(Sender, Response<Incoming>)> {
        let Stream { io, carrier } = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|error| self.lost(&error))?;
        self.drivers.lock().expect(UNPOISONED).spawn(async move {
            let _carrier = carrier;
            // What ends a connection is told to those who wait for an answer on it.
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.map_err(|error| self.lost(&error))?;
        Ok((sender, response))
    }

    async fn connect(&self) -> Result<Stream> {
        let connect = || async {
            let failure = |source| ClientError::Connect { endpoint: self.transport.to_string(), source };
            self.transport.connect().await.map_err(failure)
        };
        match connect().await {
            Err(error) if error.is_nobody_there() => {
                time::sleep(RETURN).await;
                connect().await
            }
            connected => connected,
        }
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes> {
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| match error.downcast_ref() {
            Some(error) => self.lost(error),
            None => self.unreadable(&format!("it has more than {MAX_BODY} bytes")),
        })?;
        Ok(body.to_bytes())
    }

    async fn in_time<T>(&self, opens: bool, exchange: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.timeout + if opens { self.transport.time_to_open() } else { Duration::ZERO };
        time::timeout(limit, exchange).await.unwrap_or_else(|_| {
            Err(ClientError::Timeout { endpoint: self.transport.to_string(), seconds: limit.as_secs_f64() })
        })
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        json::from_slice(bytes).map_err(|error| self.unreadable(&error.to_string()))
    }

    fn unreadable(&self, reason: &str) -> ClientError {
        ClientError::Unreadable { endpoint: self.transport.to_string(), reason: reason.into() }
    }

    fn lost(&self, error: &hyper::Error) -> ClientError {
        let endpoint = self.transport.to_string();
        let reason = if error.is_incomplete_message() {
            "it was closed before an answer came".into()
        } else {
            // Hyper's own words (`connection error`) say less than the operating system's.
            let cause = error.source().and_then(|source| source.downcast_ref());
            cause.map_or_else(|| error.to_string(), os_message)
        };
        if error.is_parse() {
            ClientError::Unreadable { endpoint, reason }
        } else {
            ClientError::Lost { endpoint, reason }
        }
    }

    fn warn_of_age(&self, response: &Response<Incoming>) {
        let age = response.headers().get(AGE_HEADER).and_then(|age| age.to_str().ok());
        self.aged.store(age.is_some(), Ordering::Relaxed);
        if let Some(age) = age
            && !self.warned_of_age.swap(true, Ordering::Relaxed)
        {
            output::note(&format!("WARNING: etcd is unreachable; this was true {age} s ago"));
        }
    }
}

/// Why these locks cannot be poisoned.
const UNPOISONED: &str = "nothing panics while it holds this lock";

impl StatusLines {
    /// The next status; `None` when fleetd ends the stream.
    ///
    /// # Errors
    /// The connection breaks, or a line is none of fleet's.
    pub async fn next(&mut self) -> Result<Option<UnitStatus>> {
        let unreadable = |reason| ClientError::Unreadable { endpoint: self.endpoint.clone(), reason };
        loop {
            let end = self.unread[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| self.searched + end) {
                self.searched = 0;
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                // An empty line only shows that the other side is alive.
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return json::from_slice(&line).map(Some).map_err(|error| unreadable(error.to_string()));
            }
            self.searched = self.unread.len();
            if self.searched > MAX_LINE {
                return Err(unreadable(format!("a line of it has more than {MAX_LINE} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.unread.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Some(Err(error)) => {
                    return Err(ClientError::Lost { endpoint: self.endpoint.clone(), reason: error.to_string() });
                }
            }
        }
    }
}

fn api_error(status: StatusCode, body: &[u8]) -> ClientError {
    let message = match json::from_slice::<ErrorEntity>(body) {
        Ok(entity) => entity.error.message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    ClientError::Api { code: status.as_u16(), message }
}

/// Percent-encodes what cannot stand in a path segment or a query value. `@` and `:` can, and keep names readable.
fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~@:".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

#[cfg(test)]
mod tests;

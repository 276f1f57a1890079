//! Connections to one fleetd, and requests over them.
//!
//! Connections are kept and used again, up to as many as the transport finds reasonable. A request that no answer comes
//! to in its time fails; nothing is sent twice unless the first was surely not taken. When nobody listens, fleetd may
//! just be being restarted, and is looked for once more after [`RETURN`].

use std::{
    error::Error,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fleet_api::{headers, paths::PREFIX};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{task::JoinSet, time};

use crate::{
    ClientError, Result, Transport,
    event::{Event, Listener},
    os_message,
    transport::Stream,
};

/// Most bytes of an answer: pages of units with contents have some megabytes.
const MAX_BODY: usize = 256 << 20;
/// What fleetd's socket may be gone for while fleetd is being restarted.
const RETURN: Duration = Duration::from_millis(300);

/// Why the locks of a client cannot be poisoned.
pub const UNPOISONED: &str = "nothing panics while it holds this lock";

/// The near end of a connection, which lives as long as somebody could ask it more.
pub type Sender = http1::SendRequest<Full<Bytes>>;

/// The connections to one fleetd.
pub struct Pool {
    /// The way to it.
    pub transport: Transport,
    timeout: Duration,
    agent: String,
    listener: Listener,
    idle: Mutex<Vec<Sender>>,
    /// The tasks that drive the connections; they end with the pool.
    drivers: Mutex<JoinSet<()>>,
    /// Whether an answer has been old.
    was_old: AtomicBool,
    /// Whether the last answer was.
    is_old: AtomicBool,
}

/// A good answer.
pub struct Answer {
    /// Its body.
    pub bytes: Bytes,
    /// What it says of when it was received and checked.
    pub times: Option<(i64, i64)>,
}

impl Pool {
    /// None yet: connects when there is something to ask.
    pub fn new(transport: Transport, timeout: Duration, agent: String, listener: Listener) -> Self {
        Self {
            transport,
            timeout,
            agent,
            listener,
            idle: Mutex::default(),
            drivers: Mutex::default(),
            was_old: AtomicBool::default(),
            is_old: AtomicBool::default(),
        }
    }

    /// How many connections wait to be used again.
    #[cfg(test)]
    pub fn idle(&self) -> usize {
        self.idle.lock().expect(UNPOISONED).len()
    }

    /// Whether the last answer told what was known before etcd went out of reach.
    pub fn is_old(&self) -> bool {
        self.is_old.load(Ordering::Relaxed)
    }

    /// One request and its whole answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer> {
        let request = self.request(method, path, body);
        let unopened = self.idle.lock().expect(UNPOISONED).is_empty();
        let exchange = async {
            let (sender, response) = self.send(request).await?;
            let status = response.status();
            self.note_age(&response);
            let time = |name| response.headers().get(name)?.to_str().ok()?.parse::<i64>().ok();
            let times = time(headers::RECEIVED).zip(time(headers::CHECKED));
            let bytes = self.collect(response).await?;
            self.idle.lock().expect(UNPOISONED).push(sender);
            if status.is_success() { Ok(Answer { bytes, times }) } else { Err(ClientError::of(status, &bytes)) }
        };
        self.in_time(unopened, exchange).await
    }

    /// One question and the beginning of its answer, which may have no end. Over a connection of its own, as that never
    /// comes back.
    pub async fn open(&self, path: &str) -> Result<(Sender, Response<Incoming>)> {
        let request = self.request(Method::GET, path, None);
        let (sender, response) = self.in_time(true, self.send_fresh(request)).await?;
        if response.status().is_success() {
            return Ok((sender, response));
        }
        let status = response.status();
        Err(ClientError::of(status, &self.in_time(false, self.collect(response)).await?))
    }

    /// An answer that cannot be read.
    pub fn unreadable(&self, reason: &str) -> ClientError {
        ClientError::Unreadable { endpoint: self.transport.to_string(), reason: reason.into() }
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Request<Full<Bytes>> {
        (self.listener)(Event::Asks { method: method.as_str(), path: &format!("{PREFIX}{path}"), of: &self.transport });
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{PREFIX}{path}"))
            .header(header::HOST, self.transport.endpoint().authority())
            .header(header::USER_AGENT, &self.agent);
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

    /// Tells once that an answer is old.
    fn note_age(&self, response: &Response<Incoming>) {
        let age = response.headers().get(headers::AGE).and_then(|age| age.to_str().ok());
        self.is_old.store(age.is_some(), Ordering::Relaxed);
        if let Some(seconds) = age
            && !self.was_old.swap(true, Ordering::Relaxed)
        {
            (self.listener)(Event::Old { seconds });
        }
    }
}

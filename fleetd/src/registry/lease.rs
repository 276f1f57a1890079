//! Keeping a lease alive.
//!
//! A keepalive is sent each third of the TTL, over one stream with one member. While its answer is late it is sent
//! again in short steps, to one member after the other and each time over a stream of its own: a member may hang, may
//! wait for a leader that is gone, or may look for a new one only once a second. The first answer counts, and counts
//! from when *it* was sent; its stream is the one that goes on. After a time without answers keepalives come closer
//! for as long as a TTL, because the next such time may be near. `docs/faults.md` says what that survives; the sweep in
//! `lease/tests.rs` shows it.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::debug;

use super::{KeepAlive, LeaseId, Store, StoreError};
use crate::backoff::{Backoff, jitter};

/// An answer that takes so long is late: etcd answers within a few milliseconds.
const LATE: Duration = Duration::from_millis(300);
/// Between two tries while no answer comes. With three members of which one hangs, one that does not is asked every
/// 400 ms.
const STEP: Duration = Duration::from_millis(200);
/// A store that was silent for so long is in trouble: etcd takes one to two seconds to elect a leader.
const TROUBLE: Duration = Duration::from_secs(1);
/// A store that answers in such a time is not slow.
const QUICK: Duration = Duration::from_millis(50);
/// Between two keepalives after a trouble.
const BRISK: Duration = Duration::from_millis(500);
/// Between two tries once the lease may have run out, at most.
const SLOW: Duration = Duration::from_secs(2);

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
    let mut pace = Pace::new(ttl, Instant::now());
    let mut stream = None;
    loop {
        let began = Instant::now();
        let Ok(renewed) = renew(store, lease, &pace, stream.take(), &now).await else { return };
        acknowledged.send_replace(renewed.at);
        stream = Some(renewed.stream);
        pace.heard(began, renewed.sent, Instant::now());
        sleep(pace.interval(Instant::now())).await;
    }
}

/// Keeps `lease` alive once.
///
/// # Errors
/// `LeaseGone` when it is gone; that etcd cannot be reached when it does not answer for a TTL.
pub async fn touch<S: Store>(store: &S, lease: LeaseId, ttl: Duration) -> Result<(), StoreError> {
    let pace = Pace::new(ttl, Instant::now());
    match timeout(ttl, renew(store, lease, &pace, None, &|| ())).await {
        Ok(renewed) => renewed.map(drop).map_err(|Gone| StoreError::LeaseGone),
        Err(elapsed) => Err(StoreError::Unavailable(Box::new(elapsed))),
    }
}

/// When keepalives are sent.
#[derive(Clone, Debug)]
struct Pace {
    ttl: Duration,
    /// When the last one that was answered was sent.
    sent: Instant,
    /// How long its answer took.
    took: Duration,
    /// How long answers take as far as that is known. It grows slowly: a single late one may have waited for a leader.
    usual: Duration,
    /// The end of the time after a trouble.
    calm: Instant,
}

impl Pace {
    fn new(ttl: Duration, now: Instant) -> Self {
        Self { ttl, sent: now, took: Duration::ZERO, usual: Duration::ZERO, calm: now }
    }

    /// The first keepalive of a round was sent when it `began`, and the one that was answered `now` when it was `sent`.
    fn heard(&mut self, began: Instant, sent: Instant, now: Instant) {
        self.sent = sent;
        self.took = now - sent;
        self.usual = self.took.min(self.usual.max(QUICK) * 2);
        if now - began > TROUBLE {
            self.calm = now + self.ttl;
        }
    }

    /// From an answer to the next keepalive. A late answer proves little: there the time counts from the question.
    fn interval(&self, now: Instant) -> Duration {
        let third = self.ttl / 3;
        let interval = if now < self.calm { self.patient(BRISK).min(third) } else { third };
        if self.took < LATE { interval } else { interval.saturating_sub(self.took) }
    }

    /// How long an answer is waited for.
    fn late(&self) -> Duration {
        self.patient(LATE).min(self.ttl / 6)
    }

    /// From one try to the next, or `None` when nothing is gained by haste.
    fn step(&self, now: Instant) -> Option<Duration> {
        (now < self.sent + self.ttl).then(|| self.patient(STEP).min(self.ttl / 6))
    }

    /// At least twice as long as the store takes: all hosts of a large cluster would make one slower that is slow.
    fn patient(&self, least: Duration) -> Duration {
        least.max(self.usual * 2)
    }
}

/// A keepalive that was answered.
struct Renewed<K, T> {
    /// When it was sent,
    sent: Instant,
    /// by the caller's clock.
    at: T,
    /// What it was sent over, and to which member.
    stream: (K, usize),
}

/// The lease has run out, or was revoked.
struct Gone;

/// Sends a keepalive, and sends it again, until one is answered.
async fn renew<S: Store, T>(
    store: &S,
    lease: LeaseId,
    pace: &Pace,
    stream: Option<(S::KeepAlive, usize)>,
    now: &impl Fn() -> T,
) -> Result<Renewed<S::KeepAlive, T>, Gone> {
    let send = |member: usize, open: Option<S::KeepAlive>| {
        let (sent, at) = (Instant::now(), now());
        async move {
            let attempt = async {
                match open {
                    Some(mut stream) => stream.beat().await.map(|()| stream),
                    None => store.keep_alive(lease, member).await,
                }
            };
            // An answer to an older one would prove nothing.
            let outcome = timeout(pace.ttl, attempt).await;
            let outcome = outcome.unwrap_or_else(|elapsed| Err(StoreError::Unavailable(Box::new(elapsed))));
            outcome.map(|stream| Renewed { sent, at, stream: (stream, member) })
        }
    };
    let (open, mut member) = match stream {
        Some((open, member)) => (Some(open), member),
        None => (None, store.nearest()),
    };
    let mut backoff = Backoff::new(STEP, SLOW.min(pace.ttl / 3));
    let mut next = Instant::now() + pace.late();
    let mut tries = FuturesUnordered::from_iter([send(member, open)]);
    loop {
        tokio::select! {
            biased;
            Some(outcome) = tries.next() => match outcome {
                Ok(renewed) => return Ok(renewed),
                Err(StoreError::LeaseGone) => return Err(Gone),
                Err(error) => {
                    debug!(error = %crate::chain(&error), "keepalive failed, trying again");
                    // A member that goes breaks the streams of all hosts at the same moment.
                    if let Some(step) = pace.step(Instant::now()) {
                        next = next.min(Instant::now() + jitter(step));
                    }
                }
            },
            () = sleep_until(next) => {
                member = (member + 1) % store.members().max(1);
                tries.push(send(member, None));
                next = Instant::now() + pace.step(Instant::now()).unwrap_or_else(|| backoff.delay());
            }
        }
    }
}

#[cfg(test)]
mod tests;

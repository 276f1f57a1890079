//! The candidacy of one host: it stands for election, and has the driver lead while it is elected.
//!
//! At most [`CANDIDATES`] daemons of a cluster campaign; the others watch the election, and one of them steps in when
//! one leaves.

use std::{collections::BTreeSet, future::pending, time::Duration};

use fleet_core::model::Kind;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Engine, driver, recent_machines::RecentMachines};
use crate::{
    backoff::Backoff,
    registry::{Leadership, LeaseId, Store, StoreError, Watch, WatchEvent, election, lease},
};

/// Most daemons that campaign at a time: enough to survive what etcd survives.
const CANDIDATES: usize = 5;

/// How long candidates that stand at the same time take to see each other.
const SETTLE: Duration = Duration::from_secs(2);

/// While there is no candidate, one waits for its turn at most so many times as long as etcd took to answer, and at
/// least so long at most: a candidate is seen by the others after a few answers, and a store that all hosts of a large
/// cluster ask at the same time is slow.
const FIRST: (u32, Duration) = (50, Duration::from_millis(100));

impl<S: Store> Engine<S> {
    /// Stands for election, and leads when elected, until `shutdown`; then resigns.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        while !shutdown.is_cancelled() {
            let term = self.term(shutdown);
            match term.await {
                Ok(()) => backoff.reset(),
                Err(error) => debug!(error = %crate::chain(&error), "candidacy failed, trying again"),
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = sleep(backoff.delay()) => {}
            }
        }
    }

    /// One candidacy, from finding a place to the end of the leadership.
    async fn term(&self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        // A host that is no member, say because its machine ID is another's, would lead under a name that people do not
        // find in their cluster. One that loses its membership while it leads goes on: it loses both leases by the
        // same trouble, and is registered again before others could have taken over.
        let mut registered = self.registered.clone();
        let joined = async {
            if registered.wait_for(Option::is_some).await.is_err() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = joined => {}
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            place = self.wait_for_place() => place?,
        }
        let lease = self.store.grant(self.ttl).await?;
        let since = Instant::now();
        let (acknowledged, last) = watch::channel(Instant::now());
        let outcome = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            () = lease::keep(&self.store, lease, self.ttl, Instant::now, &acknowledged) => Err(StoreError::LeaseGone),
            () = self.silent_too_long(last.clone()) => Ok(()),
            () = self.is_surplus(lease) => Ok(()),
            outcome = self.campaign_and_lead(lease, since, last) => outcome,
        };
        self.metrics.leader.set(0);
        self.metrics.held_machines.set(0);
        // Resign: the next candidate leads at once instead of a TTL later.
        if let Err(error) = self.store.revoke(lease).await {
            debug!(error = %crate::chain(&error), "could not resign, leadership ends with its lease");
        }
        outcome
    }

    /// Leads once elected. `since` is when the candidate's own lease was granted.
    async fn campaign_and_lead(
        &self,
        lease: LeaseId,
        since: Instant,
        acknowledged: watch::Receiver<Instant>,
    ) -> Result<(), StoreError> {
        let election = self.keys.election();
        let campaign = election::campaign(&self.store, &election, self.machine.as_str(), lease);
        let mut recent = RecentMachines::default();
        let (leadership, since) = tokio::select! {
            biased;
            elected = self.wait_calmly(campaign, since, acknowledged.clone()) => elected?,
            never = recent.watch(&self.store, &self.keys) => match never {},
        };
        info!(revision = leadership.revision, "elected: this host's engine leads");
        self.metrics.leader.set(1);
        let outcome = driver::lead(
            self,
            driver::Term { leadership: &leadership, lease, since, acknowledged, machines: recent.into_set() },
        )
        .await;
        match &outcome {
            Ok(()) => info!("another engine leads"),
            Err(StoreError::LeaseGone) => info!("leadership ended: its lease is over"),
            // That is told where etcd is asked.
            Err(error @ StoreError::Unavailable(_)) => debug!(error = %crate::chain(error), "leadership ended"),
            Err(error) => warn!(error = %crate::chain(error), "leadership ended"),
        }
        outcome
    }

    /// Waits to be elected. Returns since when the store has answered every keepalive in time, at the earliest since
    /// `since`: a store that was slow or away may have elected this candidate by the very trouble in which the machines
    /// lost their leases, too.
    async fn wait_calmly(
        &self,
        campaign: impl Future<Output = Result<Leadership, StoreError>>,
        mut since: Instant,
        mut acknowledged: watch::Receiver<Instant>,
    ) -> Result<(Leadership, Instant), StoreError> {
        tokio::pin!(campaign);
        loop {
            let sent = *acknowledged.borrow_and_update();
            // The election may be answered right before a keepalive that is overdue, or with it.
            let elected = tokio::select! {
                biased;
                changed = acknowledged.changed() => {
                    if changed.is_err() {
                        since = Instant::now();
                    }
                    None
                }
                leadership = &mut campaign => Some(leadership?),
            };
            if sent.elapsed() > self.ttl / 2 {
                since = Instant::now();
            }
            if let Some(leadership) = elected {
                return Ok((leadership, since));
            }
        }
    }

    /// Returns when the lease might have run out for all that is known here. The leader then stops at once: the
    /// guard would stop its writes, but it must not even believe that it leads.
    async fn silent_too_long(&self, mut acknowledged: watch::Receiver<Instant>) {
        let margin = self.ttl / 10;
        loop {
            let deadline = *acknowledged.borrow_and_update() + self.ttl - margin;
            tokio::select! {
                biased;
                () = sleep_until(deadline) => return,
                changed = acknowledged.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Returns when enough others stood before this candidate: those that found a free place at the same time.
    async fn is_surplus(&self, lease: LeaseId) {
        sleep(SETTLE).await;
        let range = self.keys.of(Kind::Candidate);
        if let Ok(page) = self.store.list(&range, None, 1000).await {
            let own = page.entries.iter().find(|stored| stored.lease == Some(lease));
            if own.is_some_and(|own| election::before(own, &page.entries).count() >= CANDIDATES) {
                return;
            }
        }
        pending::<()>().await;
    }

    /// Waits until fewer than [`CANDIDATES`] campaign, and for this one's turn. A free place is seen by all hosts of
    /// the cluster at the same moment; they take their turns by chance, and the first of them fill it.
    async fn wait_for_place(&self) -> Result<(), StoreError> {
        let range = self.keys.of(Kind::Candidate);
        loop {
            let asked = Instant::now();
            let page = self.store.list(&range, None, 1000).await?;
            let first = (asked.elapsed() * FIRST.0).max(FIRST.1);
            let mut candidates: BTreeSet<String> =
                page.entries.into_iter().filter(election::stands).map(|stored| stored.key).collect();
            // What the list shows comes again, because of what a mirror says of compaction.
            let mut watch = self.store.watch(&range, page.revision).await?;
            let (mut room, mut turn) = (None, Instant::now());
            loop {
                let now = self.longest_wait(candidates.len(), first);
                if now != room {
                    turn = Instant::now() + now.unwrap_or_default().mul_f64(fastrand::f64());
                    room = now;
                }
                let its_turn = async { if room.is_some() { sleep_until(turn).await } else { pending().await } };
                let event = tokio::select! {
                    biased;
                    event = watch.next() => event?,
                    () = its_turn => return Ok(()),
                };
                let WatchEvent::Changed { changes, .. } = event else { break };
                for change in changes {
                    match change {
                        Ok(stored) => election::stands(&stored) && candidates.insert(stored.key),
                        Err(gone) => candidates.remove(&gone),
                    };
                }
            }
        }
    }

    /// The longest that a candidate waits for its turn while so many others campaign, `first` if there is none; `None`:
    /// there is no place. A place beside others is taken before the lease of one of them can run out.
    fn longest_wait(&self, others: usize, first: Duration) -> Option<Duration> {
        match others {
            0 => Some(first.min(self.ttl / 3)),
            1..CANDIDATES => Some(self.ttl / 3),
            _ => None,
        }
    }
}

//! The fence around units that may run once in the cluster at most (`OnPartition=stop`).
//!
//! While the host's lease is proven to live ([`Proof`]) the fence is open. Then it closes, and the agent
//! stops these units: the engine moves them only once the lease has run out and they have had their time to stop. It
//! opens again when the host is registered and has read anew, after it was registered, what is scheduled to it: what
//! was moved meanwhile is not among that any more, and what has not been moved then cannot be moved from a host that
//! is there.
//!
//! The moment is kept in a file until the next boot: a fleetd that was killed stops them in time, too, and while none
//! can be started [`dead_man`](crate::node::dead_man) does.

use tokio::sync::watch;

use super::{Registration, proof::Proof};
use crate::{clock::Clock, registry::Revision};

/// Whether units with `OnPartition=stop` may run here.
#[derive(Debug)]
pub struct Fence {
    clock: Clock,
    proof: watch::Receiver<Proof>,
    registration: watch::Receiver<Option<Registration>>,
    open: bool,
}

impl Fence {
    /// A fence that is open as long as what is proven already.
    #[must_use]
    pub fn new(
        clock: Clock,
        proof: watch::Receiver<Proof>,
        registration: watch::Receiver<Option<Registration>>,
    ) -> Self {
        let mut fence = Self { clock, proof, registration, open: false };
        fence.open = fence.is_proven();
        fence
    }

    /// Whether it was open when it was last looked at.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Closes or opens it, whichever it is time for. `listed` is the revision at which was listed what the host is
    /// about to act on, not what it may have read since. Returns whether it is open.
    pub fn update(&mut self, listed: Revision) -> bool {
        let registered = self.registration.borrow().as_ref().map(|registration| registration.revision);
        let may_open = registered.is_some_and(|revision| listed >= revision);
        // What was read before a registration may have been moved. Before anything was read, all is as it was.
        let may_stay = listed == 0 || registered.is_none_or(|revision| listed >= revision);
        self.open = self.is_proven() && (may_open || self.open && may_stay);
        self.open
    }

    fn is_proven(&self) -> bool {
        self.proof.borrow().is_some_and(|until| self.clock.now() < until)
    }

    /// Waits until it may be time to close or to open it.
    pub async fn turning(&mut self) {
        if !self.open {
            // Both keep what they have not shown yet.
            let ended = tokio::select! {
                biased;
                changed = self.proof.changed() => changed.is_err(),
                changed = self.registration.changed() => changed.is_err(),
            };
            if ended {
                std::future::pending::<()>().await;
            }
            return;
        }
        // Keepalives go on as long as all is well: only when they cease there is something to do.
        loop {
            let Some(until) = *self.proof.borrow() else { return };
            if until <= self.clock.now() {
                return;
            }
            let clock = self.clock;
            tokio::select! {
                biased;
                () = clock.sleep_until(until) => {}
                () = revoked(&mut self.proof) => return,
            }
        }
    }
}

/// Waits until nothing is proven any more.
async fn revoked(proof: &mut watch::Receiver<Proof>) {
    if proof.wait_for(Option::is_none).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance, timeout};

    use super::*;
    use crate::{membership::proof::proof, registry::LeaseId};

    const TTL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn fence_closes_in_time_and_opens_only_for_what_was_read_after_the_registration() {
        let clock = Clock::Simulated(Instant::now());
        let (proofs, proof_receiver) = watch::channel(None);
        let (registrations, registration) = watch::channel(None);
        let mut fence = Fence::new(clock, proof_receiver, registration);
        assert!(!fence.update(5));
        registrations.send_replace(Some(Registration { lease: LeaseId(1), revision: 7 }));
        proofs.send_replace(proof(clock, TTL));
        timeout(TTL, fence.turning()).await.unwrap();
        assert!(!fence.update(6), "read before the registration");
        assert!(fence.update(7));
        // Keepalives hold it open without waking anybody.
        advance(Duration::from_secs(5)).await;
        proofs.send_replace(proof(clock, TTL));
        assert!(timeout(Duration::from_secs(8), fence.turning()).await.is_err());
        assert!(fence.update(7));
        // Without them it closes before the lease can run out.
        let since = Instant::now();
        fence.turning().await;
        assert!(since.elapsed() <= Duration::from_secs(1), "{:?}", since.elapsed());
        assert!(!fence.update(7));
        // The lease is lost for certain: at once.
        proofs.send_replace(proof(clock, TTL));
        assert!(fence.update(7));
        proofs.send_replace(None);
        timeout(Duration::from_millis(1), fence.turning()).await.unwrap();
        assert!(!fence.update(7));
    }
}

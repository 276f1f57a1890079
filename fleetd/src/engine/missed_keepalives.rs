//! Which machines that are there may have missed a keepalive.
//!
//! Etcd tells what is left of a lease, one lease a request, and with every machine that vanishes this is asked anew.
//! But a lease of which much was left a moment ago has not missed a keepalive since; so most need not be asked for.

use std::{collections::BTreeMap, time::Duration};

use fleet_core::model::{Key, Kind, Snapshot};
use tokio::time::{Instant, timeout};

use super::Engine;
use crate::{
    clock::Clock,
    registry::{LeaseId, Remaining, Store, StoreError},
};

/// How long it may take to learn who is silent.
const PROBE: Duration = Duration::from_secs(1);

/// What is known of leases.
#[derive(Debug, Default)]
pub struct MissedKeepalives {
    heard: BTreeMap<LeaseId, Heard>,
}

/// A lease that was alive and well.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// When that was asked, also by the clock that goes on while the host is suspended.
    asked: (Instant, Duration),
    /// So long after that it cannot be silent.
    certain: Duration,
}

impl Heard {
    fn is_certain(&self) -> bool {
        let passed = self.asked.0.elapsed().max(Clock::Boottime.now().saturating_sub(self.asked.1));
        passed < self.certain
    }
}

impl MissedKeepalives {
    /// How many of the machines that are there have missed a keepalive. When that cannot be known, it may be all.
    pub async fn count<S: Store>(&mut self, engine: &Engine<S>, current: &Snapshot) -> usize {
        match timeout(PROBE, self.ask(engine, current)).await {
            Ok(Ok(silent)) => silent,
            _ => current.machines.len(),
        }
    }

    async fn ask<S: Store>(&mut self, engine: &Engine<S>, current: &Snapshot) -> Result<usize, StoreError> {
        let page = engine.store.list(&engine.keys.of(Kind::Machine), None, usize::MAX >> 1).await?;
        let present = page.entries.iter().filter_map(|stored| match engine.keys.parse(&stored.key) {
            Some(Key::Machine(id)) => current.machines.contains_key(&id).then_some(stored.lease),
            _ => None,
        });
        let leases: Vec<Option<LeaseId>> = present.collect();
        self.heard.retain(|_, heard| heard.is_certain());
        let doubtful: Vec<LeaseId> = leases.iter().flatten().filter(|l| !self.heard.contains_key(l)).copied().collect();
        let asked = (Instant::now(), Clock::Boottime.now());
        let remaining = engine.store.remaining(&doubtful).await?;
        let well = remaining.into_iter().filter(|(_, remaining)| !remaining.is_silent());
        self.heard.extend(well.map(|(lease, remaining)| (lease, Heard { asked, certain: certain(remaining) })));
        // An entry without a lease ends by hand only.
        let heard = leases.iter().filter(|lease| lease.is_none_or(|lease| self.heard.contains_key(&lease)));
        // One that has gone since the picture was taken is not among the entries, but silent all the same.
        Ok(current.machines.len() - heard.count())
    }
}

/// How long a lease with so much left cannot come to be silent.
fn certain(remaining: Remaining) -> Duration {
    remaining.left.saturating_sub(remaining.granted / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_is_certain_for_no_longer_than_a_question_would_find_it_well() {
        let seconds = Duration::from_secs;
        for (granted, left) in (2..30).flat_map(|granted| (0..=granted).map(move |left| (granted, left))) {
            let remaining = Remaining { left: seconds(left), granted: seconds(granted) };
            if remaining.is_silent() {
                continue;
            }
            // Etcd leaves out the part of a second: this is the least that it would tell at that moment.
            let later = (remaining.left - certain(remaining)).as_secs_f64().floor() as u64;
            let told = Remaining { left: seconds(later), granted: seconds(granted) };
            assert!(!told.is_silent(), "{granted} s, {left} s left");
        }
    }
}

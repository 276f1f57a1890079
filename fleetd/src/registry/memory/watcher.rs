//! A watch on the simulated etcd: what it tells, and when it breaks.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Commit, MemoryClient,
    keyspace::Keyspace,
    network::{Connection, Way, unavailable},
};
use crate::registry::{Origin, Range, Revision, StoreError, Stored, Watch, WatchEvent};

/// How often an idle watch tells how far the store is.
const PROGRESS: Duration = Duration::from_secs(600);

/// A watch on a simulated etcd.
pub struct MemoryWatch {
    pub(super) client: MemoryClient,
    pub(super) connection: Connection,
    pub(super) range: Range,
    pub(super) only_deletions: bool,
    /// The first revision that has not been told.
    pub(super) next: Revision,
    /// The newest revision when the watch was opened: up to it, it catches up from history.
    pub(super) opened: Revision,
    pub(super) forgotten: bool,
    pub(super) broken: bool,
    pub(super) changes: watch::Receiver<()>,
}

impl Watch for MemoryWatch {
    fn origin(&self) -> Origin {
        Origin::default()
    }

    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        if self.broken {
            return Err(unavailable("the stream ended"));
        }
        let told = self.message().await;
        self.broken = told.is_err();
        told
    }
}

impl MemoryWatch {
    async fn message(&mut self) -> Result<WatchEvent, StoreError> {
        let (network, name) = (Arc::clone(&self.client.network), Arc::clone(&self.client.name));
        let progress = Instant::now() + PROGRESS;
        loop {
            self.changes.borrow_and_update();
            network.pass(&name, Way::Back, self.connection, None).await?;
            if self.forgotten {
                return Ok(WatchEvent::Compacted);
            }
            if self.is_behind() {
                network.travel(&name).await;
                network.pass(&name, Way::Back, self.connection, None).await?;
                let breaks = {
                    let mut state = network.look();
                    let faults = state.faults(&name);
                    state.chance(faults.break_watch)
                };
                if breaks {
                    return Err(unavailable("h2 protocol error"));
                }
                if self.is_overtaken() {
                    return Ok(WatchEvent::Compacted);
                }
                return Ok(self.take());
            }
            tokio::select! {
                biased;
                changed = self.changes.changed() => if changed.is_err() { return Err(unavailable("the store is gone")) },
                () = sleep_until(progress) => {
                    let revision = network.look().keyspace.revision();
                    return Ok(WatchEvent::Changed { revision, changes: Vec::new() });
                }
            }
        }
    }

    fn is_behind(&mut self) -> bool {
        let network = Arc::clone(&self.client.network);
        let state = network.look();
        let new = state.keyspace.since(self.next);
        let concerns = new.iter().any(|commit| self.changes_in(&state.keyspace, commit).next().is_some());
        if !concerns {
            // Nothing in there is for this watch: there is no need to look at it again.
            self.next = self.next.max(state.keyspace.revision() + 1);
        }
        concerns
    }

    /// Whether what it catches up from has been compacted meanwhile.
    fn is_overtaken(&self) -> bool {
        self.next <= self.opened && self.client.network.look().keyspace.has_forgotten(self.next)
    }

    fn take(&mut self) -> WatchEvent {
        let network = Arc::clone(&self.client.network);
        let state = network.look();
        let new = state.keyspace.since(self.next);
        let changes: Vec<(Revision, Result<Stored, String>)> =
            new.iter().flat_map(|commit| self.changes_in(&state.keyspace, commit)).collect();
        // Etcd tells the revision of the last event, not how far it has looked.
        let revision = changes.last().map_or(self.next - 1, |(revision, _)| *revision);
        self.next = self.next.max(state.keyspace.revision() + 1);
        WatchEvent::Changed { revision, changes: changes.into_iter().map(|(_, change)| change).collect() }
    }

    fn changes_in<'c>(
        &'c self,
        keyspace: &'c Keyspace,
        commit: &'c Commit,
    ) -> impl Iterator<Item = (Revision, Result<Stored, String>)> + 'c {
        let (from, to) = &self.range;
        let in_range = commit.changes.iter().filter(move |change| *from <= change.key && change.key < *to);
        let asked = in_range.filter(|change| change.after.is_none() || !self.only_deletions);
        let from_history = commit.revision <= self.opened;
        let told = asked.filter(move |change| !from_history || keyspace.is_remembered(commit.revision, change));
        told.map(|change| (commit.revision, change.after.clone().ok_or_else(|| change.key.clone())))
    }
}

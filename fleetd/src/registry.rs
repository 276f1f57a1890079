//! The registry: the cluster's desired and observed state, in etcd.
//!
//! [`Store`] is all that fleetd asks of etcd: paged lists, watches from a revision, guarded transactions and
//! leases. [`etcd`] implements it; nothing else in fleetd knows the client library. `memory` is its twin for
//! the simulation.
//! [`mirror`] keeps a [`Snapshot`](fleet_core::model::Snapshot) of a part of the store up to date, [`view`] runs the one
//! mirror of the whole cluster while somebody needs it, [`files`] fetches unit files by hash, [`lease`] keeps a lease
//! alive, [`election`] is how one of several comes to lead, [`commit`] carries out what a request changes, [`contents`]
//! reads what units ask for. That etcd is out of reach is told by [`outage`] alone.

mod cause;
pub mod commit;
pub mod contents;
pub mod election;
mod endpoints;
pub mod etcd;
pub mod files;
pub mod lease;
#[cfg(any(test, feature = "twins"))]
pub mod memory;
pub mod mirror;
mod outage;
pub mod view;

use std::{collections::BTreeMap, future::Future, time::Duration};

pub use etcd::Etcd;
pub use fleet_core::model::{LeaseId, Range, Revision};
use thiserror::Error;

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// So long it lives on for certain, and less than a second longer: etcd tells whole seconds.
    pub left: Duration,
    /// So long it lives after a keepalive.
    pub granted: Duration,
}

impl Remaining {
    /// Whether a keepalive was missed: with one each third of the TTL there are two thirds left at least.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.left + Duration::from_secs(1) <= self.granted / 2
    }
}

/// Most operations that one transaction may hold (etcd's `--max-txn-ops`).
pub const MAX_OPERATIONS: usize = 128;

/// Keys in one page of a long list: large enough to be few, small enough for etcd's 4 MiB at 4 kB each.
const PAGE: usize = 1000;

/// What is read of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All that there is.
    Values,
    /// All but the values, which are left empty.
    Keys,
}

/// A key as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// When it was created.
    pub create_revision: Revision,
    /// When it was last written.
    pub mod_revision: Revision,
    /// The lease it dies with.
    pub lease: Option<LeaseId>,
}

/// A part of a range, read at one revision.
#[derive(Clone, Debug)]
pub struct Page {
    /// The keys in order.
    pub entries: Vec<Stored>,
    /// The revision that the store was read at.
    pub revision: Revision,
    /// Whether more keys follow.
    pub more: bool,
}

/// Which history of a store revisions are counted in. One that was restored from a backup has another: revisions that
/// come after the backup's mean something else there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The store's own number.
    pub cluster: u64,
    /// How often it has held an election, which only ever grows.
    pub term: u64,
}

impl Origin {
    /// Whether this may be the same history at a later time.
    #[must_use]
    pub fn continues(self, earlier: Self) -> bool {
        self.cluster == earlier.cluster && self.term >= earlier.term
    }
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// Keys changed, all in one revision or in several; in order.
    Changed {
        /// The last revision in it.
        revision: Revision,
        /// The changes: a new value, or the key that is gone.
        changes: Vec<Result<Stored, String>>,
    },
    /// The store has forgotten the revisions to watch from: list again.
    Compacted,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The key was last written at this revision; 0: it does not exist.
    Unchanged(String, Revision),
    /// The key exists since this revision.
    CreatedAt(String, Revision),
    /// The key was not written after this revision, if it exists.
    NotAfter(String, Revision),
    /// No key of the range that exists was written after this revision.
    NoneAfter(Range, Revision),
}

/// A change made by a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The lease it dies with.
        lease: Option<LeaseId>,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        key: String,
    },
    /// Deletes the keys of a range, however many there are.
    DeleteRange {
        /// The range.
        range: Range,
    },
}

impl Guard {
    /// The key, or the first that may be in the range.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Unchanged(key, _)
            | Self::CreatedAt(key, _)
            | Self::NotAfter(key, _)
            | Self::NoneAfter((key, _), _) => key,
        }
    }
}

impl Write {
    /// Writes a key that lives until it is deleted.
    #[must_use]
    pub fn put(key: String, value: Vec<u8>) -> Self {
        Self::Put { key, value, lease: None }
    }

    /// The key, or the first that may be in the range.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::DeleteRange { range: (key, _) } => key,
        }
    }
}

/// Writes that happen all or not at all, and only when every guard holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The conditions.
    pub guards: Vec<Guard>,
    /// The changes.
    pub writes: Vec<Write>,
}

/// Proof of leadership: transactions guarded by it fail once another leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The candidate's key in the election.
    pub key: String,
    /// The revision that it was created at.
    pub revision: Revision,
}

impl Leadership {
    /// The guard that keeps a deposed leader from writing.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard::CreatedAt(self.key.clone(), self.revision)
    }
}

/// Why the store did not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be reached, has no leader, or did not answer in time. A write may or may not have happened.
    #[error("etcd is unreachable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The revision asked for is forgotten.
    #[error("the revision has been compacted")]
    Compacted,
    /// The answer is larger than is accepted. Asking for less at a time helps.
    #[error("the answer of etcd is too large")]
    TooLarge,
    /// The lease has run out or was revoked.
    #[error("the lease is gone")]
    LeaseGone,
    /// It refused: wrong credentials, too large a request, no space.
    #[error("etcd refused to {what}{mend}")]
    Refused {
        /// What was attempted.
        what: &'static str,
        /// What can be done about it, in parentheses, if that is known.
        mend: &'static str,
        /// Its answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What fleetd asks of etcd. Handles are cheap to clone.
pub trait Store: Clone + Send + Sync + 'static {
    /// An open watch.
    type Watch: Watch;
    /// An open stream of keepalives.
    type KeepAlive: KeepAlive;

    /// Reads the keys of a range in order, at most `limit` of them, at revision `at` or now.
    fn list_in(
        &self,
        detail: Detail,
        range: &Range,
        at: Option<Revision>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// The same with all that there is of the keys.
    fn list(
        &self,
        range: &Range,
        at: Option<Revision>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send {
        self.list_in(Detail::Values, range, at, limit)
    }

    /// Reads a whole range at one revision, in pages.
    fn list_all(&self, detail: Detail, range: &Range) -> impl Future<Output = Result<Page, StoreError>> + Send {
        async move {
            let mut rest = range.clone();
            let mut whole = self.list_in(detail, &rest, None, PAGE).await?;
            while let Some(last) = whole.entries.last().filter(|_| whole.more) {
                rest.0 = format!("{}\0", last.key);
                let page = self.list_in(detail, &rest, Some(whole.revision), PAGE).await?;
                whole.more = page.more;
                whole.entries.extend(page.entries);
            }
            Ok(whole)
        }
    }

    /// Reads single keys; those that do not exist are left out. With more than [`MAX_OPERATIONS`] keys they may be
    /// of different revisions; the first of these is returned.
    fn get(&self, keys: &[String]) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Reads single keys whose values never change, from whichever member answers: what it has is right however far it
    /// is behind, and it need ask no other. A key that is left out may exist all the same; `get` tells.
    fn get_immutable(&self, keys: &[String]) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Watches a range from revision `from` on.
    fn watch(&self, range: &Range, from: Revision) -> impl Future<Output = Result<Self::Watch, StoreError>> + Send;

    /// Watches a range from revision `from` on for keys that are deleted; of others it does not tell.
    fn watch_deletions(
        &self,
        range: &Range,
        from: Revision,
    ) -> impl Future<Output = Result<Self::Watch, StoreError>> + Send;

    /// Carries out a transaction. Returns its revision, or `None` when a guard did not hold. It may be sent more than
    /// once, and what was sent in vain may be carried out later, when its guards hold then: also after an answer.
    fn commit(&self, transaction: Transaction) -> impl Future<Output = Result<Option<Revision>, StoreError>> + Send;

    /// Carries out a transaction that is sent once: after an answer, it has been carried out or never will be.
    fn commit_once(
        &self,
        transaction: Transaction,
    ) -> impl Future<Output = Result<Option<Revision>, StoreError>> + Send;

    /// Makes a lease that lives `ttl` without keepalives (in whole seconds).
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, StoreError>> + Send;

    /// How many members it has, one at least.
    fn members(&self) -> usize;

    /// The member that answered last.
    fn nearest(&self) -> usize;

    /// Opens a stream of keepalives for a lease with one of the members, and sends the first; `LeaseGone` when there is
    /// no such lease. Many such calls may be under way with one member: one that it leaves unanswered holds up no other.
    fn keep_alive(
        &self,
        lease: LeaseId,
        member: usize,
    ) -> impl Future<Output = Result<Self::KeepAlive, StoreError>> + Send;

    /// Ends a lease and deletes its keys.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How long leases live on if nothing keeps them alive. Those that are gone are left out.
    fn remaining(
        &self,
        leases: &[LeaseId],
    ) -> impl Future<Output = Result<BTreeMap<LeaseId, Remaining>, StoreError>> + Send;
}

/// An open watch.
pub trait Watch: Send {
    /// The history that it tells of.
    fn origin(&self) -> Origin;

    /// The next change. Does not come back by itself after an error: open a new watch.
    fn next(&mut self) -> impl Future<Output = Result<WatchEvent, StoreError>> + Send;
}

/// An open stream of keepalives.
pub trait KeepAlive: Send {
    /// Sends one keepalive and waits for its answer; `LeaseGone` when the lease is.
    fn beat(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

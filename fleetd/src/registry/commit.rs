//! Carrying out operations: what one rests on is read, it is decided by `fleet_core::ops`, and what it writes is committed
//! under guards; when somebody else has been faster, that begins again.

mod many;
mod pack;

use std::sync::Arc;

use fleet_core::{
    model::Keys,
    ops::{self, Current, Edit, Operation, Outcome, Refusal, WriteSet},
};
use thiserror::Error;
use tokio::time::Instant;

pub use self::{
    many::{Carried, carry_out_many},
    pack::{Packed, Packer},
};
use super::{Guard, Revision, Store, StoreError, Transaction, Write};

/// How often a write is tried when others write the same at the same time.
const TRIES: usize = 8;

/// An operation that is carried out.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// What came of it.
    pub outcome: Outcome,
    /// Whether anything was written for it.
    pub has_written: bool,
    /// The revision that wrote it; when nothing was to be written, the newest that it rests on.
    pub revision: Revision,
    /// When it had been compared with what was there.
    pub checked: Instant,
}

/// Why an operation is not carried out.
#[derive(Clone, Debug, Error)]
pub enum Failure {
    /// It is refused, and nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store did not do what was asked. It may be shared by operations of one transaction.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Carries out an operation.
///
/// # Errors
/// It is refused, or the store does not answer: then it may or may not have been carried out.
pub async fn carry_out<S: Store>(store: &S, keys: &Keys, operation: &Operation) -> Result<Done, Failure> {
    for _ in 0..TRIES {
        let current = read(store, keys, operation).await?;
        let checked = Instant::now();
        let Edit { set, outcome } = operation.decide(&current)?;
        if set.writes.is_empty() {
            return Ok(Done { outcome, has_written: false, revision: current.newest(), checked });
        }
        if let Some(revision) = store.commit(transaction(keys, set)).await? {
            return Ok(Done { outcome, has_written: true, revision, checked });
        }
    }
    Err(operation.contended().into())
}

/// What would come of an operation now.
///
/// # Errors
/// It would be refused, or the store does not answer.
pub async fn look<S: Store>(store: &S, keys: &Keys, operation: &Operation) -> Result<Edit, Failure> {
    Ok(operation.decide(&read(store, keys, operation).await?)?)
}

/// What an operation rests on, as the store has it now.
async fn read<S: Store>(store: &S, keys: &Keys, operation: &Operation) -> Result<Current, StoreError> {
    let reads: Vec<String> = operation.reads().iter().map(|key| keys.format(key)).collect();
    let page = store.get(&reads).await?;
    let mut current = Current::at(page.revision);
    for stored in page.entries {
        if let Some(key) = keys.parse(&stored.key) {
            current.put(key, &stored.value, stored.mod_revision);
        }
    }
    Ok(current)
}

/// Writes as the store takes them.
fn transaction(keys: &Keys, set: WriteSet) -> Transaction {
    let guard = |guard: ops::Guard| Guard::Unchanged(keys.format(&guard.key), guard.revision);
    let write = |write| match write {
        ops::Write::Put(key, value) => Write::put(keys.format(&key), value),
        ops::Write::Delete(key) => Write::Delete { key: keys.format(&key) },
    };
    Transaction {
        guards: set.guards.into_iter().map(guard).collect(),
        writes: set.writes.into_iter().map(write).collect(),
    }
}

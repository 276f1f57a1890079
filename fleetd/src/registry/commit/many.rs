//! Carrying out many operations at once.
//!
//! What was there is taken from a snapshot of the cluster instead of being read unit by unit, and guarded; many units
//! share a transaction, and several are under way at a time. The operations of one that is refused, because something of
//! it has changed meanwhile, are then carried out one by one.

use fleet_core::{
    model::{Key, Keys, Snapshot},
    ops::Operation,
};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::{Done, Failure, Packed, Packer, carry_out, transaction};
use crate::registry::{Store, StoreError};

/// Transactions, or single operations, under way at a time.
const IN_FLIGHT: usize = 8;

/// What came of many operations.
pub struct Carried {
    /// What came of each, in their order.
    pub outcomes: Vec<Result<Done, Failure>>,
    /// When they had been compared with what was there.
    pub checked: Instant,
}

/// Carries out operations about different units. `snapshot` is what was there, if that is known.
///
/// # Errors
/// The store does not answer, and nothing has been written.
pub async fn carry_out_many<S: Store>(
    store: &S,
    keys: &Keys,
    snapshot: Option<&Snapshot>,
    operations: &[Operation],
) -> Result<Carried, StoreError> {
    // Of the present, as the generation of a new unit tells it from those of its name that went before.
    let revision = store.get(&[keys.format(&Key::Leader)]).await?.revision;
    let checked = Instant::now();
    let mut outcomes: Vec<Option<Result<Done, Failure>>> = vec![None; operations.len()];
    let mut single = Vec::new();
    let mut packer = Packer::default();
    for (place, operation) in operations.iter().enumerate() {
        match snapshot.and_then(|snapshot| operation.decide_by(snapshot, revision)) {
            Some(Ok(edit)) if edit.set.writes.is_empty() => {
                // The snapshot is the one that readers have.
                let revision = snapshot.map_or(0, |snapshot| snapshot.revision);
                outcomes[place] = Some(Ok(Done { outcome: edit.outcome, has_written: false, revision, checked }));
            }
            Some(Ok(edit)) => packer.add((place, edit.outcome), transaction(keys, edit.set)),
            Some(Err(refusal)) => outcomes[place] = Some(Err(refusal.into())),
            None => single.push(place),
        }
    }
    let commit = |packed: Packed<_>| async move { (packed.parts, store.commit(packed.transaction).await) };
    let mut committed = stream::iter(packer.close()).map(commit).buffer_unordered(IN_FLIGHT);
    while let Some((parts, written)) = committed.next().await {
        let written = written.map_err(Failure::from);
        for (place, outcome) in parts {
            match &written {
                Ok(Some(revision)) => {
                    outcomes[place] = Some(Ok(Done { outcome, has_written: true, revision: *revision, checked }));
                }
                Ok(None) => single.push(place),
                Err(error) => outcomes[place] = Some(Err(error.clone())),
            }
        }
    }
    let alone = |place: usize| async move { (place, carry_out(store, keys, &operations[place]).await) };
    let mut alone = stream::iter(single).map(alone).buffer_unordered(IN_FLIGHT);
    while let Some((place, outcome)) = alone.next().await {
        outcomes[place] = Some(outcome);
    }
    let outcomes = outcomes.into_iter().map(|outcome| outcome.expect("each is decided, packed or single")).collect();
    Ok(Carried { outcomes, checked })
}

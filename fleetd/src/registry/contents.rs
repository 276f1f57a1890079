//! Reads what units ask for, for whoever plans or explains.

use std::collections::BTreeSet;

use fleet_core::{model::Snapshot, sched::Input};
use tracing::warn;

use super::{Store, StoreError, files::Files};

/// Files that are read at a time, and most that stay after that: of all units they are many, and memory is to hold few of
/// them.
const AT_ONCE: usize = 1024;

/// Reads what `input` does not know yet of the units of a snapshot. Of the files it leaves in `files` those of units that
/// are new, for whoever places them.
///
/// # Errors
/// The store does not answer. What is asked for again then is what has not been read.
pub async fn read<S: Store>(input: &mut Input, current: &Snapshot, files: &Files<S>) -> Result<(), StoreError> {
    let unread = input.unread(current);
    let new: BTreeSet<_> = unread.unscheduled().take(AT_ONCE).collect();
    for hashes in unread.hashes().chunks(AT_ONCE) {
        let read = files.get(hashes.iter().copied()).await?;
        for hash in hashes {
            for (unit, fault) in input.read(&unread, *hash, read.get(hash).map(|file| &**file)) {
                warn!(%unit, %hash, error = %crate::chain(&fault), "nobody knows what the unit asks for");
            }
        }
        let missing = input.known().contents.missing();
        // Of the others is kept what was read in them.
        files.retain(|hash| missing.contains_key(hash) || new.contains(hash));
    }
    Ok(())
}

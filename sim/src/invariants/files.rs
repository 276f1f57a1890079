//! Files that nothing uses go, whoever led when they went out of use.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_core::{
    model::{Key, Placement, Record as _},
    unit::UnitHash,
};
use tokio::time::Instant;

use super::{Past, Violation};
use crate::record::Record;

/// A file that was in use for less than this may have come and gone unseen: it is found in time, but not in this time.
const SEEN: Duration = Duration::from_secs(15);

/// Long after the last fault no file is left that nothing uses.
pub fn no_unused_file_is_left(record: &Record) -> Vec<Violation> {
    let mut past = Past::new(record);
    // Since when, and until when, each file was used.
    let mut used: BTreeMap<UnitHash, (Instant, Option<Instant>)> = BTreeMap::new();
    for commit in &record.commits {
        past.apply(commit);
        if !commit.changes.iter().any(|change| uses(record, &change.key)) {
            continue;
        }
        let now: BTreeSet<UnitHash> = past
            .keys
            .iter()
            .filter(|(key, _)| uses(record, key))
            .filter_map(|(_, stored)| Some(Placement::decode(&stored.value).ok()?.hash))
            .collect();
        for hash in &now {
            let entry = used.entry(*hash).or_insert((commit.at, None));
            if entry.1.is_some() {
                *entry = (commit.at, None);
            }
        }
        let ended = used.iter_mut().filter(|(hash, (_, until))| until.is_none() && !now.contains(hash));
        ended.for_each(|(_, (_, until))| *until = Some(commit.at));
    }
    let stored = record.entries.iter().filter_map(|stored| match record.keys.parse(&stored.key) {
        Some(Key::File(hash)) => Some(hash),
        _ => None,
    });
    let unused = stored.filter_map(|hash| match used.get(&hash) {
        Some((since, Some(until))) if *until > *since + SEEN => Some((hash, *until)),
        _ => None,
    });
    unused
        .map(|(hash, until)| Violation {
            invariant: "no unused file",
            at: Some(until),
            how: format!("file/{hash} is left, which nothing has used since"),
        })
        .collect()
}

fn uses(record: &Record, key: &str) -> bool {
    matches!(record.keys.parse(key), Some(Key::Unit(_) | Key::Global(_) | Key::Sched(..)))
}

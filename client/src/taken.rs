//! When fleetd took what was sent of each unit.

use std::{collections::BTreeMap, sync::Mutex};

use tokio::time::Instant;

use crate::pool::UNPOISONED;

/// When a change was taken: sent by our clock, the rest by fleetd's, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The request was sent.
    pub sent: Instant,
    /// It came to fleetd.
    pub received: i64,
    /// What it wants had been compared with what was there, and went to etcd.
    pub checked: i64,
}

/// The last change of each unit.
#[derive(Default)]
pub struct TakenTimes(Mutex<BTreeMap<String, Taken>>);

impl TakenTimes {
    /// Notes what an answer says of when it was received and checked.
    pub fn note<'n>(&self, names: impl IntoIterator<Item = &'n str>, sent: Instant, times: Option<(i64, i64)>) {
        let Some((received, checked)) = times else { return };
        let names = names.into_iter().map(|name| (name.to_owned(), Taken { sent, received, checked }));
        self.0.lock().expect(UNPOISONED).extend(names);
    }

    /// When the last change of a unit was taken.
    pub fn of(&self, name: &str) -> Option<Taken> {
        self.0.lock().expect(UNPOISONED).get(name).copied()
    }
}

//! Whether something about a list may have changed, so that it is worth reading again.
//!
//! Fleetd's watch tells of changes of units that are named; it cannot tell of units or machines that come and go.
//! Those show when the list is read again, which is after [`RELIST`] at the latest. Nothing here fails: without a
//! watch (CoreOS fleet's fleetd has none, a restarting one has none for a while) the lists are read at that pace.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fleet_client::{Client, STREAM};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Between two readings of a list that nothing is heard of.
const RELIST: Duration = Duration::from_secs(2);
/// Between two readings of a list that changes all the time.
const PAUSE: Duration = Duration::from_millis(250);
/// Units that are watched. Beyond, streams would cost fleetd more than the reading every [`RELIST`] saves.
const WATCHED: usize = 5 * STREAM;

/// Follows units until dropped.
#[derive(Default)]
pub struct ListFollower {
    units: BTreeSet<String>,
    changed: Arc<Notify>,
    followers: JoinSet<()>,
}

impl ListFollower {
    /// Follows these units, and no longer those that were followed before.
    pub fn follow(&mut self, client: &Arc<Client>, units: BTreeSet<String>) {
        if units == self.units {
            return;
        }
        self.units = units;
        self.followers = JoinSet::new();
        let watched: Vec<String> = self.units.iter().take(WATCHED).cloned().collect();
        for names in watched.chunks(STREAM) {
            self.followers.spawn(notify(Arc::clone(client), names.to_vec(), Arc::clone(&self.changed)));
        }
    }

    /// Returns when the list should be read again.
    pub async fn next(&mut self) {
        sleep(PAUSE).await;
        // That time is up is an answer, too.
        let _ = timeout(RELIST - PAUSE, self.changed.notified()).await;
    }
}

/// Every line counts, the first of each unit, too: it may have changed between the list and the watch.
async fn notify(client: Arc<Client>, names: Vec<String>, changed: Arc<Notify>) {
    loop {
        match client.watch(&names).await {
            Ok(Some(mut lines)) => {
                while let Ok(Some(_)) = lines.next().await {
                    changed.notify_one();
                }
            }
            Ok(None) => return,
            Err(_) => {}
        }
        sleep(RELIST).await;
    }
}

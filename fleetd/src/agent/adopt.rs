//! Taking up what an earlier run of the agent left on the host.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::{
    agent::Installed,
    model::Target,
    unit::{Behaviour, UnitFile, UnitName},
};
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Agent, Disk, strict_of};
use crate::{
    filesystem::{FileError, Filesystem},
    registry::Store,
    systemd::Systemd,
};

/// Files that are read before others have their turn.
const AT_ONCE: usize = 16;

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// Reads the files of the units that are here. Systemd is asked how these are meanwhile, once it is listened to:
    /// either takes its time when there are a thousand. Only what is asked ends with `shutdown`.
    pub(super) async fn take_up(&mut self, shutdown: &CancellationToken) {
        let reading = read(self.disk.clone(), std::mem::take(&mut self.unread));
        tokio::pin!(reading);
        self.systemd.dirty().watch(self.unseen.clone());
        let read = tokio::select! {
            biased;
            read = &mut reading => read,
            () = self.systemd.dirty().marked() => {
                tokio::join!(shutdown.run_until_cancelled(self.look()), reading).1
            }
        };
        self.strict = strict_of(&read);
        let mut strays = false;
        for (unit, file) in read {
            let behaviour = Behaviour::of(&file, &unit);
            if let Some(entry) = self.installed.get_mut(&unit) {
                // A fleetd that knew of no requests did not write down what had finished.
                entry.finished |= behaviour.ends && entry.applied == Target::Launched && entry.request.is_none();
            }
            self.behaviour.insert(unit.clone(), behaviour);
            let hash = self.files.insert(file);
            if !self.installed.contains_key(&unit) {
                // Written just before a crash, and most likely not started yet.
                self.touch(&unit);
                self.installed.insert(unit, Installed::loaded(hash, None));
                strays = true;
            }
        }
        if strays {
            self.watch_units();
        }
        self.find_disputes();
        if !self.installed.is_empty() {
            info!(units = self.installed.len(), "took up the units of an earlier run");
        }
    }

    /// Takes note of the units that were stopped while no fleetd ran: they have not ended by themselves. A unit that the
    /// manifest does not know of needs no such note: it counts as never started.
    pub(super) fn adopt_fenced(&mut self) -> Result<(), FileError> {
        let fenced = self.disk.fenced()?;
        if fenced.is_empty() {
            return Ok(());
        }
        info!(units = ?fenced, "these units were stopped while fleetd was down");
        for unit in &fenced {
            if let Some(entry) = self.installed.get_mut(unit) {
                entry.stopping = true;
            }
        }
        self.save();
        self.disk.forget_fenced()
    }
}

async fn read<F: Filesystem>(disk: Disk<F>, units: BTreeSet<UnitName>) -> BTreeMap<UnitName, UnitFile> {
    let mut read = BTreeMap::new();
    for (number, unit) in units.into_iter().enumerate() {
        if number % AT_ONCE == AT_ONCE - 1 {
            yield_now().await;
        }
        read.extend(disk.file(&unit).map(|file| (unit, file)));
    }
    read
}

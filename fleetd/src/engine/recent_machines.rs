//! The machines that were there a moment ago, as a candidate sees them while it waits to be elected.
//!
//! Machines that vanish together with the leader are known to nobody else: a new leader finds those that something is
//! scheduled to, and the others would not count when it asks itself whether many vanished together.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

use fleet_core::{
    control::TOGETHER,
    model::{Keys, Kind, MachineId, Snapshot},
};
use tokio::{sync::watch, time::Instant};

use crate::registry::{Store, mirror};

/// Machines that were there, and of those that are not any more when they were seen to go.
#[derive(Debug, Default)]
pub(super) struct RecentMachines {
    there: BTreeSet<MachineId>,
    gone: BTreeMap<MachineId, Instant>,
}

impl RecentMachines {
    /// Follows the machines for as long as it is polled.
    pub(super) async fn watch<S: Store>(&mut self, store: &S, keys: &Keys) -> Infallible {
        let (sender, mut cluster) = watch::channel(Snapshot::default());
        let machines = [keys.of(Kind::Machine)];
        let look = async {
            while cluster.changed().await.is_ok() {
                self.see(&cluster.borrow_and_update());
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = mirror::follow(store, keys, &machines, &sender) => std::future::pending().await,
            never = look => never,
        }
    }

    fn see(&mut self, cluster: &Snapshot) {
        let now = Instant::now();
        self.gone.retain(|machine, since| !cluster.machines.contains_key(machine) && now < *since + TOGETHER);
        let went = self.there.iter().filter(|machine| !cluster.machines.contains_key(*machine));
        self.gone.extend(went.filter(|machine| !cluster.left_in_order(machine)).map(|machine| (machine.clone(), now)));
        self.there = cluster.machines.keys().cloned().collect();
    }

    /// The machines that were there a moment ago. Those that are not any more have vanished together.
    pub(super) fn into_set(self) -> BTreeSet<MachineId> {
        let now = Instant::now();
        let gone = self.gone.into_iter().filter(|(_, since)| now < *since + TOGETHER).map(|(machine, _)| machine);
        gone.chain(self.there).collect()
    }
}

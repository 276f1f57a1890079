//! Reading what an earlier run of the agent left on the host.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::unit::{UnitFile, UnitName};
use tokio::task::yield_now;

use super::Disk;
use crate::filesystem::Filesystem;

/// Files that are read before others have their turn.
const AT_ONCE: usize = 16;

/// The files of these units.
pub(super) async fn read<F: Filesystem>(disk: Disk<F>, units: BTreeSet<UnitName>) -> BTreeMap<UnitName, UnitFile> {
    let mut read = BTreeMap::new();
    for (number, unit) in units.into_iter().enumerate() {
        if number % AT_ONCE == AT_ONCE - 1 {
            yield_now().await;
        }
        read.extend(disk.file(&unit).map(|file| (unit, file)));
    }
    read
}

//! The manifest of what the agent has put in place, kept equal to the cells.

use tracing::warn;

use super::{Disk, units::Units};
use crate::filesystem::Filesystem;

/// Writes the manifest. Without it a restarted agent would have to guess.
pub(super) struct Manifest<F> {
    disk: Disk<F>,
    /// It could not be written last time.
    failed: bool,
}

impl<F: Filesystem> Manifest<F> {
    pub fn new(disk: Disk<F>) -> Self {
        Self { disk, failed: false }
    }

    /// Writes it if something has changed since.
    pub fn save(&mut self, units: &mut Units) {
        if !units.cells.is_unsaved() {
            return;
        }
        match self.disk.save(units.cells.all_installed()) {
            Ok(()) => {
                units.cells.saved();
                self.failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    warn!(error = %crate::chain(&error), "manifest not written, trying again");
                }
            }
        }
    }

    /// Whether it is to be written again.
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}

//! The ID of this host's lease, kept until the next boot.

use std::{path::PathBuf, time::Duration};

use tracing::warn;

use crate::{filesystem::Filesystem, registry::LeaseId};

/// The file that a restarted fleetd finds its own lease in.
pub struct LeaseFile<F> {
    filesystem: F,
    path: PathBuf,
}

impl<F: Filesystem> LeaseFile<F> {
    /// The file at `path`.
    #[must_use]
    pub fn new(filesystem: F, path: PathBuf) -> Self {
        Self { filesystem, path }
    }

    /// Writes a lease's ID and TTL down.
    pub(super) fn write(&self, lease: LeaseId, ttl: Duration) {
        let text = format!("{} {}", lease.0, ttl.as_secs());
        if let Err(error) = self.filesystem.replace(&self.path, text.as_bytes()) {
            warn!(error = %crate::chain(&error), "lease not remembered: a restart will register anew");
        }
    }

    /// The lease that was written down, if it lives as long as is wanted now: one that was granted for a shorter time
    /// would run out between two keepalives.
    pub(super) fn read(&self, ttl: Duration) -> Option<LeaseId> {
        let text = String::from_utf8(self.filesystem.read(&self.path).ok()??).ok()?;
        let (lease, granted) = text.trim().split_once(' ')?;
        (granted.parse() == Ok(ttl.as_secs())).then(|| lease.parse().ok().map(LeaseId))?
    }

    pub(super) fn remove(&self) {
        if let Err(error) = self.filesystem.remove(&self.path) {
            warn!(error = %crate::chain(&error), "lease not forgotten");
        }
    }
}

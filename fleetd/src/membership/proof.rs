//! How long this host's lease is proven to live, and where that is kept until the next boot.
//!
//! A keepalive that etcd has answered proves that the lease lives for its TTL from the moment at which the keepalive was
//! *sent*. What is proven counts a little less than that: the time which stopping a unit takes to begin.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::watch;
use tracing::warn;

use crate::{clock::Clock, filesystem::Filesystem};

/// Until when the lease is proven to live: a moment of [`Clock`], less what stopping takes to begin. `None` while
/// nothing is proven.
pub type Proof = Option<Duration>;

/// What a keepalive proves that is sent now.
#[must_use]
pub fn proof(clock: Clock, ttl: Duration) -> Proof {
    Some(clock.now() + ttl - ttl / 10)
}

/// The file of a host that puts its unit files in `units`.
#[must_use]
pub fn proof_file(units: &Path) -> PathBuf {
    units.parent().unwrap_or(Path::new("/run")).join("proof")
}

/// Keeps what is proven in a file, for a fleetd that comes after this one. Runs until dropped.
pub async fn remember<F: Filesystem>(filesystem: F, path: &Path, mut proof: watch::Receiver<Proof>) {
    let mut logged = false;
    while proof.changed().await.is_ok() {
        let until = *proof.borrow_and_update();
        let text = until.map(|until| until.as_millis().to_string()).unwrap_or_default();
        if let Err(error) = filesystem.replace(path, text.as_bytes())
            && !std::mem::replace(&mut logged, true)
        {
            warn!(error = %crate::chain(&error), "if fleetd is killed now, the next one stops units with OnPartition=stop");
        }
    }
}

/// What an earlier fleetd of this boot has proven.
pub fn recall<F: Filesystem>(filesystem: &F, path: &Path) -> Proof {
    let text = String::from_utf8(filesystem.read(path).ok()??).ok()?;
    text.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::filesystem::memory::Memory;

    #[tokio::test]
    async fn proof_outlives_the_fleetd_that_had_it() {
        let filesystem = Memory::default();
        let path = Path::new("/run/fleet/proof");
        assert_eq!(recall(&filesystem, path), None);
        let (proofs, receiver) = watch::channel(None);
        let remembering = remember(filesystem.clone(), path, receiver);
        proofs.send_replace(Some(Duration::from_secs(77)));
        let _ = timeout(Duration::from_millis(10), remembering).await;
        assert_eq!(recall(&filesystem, path), Some(Duration::from_secs(77)));
    }
}

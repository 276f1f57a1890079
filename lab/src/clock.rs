//! A wall clock of fleetd's own, that a test can turn.
//!
//! Containers share the machine's clock, which is nobody's to change. `libfaketime` (Debian: `faketime`) stands
//! between fleetd and the C library instead, and reads how far to be off from a file. Only the wall clock: the
//! monotonic clocks cannot jump on a real host either.

use std::path::Path;

use anyhow::{Result, bail};

/// Beside [`LIBRARY_DIRS`], in a directory of its own.
const LIBRARY: &str = "faketime/libfaketime.so.1";
/// Where distributions keep libraries.
const LIBRARY_DIRS: &[&str] = &["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
/// Read by the library; without it the clock goes right.
pub(crate) const OFFSET: &str = "/run/fleet-lab-clock";

/// Whether the machine has what it takes.
pub(crate) fn library() -> Result<String> {
    let paths = LIBRARY_DIRS.iter().map(|dir| format!("{dir}/{LIBRARY}"));
    let Some(path) = paths.into_iter().find(|path| Path::new(path).exists()) else {
        bail!("libfaketime is missing on this machine; mend it with `apt-get install -y faketime`");
    };
    Ok(path)
}

/// The drop-in for `fleet.service`.
pub(crate) fn drop_in(library: &str) -> String {
    format!(
        "\
[Service]
Environment=LD_PRELOAD={library}
Environment=FAKETIME_TIMESTAMP_FILE={OFFSET}
Environment=FAKETIME_CACHE_DURATION=1
Environment=FAKETIME_DONT_FAKE_MONOTONIC=1
Environment=DONT_FAKE_MONOTONIC=1
"
    )
}

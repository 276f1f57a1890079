//! What a lab leaves on disk, so that a later command finds it: its directory, its lock, its plan.
//!
//! Processes are not recorded, they are looked up (see `process.rs`); what is written here is only
//! what cannot be seen from outside.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Parent of all labs of this machine.
const BASE: &str = "/var/lib/fleet-lab";

/// Subnets a lab may have.
pub(crate) const SUBNETS: std::ops::RangeInclusive<u8> = 1..=99;

/// The plan of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The starting process is done and the lab is to stay: `fleet-lab up` ended well, or
    /// [`Lab::keep`](crate::Lab::keep). Without it a lab is litter as soon as nobody holds its lock.
    pub(crate) kept: bool,
    pub(crate) docker: bool,
    pub(crate) ssh: bool,
    pub(crate) fleet: bool,
    /// The library that lends fleetd a clock of its own.
    #[serde(default)]
    pub(crate) clock: Option<String>,
    /// Without other addresses than those of IPv6.
    #[serde(default)]
    pub(crate) ipv6: bool,
    /// Number of etcd members.
    pub(crate) etcd: u8,
    /// Further lines of `fleet.conf`.
    pub(crate) config: Vec<String>,
    /// Repository with `cloud-init/`.
    pub(crate) repo: PathBuf,
    pub(crate) hosts: Vec<HostState>,
}

/// The plan of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostState {
    pub(crate) name: String,
    pub(crate) number: u8,
    pub(crate) machine_id: String,
    pub(crate) metadata: String,
    /// It has a fleetd and a fleetctl of its own.
    #[serde(default)]
    pub(crate) own_programs: bool,
}

/// The directory of one lab: `/var/lib/fleet-lab/K`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dirs {
    pub(crate) root: PathBuf,
}

impl Dirs {
    pub(crate) fn of(subnet: u8) -> Self {
        Self { root: Path::new(BASE).join(subnet.to_string()) }
    }

    /// Bound into every host, read-only: binaries, the docker image.
    pub(crate) fn share(&self) -> PathBuf {
        self.root.join("share")
    }

    /// Bound into every host, to write to: what is there is safe from whatever happens to a host.
    pub(crate) fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }

    /// The key pair of the lab.
    pub(crate) fn ssh(&self) -> PathBuf {
        self.root.join("ssh")
    }

    pub(crate) fn host(&self, name: &str) -> HostDirs {
        HostDirs(self.root.join("hosts").join(name))
    }

    pub(crate) fn etcd(&self, member: u8) -> PathBuf {
        self.root.join(format!("etcd/e{member}"))
    }

    pub(crate) fn etcd_log(&self, member: u8) -> PathBuf {
        self.root.join(format!("etcd/e{member}.log"))
    }

    fn state_file(&self) -> PathBuf {
        self.root.join("state.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn load(&self) -> Result<State> {
        let path = self.state_file();
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    pub(crate) fn save(&self, state: &State) -> Result<()> {
        let path = self.state_file();
        // Renamed into place: another command may read it at this moment.
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(state)?)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The directory of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostDirs(pub(crate) PathBuf);

impl HostDirs {
    /// A tmpfs with the overlay's `upper` and `work`.
    pub(crate) fn disk(&self) -> PathBuf {
        self.0.join("disk")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.0.join("disk/upper")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("disk/work")
    }

    /// The mounted overlay.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// `/var/lib/docker` and `/var/lib/containerd` of the host: docker's own overlays cannot have
    /// their upper directory on an overlay.
    pub(crate) fn docker(&self) -> PathBuf {
        self.0.join("docker")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }
}

/// The end of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(15)..].join("\n");
    if last.is_empty() {
        return format!("nothing in {}", log.display());
    }
    format!("end of {}:\n{last}", log.display())
}

/// Labs that are set up or kept on this machine, by subnet.
pub(crate) fn existing() -> Vec<u8> {
    let Ok(entries) = fs::read_dir(BASE) else {
        return Vec::new();
    };
    let mut subnets: Vec<u8> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|subnet| SUBNETS.contains(subnet))
        .collect();
    subnets.sort_unstable();
    subnets
}

/// The right to set up, change and remove the lab on a subnet. The kernel gives it back when the
/// process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    // Held for its flock; closed on exec, so no process of the lab inherits it.
    _file: File,
}

impl Lock {
    /// `None` if another process has it.
    pub(crate) fn try_take(subnet: u8) -> Result<Option<Self>> {
        let dirs = Dirs::of(subnet);
        let path = dirs.lock_file();
        loop {
            fs::create_dir_all(&dirs.root).with_context(|| format!("cannot make {}", dirs.root.display()))?;
            let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let file = match opened {
                Ok(file) => file,
                // Removed by its last owner since the line above.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot open {}", path.display()));
                }
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            // The last owner removes the directory while it holds the lock; a lock on a file that
            // is no longer there protects nothing.
            let ours = file.metadata()?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Some(Self { _file: file }));
            }
        }
    }

    /// Whether a process has it. Looks only: what is not there is not made.
    pub(crate) fn is_taken(subnet: u8) -> bool {
        File::open(Dirs::of(subnet).lock_file())
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
    }

    /// Fails if another process has it.
    pub(crate) fn take(subnet: u8) -> Result<Self> {
        let Some(lock) = Self::try_take(subnet)? else {
            bail!(
                "the lab on subnet {subnet} is being used by another process (a running test?): wait, or take another"
            );
        };
        Ok(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_the_file() -> Result<()> {
        let dirs = Dirs { root: std::env::temp_dir().join(format!("fleet-lab-state-{}", std::process::id())) };
        fs::create_dir_all(&dirs.root)?;
        let state = State {
            kept: true,
            etcd: 3,
            config: vec!["agent_ttl=\"2s\"".to_owned()],
            hosts: vec![HostState {
                name: "h1".to_owned(),
                number: 1,
                machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
                metadata: "disk=ssd".to_owned(),
                own_programs: true,
            }],
            ..State::default()
        };
        dirs.save(&state)?;
        let read = dirs.load();
        fs::remove_dir_all(&dirs.root)?;
        assert_eq!(read?, state);
        Ok(())
    }
}

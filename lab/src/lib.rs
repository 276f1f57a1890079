//! A cluster on a laptop: real systemd hosts with real etcd on one machine.
//!
//! A [`Lab`] is a bridge with its own network, etcd members as plain processes on the machine, and
//! hosts `h1`, `h2`, ...: containers that boot a systemd, with D-Bus, a journal and, if asked for,
//! docker or ssh. A host's root file system is the machine's own under an overlay, so whatever is
//! installed on the machine is there in the host. Real faults are one call away: power loss
//! ([`Host::kill`]), partition ([`Host::partition`]), a frozen store ([`Member::pause`]).
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let lab = fleet_lab::Lab::builder()
//!     .hosts(3)
//!     .metadata("h1", "disk=ssd,region=east")
//!     .up()?;
//! print!("{}", lab.host("h1").sh("fleetctl list-machines")?);
//! lab.host("h2").kill()?;
//! # Ok(()) }
//! ```
//!
//! A lab is removed when it is dropped, however the test ends; what a killed process leaves behind
//! is removed by the next start. Labs side by side take different subnets: `10.82.K.0/24` (or `fd82:f1ee:0:K::/64`), with the
//! state in `/var/lib/fleet-lab/K`. Nothing a lab does leaves its bridge and the loopback.
//!
//! Needs root, and Linux with overlayfs; where PID 1 of the machine is not systemd it works too.

mod builder;
mod cgroup;
mod cleanup;
mod clock;
mod docker;
mod host;
mod network;
mod process;
mod quorum;
mod rootfs;
mod state;
mod store;
mod tool;
mod traffic;
mod volume;
mod wait;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use builder::{LabBuilder, built};
pub use docker::IMAGE;
pub use host::Host;
pub use rootfs::{OUTSIDE, SHARE};
pub use store::{Member, MemberStatus};
pub use traffic::Direction;
pub use volume::Volume;
pub use wait::{Look, Seen, eventually, eventually_eq};

use network::Network;
use state::{Dirs, HostState, Lock, State};

/// Addresses .11 to .254.
pub(crate) const MAX_HOSTS: u8 = 244;

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    network: Network,
    dirs: Dirs,
    state: State,
    hosts: Vec<Host>,
    /// Held while this process owns the lab; `None` for one that was attached to.
    lock: Option<Lock>,
}

impl Lab {
    /// Describes a lab to start.
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// Takes up a lab that another process started. It is not removed when this value is dropped.
    pub fn attach(subnet: u8) -> Result<Self> {
        let dirs = Dirs::of(subnet);
        let state = dirs.load().with_context(|| {
            format!("the lab on subnet {subnet} is not whole, `fleet-lab down --subnet {subnet}` removes what is left")
        })?;
        Ok(Self::new(subnet, state, None))
    }

    /// Subnets on which there are labs, or left-overs of labs.
    pub fn existing() -> Vec<u8> {
        state::existing()
    }

    /// Whether a process is setting up, using or removing the lab on a subnet.
    pub fn is_in_use(subnet: u8) -> bool {
        Lock::is_taken(subnet)
    }

    /// Removes the lab on a subnet, whoever started it and whatever is left of it. Refuses while
    /// another process is using it.
    pub fn remove(subnet: u8) -> Result<()> {
        let lock = Lock::take(subnet)?;
        cleanup::remove(&lock, subnet)
    }

    fn new(subnet: u8, state: State, lock: Option<Lock>) -> Self {
        let mut lab = Self {
            network: Network { subnet, ipv6: state.ipv6 },
            dirs: Dirs::of(subnet),
            state,
            hosts: Vec::new(),
            lock,
        };
        lab.hosts =
            lab.state.hosts.iter().map(|plan| Host::new(lab.network, &lab.dirs, lab.state.docker, plan)).collect();
        lab
    }

    /// Lets the lab live on when this value is dropped or the process ends; `fleet-lab down` or
    /// [`Lab::remove`] removes it.
    pub fn keep(&mut self) -> Result<()> {
        self.state.kept = true;
        self.dirs.save(&self.state)
    }

    /// K in `10.82.K.0/24`.
    pub fn subnet(&self) -> u8 {
        self.network.subnet
    }

    /// Where the lab keeps its files and logs.
    pub fn dir(&self) -> &Path {
        &self.dirs.root
    }

    /// A directory of the machine that every host has at [`OUTSIDE`], to write to. What is there outlives a host's
    /// power loss and is seen from here though the host is cut off.
    pub fn outside(&self) -> PathBuf {
        self.dirs.outside()
    }

    /// Where a registry on this machine must listen for the hosts' docker to find it: it is asked before the public one,
    /// for the same names.
    pub fn registry(&self) -> String {
        self.network.registry()
    }

    /// All hosts, up or down.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// A host by name.
    ///
    /// # Panics
    ///
    /// If there is no such host; see [`find_host`](Self::find_host).
    pub fn host(&self, name: &str) -> Host {
        match self.find_host(name) {
            Ok(host) => host,
            Err(error) => panic!("{error}"),
        }
    }

    /// A host by name, or an error that names those there are.
    pub fn find_host(&self, name: &str) -> Result<Host> {
        if let Some(host) = self.hosts.iter().find(|host| host.name() == name) {
            return Ok(host.clone());
        }
        let names: Vec<_> = self.hosts.iter().map(Host::name).collect();
        bail!("no host {name} in this lab, only {}", names.join(", "));
    }

    /// Boots one more host.
    pub fn add_host(&mut self, metadata: &str) -> Result<Host> {
        // A lab that was attached to may have been changed by another command since.
        let _lock = match self.lock {
            Some(_) => None,
            None => {
                let lock = Lock::take(self.subnet())?;
                self.state = self.dirs.load()?;
                Some(lock)
            }
        };
        let number = self.state.hosts.iter().map(|h| h.number).max().unwrap_or(0) + 1;
        if number > MAX_HOSTS {
            bail!("a lab has at most {MAX_HOSTS} hosts");
        }
        let plan = HostState {
            name: format!("h{number}"),
            number,
            machine_id: new_machine_id()?,
            metadata: metadata.to_owned(),
            own_programs: false,
        };
        self.state.hosts.push(plan.clone());
        self.dirs.save(&self.state)?;
        let host = self.create_host(&plan)?;
        self.hosts.push(host.clone());
        host.boot()?;
        Ok(host)
    }

    fn create_host(&self, plan: &HostState) -> Result<Host> {
        rootfs::create(&self.dirs, self.network, &self.state, plan)?;
        Ok(Host::new(self.network, &self.dirs, self.state.docker, plan))
    }

    /// All etcd members.
    pub fn members(&self) -> Vec<Member> {
        (1..=self.state.etcd)
            .map(|number| Member::new(self.network, self.dirs.clone(), number, self.state.etcd))
            .collect()
    }

    /// An etcd member: 1 to 5.
    ///
    /// # Panics
    ///
    /// If there is no such member.
    pub fn etcd(&self, number: u8) -> Member {
        assert!(
            (1..=self.state.etcd).contains(&number),
            "no etcd member {number} in this lab, only {}",
            self.state.etcd
        );
        Member::new(self.network, self.dirs.clone(), number, self.state.etcd)
    }

    /// Where clients find the members.
    pub fn etcd_endpoints(&self) -> Vec<String> {
        self.members().iter().map(Member::endpoint).collect()
    }

    /// Runs `etcdctl` (API v3) on the machine and returns its standard output.
    pub fn etcdctl<S: AsRef<str>>(&self, args: &[S]) -> Result<String> {
        let output = tool::command("etcdctl")
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", self.etcd_endpoints().join(","))
            .args(args.iter().map(AsRef::as_ref))
            .output()
            .context("cannot run etcdctl")?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("etcdctl failed: {}", stderr.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Puts a program, like another `fleetd`, into all hosts, running ones too; takes effect with the
    /// next start of the program.
    pub fn install(&self, name: &str, binary: &Path) -> Result<()> {
        replace(&self.dirs.share().join(name), binary)
    }

    /// Puts the `fleetd` and `fleetctl` that are in `dir` into a host that was given its own by
    /// [`LabBuilder::programs`]; takes effect with the next start of each.
    pub fn install_on(&self, host: &str, dir: &Path) -> Result<()> {
        if !self.state.hosts.iter().any(|plan| plan.name == host && plan.own_programs) {
            bail!("{host} has no programs of its own");
        }
        let own = self.dirs.share().join(host);
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        rootfs::PROGRAMS.iter().try_for_each(|name| replace(&own.join(name), &dir.join(name)))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(lock) = &self.lock else { return };
        if self.state.kept {
            return;
        }
        if let Err(error) = cleanup::remove(lock, self.subnet()) {
            eprintln!("fleet-lab: cannot remove the lab on subnet {}: {error:#}", self.subnet());
        }
    }
}

/// Renamed into place: a running program cannot be written to.
fn replace(place: &Path, binary: &Path) -> Result<()> {
    let new = place.with_extension("new");
    fs::copy(binary, &new)
        .and_then(|_| fs::rename(&new, place))
        .with_context(|| format!("cannot install {}", binary.display()))
}

/// 32 random hexadecimal digits.
fn new_machine_id() -> Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot get a random machine-id")?;
    Ok(uuid.trim().replace('-', ""))
}

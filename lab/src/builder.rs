//! From the description of a lab to a running one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::network::Network;
use crate::state::{Dirs, HostState, Lock, SUBNETS, State};
use crate::tool::{require, run};
use crate::{Host, Lab, MAX_HOSTS, cgroup, cleanup, clock, docker, new_machine_id};

/// Subnet 1 is what people get on the command line; labs that take any free one leave it to them.
const FIRST_FREE: u8 = 2;

/// What a lab is to have; see [`Lab::builder`].
#[derive(Clone, Debug)]
pub struct LabBuilder {
    hosts: u8,
    docker: bool,
    ssh: bool,
    etcd: u8,
    ipv6: bool,
    subnet: Option<u8>,
    metadata: BTreeMap<String, String>,
    config: Vec<String>,
    fleet: bool,
    clocks: bool,
    fleetd: Option<PathBuf>,
    fleetctl: Option<PathBuf>,
    programs: BTreeMap<String, PathBuf>,
    repo: PathBuf,
    verbose: bool,
}

impl Default for LabBuilder {
    fn default() -> Self {
        let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self {
            hosts: 1,
            docker: false,
            ssh: false,
            etcd: 1,
            ipv6: false,
            subnet: None,
            metadata: BTreeMap::new(),
            config: Vec::new(),
            fleet: true,
            clocks: false,
            fleetd: None,
            fleetctl: None,
            programs: BTreeMap::new(),
            repo: lab.parent().unwrap_or(lab).to_owned(),
            verbose: false,
        }
    }
}

impl LabBuilder {
    /// Number of hosts: 1 unless said otherwise; more can be added later.
    pub fn hosts(mut self, count: u8) -> Self {
        self.hosts = count;
        self
    }

    /// With docker and the image [`IMAGE`](crate::IMAGE) in every host. Docker looks for others in the registry at
    /// [`Lab::registry`], if there is one.
    pub fn docker(mut self, docker: bool) -> Self {
        self.docker = docker;
        self
    }

    /// With an ssh server in every host, and a key that lets root from any host into any other.
    pub fn ssh(mut self, ssh: bool) -> Self {
        self.ssh = ssh;
        self
    }

    /// Number of etcd members: 1 unless said otherwise, 3 or 5.
    pub fn etcd(mut self, members: u8) -> Self {
        self.etcd = members;
        self
    }

    /// With IPv6 alone: hosts and members of etcd have no other addresses, beside those of the loopback.
    pub fn ipv6(mut self, ipv6: bool) -> Self {
        self.ipv6 = ipv6;
        self
    }

    /// K in `10.82.K.0/24`, 1 to 99; a free one unless said otherwise. What a lab left there is
    /// removed first.
    pub fn subnet(mut self, subnet: u8) -> Self {
        self.subnet = Some(subnet);
        self
    }

    /// Metadata of a host, like `disk=ssd,region=east`.
    pub fn metadata(mut self, host: &str, metadata: &str) -> Self {
        self.metadata.insert(host.to_owned(), metadata.to_owned());
        self
    }

    /// One more line for every host's `fleet.conf`, like `agent_ttl="2s"`.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// Without fleet in the hosts if `false`.
    pub fn fleet(mut self, fleet: bool) -> Self {
        self.fleet = fleet;
        self
    }

    /// The `fleetd` to run; otherwise the one that was built beside the running program.
    pub fn fleetd(mut self, binary: impl Into<PathBuf>) -> Self {
        self.fleetd = Some(binary.into());
        self
    }

    /// The `fleetctl` to install; otherwise the one that was built beside the running program.
    pub fn fleetctl(mut self, binary: impl Into<PathBuf>) -> Self {
        self.fleetctl = Some(binary.into());
        self
    }

    /// A host runs the `fleetd` and `fleetctl` that are in this directory, whatever the others run.
    /// [`Lab::install_on`] gives it others later.
    pub fn programs(mut self, host: &str, dir: impl Into<PathBuf>) -> Self {
        self.programs.insert(host.to_owned(), dir.into());
        self
    }

    /// The repository whose `cloud-init/fleet.service` and `fleet.socket` to install; otherwise the
    /// one this crate was built from.
    pub fn repo(mut self, repo: impl Into<PathBuf>) -> Self {
        self.repo = repo.into();
        self
    }

    /// With a wall clock of fleetd's own in every host, see [`Host::turn_clock`].
    pub fn turnable_clocks(mut self, turnable: bool) -> Self {
        self.clocks = turnable;
        self
    }

    /// Tell on standard error what is done and how long it took.
    pub fn verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }

    /// Starts the lab; returns when every host has booted and etcd serves.
    pub fn up(self) -> Result<Lab> {
        self.check()?;
        require(self.docker, self.ssh)?;
        let binaries = self.binaries()?;
        let (subnet, lock) = match self.subnet {
            Some(subnet) => (subnet, Lock::take(subnet)?),
            None => free_subnet()?,
        };
        let dirs = Dirs::of(subnet);
        if dirs.load().is_ok() {
            self.say(&format!("removing the lab that is on subnet {subnet}"));
        }
        cleanup::clear(&lock, subnet)?;

        let state = self.state()?;
        dirs.save(&state)?;
        // From here on a failure drops the lab, which removes what there is of it.
        let lab = Lab::new(subnet, state, Some(lock));
        fs::create_dir_all(dirs.share())?;
        fs::create_dir_all(dirs.outside())?;
        for (name, path) in &binaries {
            lab.install(name, path)?;
        }
        for (host, dir) in &self.programs {
            lab.install_on(host, dir)?;
        }
        if self.docker {
            docker::make_image(&dirs.share()).context("cannot make the docker image")?;
        }
        if self.ssh {
            make_key(&dirs)?;
        }
        if !cgroup::made_by_systemd() {
            cgroup::create_lab(subnet)?;
        }
        self.start_store(&lab)?;
        self.boot_hosts(&lab)?;
        for member in lab.members() {
            member.healthy()?;
        }
        Ok(lab)
    }

    fn check(&self) -> Result<()> {
        if !(1..=MAX_HOSTS).contains(&self.hosts) {
            bail!("a lab has 1 to {MAX_HOSTS} hosts, not {}", self.hosts);
        }
        if ![1, 3, 5].contains(&self.etcd) {
            bail!("a lab has 1, 3 or 5 etcd members, not {}", self.etcd);
        }
        if let Some(subnet) = self.subnet
            && !SUBNETS.contains(&subnet)
        {
            bail!("the subnet of a lab is 1 to 99, not {subnet}");
        }
        let names: Vec<String> = (1..=self.hosts).map(|n| format!("h{n}")).collect();
        if let Some(unknown) = self.metadata.keys().find(|name| !names.contains(name)) {
            bail!("metadata for {unknown}, but the hosts are {}", names.join(", "));
        }
        if let Some(unknown) = self.programs.keys().find(|name| !names.contains(name)) {
            bail!("programs for {unknown}, but the hosts are {}", names.join(", "));
        }
        Ok(())
    }

    fn binaries(&self) -> Result<Vec<(&'static str, PathBuf)>> {
        if !self.fleet {
            return Ok(Vec::new());
        }
        [("fleetd", &self.fleetd), ("fleetctl", &self.fleetctl)]
            .into_iter()
            .map(|(name, given)| match given {
                Some(path) if path.is_file() => Ok((name, path.clone())),
                Some(path) => bail!("no {name} at {}", path.display()),
                None => Ok((name, built(name)?)),
            })
            .collect()
    }

    fn state(&self) -> Result<State> {
        let hosts = (1..=self.hosts)
            .map(|number| {
                let name = format!("h{number}");
                Ok(HostState {
                    metadata: self.metadata.get(&name).cloned().unwrap_or_default(),
                    machine_id: new_machine_id()?,
                    own_programs: self.programs.contains_key(&name),
                    name,
                    number,
                })
            })
            .collect::<Result<_>>()?;
        Ok(State {
            kept: false,
            docker: self.docker,
            ssh: self.ssh,
            fleet: self.fleet,
            clock: self.clocks.then(clock::library).transpose()?,
            etcd: self.etcd,
            ipv6: self.ipv6,
            config: self.config.clone(),
            repo: self.repo.clone(),
            hosts,
        })
    }

    /// The members come up while the hosts boot.
    fn start_store(&self, lab: &Lab) -> Result<()> {
        let network = Network { subnet: lab.subnet(), ipv6: self.ipv6 };
        network.create(self.etcd)?;
        self.say(&format!("network: {} on {}", network.range(), network.bridge()));
        for member in lab.members() {
            member.spawn()?;
        }
        self.say(&format!("etcd: {}", lab.etcd_endpoints().join(" ")));
        Ok(())
    }

    fn boot_hosts(&self, lab: &Lab) -> Result<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = lab
                .hosts()
                .iter()
                .zip(&lab.state.hosts)
                .map(|(host, plan)| scope.spawn(|| self.boot_host(lab, host, plan)))
                .collect();
            // All are joined before the first error counts.
            let results: Vec<Result<()>> = threads
                .into_iter()
                .map(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect();
            results.into_iter().collect()
        })
    }

    fn boot_host(&self, lab: &Lab, host: &Host, plan: &HostState) -> Result<()> {
        let start = Instant::now();
        lab.create_host(plan)?;
        host.boot()?;
        self.say(&format!("{}: {} up in {:.1} s", host.name(), host.address(), start.elapsed().as_secs_f32()));
        Ok(())
    }

    fn say(&self, line: &str) {
        if self.verbose {
            eprintln!("{line}");
        }
    }
}

/// The first subnet nobody has; labs of processes that are gone are removed on the way.
fn free_subnet() -> Result<(u8, Lock)> {
    cleanup::sweep();
    for subnet in FIRST_FREE..=*SUBNETS.end() {
        if cleanup::is_kept(subnet) {
            continue;
        }
        // Asked again under the lock: its last holder may just have decided to keep it.
        if let Some(lock) = Lock::try_take(subnet)?
            && !cleanup::is_kept(subnet)
        {
            return Ok((subnet, lock));
        }
    }
    bail!("all subnets from {FIRST_FREE} to {} are taken", SUBNETS.end());
}

/// A binary of this workspace: beside the running program, or for a test (in `deps/`) one above.
///
/// # Errors
/// It has not been built.
pub fn built(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot find the running program")?;
    exe.ancestors().skip(1).map(|dir| dir.join(name)).find(|path| path.is_file()).with_context(|| {
        format!("no {name} beside {}: build it first (`cargo build`), or say where it is", exe.display())
    })
}

fn make_key(dirs: &Dirs) -> Result<()> {
    fs::create_dir_all(dirs.ssh())?;
    let key = dirs.ssh().join("key");
    run(
        "ssh-keygen",
        &[
            "-q".as_ref(),
            "-t".as_ref(),
            "ed25519".as_ref(),
            "-N".as_ref(),
            "".as_ref(),
            "-C".as_ref(),
            "fleet-lab".as_ref(),
            "-f".as_ref(),
            key.as_os_str(),
        ],
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(builder: &LabBuilder) -> Option<String> {
        builder.check().err().map(|error| error.to_string())
    }

    #[test]
    fn impossible_labs_are_refused_before_anything_is_done() {
        let lab = Lab::builder;
        assert_eq!(refusal(&lab().hosts(3).etcd(3).subnet(99)), None);
        for (builder, wanted) in [
            (lab().hosts(0), "a lab has 1 to 244 hosts, not 0"),
            (lab().etcd(2), "a lab has 1, 3 or 5 etcd members, not 2"),
            (lab().subnet(100), "the subnet of a lab is 1 to 99, not 100"),
            (lab().hosts(2).metadata("h3", "a=b"), "metadata for h3, but the hosts are h1, h2"),
            (lab().hosts(2).programs("h3", "/old"), "programs for h3, but the hosts are h1, h2"),
        ] {
            assert_eq!(refusal(&builder).as_deref(), Some(wanted));
        }
    }
}

//! One host: a `systemd-nspawn` container that boots a systemd of its own, and what can be done to it.

use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;

use crate::network::Network;
use crate::process::Mark;
use crate::state::{Dirs, HostDirs, HostState, tail};
use crate::tool::{PATH, command, run};
use crate::wait::{Seen, eventually};
use crate::{cgroup, clock, docker, rootfs};

/// A boot takes about a second; with docker on a busy machine it may take many.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);
/// For the end of killed processes.
const END_DEADLINE: Duration = Duration::from_secs(20);
/// systemd waits 90 s for a service that does not stop.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(120);

/// Joins the control groups in the first N arguments, then runs the rest. A shell, because a process
/// joins by writing its own pid, between fork and exec.
const JOIN: &str = r#"n=$1; shift
while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 125; shift; n=$((n-1)); done
exec "$@""#;

/// Becomes the program in the arguments.
const RUN: &str = r#"exec "$@""#;

/// A host of a lab: a handle, cheap to clone. The host itself lives on without it.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    network: Network,
    lab: Dirs,
    dirs: HostDirs,
    plan: HostState,
    docker: bool,
    /// Where it was seen last; checked before each use. 0: not seen.
    pid1: AtomicU32,
}

impl Host {
    pub(crate) fn new(network: Network, lab: &Dirs, docker: bool, plan: &HostState) -> Self {
        Self(Arc::new(Inner {
            network,
            lab: lab.clone(),
            dirs: lab.host(&plan.name),
            plan: plan.clone(),
            docker,
            pid1: AtomicU32::new(0),
        }))
    }

    /// `h1`, `h2`, ...
    pub fn name(&self) -> &str {
        &self.0.plan.name
    }

    /// Its `/etc/machine-id`; the same after every boot.
    pub fn machine_id(&self) -> &str {
        &self.0.plan.machine_id
    }

    /// The metadata in its `fleet.conf`.
    pub fn metadata(&self) -> &str {
        &self.0.plan.metadata
    }

    /// Its address on the lab's network.
    pub fn address(&self) -> IpAddr {
        self.0.network.host(self.0.plan.number)
    }

    /// The file system that carries its `/`.
    pub(crate) fn disk(&self) -> PathBuf {
        self.0.dirs.disk()
    }

    /// What systemd printed while it booted, and why nspawn ended if it did.
    pub fn console(&self) -> PathBuf {
        self.0.dirs.console()
    }

    /// The pid, on the machine, of the host's PID 1.
    pub fn pid1(&self) -> Result<u32> {
        let mark = self.init_mark();
        let seen = self.0.pid1.load(Ordering::Relaxed);
        if seen != 0 && mark.is(seen) {
            return Ok(seen);
        }
        let Some(&pid) = mark.find().first() else {
            bail!("{} is down: `fleet-lab boot {}` boots it", self.name(), self.name());
        };
        self.0.pid1.store(pid, Ordering::Relaxed);
        Ok(pid)
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.pid1().is_ok()
    }

    /// Whether its link is down; `None` while it is down itself.
    pub fn is_partitioned(&self) -> Option<bool> {
        self.0.network.is_cut_off(self.name())
    }

    /// Runs a program in the host and returns what it printed and how it ended.
    ///
    /// It runs as root beside the host's PID 1: in all its namespaces and in its control groups.
    pub fn exec<S: AsRef<str>>(&self, args: &[S]) -> Result<Output> {
        self.command(args)?
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run a program in {}", self.name()))
    }

    /// Runs a shell script in the host and returns its standard output; one that fails is an error
    /// with its standard error.
    pub fn sh(&self, script: &str) -> Result<String> {
        let output = self.exec(&["/bin/sh", "-c", script])?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`{script}` in {}: {}: {}{}", self.name(), output.status, stderr.trim(), stdout.trim());
        }
        Ok(stdout.into_owned())
    }

    /// The command for [`exec`](Self::exec), with standard input and output still to be set.
    pub fn command<S: AsRef<str>>(&self, args: &[S]) -> Result<Command> {
        let pid = self.pid1()?;
        // nsenter itself stays on the machine, beside nspawn: systemd in the host cannot make sense
        // of a process from outside its pid namespace in a group of its own (it reads pid 0, and
        // `systemctl status` fails with EIO). Only what nsenter forks joins PID 1's groups, through
        // files that were opened while they were still in sight.
        let outside = cgroup::joins_of(parent(pid)?)?;
        let mut inside = cgroup::joins_of(pid)?;
        inside.retain(|group| !outside.contains(group));
        let (open, join) = handover(inside.len());

        let mut command = joining(&outside);
        command.args(["/bin/sh", "-c", &open, "fleet-lab"]);
        command.args(&inside);
        command.arg("nsenter").arg(format!("--target={pid}"));
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]);
        command.args(["/bin/sh", "-c", &join, "fleet-lab"]);
        command.args(args.iter().map(AsRef::as_ref));
        command.env_clear().envs([
            ("PATH", PATH),
            ("HOME", "/root"),
            ("USER", "root"),
            ("LOGNAME", "root"),
            ("SHELL", "/bin/sh"),
            ("LANG", "C.UTF-8"),
            ("ETCDCTL_API", "3"),
        ]);
        Ok(command)
    }

    /// Writes a file into the host, up or down; makes its directory.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        const WRITE: &str = r#"mkdir -p "$(dirname "$1")" && cat >"$1""#;
        let args = ["/bin/sh", "-c", WRITE, "write", path];
        // Both ways the path is resolved inside the host: an absolute link must not lead to a file
        // of the machine.
        let mut command = if self.is_up() {
            self.command(&args)?
        } else {
            let mut chroot = command("chroot");
            chroot.arg(self.0.dirs.root()).args(args);
            chroot
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot write {path} in {}", self.name()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A shell that ended early says why on its standard error.
            stdin.write_all(text.as_bytes()).ok();
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("cannot write {path} in {}: {}", self.name(), stderr.trim());
        }
        Ok(())
    }

    /// Power loss: SIGKILL of the host's PID 1, which takes every process of the host with it.
    pub fn kill(&self) -> Result<()> {
        if self.init_mark().signal(Signal::KILL)? == 0 {
            bail!("{} is down already", self.name());
        }
        self.ended(END_DEADLINE)
    }

    /// Orderly shutdown (`systemctl poweroff`).
    pub fn shutdown(&self) -> Result<()> {
        self.sh("systemctl --no-block poweroff")?;
        self.ended(SHUTDOWN_DEADLINE)
    }

    /// Orderly reboot (`systemctl reboot`); returns when the host is up again.
    pub fn reboot(&self) -> Result<()> {
        // nspawn leaves the second half to the unit it would run in, and ends: to a host, a reboot
        // that a program in it asks for is a shutdown.
        self.sh("systemctl --no-block reboot")?;
        self.ended(SHUTDOWN_DEADLINE)?;
        self.boot()
    }

    /// Boots a host that is down, with the disk and the machine-id it had. A partition is healed by
    /// it: the host gets a new link.
    ///
    /// Returns when systemd is done with the boot. A fleetd that is still starting, say because
    /// etcd is away, does not count.
    pub fn boot(&self) -> Result<()> {
        if self.is_up() {
            bail!("{} is up already", self.name());
        }
        // It may have gone down by itself a moment ago.
        self.ended(END_DEADLINE)?;
        let mut nspawn = self.spawn()?;
        let result = self.ready(&mut nspawn);
        // Reaps it, whenever and however it ends.
        std::thread::spawn(move || nspawn.wait());
        result
    }

    /// Cuts the host off: its link on the bridge goes down.
    pub fn partition(&self) -> Result<()> {
        self.pid1()?;
        self.0.network.set_link(self.name(), false)
    }

    /// Ends a partition, and whatever else is wrong with its traffic.
    pub fn heal(&self) -> Result<()> {
        self.clear_traffic()?;
        self.0.network.set_link(self.name(), true)
    }

    fn ended(&self, deadline: Duration) -> Result<()> {
        self.init_mark().gone(deadline)?;
        self.nspawn_mark().gone(END_DEADLINE)?;
        // The kernel takes its time to take down a network namespace; the next boot needs the name.
        let link = self.0.network.link(self.name());
        let path = Path::new("/sys/class/net").join(&link);
        eventually(END_DEADLINE, &format!("{link} is gone"), || {
            if path.exists() {
                run("ip", &["link", "delete", &link]).ok();
            }
            Ok(!path.exists())
        })
    }

    fn spawn(&self) -> Result<Child> {
        let path = self.console();
        let console = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let (mut command, keep_unit) = if cgroup::made_by_systemd() {
            // nspawn asks the machine's systemd for a scope of its own.
            (command("setsid"), false)
        } else {
            // Left from the last boot, if it ended with a power loss.
            cgroup::remove(self.0.network.subnet, Some(self.name()));
            let joins = cgroup::create(self.0.network.subnet, self.name())?;
            let mut command = command("setsid");
            let shell = joining(&joins);
            command.arg(shell.get_program()).args(shell.get_args());
            (command, true)
        };
        if self.0.docker {
            fs::create_dir_all(self.0.dirs.docker().join("docker"))?;
            fs::create_dir_all(self.0.dirs.docker().join("containerd"))?;
        }
        command
            .arg("systemd-nspawn")
            .args(self.nspawn_args(keep_unit))
            // A closed terminal or Ctrl-C must not end it: hence `setsid`, and no terminal here.
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name()))
    }

    fn nspawn_args(&self, keep_unit: bool) -> Vec<String> {
        let inner = &self.0;
        let mut args = vec![
            self.directory_arg(),
            format!("--machine={}", inner.network.machine(self.name())),
            format!("--hostname={}", self.name()),
            format!("--network-bridge={}", inner.network.bridge()),
            format!("--bind-ro={}:{}", inner.lab.share().display(), rootfs::SHARE),
            format!("--bind={}:{}", inner.lab.outside().display(), rootfs::OUTSIDE),
            "--register=no".to_owned(),
            "--capability=all".to_owned(),
            "--console=pipe".to_owned(),
            "--link-journal=no".to_owned(),
            "--resolv-conf=off".to_owned(),
            "--timezone=off".to_owned(),
        ];
        if keep_unit {
            args.push("--keep-unit".to_owned());
        }
        if inner.docker {
            args.push(format!("--system-call-filter={}", docker::SYSTEM_CALLS));
            for name in ["docker", "containerd"] {
                let dir = inner.dirs.docker().join(name);
                args.push(format!("--bind={}:/var/lib/{name}", dir.display()));
            }
        }
        args.push("--boot".to_owned());
        args
    }

    /// Waits for the end of the boot.
    fn ready(&self, nspawn: &mut Child) -> Result<()> {
        let what = format!("{} is up", self.name());
        let ended = eventually(BOOT_DEADLINE, &what, || {
            if let Some(status) = nspawn.try_wait()? {
                return Ok(Seen::Done(Some(status)));
            }
            let output = self.exec(&["systemctl", "is-system-running"])?;
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Ok(match state.as_str() {
                "running" | "degraded" => Seen::Done(None),
                "starting" if self.only_fleet_is_starting()? => Seen::Done(None),
                "" => {
                    let stderr = String::from_utf8_lossy(&output.stderr);
                    Seen::NotYet(format!("no answer: {}", stderr.trim()))
                }
                _ => Seen::NotYet(format!("systemd is {state}")),
            })
        })
        .map_err(|error| anyhow!("{error:#}; {}", tail(&self.console())))?;
        if let Some(status) = ended {
            let console = tail(&self.console());
            bail!("{} did not boot: nspawn ended with {status}; {console}", self.name());
        }
        Ok(())
    }

    /// Whether all jobs that are left wait for fleetd.
    fn only_fleet_is_starting(&self) -> Result<bool> {
        let output = self.exec(&["systemctl", "list-jobs", "--no-legend", "--plain"])?;
        Ok(waits_only_for_fleet(&String::from_utf8_lossy(&output.stdout)))
    }

    fn directory_arg(&self) -> String {
        format!("--directory={}", self.0.dirs.root().display())
    }

    fn nspawn_mark(&self) -> Mark {
        Mark::Argument(self.directory_arg())
    }

    fn init_mark(&self) -> Mark {
        Mark::RootOf(format!("{}/", self.0.dirs.disk().display()))
    }

    /// Turns the wall clock of fleetd by so many seconds against the machine's, from now on.
    ///
    /// Takes [`LabBuilder::turnable_clocks`](crate::LabBuilder::turnable_clocks).
    pub fn turn_clock(&self, seconds: i64) -> Result<()> {
        if self.sh("grep -q faketime /proc/$(systemctl show -p MainPID --value fleet)/maps").is_err() {
            bail!("fleetd's clock in {} cannot be turned: libfaketime is not loaded", self.name());
        }
        self.write(clock::OFFSET, &format!("{seconds:+}\n"))
    }
}

/// A command that joins control groups first.
fn joining(joins: &[PathBuf]) -> Command {
    let mut command = command("sh");
    command.args(["-c", JOIN, "fleet-lab"]).arg(joins.len().to_string());
    command.args(joins);
    command
}

/// Two scripts: one opens its first arguments as files and runs the rest, the other joins the
/// control groups whose files were opened so and runs its arguments.
fn handover(groups: usize) -> (String, String) {
    // A shell knows descriptors 3 to 9; systemd manages two hierarchies at most.
    let last = 3 + groups.min(7);
    let (mut open, mut join, mut close) = (String::new(), String::new(), String::new());
    for (argument, fd) in (3..last).enumerate() {
        open += &format!(" {fd}>\"${}\"", argument + 1);
        join += &format!("echo 0 >&{fd} || exit 125; ");
        close += &format!(" {fd}>&-");
    }
    if groups == 0 {
        return (RUN.to_owned(), RUN.to_owned());
    }
    (format!("exec{open}; shift {groups}; {RUN}"), format!("{join}exec{close}; {RUN}"))
}

/// The parent of a host's PID 1 is its nspawn.
fn parent(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/status");
    fs::read_to_string(&path)
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            line.trim().parse().ok()
        })
        .with_context(|| format!("cannot read {path}"))
}

/// Reads `systemctl list-jobs`: job, unit, type, state.
fn waits_only_for_fleet(jobs: &str) -> bool {
    let mut running = jobs
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(3) == Some(&"running"))
        .peekable();
    running.peek().is_some() && running.all(|fields| fields[1] == "fleet.service")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(docker: bool) -> Host {
        let plan = HostState { name: "h2".to_owned(), number: 2, ..HostState::default() };
        Host::new(Network { subnet: 3, ipv6: false }, &Dirs::of(3), docker, &plan)
    }

    #[test]
    fn nspawn_boots_the_hosts_own_directory_on_the_labs_bridge() {
        let args = host(false).nspawn_args(true);
        for wanted in [
            "--directory=/var/lib/fleet-lab/3/hosts/h2/root",
            "--machine=fl3-h2",
            "--network-bridge=fleet-lab3",
            "--keep-unit",
        ] {
            assert!(args.iter().any(|arg| arg == wanted), "{wanted}: {args:?}");
        }
        assert!(!args.iter().any(|arg| arg.contains("docker")));
        assert_eq!(args.last().map(String::as_str), Some("--boot"));
    }

    #[test]
    fn docker_gets_its_system_calls_and_a_plain_directory() {
        let args = host(true).nspawn_args(true);
        for wanted in [
            "--system-call-filter=add_key keyctl bpf",
            "--bind=/var/lib/fleet-lab/3/hosts/h2/docker/docker:/var/lib/docker",
        ] {
            assert!(args.iter().any(|arg| arg == wanted), "{wanted}: {args:?}");
        }
    }

    #[test]
    fn groups_are_handed_over_as_open_files() {
        let (open, join) = handover(2);
        assert_eq!(open, r#"exec 3>"$1" 4>"$2"; shift 2; exec "$@""#);
        assert_eq!(join, r#"echo 0 >&3 || exit 125; echo 0 >&4 || exit 125; exec 3>&- 4>&-; exec "$@""#);
        assert_eq!(handover(0).0, r#"exec "$@""#);
    }

    #[test]
    fn a_boot_that_waits_only_for_fleet_is_done() {
        let jobs = "1 multi-user.target start waiting\n67 fleet.service start running\n";
        assert!(waits_only_for_fleet(jobs));
        let jobs = "68 docker.service start running\n67 fleet.service start running\n";
        assert!(!waits_only_for_fleet(jobs));
        assert!(!waits_only_for_fleet(""));
    }
}

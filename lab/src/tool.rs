//! The programs of the machine that the lab drives: which package brings them, and running one with
//! an error that says what was asked and what it answered.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where hosts and machine look for programs: root's `PATH` often lacks the `sbin` half, and what
/// the distribution's packages bring goes before what somebody put into `/usr/local`.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";

/// Every host needs these.
const BASE: &[(&str, &str)] = &[
    ("systemd-nspawn", "systemd-container"),
    ("dbus-daemon", "dbus"),
    ("systemctl", "systemd"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
];
/// The store.
const ETCD: &[(&str, &str)] = &[("etcd", "etcd-server"), ("etcdctl", "etcd-client")];
/// Hosts with docker.
const DOCKER: &[(&str, &str)] = &[
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("containerd", "containerd"),
    ("iptables", "iptables"),
    ("busybox", "busybox-static"),
    ("tar", "tar"),
];
/// Hosts with ssh.
const SSH: &[(&str, &str)] = &[("sshd", "openssh-server"), ("ssh-keygen", "openssh-client")];

/// Fails with one line that names what is missing and how to get it.
pub(crate) fn require(docker: bool, ssh: bool) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("fleet-lab needs root (namespaces, mounts, a bridge): run it with sudo");
    }
    let mut wanted: Vec<(&str, &str)> = [BASE, ETCD].concat();
    if docker {
        wanted.extend(DOCKER);
    }
    if ssh {
        wanted.extend(SSH);
    }
    match missing_line(&wanted, |tool| find(tool).is_some()) {
        Some(line) => bail!(line),
        None => Ok(()),
    }
}

/// The line for the missing ones of `wanted` (program, Debian package), if any is missing.
fn missing_line(wanted: &[(&str, &str)], present: impl Fn(&str) -> bool) -> Option<String> {
    let missing: Vec<_> = wanted.iter().filter(|(tool, _)| !present(tool)).collect();
    if missing.is_empty() {
        return None;
    }
    let tools: Vec<&str> = missing.iter().map(|(tool, _)| *tool).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    Some(format!(
        "missing on this machine: {}; mend it with `apt-get install -y {}`",
        tools.join(", "),
        packages.join(" ")
    ))
}

/// Finds a program in [`PATH`].
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    PATH.split(':').map(|dir| Path::new(dir).join(tool)).find(|path| path.is_file())
}

/// A command in a clean environment: variables like `ETCD_NAME` of the caller's shell must not
/// reach the lab.
pub(crate) fn command(tool: &str) -> Command {
    let mut command = Command::new(find(tool).unwrap_or_else(|| tool.into()));
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Runs a program to its end and returns its standard output.
pub(crate) fn run<S: AsRef<OsStr>>(tool: &str, args: &[S]) -> Result<String> {
    let shown = || {
        let args: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
        format!("{tool} {}", args.join(" "))
    };
    let output = command(tool).args(args).output().with_context(|| format!("cannot run `{}`", shown()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}", shown(), stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tools_are_named_with_their_packages_once() {
        let line = missing_line(&[BASE, ETCD].concat(), |tool| !["nsenter", "setsid", "etcd"].contains(&tool));
        assert_eq!(
            line.as_deref(),
            Some(
                "missing on this machine: nsenter, setsid, etcd; \
                 mend it with `apt-get install -y etcd-server util-linux`"
            )
        );
        assert_eq!(missing_line(BASE, |_| true), None);
    }
}

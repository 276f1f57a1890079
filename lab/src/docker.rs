//! Docker in the hosts: what it needs beside its own packages, and an image without a registry.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::tool::{find, run};

/// Name of the image in every host.
pub const IMAGE: &str = "fleet/busybox:latest";

/// Where the hosts look for images first, on the machine's own address in the lab: a registry that answers for the public
/// one, if somebody runs it there.
pub(crate) const REGISTRY_PORT: u16 = 5000;

/// System calls nspawn forbids that runc and dockerd use (session keyrings, device filters).
pub(crate) const SYSTEM_CALLS: &str = "add_key keyctl bpf";

/// Units of the lab in a host with docker.
pub(crate) const UNITS: &[(&str, &str)] =
    &[("fleet-lab-cgroups.service", CGROUPS_UNIT), ("fleet-lab-image.service", IMAGE_UNIT)];

/// nspawn mounts the cgroup-v1 controllers read-only, and runc then fails to make its groups.
/// `bind` changes the flag of this mount; a plain remount would change the machine's.
const CGROUPS_UNIT: &str = "\
[Unit]
Description=Control groups that docker may write
DefaultDependencies=no
Before=containerd.service docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=sh -c 'for d in /sys/fs/cgroup/*/; do if mountpoint -q \"$d\"; then mount -o remount,bind,rw \"$d\"; fi; done'

[Install]
WantedBy=multi-user.target
";

/// Part of the boot: once the host is up, the image is there.
const IMAGE_UNIT: &str = "\
[Unit]
Description=The image fleet/busybox
After=docker.service
Requires=docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=sh -c '/usr/bin/docker image inspect fleet/busybox:latest >/dev/null 2>&1 || /usr/bin/docker import --change \"CMD [\\\\\"sh\\\\\"]\" /usr/lib/fleet-lab/busybox.tar fleet/busybox:latest'

[Install]
WantedBy=multi-user.target
";

/// What dockerd is told of the registry at `address`. Nothing is encrypted in a lab.
pub(crate) fn daemon_json(address: &str) -> String {
    format!("{{\"registry-mirrors\": [\"http://{address}\"], \"insecure-registries\": [\"{address}\"]}}\n")
}

/// Makes `busybox.tar` in `share`: a root file system with busybox as every command it knows.
pub(crate) fn make_image(share: &Path) -> Result<()> {
    let busybox = find("busybox").context("no busybox on this machine")?;
    let tree = share.join("busybox");
    for dir in ["bin", "etc", "tmp", "var", "proc", "sys", "dev", "www"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    fs::copy(&busybox, tree.join("bin/busybox")).with_context(|| format!("cannot copy {}", busybox.display()))?;
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(tree.join("etc/group"), "root:x:0:\n")?;
    fs::write(tree.join("www/index.html"), "hello from fleet/busybox\n")?;
    let applets =
        Command::new(&busybox).arg("--list").output().with_context(|| format!("cannot run {}", busybox.display()))?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines() {
        if applet != "busybox" {
            symlink("busybox", tree.join("bin").join(applet))?;
        }
    }
    let tar = share.join("busybox.tar");
    run(
        "tar",
        &[
            "--owner=0".as_ref(),
            "--group=0".as_ref(),
            "-C".as_ref(),
            tree.as_os_str(),
            "-cf".as_ref(),
            tar.as_os_str(),
            ".".as_ref(),
        ],
    )?;
    fs::remove_dir_all(tree)?;
    Ok(())
}

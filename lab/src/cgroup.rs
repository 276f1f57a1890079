//! A control group of its own for every host.
//!
//! Where PID 1 of the machine is not systemd, `systemd-nspawn --keep-unit` makes the group
//! `payload` inside the group it was started in. Two hosts started from one place would share it:
//! each systemd then sees the other's processes in its units, which never become empty. So each
//! host gets `fleet-lab-K/NAME` in every hierarchy, and the containers of a host's docker stay
//! below that, too.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// On a machine with systemd nspawn asks it for a scope of its own instead.
pub(crate) fn made_by_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// One mounted hierarchy: where, and for cgroup v1 which controllers (or `name=systemd`).
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mountpoint: PathBuf,
    /// `None` is the unified hierarchy.
    controllers: Option<Vec<String>>,
}

fn hierarchies() -> Vec<Hierarchy> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn parse_mounts(mountinfo: &str) -> Vec<Hierarchy> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (place, source) = line.split_once(" - ")?;
            let mountpoint = PathBuf::from(place.split(' ').nth(4)?);
            let mut source = source.split(' ');
            let controllers = match source.next()? {
                "cgroup2" => None,
                "cgroup" => Some(source.nth(1)?.split(',').map(str::to_owned).collect()),
                _ => return None,
            };
            Some(Hierarchy { mountpoint, controllers })
        })
        .collect()
}

fn lab_group(subnet: u8) -> String {
    format!("fleet-lab-{subnet}")
}

/// Makes the groups of a lab, before those of its hosts: hosts are made in parallel, and one must
/// not find the groups of the lab half made.
pub(crate) fn create_lab(subnet: u8) -> Result<()> {
    for hierarchy in hierarchies() {
        hierarchy.create(&hierarchy.mountpoint.join(lab_group(subnet)))?;
    }
    Ok(())
}

/// Makes the groups of a host and returns the files a process writes its pid to, to join them.
pub(crate) fn create(subnet: u8, host: &str) -> Result<Vec<PathBuf>> {
    let mut joins = Vec::new();
    for hierarchy in hierarchies() {
        let own = hierarchy.mountpoint.join(lab_group(subnet)).join(host);
        hierarchy.create(&own)?;
        joins.push(own.join("cgroup.procs"));
    }
    Ok(joins)
}

impl Hierarchy {
    fn create(&self, group: &Path) -> Result<()> {
        match fs::create_dir(group) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            made => made.with_context(|| format!("cannot make the control group {}", group.display()))?,
        }
        let parent = group.parent().unwrap_or(&self.mountpoint);
        match &self.controllers {
            Some(names) if names.iter().any(|name| name == "cpuset") => {
                // A new cpuset is empty, and nothing can join an empty one.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if let Ok(value) = fs::read(parent.join(file)) {
                        fs::write(group.join(file), value).with_context(|| format!("cannot set {file} of a host"))?;
                    }
                }
            }
            Some(_) => {}
            None => delegate(parent),
        }
        Ok(())
    }
}

/// Hands all controllers of the unified hierarchy down. Best effort: on a hybrid machine there are
/// none, and a host boots without them.
fn delegate(parent: &Path) {
    let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}")).ok();
    }
}

/// The files to join the groups that a process is in.
pub(crate) fn joins_of(pid: u32) -> Result<Vec<PathBuf>> {
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .with_context(|| format!("cannot read the control groups of process {pid}"))?;
    Ok(locate(&hierarchies(), &membership))
}

fn locate(hierarchies: &[Hierarchy], membership: &str) -> Vec<PathBuf> {
    membership
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let path = fields.next()?.trim_start_matches('/');
            let hierarchy = hierarchies.iter().find(|h| match &h.controllers {
                None => controllers.is_empty(),
                Some(names) => !controllers.is_empty() && controllers.split(',').all(|c| names.iter().any(|n| n == c)),
            })?;
            Some(hierarchy.mountpoint.join(path).join("cgroup.procs"))
        })
        .collect()
}

/// Removes the groups of a lab, or of one host; whatever was in them has ended. Returns those that
/// could not be removed.
pub(crate) fn remove(subnet: u8, host: Option<&str>) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for hierarchy in hierarchies() {
        let mut group = hierarchy.mountpoint.join(lab_group(subnet));
        group.extend(host);
        remove_tree(&group);
        if group.exists() {
            left.push(group);
        }
    }
    left
}

fn remove_tree(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // What could not be removed is told by `remove`.
    fs::remove_dir(group).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn groups_of_a_process_are_found_in_their_hierarchies() {
        let membership = "9:name=systemd:/fleet-lab-1/h1/payload/init.scope\n\
                          2:cpu,cpuacct:/fleet-lab-1/h1\n\
                          0::/fleet-lab-1/h1/payload/init.scope\n";
        let files: Vec<String> =
            locate(&parse_mounts(MOUNTS), membership).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/systemd/fleet-lab-1/h1/payload/init.scope/cgroup.procs",
                "/sys/fs/cgroup/cpu,cpuacct/fleet-lab-1/h1/cgroup.procs",
                "/sys/fs/cgroup/unified/fleet-lab-1/h1/payload/init.scope/cgroup.procs",
            ]
        );
    }

    #[test]
    fn file_systems_that_are_not_control_groups_are_passed_over() {
        assert_eq!(parse_mounts(MOUNTS).len(), 3);
    }
}

//! Removing a lab, in whatever state it is: also what a crash left of it, or half of a start.
//!
//! What belongs to the lab is recognised by its directory, its names and its control groups; nothing
//! else is touched, and no record is needed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::network::Network;
use crate::process::Mark;
use crate::state::{Dirs, Lock, existing};
use crate::tool::run;
use crate::wait::eventually;
use crate::{cgroup, state};

/// For the end of killed processes, each kind.
const DEADLINE: Duration = Duration::from_secs(20);

/// Removes everything of the lab but its directory and its lock.
pub(crate) fn clear(_held: &Lock, subnet: u8) -> Result<()> {
    let dirs = Dirs::of(subnet);
    let root = dirs.root.display();

    // nspawn may be about to start a PID 1, so it is asked again after the PID 1s. It is not
    // killed first: a host whose nspawn is killed lives on, as a child of the machine's init.
    let inits = Mark::RootOf(format!("{root}/"));
    let nspawns = Mark::Argument(format!("--directory={root}/"));
    inits.signal(Signal::KILL)?;
    Mark::Argument(format!("--data-dir={root}/")).signal(Signal::KILL)?;
    if nspawns.gone(Duration::from_secs(3)).is_err() {
        nspawns.signal(Signal::KILL)?;
        nspawns.gone(DEADLINE)?;
    }
    inits.signal(Signal::KILL)?;
    inits.gone(DEADLINE)?;
    Mark::Argument(format!("--data-dir={root}/")).gone(DEADLINE)?;

    unmount(&dirs.root)?;
    Network { subnet, ipv6: false }.remove()?;
    // The last processes of a host leave their groups a moment after they are gone.
    eventually(DEADLINE, "control groups of the lab are empty", || Ok(cgroup::remove(subnet, None).is_empty()))?;
    remove_nspawn_litter(subnet);

    for entry in fs::read_dir(&dirs.root).into_iter().flatten().flatten() {
        if entry.file_name() == "lock" {
            continue;
        }
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        }
        .with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Removes the lab altogether.
pub(crate) fn remove(held: &Lock, subnet: u8) -> Result<()> {
    clear(held, subnet)?;
    let dirs = Dirs::of(subnet);
    // With the lock file in it, while the lock is held: see `Lock::try_take`.
    fs::remove_dir_all(&dirs.root).with_context(|| format!("cannot remove {}", dirs.root.display()))?;
    if let Some(base) = dirs.root.parent() {
        // Succeeds for the last lab of the machine.
        fs::remove_dir(base).ok();
    }
    Ok(())
}

/// Removes labs whose process is gone and that nobody wanted kept: tests that crashed.
pub(crate) fn sweep() {
    for subnet in existing() {
        if let Ok(Some(lock)) = Lock::try_take(subnet)
            && !is_kept(subnet)
            && let Err(error) = remove(&lock, subnet)
        {
            eprintln!("fleet-lab: cannot remove what is left on subnet {subnet}: {error:#}");
        }
    }
}

/// Whether somebody wants the lab on this subnet to stay.
pub(crate) fn is_kept(subnet: u8) -> bool {
    state::Dirs::of(subnet).load().is_ok_and(|state| state.kept)
}

/// Unmounts everything below `dir`; fails if something stays, because what is below is removed next.
fn unmount(dir: &Path) -> Result<()> {
    for _ in 0..2 {
        let mounts = mounts_below(&fs::read_to_string("/proc/self/mountinfo")?, dir);
        if mounts.is_empty() {
            return Ok(());
        }
        for mount in mounts.iter().rev() {
            if run("umount", &[mount]).is_err() {
                // In use, by a shell somebody left in it: detached, it goes with its last user.
                run("umount", &["--lazy", mount])?;
            }
        }
    }
    bail!("mounts below {} come back", dir.display());
}

fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<String> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|place| Path::new(place).starts_with(dir))
        .map(str::to_owned)
        .collect()
}

/// nspawn leaves a directory of its own for each machine name.
fn remove_nspawn_litter(subnet: u8) {
    let ours = Network { subnet, ipv6: false }.machine("");
    for entry in fs::read_dir("/run/systemd/nspawn/propagate").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&ours) {
            // Empty; a litter that stays is harmless.
            fs::remove_dir(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_this_lab_are_unmounted() {
        let mountinfo = "\
27 1 254:0 / / rw - ext4 /dev/vda rw
50 27 0:40 / /var/lib/fleet-lab/1/hosts/h1/disk rw - tmpfs fleet-lab rw
51 27 0:41 / /var/lib/fleet-lab/1/hosts/h1/root rw - overlay fleet-lab rw
52 27 0:42 / /var/lib/fleet-lab/11/hosts/h1/disk rw - tmpfs fleet-lab rw";
        assert_eq!(
            mounts_below(mountinfo, Path::new("/var/lib/fleet-lab/1")),
            ["/var/lib/fleet-lab/1/hosts/h1/disk", "/var/lib/fleet-lab/1/hosts/h1/root"]
        );
    }
}

//! Finding the lab's own processes in `/proc`, and signals that can only hit those.
//!
//! Nothing relies on remembered pids: they may be stale after a crash, and a recycled one belongs to
//! somebody else. A process is the lab's when its arguments, or the disk under its root file system,
//! are in the lab's state directory; that is looked up anew each time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::wait::eventually;

/// How to recognise a process.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// One of its arguments begins with this, and it is one of the programs the lab starts.
    Argument(String),
    /// It is the first process of a pid namespace whose root is an overlay with an upper directory
    /// that begins with this. The only safe mark of a host's PID 1: its arguments say nothing, and
    /// it outlives a killed `systemd-nspawn` as a child of the machine's init.
    RootOf(String),
}

/// `sh` and `setsid` are `systemd-nspawn` and `etcd` in the moment before they are executed.
const PROGRAMS: &[&str] = &["systemd-nspawn", "etcd", "sh", "setsid"];

impl Mark {
    fn matches(&self, pid: u32) -> bool {
        // A process that is gone in the middle of the look does not match.
        self.look(pid).unwrap_or(false)
    }

    fn look(&self, pid: u32) -> std::io::Result<bool> {
        match self {
            Self::Argument(prefix) => {
                let line = fs::read(format!("/proc/{pid}/cmdline"))?;
                Ok(cmdline_matches(&String::from_utf8_lossy(&line), prefix))
            }
            Self::RootOf(upper) => {
                let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
                if !is_namespace_init(&status) {
                    return Ok(false);
                }
                let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
                Ok(root_upperdir(&mounts).is_some_and(|dir| dir.starts_with(upper.as_str())))
            }
        }
    }

    /// The processes with this mark.
    pub(crate) fn find(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| self.matches(*pid))
            .collect()
    }

    /// Whether `pid` is alive and has this mark.
    pub(crate) fn is(&self, pid: u32) -> bool {
        self.matches(pid)
    }

    /// Sends a signal to every process with this mark; returns how many there were.
    ///
    /// The pidfd is opened before the mark is checked, so the signal cannot hit a process that got
    /// the same pid in between.
    pub(crate) fn signal(&self, signal: Signal) -> Result<usize> {
        let mut sent = 0;
        for pid in self.find() {
            let Some(handle) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
                continue;
            };
            let fd = match pidfd_open(handle, PidfdFlags::empty()) {
                Ok(fd) => fd,
                Err(Errno::SRCH) => continue,
                Err(error) => return Err(error).context("cannot open a pidfd"),
            };
            if !self.matches(pid) {
                continue;
            }
            match pidfd_send_signal(&fd, signal) {
                Ok(()) => sent += 1,
                Err(Errno::SRCH) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot signal process {pid}"));
                }
            }
        }
        Ok(sent)
    }

    /// Waits until no process has this mark.
    pub(crate) fn gone(&self, deadline: Duration) -> Result<()> {
        eventually(deadline, "processes of the lab ended", || {
            let left = self.find();
            Ok(if left.is_empty() {
                crate::wait::Seen::Done(())
            } else {
                crate::wait::Seen::NotYet(format!("{left:?}"))
            })
        })
    }
}

/// Whether a process is stopped: every thread of it, as each stops only when it next comes to a
/// signal. False when there is no such process.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        // A thread that has just ended does not run either.
        fs::read_to_string(thread.path().join("stat")).map_or(true, |stat| state(&stat) == Some('T'))
    })
}

/// The state of a process or a thread in its `stat` (proc(5)). Its name, which comes before, may
/// hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

fn cmdline_matches(cmdline: &str, prefix: &str) -> bool {
    let mut args = cmdline.split('\0');
    let program = args.next().unwrap_or_default();
    let name = Path::new(program).file_name().and_then(|n| n.to_str());
    name.is_some_and(|name| PROGRAMS.contains(&name)) && args.any(|arg| arg.starts_with(prefix))
}

/// The first process of a pid namespace directly below the machine's.
fn is_namespace_init(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .map(|pids| pids.split_whitespace().collect::<Vec<_>>())
        .is_some_and(|pids| pids.len() > 1 && pids.last() == Some(&"1"))
}

/// The upper directory of an overlay that is mounted at `/`.
fn root_upperdir(mountinfo: &str) -> Option<&str> {
    let root = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/"))?;
    let (_, source) = root.split_once(" - overlay ")?;
    let options = source.split(' ').nth(1)?;
    options.split(',').find_map(|o| o.strip_prefix("upperdir="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_labs_programs_with_the_labs_directory_match() {
        let prefix = "--directory=/var/lib/fleet-lab/1/";
        let nspawn = "systemd-nspawn\0--directory=/var/lib/fleet-lab/1/hosts/h1/root\0-b\0";
        assert!(cmdline_matches(nspawn, prefix));
        let other_lab = "systemd-nspawn\0--directory=/var/lib/fleet-lab/12/hosts/h1/root\0";
        assert!(!cmdline_matches(other_lab, prefix));
        let editor = "vi\0--directory=/var/lib/fleet-lab/1/hosts/h1/root\0";
        assert!(!cmdline_matches(editor, prefix));
        assert!(!cmdline_matches("", prefix));
    }

    #[test]
    fn root_of_a_host_is_its_overlay() {
        let host = "135 112 0:44 / / rw,relatime shared:1 - overlay overlay \
                    rw,lowerdir=/,upperdir=/var/lib/fleet-lab/1/hosts/h2/disk/upper,uuid=on";
        assert_eq!(root_upperdir(host), Some("/var/lib/fleet-lab/1/hosts/h2/disk/upper"));
        let machine = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
                       30 27 0:44 / /x rw - overlay overlay rw,upperdir=/var/lib/fleet-lab/1/u";
        assert_eq!(root_upperdir(machine), None);
    }

    #[test]
    fn state_is_read_behind_any_name() {
        assert_eq!(state("7042 (etcd) T 1 7042 7042 0 -1"), Some('T'));
        assert_eq!(state("7042 (a) T (b) S 1 7042"), Some('S'));
        assert_eq!(state(""), None);
    }

    #[test]
    fn init_of_a_namespace_is_told_from_ordinary_processes() {
        assert!(is_namespace_init("Name:\tsystemd\nNSpid:\t7042\t1\n"));
        assert!(!is_namespace_init("Name:\tsystemd\nNSpid:\t1\n"));
        assert!(!is_namespace_init("Name:\tdbus\nNSpid:\t7125\t31\n"));
    }
}

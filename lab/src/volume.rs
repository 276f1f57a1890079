//! Disks of a host that run full.

use anyhow::{Context, Result, bail};

use crate::tool::{command, run};
use crate::{Host, rootfs};

/// A file system of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// `/`: what outlives a boot.
    Root,
    /// `/run`: what does not.
    Run,
}

impl Host {
    /// Leaves no byte free on a file system. What is there stays and can be read; nothing can be added.
    ///
    /// Both are tmpfs (see `rootfs.rs`), so no file has to be written for it: their size becomes what is used.
    pub fn fill(&self, volume: Volume) -> Result<()> {
        // Bytes that are freed can be used: full again is what it is after each call.
        let used = |text: &str| text.lines().last().and_then(|line| line.trim().parse::<u64>().ok());
        let df = ["--output=used", "--block-size=1"];
        match volume {
            Volume::Run => {
                let size = used(&self.sh(&format!("df {} /run", df.join(" ")))?).context("df says no number")?;
                self.sh(&format!("mount -o remount,size={size} /run")).map(drop)
            }
            Volume::Root => {
                let disk = self.disk();
                let text = run("df", &[df[0].as_ref(), df[1].as_ref(), disk.as_os_str()])?;
                self.resize(&used(&text).context("df says no number")?.to_string())
            }
        }
    }

    /// Gives a file system its space back.
    pub fn empty(&self, volume: Volume) -> Result<()> {
        match volume {
            Volume::Run => self.sh("mount -o remount,size=50% /run").map(drop),
            Volume::Root => self.resize(rootfs::DISK),
        }
    }

    fn resize(&self, size: &str) -> Result<()> {
        let disk = self.disk();
        let output = command("mount").args(["-o", &format!("remount,size={size}")]).arg(&disk).output()?;
        if !output.status.success() {
            bail!("cannot resize {}: {}", disk.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

//! Images out of Debian packages, and a registry on the lab's bridge that `docker pull` gets them from.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use fleet_lab::{Lab, eventually};

use crate::DEADLINE;

/// A registry that answers for the public one, with images that `tests/images` builds. Ends when dropped.
pub struct Registry(Child);

impl Registry {
    /// Builds what is not there yet of `images`, and serves all that were ever built to the hosts of `lab`.
    ///
    /// # Panics
    /// When that is not possible: docker-registry must be installed, and packages must be there to be downloaded.
    #[must_use]
    pub fn serve(lab: &Lab, images: &[&str]) -> Self {
        let dir = kept().expect("the test runs in cargo's directory");
        build(&dir, images).expect("images are built");
        let registry = Self(spawn(lab, &dir).expect("docker-registry starts (apt-get install docker-registry)"));
        eventually(DEADLINE, "the registry answers", || Ok(std::net::TcpStream::connect(lab.registry()).is_ok()))
            .expect("the registry answers");
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is built is kept between runs, beside what cargo builds.
fn kept() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot find the running program")?;
    // target/debug/deps/decks-…
    let target = exe.ancestors().nth(3).with_context(|| format!("{} is in no target directory", exe.display()))?;
    Ok(target.join("images"))
}

fn build(dir: &Path, images: &[&str]) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/images/build.sh");
    let status = Command::new(script).arg(dir).args(images).status().context("cannot run build.sh")?;
    ensure!(status.success(), "build.sh: {status}");
    Ok(())
}

fn spawn(lab: &Lab, dir: &Path) -> Result<Child> {
    let config = lab.dir().join("registry.yml");
    let root = dir.join("registry");
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}, maintenance: {{readonly: {{enabled: \
         true}}}}}}\nhttp: {{addr: \"{}\"}}\n",
        root.display(),
        lab.registry()
    );
    std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let log = File::create(lab.dir().join("registry.log"))?;
    // It ends with the test, also with one that is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(&config);
    Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
}

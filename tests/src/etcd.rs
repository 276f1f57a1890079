//! One etcd of a test's own, without hosts.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use fleet_lab::eventually;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

use crate::DEADLINE;

/// An etcd on the loopback interface. Ends when dropped.
pub struct EtcdProcess {
    child: Child,
    client: String,
    peer: String,
    data: TempDir,
}

impl EtcdProcess {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not start: etcd must be installed.
    #[must_use]
    pub fn start() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let (client, peer) = (free_url(), free_url());
        let child = spawn(&client, &peer, &data).expect("etcd starts (apt-get install etcd-server)");
        let etcd = Self { child, client, peer, data };
        etcd.serves();
        etcd
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.client
    }

    /// The ID of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and starts it again with its data.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Kills it. [`EtcdProcess::start_again`] brings it back with its data.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }

    /// Starts it after [`EtcdProcess::stop`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.client, &self.peer, &self.data).expect("etcd starts");
        self.serves();
    }

    /// Kills it and starts it again with what it had when `snapshot` was saved, as another cluster.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn restore(&mut self, snapshot: &Path) {
        self.stop();
        let data = data_dir(&self.data);
        fs::remove_dir_all(&data).expect("it had data");
        let (snapshot, data) = (snapshot.to_string_lossy(), data.to_string_lossy());
        let token = ["--initial-cluster-token", "restored"];
        let args = ["snapshot", "restore", &*snapshot, "--data-dir", &*data];
        self.etcdctl(&[&args[..], &token].concat()).expect("a snapshot can be restored");
        self.start_again();
    }

    /// Freezes it, or lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has a pid");
        kill_process(pid, signal).expect("it runs");
        if frozen {
            // It goes on for a moment after the signal was sent.
            let status = waitpid(Some(pid), WaitOptions::UNTRACED).expect("it is a child of this process");
            assert!(status.is_some_and(|(_, status)| status.stopped()), "it runs");
        }
    }

    /// Runs etcdctl against it and returns what it printed.
    ///
    /// # Errors
    /// When etcdctl fails.
    pub fn etcdctl(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.client]).args(args);
        let output = command.output().context("etcdctl is missing (apt-get install etcd-client)")?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn serves(&self) {
        eventually(DEADLINE, "etcd serves", || Ok(self.etcdctl(&["endpoint", "health"]).is_ok())).expect("etcd serves");
    }
}

impl Drop for EtcdProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(client: &str, peer: &str, data: &TempDir) -> Result<Child> {
    let cluster = format!("default={peer}");
    let mut command = Command::new("etcd");
    command
        .args(["--listen-client-urls", client, "--advertise-client-urls", client])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", &cluster])
        .arg("--data-dir")
        .arg(data_dir(data))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command.spawn()?)
}

fn data_dir(data: &TempDir) -> PathBuf {
    data.path().join("etcd")
}

fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

//! The etcd members, as plain processes on the machine.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use rustix::process::Signal;

use crate::network::Network;
use crate::process::{Mark, is_stopped};
use crate::state::{Dirs, tail};
use crate::tool::command;
use crate::wait::{eventually, eventually_eq};

/// How long a member may take to answer, or to end.
const DEADLINE: Duration = Duration::from_secs(20);

/// One etcd member of a lab: a handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Member {
    network: Network,
    dirs: Dirs,
    number: u8,
    count: u8,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberStatus {
    /// It runs.
    Running,
    /// It is frozen: see [`Member::pause`].
    Paused,
    /// It does not run.
    Stopped,
}

impl Member {
    pub(crate) fn new(network: Network, dirs: Dirs, number: u8, count: u8) -> Self {
        Self { network, dirs, number, count }
    }

    /// 1 to 5.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Where clients find it, like `http://10.82.1.1:2379`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", SocketAddr::from((self.network.member(self.number), 2379)))
    }

    /// Whether it runs.
    pub fn status(&self) -> MemberStatus {
        match self.mark().find().as_slice() {
            [] => MemberStatus::Stopped,
            [pid, ..] if is_stopped(*pid) => MemberStatus::Paused,
            _ => MemberStatus::Running,
        }
    }

    /// Starts it, with the data it had; returns when it listens (with several members it serves
    /// once most of them do).
    pub fn start(&self) -> Result<()> {
        self.start_as("new")
    }

    /// Starts it without data, as a member that the others have just taken up.
    pub(crate) fn join(&self) -> Result<()> {
        self.start_as("existing")
    }

    fn start_as(&self, cluster: &str) -> Result<()> {
        self.spawn_as(cluster)?;
        let address = SocketAddr::from((self.network.member(self.number), 2379));
        eventually(DEADLINE, &format!("{} listens", self.name()), || {
            Ok(TcpStream::connect_timeout(&address, DEADLINE).map(|_| true)?)
        })
        .map_err(|error| self.explain(&error))
    }

    pub(crate) fn spawn(&self) -> Result<()> {
        self.spawn_as("new")
    }

    /// `cluster` counts only for a member without data.
    fn spawn_as(&self, cluster: &str) -> Result<()> {
        if self.status() != MemberStatus::Stopped {
            bail!("{} runs already", self.name());
        }
        fs::create_dir_all(self.data_dir())?;
        let path = self.dirs.etcd_log(self.number);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        // In a session of its own: a closed terminal or Ctrl-C must not end it.
        let mut child = command("setsid")
            .arg("etcd")
            .args(self.args(cluster))
            .env("GOTRACEBACK", "single")
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name()))?;
        // Reaps it, whenever and however it ends.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// Ends it in order (SIGTERM).
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::KILL)
    }

    /// Freezes it (SIGSTOP): connections stay open, nothing answers. Returns when it has stopped,
    /// which a signal alone does not tell.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        eventually_eq(DEADLINE, &format!("{} is frozen", self.name()), &MemberStatus::Paused, || Ok(self.status()))
    }

    /// Thaws it (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn end(&self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        if signal == Signal::TERM {
            // A frozen process would never see it.
            self.mark().signal(Signal::CONT)?;
        }
        self.mark().gone(DEADLINE)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if self.mark().signal(signal)? == 0 {
            bail!("{} does not run", self.name());
        }
        Ok(())
    }

    /// Waits until it serves, which takes a leader.
    pub(crate) fn healthy(&self) -> Result<()> {
        let what = format!("{} is healthy", self.name());
        eventually(DEADLINE, &what, || {
            let answer = self.get_health()?;
            Ok(answer.contains(r#""health":"true""#))
        })
        .map_err(|error| self.explain(&error))
    }

    fn get_health(&self) -> Result<String> {
        let address = SocketAddr::from((self.network.member(self.number), 2379));
        let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn name(&self) -> String {
        format!("etcd member {}", self.number)
    }

    fn mark(&self) -> Mark {
        Mark::Argument(self.data_dir_arg())
    }

    /// Its name among the members.
    pub(crate) fn short_name(&self) -> String {
        format!("e{}", self.number)
    }

    /// Where the other members find it.
    pub(crate) fn peer_url(&self) -> String {
        format!("http://{}", SocketAddr::from((self.network.member(self.number), 2380)))
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dirs.etcd(self.number)
    }

    fn data_dir_arg(&self) -> String {
        format!("--data-dir={}", self.data_dir().display())
    }

    fn explain(&self, error: &Error) -> Error {
        anyhow!("{error:#}; {}", tail(&self.dirs.etcd_log(self.number)))
    }

    fn args(&self, state: &str) -> Vec<String> {
        let peer = |number: u8| Self { number, ..self.clone() }.peer_url();
        let cluster: Vec<String> = (1..=self.count).map(|member| format!("e{member}={}", peer(member))).collect();
        vec![
            self.data_dir_arg(),
            format!("--name={}", self.short_name()),
            format!("--listen-client-urls={}", self.endpoint()),
            format!("--advertise-client-urls={}", self.endpoint()),
            format!("--listen-peer-urls={}", peer(self.number)),
            format!("--initial-advertise-peer-urls={}", peer(self.number)),
            format!("--initial-cluster={}", cluster.join(",")),
            format!("--initial-cluster-token={}", self.network.bridge()),
            format!("--initial-cluster-state={state}"),
            "--logger=zap".to_owned(),
            "--log-outputs=stderr".to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_know_each_other() {
        let member = Member::new(Network { subnet: 5, ipv6: false }, Dirs::of(5), 2, 3);
        let args = member.args("new");
        assert_eq!(args[0], "--data-dir=/var/lib/fleet-lab/5/etcd/e2");
        assert!(args.contains(&"--listen-client-urls=http://10.82.5.2:2379".to_owned()));
        assert!(args.contains(
            &"--initial-cluster=e1=http://10.82.5.1:2380,e2=http://10.82.5.2:2380,e3=http://10.82.5.3:2380".to_owned()
        ));
    }
}

//! The etcd of `fleetd dev`: one member, started from the `PATH`, that listens on unix sockets only.
//!
//! It lives as long as fleetd and is started again when it ends before. One that a killed fleetd left behind is ended
//! first: it holds the data.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::Places;
use crate::{
    backoff::Backoff,
    filesystem::{Filesystem, Real},
};

/// How long it may take to serve, with years of data on a slow disk.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end.
const STOP: Duration = Duration::from_secs(10);
/// Between two looks at whether it has come so far.
const LOOK: Duration = Duration::from_millis(50);
/// The lines of its log that are shown when it does not start.
const TAIL: usize = 2;

/// The socket for other members, of which there are none.
const PEER_SOCKET: &str = "etcd-peer.sock:0";

/// An etcd that serves. It is killed when this is dropped.
pub(super) struct PrivateEtcd {
    places: Places,
    child: Child,
}

impl PrivateEtcd {
    /// Starts it and waits until it serves.
    pub(super) async fn start(places: &Places) -> anyhow::Result<Self> {
        end_left_over(places).await?;
        let mut etcd = Self { places: places.clone(), child: spawn(places)? };
        let deadline = Instant::now() + START;
        while !is_healthy(&places.etcd_socket()).await {
            if let Some(status) = etcd.child.try_wait()? {
                bail!("etcd does not start: it ended with {status}{}", tail(&places.etcd_log()));
            }
            if Instant::now() >= deadline {
                bail!("etcd does not serve after {} s{}", START.as_secs(), tail(&places.etcd_log()));
            }
            sleep(LOOK).await;
        }
        Ok(etcd)
    }

    /// Starts it again whenever it ends, until `ending`; then ends it.
    pub(super) async fn mind(mut self, ending: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            let status = tokio::select! {
                () = ending.cancelled() => return self.stop().await,
                status = self.child.wait() => status.map_or_else(|error| error.to_string(), |status| status.to_string()),
            };
            error!(status, log = %self.places.etcd_log().display(), "etcd ended, starting it again; units run on");
            loop {
                tokio::select! {
                    () = ending.cancelled() => return,
                    () = sleep(backoff.delay()) => {}
                }
                // Dropped, and so killed, when fleetd ends meanwhile.
                let started = ending.run_until_cancelled(Self::start(&self.places)).await;
                match started {
                    None => return,
                    Some(Ok(etcd)) => {
                        info!("etcd serves again");
                        self = etcd;
                        break;
                    }
                    Some(Err(error)) => error!("{error:#}"),
                }
            }
        }
    }

    async fn stop(mut self) {
        if let Some(pid) = self.child.id()
            && let Err(error) = signal(pid, Signal::TERM)
        {
            error!(%error, "etcd not asked to end");
        }
        // Killed by the drop, if it does not.
        if !matches!(timeout(STOP, self.child.wait()).await, Ok(Ok::<ExitStatus, _>(_))) {
            error!("etcd did not end when asked, killing it");
        }
    }
}

fn spawn(places: &Places) -> anyhow::Result<Child> {
    let log = places.etcd_log();
    let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    // One that was killed leaves its sockets, and the next takes them for another's.
    for socket in [Places::ETCD_SOCKET, PEER_SOCKET] {
        Real.remove(&places.runtime.join(socket))?;
    }
    let url = format!("unix://{}", Places::ETCD_SOCKET);
    let peer = format!("unix://{PEER_SOCKET}");
    let spawned = Command::new("etcd")
        .arg(data_argument(places))
        .args(["--name=dev", "--logger=zap", "--log-outputs=stderr"])
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=dev={peer}"))
        // Nobody looks after it by hand.
        .args(["--auto-compaction-mode=periodic", "--auto-compaction-retention=1h"])
        .current_dir(&places.runtime)
        // Ctrl-C is for fleetd alone, which resigns before etcd may go.
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    let child = spawned.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "etcd is not installed, or not in the PATH\nhint: on Debian and Ubuntu `sudo apt-get install etcd-server`, on \
             Fedora `sudo dnf install etcd`"
        ),
        _ => anyhow::Error::from(error).context("cannot start etcd"),
    })?;
    let pid = child.id().map(|pid| pid.to_string()).unwrap_or_default();
    fs::write(pid_file(places), pid).context("cannot write down the process ID of etcd")?;
    Ok(child)
}

/// By which an etcd is known as this one.
fn data_argument(places: &Places) -> String {
    format!("--data-dir={}", places.etcd_data().display())
}

fn pid_file(places: &Places) -> std::path::PathBuf {
    places.runtime.join("etcd.pid")
}

/// Ends the etcd of a fleetd that was killed.
async fn end_left_over(places: &Places) -> anyhow::Result<()> {
    let Some(pid) = fs::read_to_string(pid_file(places)).ok().and_then(|pid| pid.parse().ok()) else { return Ok(()) };
    let mark = data_argument(places);
    let is_ours = || {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
    };
    if !is_ours() {
        return Ok(());
    }
    info!(pid, "ending the etcd that an earlier run left behind");
    signal(pid, Signal::TERM).context("cannot end the etcd of an earlier run")?;
    let deadline = Instant::now() + STOP;
    while is_ours() {
        if Instant::now() >= deadline {
            bail!("the etcd of an earlier run does not end\nhint: kill {pid}");
        }
        sleep(LOOK).await;
    }
    Ok(())
}

fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(pidfd_send_signal(process, signal)?)
}

/// Whether it serves.
async fn is_healthy(socket: &Path) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer.contains(r#""health":"true""#))
    };
    matches!(timeout(START, ask).await, Ok(Ok(true)))
}

/// What it said last, for an error.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    format!("; {} ends with:\n{}", log.display(), last.join("\n"))
}

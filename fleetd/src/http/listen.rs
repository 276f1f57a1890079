//! The sockets that the API listens on: handed over by systemd, or opened here. They outlive a new configuration.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::Context;
use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::peer::Peer;

/// All listeners of this daemon.
#[derive(Default)]
pub struct Listeners {
    unix: Vec<UnixListener>,
    tcp: Vec<TcpListener>,
    /// Sockets made here, which go when the daemon does.
    made: Vec<PathBuf>,
}

impl Listeners {
    /// The sockets that systemd handed over (`sd_listen_fds(3)`), any number of unix and TCP ones.
    ///
    /// # Errors
    /// A descriptor that is neither.
    pub fn from_systemd() -> anyhow::Result<Self> {
        let mut listeners = Self::default();
        let mut handed = listenfd::ListenFd::from_env();
        for index in 0..handed.len() {
            if let Ok(Some(listener)) = handed.take_unix_listener(index) {
                listeners.unix.push(listener);
            } else if let Some(listener) = handed
                .take_tcp_listener(index)
                .with_context(|| format!("socket {index} from systemd cannot be used"))?
            {
                listeners.tcp.push(listener);
            }
        }
        Ok(listeners)
    }

    /// Whether it listens on this unix socket, whatever links lead there.
    #[must_use]
    pub fn has_unix(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
        let paths = self.unix.iter().filter_map(|listener| Some(listener.local_addr().ok()?.as_pathname()?.to_owned()));
        paths.map(|open| real(&open)).any(|open| open == real(path))
    }

    /// Whether it listens on this TCP port.
    #[must_use]
    pub fn has_tcp(&self, address: SocketAddr) -> bool {
        self.tcp.iter().any(|listener| listener.local_addr().is_ok_and(|open| open == address))
    }

    /// Opens a unix socket: root's for root and the group `fleet`, another user's for nobody else. A socket that nobody
    /// listens on any more is replaced.
    ///
    /// # Errors
    /// Another daemon listens there, or the socket cannot be made.
    pub fn open_unix(&mut self, path: &Path) -> anyhow::Result<()> {
        if UnixStream::connect(path).is_ok() {
            anyhow::bail!("{} is in use: another fleetd runs on this host", path.display());
        }
        let describe = || format!("cannot listen on {}", path.display());
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(describe),
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(describe)?;
        // Fleet.service has the group already, and may not give anything another one; an ordinary user shares it with
        // nobody.
        let (group, own) = (group("fleet"), fs::metadata(path).with_context(describe)?.gid());
        let is_shared = group == Some(own) || rustix::process::geteuid().is_root();
        let mode = if is_shared { 0o660 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(describe)?;
        match group {
            Some(group) if group == own => {}
            _ if !is_shared => {}
            Some(group) => std::os::unix::fs::chown(path, None, Some(group)).with_context(describe)?,
            None => warn!("there is no group `fleet`: only root can use {}", path.display()),
        }
        self.unix.push(listener);
        self.made.push(path.into());
        Ok(())
    }

    /// Opens a TCP port. Whoever reaches it rules the cluster: there is no authentication yet.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub fn open_tcp(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        self.tcp.push(listener);
        Ok(())
    }

    /// Answers on all of them until `shutdown`. They stay open after that, for the next to answer on.
    ///
    /// # Errors
    /// A socket that cannot be used.
    pub(super) fn serve(&self, router: &Router, shutdown: &CancellationToken, tasks: &TaskTracker) -> io::Result<()> {
        for listener in &self.unix {
            let listener = listener.try_clone()?;
            listener.set_nonblocking(true)?;
            spawn(tokio::net::UnixListener::from_std(listener)?, router, shutdown, tasks);
        }
        for listener in &self.tcp {
            let listener = listener.try_clone()?;
            listener.set_nonblocking(true)?;
            spawn(tokio::net::TcpListener::from_std(listener)?, router, shutdown, tasks);
        }
        Ok(())
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for path in &self.made {
            if let Err(error) = fs::remove_file(path) {
                warn!(path = %path.display(), %error, "socket not removed");
            }
        }
    }
}

fn spawn<L>(listener: L, router: &Router, shutdown: &CancellationToken, tasks: &TaskTracker)
where
    L: Listener,
    L::Addr: std::fmt::Debug,
    Peer: for<'s> Connected<IncomingStream<'s, L>>,
{
    info!(address = ?listener.local_addr().ok(), "listening");
    let (router, shutdown) = (router.clone(), shutdown.clone());
    tasks.spawn(async move {
        let serving = axum::serve(listener, router.into_make_service_with_connect_info::<Peer>())
            .with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = serving.await {
            warn!(%error, "listener broke");
        }
    });
}

/// The number of a group, from `/etc/group` (`group(5)`).
fn group(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?)
}

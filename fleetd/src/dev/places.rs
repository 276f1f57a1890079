//! Where `fleetd dev` keeps what, and whose systemd it uses.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::path_in;
use crate::systemd::Bus;

/// Where the host's own fleetd listens.
const HOST_SOCKET: &str = "/run/fleet.sock";

/// Directories and sockets of one user's `fleetd dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What is kept: the data of etcd, and its log.
    pub state: PathBuf,
    /// What goes with the next boot: sockets, unit files.
    pub runtime: PathBuf,
    /// The socket of the API.
    pub socket: PathBuf,
    /// The systemd that units run in.
    pub systemd: Bus,
}

impl Places {
    /// Those of root, or of an ordinary user with these variables.
    ///
    /// # Errors
    /// The variables do not tell.
    pub fn new(is_root: bool, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        if is_root {
            return Ok(Self {
                state: "/var/lib/fleet-dev".into(),
                runtime: "/run/fleet-dev".into(),
                // Where fleetctl looks first.
                socket: HOST_SOCKET.into(),
                systemd: Bus::System,
            });
        }
        let session = path_in(variable("XDG_RUNTIME_DIR")).with_context(|| {
            "there is no session: XDG_RUNTIME_DIR is not set\nhint: log in on a console or with ssh, not with su or sudo"
        })?;
        let state = path_in(variable("XDG_STATE_HOME"));
        let state = state.or_else(|| Some(path_in(variable("HOME"))?.join(".local/state")));
        let runtime = session.join("fleet");
        Ok(Self {
            state: state.context("neither XDG_STATE_HOME nor HOME is set")?.join("fleet"),
            socket: runtime.join("fleet.sock"),
            runtime,
            systemd: Bus::User(session),
        })
    }

    /// Those of whoever runs this process.
    ///
    /// # Errors
    /// As [`Places::new`].
    pub fn of_this_process() -> anyhow::Result<Self> {
        Self::new(rustix::process::geteuid().is_root(), |name| std::env::var(name).ok())
    }

    /// Where unit files are put.
    #[must_use]
    pub fn units(&self) -> PathBuf {
        self.runtime.join("units")
    }

    /// The data of etcd.
    #[must_use]
    pub fn etcd_data(&self) -> PathBuf {
        self.state.join("etcd")
    }

    /// What etcd says.
    #[must_use]
    pub fn etcd_log(&self) -> PathBuf {
        self.state.join("etcd.log")
    }

    /// The name of the socket that etcd listens on, in the directory it runs in: etcd takes for a socket only what
    /// looks like a host and a port.
    pub(super) const ETCD_SOCKET: &str = "etcd.sock:0";

    /// The socket that etcd listens on.
    #[must_use]
    pub fn etcd_socket(&self) -> PathBuf {
        self.runtime.join(Self::ETCD_SOCKET)
    }

    /// How programs reach the API. Where the host has one, fleetctl means that.
    pub(super) fn directions(&self) -> String {
        let found = self.systemd == Bus::System || !Path::new(HOST_SOCKET).exists();
        let others = if found { "fleetctl finds this by itself; others with" } else { "To reach this:" };
        format!("{others} export FLEETCTL_ENDPOINT=unix://{}", self.socket.display())
    }

    pub(super) fn whose_systemd(&self) -> &'static str {
        match self.systemd {
            Bus::System => "this machine's systemd (systemctl)",
            Bus::User(_) => "your own systemd (systemctl --user)",
        }
    }

    pub(super) fn systemd_hint(&self) -> &'static str {
        match self.systemd {
            Bus::System => "PID 1 has to be systemd, with D-Bus beside it",
            Bus::User(_) => "on Debian it takes the packages libpam-systemd and dbus-user-session, and a new login",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> anyhow::Result<Places> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Places::new(false, find)
    }

    #[test]
    fn places_of_a_user_follow_the_xdg_variables() {
        let session = ("XDG_RUNTIME_DIR", "/run/user/1000");
        let usual = places(&[session, ("HOME", "/home/me")]).unwrap();
        assert_eq!(usual.state, PathBuf::from("/home/me/.local/state/fleet"));
        assert_eq!(usual.socket, PathBuf::from("/run/user/1000/fleet/fleet.sock"));
        assert_eq!(usual.systemd, Bus::User("/run/user/1000".into()));
        let moved = places(&[session, ("HOME", "/home/me"), ("XDG_STATE_HOME", "/data")]).unwrap();
        assert_eq!(moved.state, PathBuf::from("/data/fleet"));
        let relative = places(&[session, ("HOME", "/home/me"), ("XDG_STATE_HOME", "data")]).unwrap();
        assert_eq!(relative, usual);
    }

    #[test]
    fn users_without_a_session_are_told_how_to_get_one() {
        let error = places(&[("HOME", "/home/me")]).unwrap_err().to_string();
        assert!(error.contains("XDG_RUNTIME_DIR") && error.contains("\nhint: log in"), "{error}");
    }
}

//! Byte streams to fleetd: a unix socket, TCP, or either of them through SSH to another machine.

use std::{env, fmt, io, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    process::Child,
};

use crate::{HostPort, Ssh, os_message};

/// Where fleetd listens unless told otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:///var/run/fleet.sock";

/// Where the `fleetd dev` of this user listens, who is not root. `None` without a session.
pub fn own_socket() -> Option<PathBuf> {
    let session = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    session.map(|session| session.join("fleet/fleet.sock"))
}

/// Time to type the password that ssh may ask for when a tunnel opens.
const TIME_TO_LOG_IN: Duration = Duration::from_secs(120);

/// Where fleetd listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket in the file system.
    Unix(PathBuf),
    /// An address.
    Tcp(HostPort),
}

/// How to get there.
#[derive(Clone, Debug)]
pub struct Transport {
    endpoint: Endpoint,
    ssh: Ssh,
}

/// A stream, and the `ssh` that carries it, which ends with it.
pub struct Stream {
    /// The stream itself.
    pub io: Box<dyn Io>,
    /// To be kept for as long as the stream.
    pub carrier: Option<Child>,
}

/// Anything bytes go through both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Endpoint {
    /// Reads `unix:///PATH` or `http://HOST[:PORT]`. Of several with commas between, the first counts.
    ///
    /// # Errors
    /// What is wrong with it, in CoreOS fleet's words where it had some.
    pub fn parse(text: &str) -> Result<Self, String> {
        let first = text.split(',').next().unwrap_or_default();
        let (scheme, rest) = first.split_once(':').ok_or("URL scheme undefined")?;
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        match scheme {
            "unix" | "file" if !host.is_empty() => {
                Err(format!("unable to connect to host {host:?} with scheme {scheme:?}"))
            }
            "unix" | "file" if path.starts_with('/') => Ok(Self::Unix(path.into())),
            "unix" | "file" => Err(format!("{first:?} has no absolute path")),
            "http" => HostPort::parse(host).map(Self::Tcp),
            "https" => Err("https is not supported: reach fleetd through SSH with --tunnel".into()),
            other => Err(format!("URL scheme {other:?} is not supported: use unix or http")),
        }
    }

    /// This one, but if it is the default, and nothing is there, the `fleetd dev` of this user.
    pub fn or_own(self) -> Self {
        let is_default = matches!(&self, Self::Unix(path) if format!("unix://{}", path.display()) == DEFAULT_ENDPOINT);
        match (&self, own_socket()) {
            (Self::Unix(default), Some(own)) if is_default && !default.exists() && own.exists() => Self::Unix(own),
            _ => self,
        }
    }

    /// Whether the `fleetd dev` of this user listens there, whose units are in the user's own systemd.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Unix(path) if own_socket().as_ref() == Some(path))
    }

    /// The value of HTTP's `Host`.
    pub fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".into(),
            Self::Tcp(address) => address.authority(80),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{}", address.authority(80)),
        }
    }
}

impl Transport {
    /// To `endpoint`, through the tunnel of `ssh` if it has one.
    pub fn new(endpoint: Endpoint, ssh: Ssh) -> Self {
        Self { endpoint, ssh }
    }

    /// Where fleetd listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether ssh carries what is sent.
    #[must_use]
    pub fn is_tunnelled(&self) -> bool {
        self.ssh.tunnel.is_some()
    }

    /// How many connections are reasonable. Each one through a tunnel is a login of its own.
    pub fn connections(&self) -> usize {
        if self.is_tunnelled() { 4 } else { 16 }
    }

    /// What a first answer may take beyond the time of a request: through a tunnel, somebody may have to log in.
    pub fn time_to_open(&self) -> Duration {
        if self.is_tunnelled() { TIME_TO_LOG_IN } else { Duration::ZERO }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// Nobody listens, or not for us. What goes wrong inside of a tunnel shows only when the stream ends.
    pub async fn connect(&self) -> io::Result<Stream> {
        let plain = |io: Box<dyn Io>| Stream { io, carrier: None };
        match (&self.ssh.tunnel, &self.endpoint) {
            (None, Endpoint::Unix(path)) => Ok(plain(Box::new(UnixStream::connect(path).await?))),
            (None, Endpoint::Tcp(address)) => {
                let stream = TcpStream::connect((&*address.host, address.port.unwrap_or(80))).await?;
                stream.set_nodelay(true)?;
                Ok(plain(Box::new(stream)))
            }
            (Some(tunnel), Endpoint::Unix(path)) => {
                let mut command = self.ssh.to_tunnel(tunnel, &["-T"]);
                command.args(["fleetctl", "fd-forward"]).arg(path);
                through(command)
            }
            (Some(tunnel), Endpoint::Tcp(address)) => {
                through(self.ssh.to_tunnel(tunnel, &["-W", &address.authority(80)]))
            }
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.endpoint)?;
        match &self.ssh.tunnel {
            Some(tunnel) => write!(f, " by way of {}", tunnel.host),
            None => Ok(()),
        }
    }
}

/// The standard streams of an `ssh` as one stream. Its stderr, and its questions, go to our terminal.
fn through(mut command: tokio::process::Command) -> io::Result<Stream> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
    let mut child = child.map_err(|error| io::Error::other(format!("cannot run ssh: {}", os_message(&error))))?;
    match (child.stdout.take(), child.stdin.take()) {
        (Some(output), Some(input)) => {
            Ok(Stream { io: Box::new(tokio::io::join(output, input)), carrier: Some(child) })
        }
        _ => Err(io::Error::other("ssh has no standard streams")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let tcp = |text| Endpoint::Tcp(HostPort::parse(text).unwrap());
        for (text, endpoint) in [
            (DEFAULT_ENDPOINT, Endpoint::Unix("/var/run/fleet.sock".into())),
            ("unix:/run/x", Endpoint::Unix("/run/x".into())),
            ("http://10.0.0.1:49153", tcp("10.0.0.1:49153")),
            ("http://h/", tcp("h")),
            ("http://[::1]:80,http://other:80", tcp("[::1]:80")),
        ] {
            assert_eq!(Endpoint::parse(text), Ok(endpoint), "{text}");
        }
    }

    #[test]
    fn bad_endpoints_get_the_messages_people_know() {
        for (text, message) in [
            ("foo", "URL scheme undefined"),
            ("unix://run/fleet.sock", "unable to connect to host \"run\" with scheme \"unix\""),
            ("http://", "`` is not HOST[:PORT]"),
            ("ftp://h", "URL scheme \"ftp\" is not supported: use unix or http"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap_err(), message, "{text}");
        }
    }
}

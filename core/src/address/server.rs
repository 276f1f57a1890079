//! The URL of a member of etcd.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use thiserror::Error;

use super::{HostAddress, HostError};
use crate::unit::suggest;

/// Where a member of etcd listens for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// On a port.
    Tcp {
        /// Whether with TLS, if it is said.
        tls: Option<bool>,
        /// The host.
        host: HostAddress,
        /// The port, when it is not the scheme's own.
        port: Option<u16>,
    },
    /// On a socket of this machine, at this absolute path.
    Unix(String),
}

/// Why a text is not the URL of a member.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Another scheme.
    #[error("the scheme {0:?} is none that etcd has")]
    Scheme(String),
    /// A path, which etcd does not have.
    #[error("a member of etcd has no path: leave {0:?} out")]
    Path(String),
    /// A login.
    #[error("a login does not belong here: write etcd_username and etcd_password")]
    Login,
    /// No port.
    #[error("{0:?} is not a port from 1 to 65535")]
    Port(String),
    /// An IPv6 address without brackets.
    #[error("an IPv6 address stands in brackets")]
    Brackets,
    /// A socket without an absolute path.
    #[error("the path of a socket is absolute, as in unix:///run/etcd.sock")]
    RelativePath,
    /// No host.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Server {
    /// Reads `http://HOST:PORT`, `https://HOST:PORT`, either without a scheme or a port, or `unix:///PATH`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        if text.contains(char::is_whitespace) {
            return Err(HostError::Blank.into());
        }
        let (tls, rest) = match text.split_once("://") {
            None if text.starts_with("unix:") => return socket(&text["unix:".len()..]),
            None => (None, text),
            Some((scheme, rest)) => match &*scheme.to_ascii_lowercase() {
                "http" => (Some(false), rest),
                "https" => (Some(true), rest),
                "unix" => return socket(rest),
                _ => return Err(ServerError::Scheme(scheme.to_owned())),
            },
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !path.trim_matches('/').is_empty() {
            return Err(ServerError::Path(path.to_owned()));
        }
        if authority.contains('@') {
            return Err(ServerError::Login);
        }
        let (host, port) = match authority.rsplit_once(':') {
            // The colon of an address in brackets.
            _ if authority.ends_with(']') => (authority, None),
            Some((host, _)) if host.contains(':') && !host.starts_with('[') => return Err(ServerError::Brackets),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let number = |text: &str| match text.parse() {
            Ok(1..) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        let port = port.map(|text| number(text).ok_or_else(|| ServerError::Port(text.to_owned()))).transpose()?;
        let host = match host {
            // What etcd listens on; to a client it is the host itself.
            "0.0.0.0" => HostAddress::Ip(Ipv4Addr::LOCALHOST.into()),
            "[::]" => HostAddress::Ip(Ipv6Addr::LOCALHOST.into()),
            host => HostAddress::parse(host)?,
        };
        Ok(Self::Tcp { tls, host, port })
    }

    /// What was meant by a text that cannot be read.
    #[must_use]
    pub fn guess(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = suggest(scheme, ["http", "https", "unix"]).unwrap_or("http");
        let authority = rest.split(['/', '?', '#']).next()?;
        let (host, port) = authority.rsplit_once(':')?;
        let in_brackets = host.contains(':') && !host.starts_with('[') && port.len() > 3;
        let authority = if in_brackets { format!("[{host}]:{port}") } else { authority.to_owned() };
        Self::parse(&format!("{scheme}://{authority}")).ok()
    }

    /// The URL in full, with TLS or without where it does not say.
    #[must_use]
    pub fn url(&self, tls_by_default: bool) -> String {
        match self {
            Self::Unix(path) => format!("unix://{path}"),
            Self::Tcp { tls, host, port } => {
                let scheme = if tls.unwrap_or(tls_by_default) { "https" } else { "http" };
                let port = port.map_or_else(String::new, |port| format!(":{port}"));
                format!("{scheme}://{}{port}", host.in_url())
            }
        }
    }

    /// Whether it is reached with TLS.
    #[must_use]
    pub fn has_tls(&self, by_default: bool) -> bool {
        matches!(self, Self::Tcp { tls, .. } if tls.unwrap_or(by_default))
    }

    /// Host and port, for one that is not a socket.
    #[must_use]
    pub fn target(&self) -> Option<(String, u16)> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp { tls, host, port } => {
                Some((host.to_string(), port.unwrap_or(if *tls == Some(true) { 443 } else { 80 })))
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url(false))
    }
}

fn socket(path: &str) -> Result<Server, ServerError> {
    if path.starts_with('/') { Ok(Server::Unix(path.to_owned())) } else { Err(ServerError::RelativePath) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_members_are_taken_with_and_without_scheme_and_port() {
        for (text, url, target) in [
            ("http://10.0.0.1:2379", "http://10.0.0.1:2379", Some(("10.0.0.1", 2379))),
            ("http://10.0.0.1:2379/", "http://10.0.0.1:2379", Some(("10.0.0.1", 2379))),
            ("HTTP://a:4001", "http://a:4001", Some(("a", 4001))),
            ("https://etcd.example.com", "https://etcd.example.com", Some(("etcd.example.com", 443))),
            ("http://a", "http://a", Some(("a", 80))),
            ("a:2379", "http://a:2379", Some(("a", 2379))),
            ("http://[FD00::0001]:2379", "http://[fd00::1]:2379", Some(("fd00::1", 2379))),
            ("[::1]:2379", "http://[::1]:2379", Some(("::1", 2379))),
            ("http://[::1]", "http://[::1]", Some(("::1", 80))),
            ("http://0.0.0.0:2379", "http://127.0.0.1:2379", Some(("127.0.0.1", 2379))),
            ("http://[::]:2379", "http://[::1]:2379", Some(("::1", 2379))),
            ("unix:///run/etcd.sock", "unix:///run/etcd.sock", None),
            ("unix:/run/etcd.sock", "unix:///run/etcd.sock", None),
        ] {
            let server = Server::parse(text).unwrap();
            assert_eq!(server.url(false), url, "{text}");
            assert_eq!(server.target(), target.map(|(host, port)| (host.to_owned(), port)), "{text}");
        }
        assert_eq!(Server::parse("a:2379").unwrap().url(true), "https://a:2379");
        assert_eq!(Server::parse("http://a:2379").unwrap().url(true), "http://a:2379");
    }

    #[test]
    fn what_is_no_url_of_a_member_is_refused_with_the_reason_and_what_was_meant() {
        use ServerError::*;
        let port = |text: &str| Port(text.into());
        let host = |error: HostError| Host(error);
        for (text, error, meant) in [
            ("", host(HostError::Empty), None),
            ("http://", host(HostError::Empty), None),
            ("htpp://a:2379", Scheme("htpp".into()), Some("http://a:2379")),
            ("tcp://a:2379", Scheme("tcp".into()), Some("http://a:2379")),
            ("http://a:2379/v2/keys", Path("/v2/keys".into()), Some("http://a:2379")),
            ("http://a:2379?x=1", Path("?x=1".into()), Some("http://a:2379")),
            ("http://me:secret@a:2379", Login, None),
            ("http://a:0", port("0"), None),
            ("http://a:70000", port("70000"), None),
            ("http://a:", port(""), None),
            ("http://a:+1", port("+1"), None),
            ("http://fd00::1:2379", Brackets, Some("http://[fd00::1]:2379")),
            ("http://[fe80::1%eth0]:2379", host(HostError::Zone("eth0".into())), None),
            ("http://a:2379 http://b:2379", host(HostError::Blank), None),
            ("http://$private_ipv4:2379", host(HostError::Variable("$private_ipv4".into())), None),
            ("http://999.1.2.3:2379", host(HostError::NotIpv4), None),
            ("unix://run/etcd.sock", RelativePath, None),
        ] {
            assert_eq!(Server::parse(text), Err(error), "{text}");
            assert_eq!(Server::guess(text).map(|server| server.url(false)).as_deref(), meant, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_is_taken_again_as_it_is_shown(
            text in "(https?://|unix:|)[a-c0-9:./@%\\[\\]?-]{0,16}|\\PC{0,16}",
            tls in proptest::bool::ANY,
        ) {
            for server in Server::parse(&text).ok().into_iter().chain(Server::guess(&text)) {
                let url = server.url(tls);
                let again = Server::parse(&url);
                proptest::prop_assert!(again.is_ok(), "{url}");
                proptest::prop_assert_eq!(again.map(|again| again.url(!tls)), Ok(url));
            }
        }
    }
}

//! `HOST[:PORT]`, as people write it.

/// `HOST[:PORT]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or address, without brackets.
    pub host: String,
    /// The port, when it was given.
    pub port: Option<u16>,
}

impl HostPort {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a bare IPv6 address.
    ///
    /// # Errors
    /// No host, or a port that is no number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not HOST[:PORT]");
        let (host, port) = match text.strip_prefix('[') {
            Some(inner) => {
                let (host, rest) = inner.split_once(']').ok_or_else(bad)?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) })
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(bad());
        }
        let port = port.map(|port| port.parse().map_err(|_| bad())).transpose()?;
        Ok(Self { host: host.into(), port })
    }

    /// `HOST:PORT`, with brackets where an IPv6 address needs them.
    #[must_use]
    pub fn authority(&self, default_port: u16) -> String {
        format!("{}:{}", self.bracketed(), self.port.unwrap_or(default_port))
    }

    /// The host, with brackets where an IPv6 address needs them.
    pub(crate) fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_come_apart() {
        for (text, host, port) in [
            ("h", "h", None),
            ("h:22", "h", Some(22)),
            ("[::1]:22", "::1", Some(22)),
            ("[::1]", "::1", None),
            ("fe80::1", "fe80::1", None),
        ] {
            assert_eq!(HostPort::parse(text), Ok(HostPort { host: host.into(), port }), "{text}");
        }
        for bad in ["", ":22", "h:x", "h:70000", "[::1", "[::1]22"] {
            assert!(HostPort::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(HostPort::parse("::1").unwrap().authority(80), "[::1]:80");
    }
}

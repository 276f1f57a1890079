//! Requests to a host's `fleetd`, byte for byte, over the host's own socket.
//!
//! No HTTP library stands in between: what is written here is what arrives, whatever a proper client would make of
//! it. The socket is reached through `/proc/PID/root`, from outside of the host, because a process in the host would
//! take milliseconds to start for each request.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
};

use anyhow::{Context, Result, bail};
use fleet_lab::Host;

use crate::DEADLINE;

/// A connection that is kept open from request to request.
pub struct Connection(BufReader<UnixStream>);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, with the chunks put together.
    pub body: String,
}

impl Answer {
    /// The value of a header that is there once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let name = name.to_lowercase();
        let mut values = self.headers.iter().filter(|(known, _)| *known == name);
        values.next().filter(|_| values.next().is_none()).map(|(_, value)| &**value)
    }
}

impl Connection {
    /// Connects with the `fleetd` of a host.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(host: &Host) -> Result<Self> {
        let path = format!("/proc/{}/root/run/fleet.sock", host.pid1()?);
        let stream = UnixStream::connect(&path).with_context(|| format!("nobody listens on {path}"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends bytes that make one request, and reads its answer.
    ///
    /// # Errors
    /// No answer comes, or none that is HTTP.
    pub fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.0.get_mut().write_all(request).context("the request was not taken")?;
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("{status_line:?} is no status line"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').with_context(|| format!("{line:?} is no header"))?;
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: String::new() };
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            self.read(length.parse()?, &mut body)?;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            self.chunks(&mut body)?;
        } else if status != 204 {
            self.0.read_to_end(&mut body)?;
        }
        answer.body = String::from_utf8(body)?;
        Ok(answer)
    }

    /// Sends a request of the ordinary kind: JSON, if anything.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn request(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: fleet\r\n");
        let length = body.len();
        let framing = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
        };
        self.send(format!("{head}{framing}\r\n{body}").as_bytes())
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        loop {
            let length = self.line()?;
            let length = usize::from_str_radix(&length, 16).with_context(|| format!("{length:?} begins no chunk"))?;
            self.read(length, body)?;
            self.line()?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn read(&mut self, length: usize, into: &mut Vec<u8>) -> Result<()> {
        let start = into.len();
        into.resize(start + length, 0);
        self.0.read_exact(&mut into[start..]).context("the body ends early")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line).context("no answer")? == 0 {
            bail!("the connection was closed without an answer");
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

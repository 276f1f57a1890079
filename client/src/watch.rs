//! The watch of units: their statuses, line by line, as they change.

use fleet_api::{
    UnitStatus,
    paths::{WATCH, query},
};
use fleet_core::model::json;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{Client, ClientError, Result, pool::Sender};

/// Units in one request: with names of 256 bytes, the most that fits into a URI of 64 kB.
pub const STREAM: usize = 200;
/// Most bytes of a line: what ten thousand machines report of a global unit has a few megabytes.
const MAX_LINE: usize = 16 << 20;

/// The lines of a watch.
pub struct StatusLines {
    body: Incoming,
    unread: Vec<u8>,
    /// How much of that has no line end in it.
    searched: usize,
    endpoint: String,
    _sender: Sender,
}

impl Client {
    /// The status of `names`, at most [`STREAM`], now and whenever it changes. `None` from a fleetd that has no watch.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn watch(&self, names: &[String]) -> Result<Option<StatusLines>> {
        let names = names.iter().map(|name| ("unit", &**name));
        match self.pool.open(&query(WATCH, names)).await {
            Ok((sender, response)) => Ok(Some(StatusLines {
                body: response.into_body(),
                unread: Vec::new(),
                searched: 0,
                endpoint: self.pool.transport.to_string(),
                _sender: sender,
            })),
            // A unit that is not known has a status like any other.
            Err(ClientError::Api { code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl StatusLines {
    /// The next status; `None` when fleetd ends the stream.
    ///
    /// # Errors
    /// The connection breaks, or a line is none of fleet's.
    pub async fn next(&mut self) -> Result<Option<UnitStatus>> {
        let unreadable = |reason| ClientError::Unreadable { endpoint: self.endpoint.clone(), reason };
        loop {
            let end = self.unread[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| self.searched + end) {
                self.searched = 0;
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                // An empty line only shows that the other side is alive.
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return json::from_slice(&line).map(Some).map_err(|error| unreadable(error.to_string()));
            }
            self.searched = self.unread.len();
            if self.searched > MAX_LINE {
                return Err(unreadable(format!("a line of it has more than {MAX_LINE} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.unread.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Some(Err(error)) => {
                    return Err(ClientError::Lost { endpoint: self.endpoint.clone(), reason: error.to_string() });
                }
            }
        }
    }
}

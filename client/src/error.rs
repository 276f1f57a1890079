//! Why a request got no good answer.

use std::{error::Error, fmt, io};

use fleet_api::{ErrorBody, ErrorEntity, Reason};
use fleet_core::model::json;
use hyper::StatusCode;

/// Why a request got no good answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody answers at the endpoint.
    Connect {
        /// Where.
        endpoint: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection was there and ended before the answer did.
    Lost {
        /// Where.
        endpoint: String,
        /// Why, as far as known.
        reason: String,
    },
    /// No answer within the time that the client gives a request.
    Timeout {
        /// Where.
        endpoint: String,
        /// The time in seconds.
        seconds: f64,
    },
    /// An answer that is not fleet's.
    Unreadable {
        /// Where.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Fleetd says no.
    Api {
        /// The HTTP status.
        code: u16,
        /// Its message.
        message: String,
        /// Why, as a word; `None` from a fleetd that has none for it.
        reason: Option<Reason>,
    },
}

impl ClientError {
    /// What an answer says that is an error.
    pub(crate) fn of(status: StatusCode, body: &[u8]) -> Self {
        let code = status.as_u16();
        match json::from_slice::<ErrorEntity>(body) {
            Ok(ErrorEntity { error: ErrorBody { message, reason, .. } }) => Self::Api { code, message, reason },
            Err(_) => Self::Api { code, message: String::from_utf8_lossy(body).trim().to_owned(), reason: None },
        }
    }

    /// Whether this fleetd has not got what it was asked for, because it is too old.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Api { reason: Some(reason), .. } => {
                matches!(reason, Reason::NoSuchResource | Reason::MethodNotAllowed)
            }
            // Without reasons a message tells: an unknown path has none, and an unknown name has one.
            Self::Api { reason: None, code: 404, message } => message.is_empty(),
            Self::Api { reason: None, code, .. } => *code == 405,
            _ => false,
        }
    }

    /// Whether fleetd knows nothing of the name that it was asked about.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { code: 404, .. }) && !self.is_unsupported()
    }

    /// Whether nobody listens at the endpoint, as while fleetd is being restarted.
    #[must_use]
    pub fn is_nobody_there(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Connect { source, .. } if matches!(source.kind(), ConnectionRefused | NotFound))
    }

    /// Whether the same request may well succeed in a while: fleetd is being restarted, or etcd is away.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Api { code, .. } => *code >= 500,
            Self::Connect { .. } | Self::Lost { .. } | Self::Timeout { .. } => true,
            Self::Unreadable { .. } => false,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { endpoint, source } => {
                write!(f, "cannot connect to {endpoint}: {}", os_message(source))
            }
            Self::Lost { endpoint, reason } => write!(f, "lost the connection to {endpoint}: {reason}"),
            Self::Timeout { endpoint, seconds } => write!(f, "no answer from {endpoint} within {seconds} s"),
            Self::Unreadable { endpoint, reason } => {
                write!(f, "cannot read the answer of {endpoint}: {reason}")
            }
            Self::Api { code, message, .. } => write!(f, "Error {code}: {message}"),
        }
    }
}

impl Error for ClientError {}

/// What the operating system says, the way people know it: `no such file or directory`, without the number.
#[must_use]
pub fn os_message(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" (os error").map_or(&*text, |(words, _)| words);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

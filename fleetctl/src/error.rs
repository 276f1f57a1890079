//! How a command ends when it could not do what was asked.
//!
//! CoreOS fleet's messages are kept word for word ([`Failure::said`]): scripts look for them. Failures that it
//! did not have begin with `error:` ([`Failure::new`]). Both may carry hints, one known next step each.

use std::{fmt, io, process::ExitCode};

/// The operation failed.
pub const FAILED: u8 = 1;
/// The arguments make no sense.
pub const USAGE: u8 = 2;
/// What was asked for is nowhere, or cannot be.
pub const NOT_FOUND: u8 = 3;
/// No connection to the cluster.
pub const NO_CONNECTION: u8 = 4;

/// The end of a command: what is left to say on stderr, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    lines: Vec<String>,
    code: u8,
}

impl Failure {
    /// A message that CoreOS fleet had, as it is.
    pub fn said(message: impl Into<String>) -> Self {
        Self { lines: vec![message.into()], code: FAILED }
    }

    /// A message of our own: lower case, names the object, no period.
    pub fn new(message: impl fmt::Display) -> Self {
        Self::said(format!("error: {message}"))
    }

    /// The reader of our output has gone (`| head`): nothing is wrong and nobody is left to tell.
    pub fn broken_pipe() -> Self {
        Self { lines: Vec::new(), code: 0 }
    }

    /// Adds a line below the message.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Adds the next step.
    pub fn hint(self, hint: impl fmt::Display) -> Self {
        self.line(format!("hint: {hint}"))
    }

    /// Sets the exit code, which is 1 otherwise.
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What goes to stderr, line by line.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// What the process returns.
    pub fn exit_code(&self) -> ExitCode {
        self.code.into()
    }
}

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
    /// No answer within the time that `--request-timeout` gives.
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
    },
}

impl ClientError {
    /// The end of a command that was doing `what`: `Error starting units`.
    pub fn during(&self, what: &str) -> Failure {
        self.hinted(Failure::said(format!("{what}: {self}")).code(self.exit_code()))
    }

    /// Adds the next step, where one is known.
    pub fn hinted(&self, failure: Failure) -> Failure {
        let hint = match self {
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "join the group `fleet` (`usermod -aG fleet USER`, then log in again), or use sudo"
            }
            // What keeps ssh from running says enough.
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::Other => return failure,
            Self::Connect { endpoint, .. } if endpoint.starts_with("unix:") => {
                "is fleetd running? see `systemctl status fleet`; another host's is reached with --tunnel or --endpoint"
            }
            Self::Connect { .. } => "is fleetd running there, and configured to listen on that address?",
            Self::Timeout { .. } => "allow more time with --request-timeout, or see `systemctl status fleet`",
            Self::Unreadable { .. } => "is it fleetd that listens there?",
            Self::Lost { .. } | Self::Api { .. } => return failure,
        };
        failure.hint(hint)
    }

    /// Whether the cluster was not reached at all.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::Timeout { .. } => NO_CONNECTION,
            Self::Unreadable { .. } | Self::Api { .. } => FAILED,
        }
    }

    /// Whether nobody listens at the endpoint, as while fleetd is being restarted.
    pub fn is_nobody_there(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Connect { source, .. } if matches!(source.kind(), ConnectionRefused | NotFound))
    }

    /// Whether the same request may well succeed in a while: fleetd is being restarted, or etcd is away.
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
            Self::Api { code, message } => write!(f, "Error {code}: {message}"),
        }
    }
}

/// What the operating system says, the way people know it: `no such file or directory`, without the number.
pub fn os_message(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" (os error").map_or(&*text, |(words, _)| words);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_names_it_and_the_next_step() {
        let error = ClientError::Connect {
            endpoint: "unix:///nope".into(),
            source: io::Error::from_raw_os_error(2), // ENOENT
        };
        let failure = error.during("Error creating units");
        assert_eq!(
            failure.lines()[0],
            "Error creating units: cannot connect to unix:///nope: no such file or directory"
        );
        assert!(failure.lines()[1].contains("systemctl status fleet"), "{failure:?}");
        assert_eq!(failure.code, NO_CONNECTION);
    }

    #[test]
    fn a_closed_socket_tells_of_the_group() {
        let error = ClientError::Connect {
            endpoint: "unix:///var/run/fleet.sock".into(),
            source: io::Error::from_raw_os_error(13), // EACCES
        };
        assert!(error.during("Error").lines()[1].contains("group `fleet`"));
    }
}

//! How a command ends when it could not do what was asked.
//!
//! CoreOS fleet's messages are kept word for word ([`Failure::said`]): scripts look for them. Failures that it
//! did not have begin with `error:` ([`Failure::new`]). Both may carry hints, one known next step each.

use std::{fmt, io, process::ExitCode};

use fleet_client::ClientError;

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

/// How a command ends because a request got no good answer.
pub trait Ending {
    /// The end of a command that was doing `what`: `Error starting units`.
    fn during(&self, what: &str) -> Failure;

    /// Adds the next step, where one is known.
    fn hinted(&self, failure: Failure) -> Failure;
}

impl Ending for ClientError {
    fn during(&self, what: &str) -> Failure {
        self.hinted(Failure::said(format!("{what}: {self}")).code(exit_code(self)))
    }

    fn hinted(&self, failure: Failure) -> Failure {
        let hint = match self {
            ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "join the group `fleet` (`usermod -aG fleet USER`, then log in again), or use sudo"
            }
            // What keeps ssh from running says enough.
            ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::Other => return failure,
            ClientError::Connect { endpoint, .. } if endpoint.starts_with("unix:") => {
                "is fleetd running? see `systemctl status fleet`; another host's is reached with --tunnel or --endpoint"
            }
            ClientError::Connect { .. } => "is fleetd running there, and configured to listen on that address?",
            ClientError::Timeout { .. } => "allow more time with --request-timeout, or see `systemctl status fleet`",
            ClientError::Unreadable { .. } => "is it fleetd that listens there?",
            ClientError::Lost { .. } | ClientError::Api { .. } => return failure,
        };
        failure.hint(hint)
    }
}

/// How a command ends that asked for what an old fleetd may not know.
pub fn unsupported(error: &ClientError, doing: &str) -> Failure {
    if error.is_unsupported() {
        return Failure::new(format!("{doing}: this fleetd cannot do that"))
            .hint("upgrade the fleetd that answers here");
    }
    error.during(&format!("error: {doing}"))
}

/// Tells that the cluster was not reached at all.
fn exit_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Connect { .. } | ClientError::Lost { .. } | ClientError::Timeout { .. } => NO_CONNECTION,
        ClientError::Unreadable { .. } | ClientError::Api { .. } => FAILED,
    }
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

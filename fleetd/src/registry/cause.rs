//! Why etcd did not do what was asked: what that means to fleet, and in words for an operator. Those of the client library
//! name its own types.

use std::{error::Error as _, io};

use etcd_client::Error;
use thiserror::Error as ThisError;
use tracing::debug;

use super::StoreError;

/// A cause, in one phrase.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{0}")]
struct Cause(String);

/// There was no answer in time.
pub(super) const SILENCE: &str = "no answer in time";

/// Tells what fleet does about an error of the client.
pub(super) fn classify(what: &'static str, error: &Error) -> StoreError {
    debug!(?error, what, "etcd did not do it");
    let unavailable = || StoreError::Unavailable(Box::new(Cause::of_silence(error)));
    let refused = |mend| StoreError::Refused { what, mend, source: Box::new(Cause::of_refusal(error)) };
    // gRPC codes by number, so that tonic need not be a dependency: 1 cancelled, 4 deadline exceeded,
    // 5 not found, 10 aborted, 11 out of range, 13 internal, 14 unavailable, 2 unknown.
    match error {
        Error::TransportError(_) | Error::IoError(_) => unavailable(),
        Error::GRpcStatus(status) => match status.code() as i32 {
            // The client's own word for an answer beyond its limit has the number of a compacted revision.
            11 if status.message().contains("message length too large") => StoreError::TooLarge,
            11 => StoreError::Compacted,
            5 => StoreError::LeaseGone,
            1 | 2 | 4 | 10 | 13 | 14 => unavailable(),
            // 3 invalid argument, which is also its word for a wrong password, 7 permission denied, 16 unauthenticated.
            3 if status.message().contains("user") => refused(" (see `etcd_username` and `etcd_password`)"),
            3 if status.message().contains("auth store is old") => unavailable(),
            16 => refused(" (see `etcd_username` and `etcd_password`)"),
            7 => refused(" (the user's role has to include all below `etcd_key_prefix`)"),
            _ => refused(""),
        },
        Error::LeaseKeepAliveError(_) => StoreError::LeaseGone,
        Error::WatchError(_) => unavailable(),
        _ => refused(""),
    }
}

impl Cause {
    /// Of a request that could not be made or was not answered.
    fn of_silence(error: &Error) -> Self {
        let (message, source) = match error {
            Error::GRpcStatus(status) => (status.message().to_owned(), status.source()),
            Error::TransportError(error) => (String::new(), error.source()),
            Error::IoError(error) => return Self(said_by_system(error)),
            Error::WatchError(reason) => (reason.clone(), None),
            _ => (error.to_string(), None),
        };
        // The innermost knows best: what is around it says that there was an error.
        let (mut next, mut innermost) = (source, None);
        while let Some(source) = next {
            innermost = source.downcast_ref::<io::Error>().or(innermost);
            next = source.source();
        }
        if let Some(error) = innermost {
            return Self(said_by_system(error));
        }
        Self(in_words(&message).into())
    }

    /// Of a refusal.
    fn of_refusal(error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self(without_sender(status.message()).into()),
            _ => Self(error.to_string()),
        }
    }
}

fn said_by_system(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.kind().to_string(),
        None => in_words(&error.to_string()).into(),
    }
}

fn without_sender(message: &str) -> &str {
    message.strip_prefix("etcdserver: ").unwrap_or(message)
}

fn in_words(message: &str) -> &str {
    let message = without_sender(message);
    let lower = message.to_lowercase();
    if ["deadline has elapsed", "timeout expired", "timed out"].iter().any(|words| lower.contains(words)) {
        return SILENCE;
    }
    match message {
        "no leader" => "it has no leader",
        "" => "the connection broke",
        // What names types or errors of the protocol.
        text if text.contains(['(', '{', '"']) || text.contains("::") || lower.contains("error") => {
            "the connection broke"
        }
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_words_and_no_types() {
        for (message, words) in [
            ("etcdserver: no leader", "it has no leader"),
            ("etcdserver: request timed out", SILENCE),
            ("Timeout expired", SILENCE),
            ("deadline has elapsed", SILENCE),
            ("the stream ended", "the stream ended"),
            ("etcdserver: leader changed", "leader changed"),
            ("h2 protocol error: error reading a body from connection", "the connection broke"),
            (
                "tonic::transport::Error(Transport, hyper::Error(Io, Custom { kind: BrokenPipe }))",
                "the connection broke",
            ),
            ("invalid peer certificate: UnknownIssuer", "invalid peer certificate: UnknownIssuer"),
            ("", "the connection broke"),
        ] {
            assert_eq!(in_words(message), words);
        }
        let refused = Error::IoError(io::Error::from_raw_os_error(111));
        assert_eq!(Cause::of_silence(&refused).to_string(), "connection refused");
    }

    #[tokio::test]
    async fn member_that_is_not_there_is_told_of_as_systems_do() {
        let mut client = etcd_client::Client::connect(["http://127.0.0.1:1"], None).await.expect("it connects later");
        let error = client.get("key", None).await.expect_err("nobody is there");
        assert_eq!(Cause::of_silence(&error).to_string(), "connection refused");
    }
}

//! Errors as the API tells them: `{"error":{"code":N,"message":"...","reason":"..."}}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use fleet_api::{ErrorBody, ErrorEntity, Reason};
use fleet_core::ops::Refusal;
use tracing::warn;

use crate::registry::{StoreError, commit::Failure, view::NothingKnown};

/// An error that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    reason: Reason,
    message: String,
}

impl ApiError {
    /// An error with the status that goes with its reason.
    #[must_use]
    pub fn new(reason: Reason, message: &str) -> Self {
        Self { status: status(&reason), reason, message: message.into() }
    }

    /// A request that makes no sense.
    #[must_use]
    pub fn bad_request(message: &str) -> Self {
        Self::new(Reason::InvalidRequest, message)
    }

    /// The same with another status than the one that goes with its reason.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// What an answer of the framework says that is an error.
    pub(super) fn of_framework(status: StatusCode) -> Self {
        let reason = match status {
            StatusCode::NOT_FOUND => Reason::NoSuchResource,
            StatusCode::METHOD_NOT_ALLOWED => Reason::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Reason::TooLarge,
            status if status.is_client_error() => Reason::InvalidRequest,
            _ => Reason::Internal,
        };
        Self { status, reason, message: status.canonical_reason().unwrap_or_default().into() }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What went wrong, as a word.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// What went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The status that goes with a reason, unless CoreOS fleet had another one for the case.
fn status(reason: &Reason) -> StatusCode {
    match reason {
        Reason::NoSuchResource | Reason::UnitNotFound | Reason::StateNotFound | Reason::MachineNotFound => {
            StatusCode::NOT_FOUND
        }
        Reason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Reason::NotAllowed => StatusCode::FORBIDDEN,
        Reason::InvalidRequest
        | Reason::InvalidPageToken
        | Reason::InvalidUnit
        | Reason::IsTemplate
        | Reason::NotGlobal => StatusCode::BAD_REQUEST,
        Reason::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::UnitExists
        | Reason::NotLaunched
        | Reason::IsGlobal
        | Reason::NotStarted
        | Reason::MachineAlive
        | Reason::ChangedMeanwhile
        | Reason::NewerSchema => StatusCode::CONFLICT,
        Reason::NoEtcd | Reason::NotServing => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Internal | Reason::Other(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let reason = match &refusal {
            Refusal::UnitMissing | Refusal::NoContents => Reason::UnitNotFound,
            Refusal::NoDesiredState | Refusal::OtherContents => Reason::UnitExists,
            Refusal::BadName(_) | Refusal::BadContents(_) => Reason::InvalidUnit,
            Refusal::BadDesiredState(_) | Refusal::DestroyedAndSet => Reason::InvalidRequest,
            Refusal::LargeContents(_) | Refusal::LargeEdits { .. } => Reason::TooLarge,
            Refusal::TemplateActivated(_) => Reason::IsTemplate,
            Refusal::NotLaunched(_) => Reason::NotLaunched,
            Refusal::NotGlobal => Reason::NotGlobal,
            Refusal::MachineMissing => Reason::MachineNotFound,
            Refusal::MachineAlive => Reason::MachineAlive,
            Refusal::Newer { .. } => Reason::NewerSchema,
            Refusal::OtherRestart | Refusal::UnitContended | Refusal::MachineContended => Reason::ChangedMeanwhile,
        };
        let error = Self::new(reason, &refusal.to_string());
        match refusal {
            // The path leads to a unit that the request was to create.
            Refusal::NoContents => error.with_status(StatusCode::CONFLICT),
            // The body itself is not too large.
            Refusal::LargeContents(_) | Refusal::LargeEdits { .. } => error.with_status(StatusCode::BAD_REQUEST),
            _ => error,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tell(&error);
        Self::from(&error)
    }
}

/// Tells the log what the store has refused. That it is out of reach others tell.
pub(super) fn tell(error: &StoreError) {
    if !matches!(error, StoreError::Unavailable(_)) {
        warn!(error = %crate::chain(error), "request failed");
    }
}

/// Without a word to the log.
impl From<&StoreError> for ApiError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => NothingKnown.into(),
            error => Self::new(Reason::Internal, &crate::chain(error)),
        }
    }
}

/// Without a word to the log.
impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Store(error) => Self::from(&*error),
        }
    }
}

impl From<NothingKnown> for ApiError {
    fn from(error: NothingKnown) -> Self {
        Self::new(Reason::NoEtcd, &error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorBody { code: self.status.as_u16(), message: self.message, reason: Some(self.reason) };
        (self.status, Json(ErrorEntity { error })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/http-api.md has every word with its statuses.
    #[test]
    fn every_reason_is_documented() {
        let docs = include_str!("../../../docs/http-api.md");
        let (_, table) = docs.split_once("| Reason |").expect("the table of reasons");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let documented: Vec<(String, String)> = rows
            .map(|row| {
                let mut cells = row.split('|').map(str::trim);
                let word = cells.nth(1).expect("a word").trim_matches('`');
                (word.to_owned(), cells.next().expect("a status").to_owned())
            })
            .collect();
        let words: Vec<&str> = documented.iter().map(|(word, _)| &**word).collect();
        let known: Vec<&str> = Reason::KNOWN.iter().map(Reason::as_str).collect();
        assert_eq!(words, known);
        for ((word, documented), reason) in documented.iter().zip(Reason::KNOWN) {
            let code = status(reason).as_str().to_owned();
            assert!(documented.split(", ").any(|known| known == code), "{word}: {documented} has not {code}");
        }
    }
}

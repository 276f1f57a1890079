//! Errors as the API tells them: `{"error":{"code":N,"message":"..."}}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use fleet_api::{ErrorBody, ErrorEntity};
use fleet_core::ops::Refusal;
use tracing::warn;

use crate::registry::{StoreError, commit::Failure, view::NothingKnown};

/// An error that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    message: String,
}

macro_rules! statuses {
    ($($name:ident $status:ident),* $(,)?) => {
        $(
            #[doc = concat!("`", stringify!($status), "`")]
            #[must_use]
            pub fn $name(message: &str) -> Self {
                Self { status: StatusCode::$status, message: message.into() }
            }
        )*
    };
}

impl ApiError {
    /// Any other status.
    #[must_use]
    pub fn new(status: StatusCode, message: &str) -> Self {
        Self { status, message: message.into() }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    statuses! {
        bad_request BAD_REQUEST,
        not_found NOT_FOUND,
        method_not_allowed METHOD_NOT_ALLOWED,
        conflict CONFLICT,
        unsupported_media_type UNSUPPORTED_MEDIA_TYPE,
        unavailable SERVICE_UNAVAILABLE,
        internal INTERNAL_SERVER_ERROR,
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
            error => Self::internal(&crate::chain(error)),
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

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::UnitMissing | Refusal::MachineMissing => StatusCode::NOT_FOUND,
            Refusal::BadName(_)
            | Refusal::BadDesiredState(_)
            | Refusal::BadContents(_)
            | Refusal::LargeContents(_)
            | Refusal::LargeEdits { .. }
            | Refusal::TemplateActivated(_)
            | Refusal::DestroyedAndSet
            | Refusal::NotGlobal => StatusCode::BAD_REQUEST,
            Refusal::NoContents
            | Refusal::NoDesiredState
            | Refusal::OtherContents
            | Refusal::NotLaunched(_)
            | Refusal::OtherRestart
            | Refusal::MachineAlive
            | Refusal::Newer { .. }
            | Refusal::UnitContended
            | Refusal::MachineContended => StatusCode::CONFLICT,
        };
        Self::new(status, &refusal.to_string())
    }
}

impl From<NothingKnown> for ApiError {
    fn from(error: NothingKnown) -> Self {
        Self::unavailable(&error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorBody { code: self.status.as_u16(), message: self.message, reason: None };
        (self.status, Json(ErrorEntity { error })).into_response()
    }
}

//! Errors as the API tells them: `{"error":{"code":N,"message":"..."}}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use fleet_api::{ErrorBody, ErrorEntity};
use tracing::warn;

use crate::registry::{StoreError, view::NothingKnown};

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
        match error {
            StoreError::Unavailable(_) => NothingKnown.into(),
            error => {
                warn!(error = %crate::chain(&error), "request failed");
                Self::internal(&crate::chain(&error))
            }
        }
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

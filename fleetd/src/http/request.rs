//! The parts of a request, as handlers take them: what is wrong with one is told in the API's own words.
//!
//! A query is read as CoreOS fleet read it: names that are not known are passed over, and of a name that stands there
//! twice the first counts.

use std::{borrow::Cow, convert::Infallible};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use fleet_api::Reason;

use super::ApiError;

/// Most bytes of a body. A unit file has at most 64 kB, and many units share a request.
pub const MAX_BODY: usize = 2 << 20;

/// The name in a path: of a unit, or of a machine.
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        name.map(|Path(name)| Self(name)).map_err(|_| ApiError::bad_request("name in URL is not UTF-8 text"))
    }
}

/// A query.
#[derive(Default)]
pub struct Query(String);

impl Query {
    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.all(name).next()
    }

    /// All that a name stands for.
    pub fn all(&self, name: &str) -> impl Iterator<Item = Cow<'_, str>> {
        form_urlencoded::parse(self.0.as_bytes()).filter(move |(key, _)| key == name).map(|(_, value)| value)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.uri.query().unwrap_or_default().into()))
    }
}

/// A body.
pub struct Whole(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, state).await;
        body.map(Self).map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                ApiError::new(Reason::TooLarge, &format!("body has more than {MAX_BODY} bytes"))
            }
            _ => ApiError::bad_request("unable to read body: the connection ended, or its chunks make no sense"),
        })
    }
}

/// Lets only JSON through.
pub fn json_only(headers: &HeaderMap) -> Result<(), ApiError> {
    let given: Vec<_> = headers.get_all(header::CONTENT_TYPE).iter().collect();
    match given[..] {
        [one] => {
            let media = one.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
            if media.eq_ignore_ascii_case("application/json") {
                Ok(())
            } else {
                Err(ApiError::new(Reason::UnsupportedMediaType, "only acceptable Content-Type is application/json"))
            }
        }
        _ => Err(ApiError::new(Reason::UnsupportedMediaType, &format!("expected 1 Content-Type, got {}", given.len()))),
    }
}

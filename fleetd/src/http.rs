//! The HTTP API: CoreOS fleet's version 1, and a few resources more.
//!
//! The same routes answer under `/fleet/v1` and `/v1-alpha`, on every listener. Reads are answered from the view of
//! the cluster; while etcd is out of reach from what was seen last, with its age in a `Fleet-Age` header (seconds).
//! Writes go to etcd at once, and fail with 503 without it. Answers have CoreOS fleet's statuses and words.

mod body;
mod changes;
mod discovery;
mod drain;
mod error;
mod evict;
mod explainer;
mod go_client;
mod listen;
mod machines;
mod page;
mod request;
mod state;
mod status;
mod trace;
mod units;
mod watch;
mod why;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::any,
};
use fleet_core::{
    model::Keys,
    ops::{Operation, Outcome},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

pub use self::{error::ApiError, explainer::Explainer, go_client::GoClients, listen::Listeners};
use crate::{
    machine::Refusal,
    metrics::Metrics,
    registry::{
        Store,
        commit::{self, Done, Failure},
        files::Files,
        view::View,
    },
};

/// What the handlers work with.
pub struct Api<S> {
    /// The registry.
    pub store: S,
    /// The keys in it.
    pub keys: Keys,
    /// The view of the cluster.
    pub view: View<S>,
    /// Unit files.
    pub files: Files<S>,
    /// What explains where units are.
    pub explainer: Explainer<S>,
    /// Most entities on a page.
    pub token_limit: u16,
    /// Why this host may not serve, if that is so.
    pub refusal: tokio::sync::watch::Receiver<Refusal>,
    /// Counters.
    pub metrics: Metrics,
    /// The restarts of CoreOS fleet's own client.
    pub go_clients: GoClients,
    /// Ends the answers that have no end of their own.
    pub ending: CancellationToken,
}

impl<S: Store> Api<S> {
    /// Carries out an operation. Who reads here afterwards finds it done.
    async fn carry_out(&self, operation: &Operation) -> Result<Done, ApiError> {
        let done = match commit::carry_out(&self.store, &self.keys, operation).await {
            Ok(done) => done,
            Err(failure) => {
                if let Failure::Store(error) = &failure {
                    error::tell(error);
                }
                return Err(failure.into());
            }
        };
        self.view.seen(done.revision).await;
        Ok(done)
    }
}

impl Done {
    /// The status that tells of it.
    fn status(&self) -> StatusCode {
        match self.outcome {
            Outcome::Created | Outcome::Replaced => StatusCode::CREATED,
            Outcome::Changed | Outcome::Unchanged => StatusCode::NO_CONTENT,
        }
    }
}

/// How an answer says that its contents are old.
static AGE: HeaderName = HeaderName::from_static(fleet_api::headers::AGE);
/// How long requests under way may take when fleetd ends.
const GRACE: Duration = Duration::from_secs(2);

type Shared<S> = State<Arc<Api<S>>>;

/// All routes.
pub fn router<S: Store>(api: Arc<Api<S>>) -> Router {
    let v1 = Router::new()
        .route("/machines", any(machines::collection::<S>))
        .route("/machines/{id}/drain", any(drain::drain::<S>))
        .route("/machines/{id}/evict", any(evict::evict::<S>))
        .route("/failed", any(why::failed::<S>))
        .route("/held", any(evict::list::<S>))
        .route("/units", any(units::collection::<S>))
        .route("/units/{name}", any(units::one::<S>))
        .route("/units/{name}/why", any(why::why::<S>))
        .route("/units/{name}/trace", any(trace::trace::<S>))
        .route("/changes", any(changes::changes::<S>))
        .route("/units/{name}/restart", any(units::restart::restart::<S>))
        .route("/state", any(state::collection::<S>))
        .route("/state/{name}", any(state::one::<S>))
        .route("/watch", any(watch::watch::<S>))
        .route("/discovery", any(discovery::discovery));
    Router::new()
        .nest("/fleet/v1", v1.clone())
        .nest("/v1-alpha", v1)
        .route("/metrics", any(metrics::<S>))
        .route("/", any(method_not_allowed))
        .route("/fleet/v1", any(method_not_allowed))
        .route("/v1-alpha", any(method_not_allowed))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(request::MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), around::<S>))
        .with_state(api)
}

/// Answers on all listeners until `shutdown`.
pub async fn serve(router: Router, listeners: Arc<Listeners>, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    if let Err(error) = listeners.serve(&router, &shutdown, &tasks) {
        error!(%error, "cannot answer on a socket");
    }
    tasks.close();
    shutdown.cancelled().await;
    // A slow client ends nothing.
    let _ = tokio::time::timeout(GRACE, tasks.wait()).await;
}

/// What every answer has in common.
async fn around<S: Store>(State(api): Shared<S>, request: Request, next: Next) -> Response {
    api.metrics.requests.inc();
    let refusal = api.refusal.borrow().clone();
    let mut response = match refusal {
        Some(reason) => ApiError::unavailable(&reason).into_response(),
        None => as_json(next.run(request).await),
    };
    let server = concat!("fleetd/", env!("CARGO_PKG_VERSION"));
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static(server));
    response
}

/// Errors that come from the framework, and not from a handler, in the shape of all others.
fn as_json(response: Response) -> Response {
    let status = response.status();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    ApiError::new(status, status.canonical_reason().unwrap_or_default()).into_response()
}

/// A body, and its age when it is old.
fn aged<T: serde::Serialize>(body: T, age: Option<Duration>) -> Response {
    let mut response = Json(body).into_response();
    if let Some(age) = age {
        response.headers_mut().insert(AGE.clone(), HeaderValue::from(age.as_secs()));
    }
    response
}

/// Lets only these methods through.
fn only(method: &Method, allowed: &[Method], names: &str) -> Result<(), ApiError> {
    if allowed.contains(method) {
        return Ok(());
    }
    Err(ApiError::method_not_allowed(&format!("only {names} supported against this resource")))
}

async fn metrics<S: Store>(State(api): Shared<S>) -> String {
    api.metrics.render()
}

async fn not_found() -> ApiError {
    ApiError::not_found("")
}

async fn method_not_allowed() -> ApiError {
    ApiError::method_not_allowed("")
}

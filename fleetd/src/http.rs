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
mod peer;
mod request;
mod routes;
mod state;
mod status;
mod trace;
mod units;
mod version;
mod watch;
mod why;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::any,
};
use fleet_api::{Reason, paths};
use fleet_core::{
    model::Keys,
    ops::{Actor, Operation, Outcome},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

pub use self::{
    error::ApiError,
    explainer::Explainer,
    go_client::GoClients,
    listen::Listeners,
    routes::{Permission, Route, routes},
};
use crate::{
    membership::Refusal,
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
    /// Carries out what somebody asks for. Who reads here afterwards finds it done.
    async fn carry_out(&self, actor: &Actor, operation: &Operation) -> Result<Done, ApiError> {
        let done = commit::carry_out(&self.store, &self.keys, operation).await.inspect_err(|failure| {
            if let Failure::Store(error) = failure {
                error::tell(error);
            }
        })?;
        if done.has_written {
            info!(%actor, %operation, "carried out");
        }
        self.view.seen(done.revision).await;
        Ok(done)
    }
}

/// The status that tells what came of an operation.
fn status_of(done: Done) -> StatusCode {
    match done.outcome {
        Outcome::Created | Outcome::Replaced => StatusCode::CREATED,
        Outcome::Changed | Outcome::Unchanged => StatusCode::NO_CONTENT,
    }
}

/// How an answer says that its contents are old.
static AGE: HeaderName = HeaderName::from_static(fleet_api::headers::AGE);
/// How long requests under way may take when fleetd ends.
const GRACE: Duration = Duration::from_secs(2);

type Shared<S> = State<Arc<Api<S>>>;

/// All routes.
pub fn router<S: Store>(api: Arc<Api<S>>) -> Router {
    let v1 = routes::router();
    Router::new()
        .nest(paths::PREFIX, v1.clone())
        .nest(paths::OLD_PREFIX, v1)
        .route("/metrics", any(metrics::<S>))
        .route("/", any(method_not_allowed))
        .route(paths::PREFIX, any(method_not_allowed))
        .route(paths::OLD_PREFIX, any(method_not_allowed))
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
        Some(reason) => ApiError::new(Reason::NotServing, &reason).into_response(),
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
    ApiError::of_framework(status).into_response()
}

/// A body, and its age when it is old.
fn aged<T: serde::Serialize>(body: T, age: Option<Duration>) -> Response {
    let mut response = Json(body).into_response();
    if let Some(age) = age {
        response.headers_mut().insert(AGE.clone(), HeaderValue::from(age.as_secs()));
    }
    response
}

async fn metrics<S: Store>(State(api): Shared<S>) -> String {
    api.metrics.render()
}

async fn not_found() -> ApiError {
    ApiError::new(Reason::NoSuchResource, "")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(Reason::MethodNotAllowed, "")
}

//! The route table: which method on which path, what that asks of the caller, and who answers.

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    http::{Method, StatusCode},
    routing::{MethodFilter, MethodRouter, any, on},
};
use fleet_api::{Reason, paths};

use super::{Api, ApiError, changes, discovery, drain, evict, machines, state, trace, units, version, watch, why};
use crate::registry::Store;

/// What a request asks of the caller. It is written down for each route, and not enforced yet: who reaches a socket may do
/// everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// To look.
    View,
    /// To change units, those that one is responsible for.
    Deploy,
    /// To change every unit, and the machines.
    Operate,
}

/// A route of version 1.
pub struct Route<S> {
    /// The method.
    pub method: Method,
    /// The path below the version's prefix, with names in braces.
    pub path: &'static str,
    /// What it asks of the caller.
    pub permission: Permission,
    handler: MethodRouter<Arc<Api<S>>>,
}

/// All routes of version 1. Those of one path stand together, in the order in which a refusal names their methods.
#[must_use]
pub fn routes<S: Store>() -> Vec<Route<S>> {
    use Permission::{Deploy, Operate, View};
    vec![
        route(Method::GET, paths::MACHINES, View, machines::list::<S>),
        route(Method::PATCH, paths::MACHINES, Operate, machines::edit::<S>),
        route(Method::GET, paths::DRAIN, View, drain::progress::<S>),
        route(Method::PUT, paths::DRAIN, Operate, drain::drain::<S>),
        route(Method::DELETE, paths::DRAIN, Operate, drain::undrain::<S>),
        route(Method::PUT, paths::EVICT, Operate, evict::evict::<S>),
        route(Method::GET, paths::HELD, View, evict::list::<S>),
        route(Method::GET, paths::FAILED, View, why::failed::<S>),
        route(Method::GET, paths::UNITS, View, units::list::<S>),
        route(Method::GET, paths::UNIT, View, units::one::<S>),
        route(Method::PUT, paths::UNIT, Deploy, units::set::put::<S>),
        route(Method::DELETE, paths::UNIT, Deploy, units::set::delete::<S>),
        route(Method::GET, paths::WHY, View, why::why::<S>),
        route(Method::GET, paths::TRACE, View, trace::trace::<S>),
        route(Method::POST, paths::RESTART, Deploy, units::restart::restart::<S>),
        route(Method::POST, paths::CHANGES, Deploy, changes::changes::<S>),
        route(Method::GET, paths::STATES, View, state::list::<S>),
        route(Method::GET, paths::STATE, View, state::one::<S>),
        route(Method::GET, paths::WATCH, View, watch::watch::<S>),
        route(Method::GET, paths::VERSION, View, version::version::<S>),
        route(Method::GET, paths::DISCOVERY, View, discovery::discovery),
    ]
}

fn route<S, T, H>(method: Method, path: &'static str, permission: Permission, handler: H) -> Route<S>
where
    S: Store,
    T: 'static,
    H: Handler<T, Arc<Api<S>>>,
{
    let filter = MethodFilter::try_from(method.clone()).expect("a method that routes can have");
    Route { method, path, permission, handler: on(filter, handler) }
}

/// The router of version 1.
pub(super) fn router<S: Store>() -> Router<Arc<Api<S>>> {
    let routes = routes::<S>();
    let by_path = routes.chunk_by(|one, next| one.path == next.path);
    by_path.fold(Router::new(), |router, routes| {
        let path = routes[0].path;
        let refused = refusal(path, routes);
        let refuse = move || std::future::ready(refused.clone());
        // Where `GET` is answered, axum would answer `HEAD` as well.
        let others = any(refuse.clone()).on(MethodFilter::HEAD, refuse);
        router.route(path, routes.iter().fold(others, |all, route| all.merge(route.handler.clone())))
    })
}

/// What a caller is told who uses another method.
fn refusal<S>(path: &str, routes: &[Route<S>]) -> ApiError {
    let methods: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
    let methods = match methods.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    };
    let refusal = |words: &str| {
        ApiError::new(Reason::MethodNotAllowed, &format!("only {words}{methods} supported against this resource"))
    };
    match path {
        // The one path whose wrong methods CoreOS fleet answered otherwise.
        paths::DISCOVERY => refusal("HTTP ").with_status(StatusCode::BAD_REQUEST),
        _ => refusal(""),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::registry::memory::MemoryClient;

    #[test]
    fn only_what_looks_may_be_asked_by_viewers() {
        for Route { method, path, permission, .. } in routes::<MemoryClient>() {
            assert_eq!(permission == Permission::View, method == Method::GET, "{method} {path}");
        }
    }

    #[test]
    fn routes_of_one_path_stand_together() {
        let routes = routes::<MemoryClient>();
        let paths: Vec<&str> =
            routes.chunk_by(|one, next| one.path == next.path).map(|routes| routes[0].path).collect();
        assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len(), "{paths:?}");
    }

    /// The table of docs/http-api.md has every route, and no other.
    #[test]
    fn every_route_is_documented() {
        let docs = include_str!("../../../docs/http-api.md");
        let rows = docs.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
        let documented = rows.filter_map(|cell| {
            let request = cell.trim_matches('*').strip_prefix('`')?.split('`').next()?;
            let (method, path) = request.split_once(' ')?;
            let path = path.split('?').next()?.replace("/ID", "/{id}").replace("/NAME", "/{name}");
            Some(format!("{method} {path}"))
        });
        let documented: BTreeSet<String> = documented.filter(|request| request != "GET /metrics").collect();
        let routes = routes::<MemoryClient>();
        let routes: BTreeSet<String> = routes.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(documented, routes);
    }
}

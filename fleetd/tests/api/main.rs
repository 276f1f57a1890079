//! The HTTP API in this process, on a store in memory.

mod changes;
mod earlier;
mod refusals;
mod unknown;
mod version;
mod why;

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, header},
};
use fleet_api::ChangesMade;
use fleet_core::{
    model::{Key, Keys, Record, UnitRecord},
    unit::UnitName,
};
use fleetd::{
    http::{Api, Explainer, GoClients, router},
    metrics::Metrics,
    registry::{Transaction, Write, files::Files, memory::MemoryStore, view::View},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

struct Server {
    store: MemoryStore,
    keys: Keys,
    api: Router,
}

impl Server {
    fn new() -> Self {
        let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        tokio::spawn(lessor);
        let (client, keys, (_, refusal)) = (store.client("api"), Keys::new("fleet"), watch::channel(None));
        let api = router(Arc::new(Api {
            view: View::new(client.clone(), keys.clone()),
            explainer: Explainer::new(Files::new(client.clone(), keys.clone())),
            files: Files::new(client.clone(), keys.clone()),
            store: client,
            keys: keys.clone(),
            token_limit: 100,
            refusal,
            metrics: Metrics::default(),
            go_clients: GoClients::default(),
            ending: CancellationToken::new(),
        }));
        Self { store, keys, api }
    }

    async fn ask(&mut self, request: Request<Body>) -> (u16, Vec<u8>) {
        let response = self.api.call(request).await.expect("the service cannot fail");
        let status = response.status().as_u16();
        (status, to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory").to_vec())
    }

    async fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        self.ask(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    async fn post(&mut self, changes: Value) -> (u16, Vec<u8>) {
        let request = Request::post("/fleet/v1/changes").header(header::CONTENT_TYPE, "application/json");
        self.ask(request.body(Body::from(json!({ "changes": changes }).to_string())).expect("a request")).await
    }

    /// The status and message of each change.
    async fn change(&mut self, changes: Value) -> Vec<(u16, String)> {
        let (status, body) = self.post(changes).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let made: ChangesMade = serde_json::from_slice(&body).expect("an answer");
        made.results.into_iter().map(|made| (made.code, made.message)).collect()
    }

    fn record(&self, name: &str) -> Option<UnitRecord> {
        let key = self.keys.format(&Key::Unit(unit(name)));
        let end = format!("{key}\0");
        let stored = self.store.entries(&(key, end));
        stored.first().map(|stored| UnitRecord::decode(&stored.value).expect("a record"))
    }

    /// What somebody else writes.
    fn write(&self, key: &Key, value: Vec<u8>) {
        let transaction = Transaction { guards: Vec::new(), writes: vec![Write::put(self.keys.format(key), value)] };
        self.store.write("another", &transaction).expect("a small transaction");
    }
}

fn unit(name: &str) -> UnitName {
    UnitName::new(name).expect("a name")
}

fn simulate<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(work)
}

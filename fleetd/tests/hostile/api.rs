//! The HTTP API in this process, on a store in memory that holds good and bad values, and requests of any kind.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, Response, Uri, header},
};
use fleet_api::ErrorEntity;
use fleet_core::{
    model::{
        InUseRecord, Key, Keys, LeaderRecord, MachineId, MachineRecord, MetadataEdits, Placement, Record, StateRecord,
        UnitRecord,
    },
    unit::{UnitFile, UnitName},
};
use fleetd::{
    http::{Api, Explainer, GoClients, router},
    metrics::Metrics,
    registry::{
        Transaction, Write,
        files::Files,
        memory::{MemoryClient, MemoryStore},
        view::View,
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::properties::good_value;

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which method.
    pub method: u8,
    /// Which of the routes.
    pub route: u8,
    /// What follows in the path and the query.
    pub rest: String,
    /// Which content type.
    pub content_type: u8,
    /// The body.
    pub body: Vec<u8>,
}

const ROUTES: [&str; 27] = [
    "/fleet/v1/units/a.service",
    "/fleet/v1/units/",
    "/fleet/v1/units/bad.service",
    "/fleet/v1/units/new.service",
    "/fleet/v1/units/web@.service",
    "/fleet/v1/units?nextPageToken=",
    "/fleet/v1/machines",
    "/fleet/v1/machines?nextPageToken=",
    "/fleet/v1/machines/",
    "/fleet/v1/state?unitName=",
    "/fleet/v1/state?nextPageToken=",
    "/fleet/v1/state/",
    "/fleet/v1/watch?unit=a.service&",
    "/fleet/v1/watch?",
    "/v1-alpha/units/",
    "/fleet/v1/discovery",
    "/fleet/v1/machines/d097a72e4aef45bf815b90988acdbf13/drain",
    "/fleet/v1/machines/d097a72e4aef45bf815b90988acdbf13/evict",
    "/fleet/v1/machines/0123456789abcdef0123456789abcdef/drain",
    "/fleet/v1/machines/0123456789abcdef0123456789abcdef/evict",
    "/fleet/v1/held",
    "/fleet/v1/changes",
    "/fleet/v1/units/a.service/trace",
    "/fleet/v1/units?unit=a.service&unit=",
    "/metrics",
    "/fleet/v1/version",
    "",
];

const METHODS: [Method; 8] =
    [Method::GET, Method::PUT, Method::PUT, Method::PATCH, Method::DELETE, Method::POST, Method::HEAD, Method::OPTIONS];

/// One good machine.
pub const MACHINE: &str = "d097a72e4aef45bf815b90988acdbf13";

/// Runs on a clock that goes as fast as there is nothing to do.
pub fn simulate<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(work)
}

/// Writes keys, past everything.
pub fn plant(store: &MemoryStore, values: impl IntoIterator<Item = (String, Vec<u8>)>) {
    for (key, value) in values {
        let transaction = Transaction { guards: Vec::new(), writes: vec![Write::put(key, value)] };
        store.write("test", &transaction).expect("a small transaction");
    }
}

/// Any requests, one after the other: each is answered, errors in the shape of fleet's and never the server's fault,
/// and nothing gets into the store that could not be read from there.
pub fn requests(asks: &[Ask]) {
    simulate(async {
        let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        tokio::spawn(lessor);
        let keys = Keys::new("fleet");
        plant(&store, values(&keys));
        let planted: Vec<String> = garbage(&keys).into_iter().map(|(key, _)| key).collect();
        plant(&store, garbage(&keys));
        let mut api = api(store.client("api"), keys.clone());
        for ask in asks {
            let Some(request) = request(ask) else { continue };
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let response = call(&mut api, request).await;
            judge(&method, &uri, response).await;
        }
        for list in ["/fleet/v1/units", "/fleet/v1/machines", "/fleet/v1/state"] {
            let request = Request::get(list).body(Body::empty()).expect("a request");
            assert_eq!(call(&mut api, request).await.status(), 200, "{list} after {asks:?}");
        }
        let everything = ("/fleet/".to_owned(), "/fleet0".to_owned());
        for stored in store.entries(&everything) {
            if !planted.contains(&stored.key) {
                let key = keys.parse(&stored.key).expect("only keys of the schema are written");
                assert!(is_readable(&key, &stored.value), "{key:?} after {asks:?}");
            }
        }
    });
}

/// The status and the message of one answer, on a store that also holds `values`.
pub fn answer(values: Vec<(String, Vec<u8>)>, ask: &Ask) -> (u16, String) {
    simulate(async {
        let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
        tokio::spawn(lessor);
        plant(&store, values);
        let mut api = api(store.client("api"), Keys::new("fleet"));
        let response = call(&mut api, request(ask).expect("a request")).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory");
        (status, String::from_utf8_lossy(&body).into_owned())
    })
}

async fn call(api: &mut Router, request: Request<Body>) -> Response<Body> {
    let answer = tokio::time::timeout(Duration::from_secs(60), api.call(request)).await;
    answer.expect("every request is answered").expect("the service cannot fail")
}

async fn judge(method: &Method, uri: &Uri, response: Response<Body>) {
    let (status, kind) = (response.status(), response.headers().get(header::CONTENT_TYPE).cloned());
    assert!(!status.is_server_error(), "{method} {uri}: {status}");
    if kind.as_ref().is_some_and(|kind| kind == "application/x-ndjson") {
        // It has no end.
        return;
    }
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory");
    if method == Method::HEAD {
        assert!(body.is_empty(), "{uri}");
    } else if status.is_client_error() {
        assert_eq!(kind.expect("a content type"), "application/json", "{method} {uri}");
        let error: ErrorEntity = serde_json::from_slice(&body).expect("an error in the shape of CoreOS fleet's");
        assert_eq!(error.error.code, status.as_u16(), "{method} {uri}");
    } else if status == 204 || status == 201 {
        assert!(body.is_empty(), "{method} {uri}: {body:?}");
    } else if uri.path() != "/metrics" {
        serde_json::from_slice::<serde_json::Value>(&body).expect("an answer in JSON");
    }
}

fn request(ask: &Ask) -> Option<Request<Body>> {
    let rest: String = ask.rest.bytes().fold(String::new(), |mut escaped, byte| {
        // A client cannot send what is no URI: but all of that as escapes.
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    });
    let uri = format!("{}{rest}", ROUTES[usize::from(ask.route) % ROUTES.len()]);
    let mut request = Request::builder().method(&METHODS[usize::from(ask.method) % METHODS.len()]).uri(uri);
    request = match ask.content_type % 5 {
        0 => request,
        1 => request.header(header::CONTENT_TYPE, "text/plain"),
        2 => request.header(header::CONTENT_TYPE, "application/json; charset=utf-8"),
        _ => request.header(header::CONTENT_TYPE, "application/json"),
    };
    request.body(Body::from(ask.body.clone())).ok()
}

fn api(store: MemoryClient, keys: Keys) -> Router {
    let (_, refusal) = watch::channel(None);
    router(Arc::new(Api {
        view: View::new(store.clone(), keys.clone()),
        explainer: Explainer::new(Files::new(store.clone(), keys.clone())),
        files: Files::new(store.clone(), keys.clone()),
        store,
        keys,
        token_limit: 2,
        refusal,
        metrics: Metrics::default(),
        go_clients: GoClients::default(),
        ending: CancellationToken::new(),
    }))
}

fn is_readable(key: &Key, value: &[u8]) -> bool {
    match key {
        Key::File(hash) => UnitFile::parse_bytes(value).is_ok_and(|file| file.hash() == *hash),
        Key::Unit(_) | Key::Global(_) => UnitRecord::decode(value).is_ok(),
        Key::Sched(..) => Placement::decode(value).is_ok(),
        Key::Machine(_) => MachineRecord::decode(value).is_ok(),
        Key::Metadata(_) => MetadataEdits::decode(value).is_ok(),
        Key::State(..) => StateRecord::decode(value).is_ok(),
        Key::InUse => InUseRecord::decode(value).is_ok(),
        Key::Leader => LeaderRecord::decode(value).is_ok(),
        Key::Candidate(_) | Key::Held | Key::Submitted(..) => true,
    }
}

fn values(keys: &Keys) -> Vec<(String, Vec<u8>)> {
    let machine = MachineId::new(MACHINE).expect("an ID");
    let unit = |name| UnitName::new(name).expect("a name");
    let file = UnitFile::parse("[Service]\nExecStart=/bin/a\n").expect("a unit file");
    let record = |desired: &str| {
        // The greatest generation: a restart must find another number.
        let record = serde_json::json!({"v": 1, "hash": file.hash(), "desired": desired, "generation": u64::MAX});
        record.to_string().into_bytes()
    };
    let mut values = vec![(keys.format(&Key::File(file.hash())), file.canonical().into_bytes())];
    for name in ["a.service", "b.service", "web@.service"] {
        values.push((keys.format(&Key::Unit(unit(name))), record("launched")));
    }
    values.push((keys.format(&Key::Global(unit("g.service"))), record("launched")));
    values.push((keys.format(&Key::Sched(machine.clone(), unit("a.service"))), record("launched")));
    for key in [
        Key::Machine(machine.clone()),
        Key::Metadata(machine.clone()),
        Key::State(machine.clone(), unit("a.service")),
        Key::State(machine, unit("g.service")),
    ] {
        values.push((keys.format(&key), good_value(&key, 2)));
    }
    values
}

/// Values that are none, under keys of every kind, none of which is in [`values`].
pub fn garbage(keys: &Keys) -> Vec<(String, Vec<u8>)> {
    let other = "0123456789abcdef0123456789abcdef";
    let paths = [
        "unit/bad.service".to_owned(),
        "global/bad2.service".into(),
        format!("sched/{MACHINE}/bad.service"),
        format!("sched/{other}/bad3.service"),
        format!("machine/{other}"),
        format!("metadata/{other}"),
        format!("state/{MACHINE}/bad.service"),
        "unit/no-suffix".into(),
        "sched/x/y/z".into(),
        "engine/held".into(),
        "unheard/of".into(),
    ];
    let values: [&[u8]; 5] = [b"", b"garbage", b"{\"v\":99}", b"[1]", b"\xff\x00"];
    let with_value =
        |(n, path): (usize, String)| (format!("{}{path}", keys.prefix()), values[n % values.len()].to_vec());
    paths.into_iter().enumerate().map(with_value).collect()
}

/// Submitting a unit again puts its file where another, or none, is stored under its hash.
pub fn mended_file() {
    let keys = Keys::new("fleet");
    let file = values(&keys).swap_remove(0);
    for wrong in [&b"[Unit]\n"[..], b"\xff", b""] {
        simulate(async {
            let (store, lessor) = MemoryStore::new(fastrand::Rng::with_seed(1));
            tokio::spawn(lessor);
            plant(&store, values(&keys));
            plant(&store, [(file.0.clone(), wrong.to_vec())]);
            let body =
                r#"{"desiredState":"launched","options":[{"section":"Service","name":"ExecStart","value":"/bin/a"}]}"#;
            let ask = Ask { method: 1, route: 0, rest: String::new(), content_type: 3, body: body.into() };
            let mut api = api(store.client("api"), keys.clone());
            let response = call(&mut api, request(&ask).expect("a request")).await;
            assert!(response.status().is_success(), "{}", response.status());
            let end = format!("{}\0", file.0);
            let stored: Vec<_> = store.entries(&(file.0.clone(), end)).into_iter().map(|stored| stored.value).collect();
            assert_eq!(stored, std::slice::from_ref(&file.1));
        });
    }
}

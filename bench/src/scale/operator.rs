//! Who submits units: through the HTTP API, as fleetctl does it.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail, ensure};
use fleet_api::{self as api, options_of};
use fleet_core::model::Keys;
use fleetd::http::{self, Api, Listeners};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{machine::Machine, units::Unit};

/// Connections that fleetctl opens at a time.
pub const CONNECTIONS: usize = 16;
/// Units that it submits in one request.
const CHANGES: usize = 100;
/// Where such requests go.
const MANY: &str = "/fleet/v1/changes";

/// The HTTP API of a machine, and who uses it.
pub struct Operator {
    socket: PathBuf,
    shutdown: CancellationToken,
    _serving: AbortOnDropHandle<()>,
}

impl Operator {
    /// Opens the API of a machine on a socket in `directory`.
    ///
    /// # Errors
    /// The machine's fleetd does not run, or the socket cannot be made.
    pub fn open(machine: &Machine, keys: &Keys, directory: &Path) -> Result<Self> {
        let socket = directory.join("fleet.sock");
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
        let mut listeners = Listeners::default();
        listeners.open_unix(&socket)?;
        let shutdown = CancellationToken::new();
        let store = machine.store.clone();
        let api = Api {
            store,
            keys: keys.clone(),
            view: machine.view.clone(),
            files: machine.files.clone(),
            token_limit: 100,
            refusal: machine.refusal().context("a machine without fleetd has no API")?,
            metrics: machine.metrics.clone(),
            go_clients: http::GoClients::default(),
            ending: shutdown.clone(),
        };
        let serving = http::serve(http::router(Arc::new(api)), Arc::new(listeners), shutdown.clone());
        Ok(Self { socket, shutdown, _serving: AbortOnDropHandle::new(tokio::spawn(serving)) })
    }

    /// Has units launched with these contents.
    ///
    /// # Errors
    /// The first that is refused.
    pub async fn launch(&self, units: Vec<Unit>) -> Result<()> {
        let requests: Vec<Vec<Unit>> = units.chunks(CHANGES).map(<[_]>::to_vec).collect();
        let requests = Arc::new(Mutex::new(requests.into_iter()));
        let submitting: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (socket, requests) = (self.socket.clone(), Arc::clone(&requests));
                AbortOnDropHandle::new(tokio::spawn(async move {
                    let describe = || format!("nobody listens on {}", socket.display());
                    let stream = UnixStream::connect(&socket).await.with_context(describe)?;
                    let mut connection = Connection::new(stream).await?;
                    let at_once = connection.takes_many().await?;
                    loop {
                        let next = requests.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(units) = next else { return anyhow::Ok(()) };
                        connection.launch(&units, at_once && units.len() > 1).await?;
                    }
                }))
            })
            .collect();
        for task in submitting {
            task.await.context("who submits broke")??;
        }
        Ok(())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Reads a page over TCP.
///
/// # Errors
/// Nobody answers, or with something else.
pub async fn get(address: &str, path: &str) -> Result<String> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("nobody listens on {address}"))?;
    let mut connection = Connection::new(stream).await?;
    Ok(String::from_utf8(connection.ask(Method::GET, path, Vec::new()).await?)?)
}

/// A connection that is kept open from request to request.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    _driving: AbortOnDropHandle<()>,
}

impl Connection {
    async fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Self> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // What goes wrong there shows in the next request.
        let driving = async { drop(driver.await) };
        Ok(Self { sender, _driving: AbortOnDropHandle::new(tokio::spawn(driving)) })
    }

    /// Whether fleetd knows requests for many units.
    async fn takes_many(&mut self) -> Result<bool> {
        let nothing = json!({ "changes": [] }).to_string();
        Ok(self.send(Method::POST, MANY, nothing.into()).await?.0 != StatusCode::NOT_FOUND)
    }

    async fn launch(&mut self, units: &[Unit], at_once: bool) -> Result<()> {
        if at_once {
            let change = |unit: &Unit| json!({ "name": unit.name, "options": options_of(&unit.file), "desiredState": "launched" });
            let changes = json!({ "changes": units.iter().map(change).collect::<Vec<_>>() });
            return made(&self.ask(Method::POST, MANY, changes.to_string().into()).await?);
        }
        for unit in units {
            let body = api::Unit {
                name: unit.name.to_string(),
                options: options_of(&unit.file),
                desired_state: "launched".into(),
                ..api::Unit::default()
            };
            let path = format!("/fleet/v1/units/{}", unit.name);
            let asked = self.ask(Method::PUT, &path, serde_json::to_vec(&body)?).await;
            asked.with_context(|| format!("{} is not submitted", unit.name))?;
        }
        Ok(())
    }

    async fn ask(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        let (status, body) = self.send(method, path, body).await?;
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    async fn send(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Vec<u8>)> {
        let request = Request::builder().method(method).uri(path).header("Host", "fleet");
        let request = request.header("Content-Type", "application/json").body(Full::new(body.into()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes().to_vec()))
    }
}

/// Whether all changes of a request were made.
fn made(body: &[u8]) -> Result<()> {
    let body: Value = serde_json::from_slice(body)?;
    let results = body["results"].as_array().context("the outcome of each change")?;
    match results.iter().find(|result| !matches!(result["code"].as_u64(), Some(200..300))) {
        Some(refused) => bail!("{refused}"),
        None => Ok(()),
    }
}

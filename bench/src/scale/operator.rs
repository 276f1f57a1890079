//! Who submits units: through the HTTP API, as fleetctl does it.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use fleet_api::{Change, options_of};
use fleet_client::{Client, Endpoint, Ssh, Transport};
use fleet_core::model::Keys;
use fleetd::http::{self, Api, Listeners};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{machine::Machine, units::Unit};

/// Connections that the client opens at a time.
pub const CONNECTIONS: usize = 16;
/// What a request may take where nobody waits for it: a whole cluster is at work on two cores.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The HTTP API of a machine, and who uses it.
pub struct Operator {
    client: Arc<Client>,
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
            explainer: http::Explainer::new(machine.files.separate_cache()),
            files: machine.files.clone(),
            token_limit: 100,
            refusal: machine.refusal().context("a machine without fleetd has no API")?,
            metrics: machine.metrics.clone(),
            go_clients: http::GoClients::default(),
            ending: shutdown.clone(),
        };
        let serving = http::serve(http::router(Arc::new(api)), Arc::new(listeners), shutdown.clone());
        let transport = Transport::new(Endpoint::Unix(socket), Ssh::default());
        let client = Arc::new(Client::new(transport, TIMEOUT, "fleet-scale"));
        Ok(Self { client, shutdown, _serving: AbortOnDropHandle::new(tokio::spawn(serving)) })
    }

    /// Has units launched with these contents.
    ///
    /// # Errors
    /// The first that is refused.
    pub async fn launch(&self, units: Vec<Unit>) -> Result<()> {
        let change = |unit: &Unit| Change {
            name: unit.name.to_string(),
            options: options_of(&unit.file),
            desired_state: "launched".into(),
            ..Change::default()
        };
        let changed = self.client.change(units.iter().map(change).collect()).await;
        changed.map(drop).map_err(|(name, error)| anyhow::Error::new(error).context(format!("{name} is not submitted")))
    }

    /// How long it takes to be told why units are where they are, one after the other.
    ///
    /// # Errors
    /// The first question without an answer.
    pub async fn why<'n>(&self, units: impl IntoIterator<Item = &'n str>) -> Result<Vec<Duration>> {
        let mut took = Vec::new();
        for unit in units {
            let start = Instant::now();
            self.client.why(unit).await?.with_context(|| format!("nothing is told of {unit}"))?;
            took.push(start.elapsed());
        }
        Ok(took)
    }

    /// How long it takes to be told which of the units of machines could leave them, one after the other.
    ///
    /// # Errors
    /// The first question without an answer.
    pub async fn drain<'n>(&self, machines: impl IntoIterator<Item = &'n str>) -> Result<Vec<Duration>> {
        let mut took = Vec::new();
        for machine in machines {
            let start = Instant::now();
            self.client.drain(machine).await?.with_context(|| format!("nothing is told of {machine}"))?;
            took.push(start.elapsed());
        }
        Ok(took)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

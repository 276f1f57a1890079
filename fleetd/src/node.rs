//! One host's part in the cluster: its pieces and how they are joined.
//!
//! ```text
//!  membership ──registration──▶ publisher ◀──states── agent ◀──cluster── mirror of this host's keys
//!      │  └─────────proof─────▶ fence ────────────────▶ │                   ▲        │
//!      └──refusal──▶ api ◀──▶ view ◀──▶ engine          └── systemd        last good ◀┘
//! ```
//!
//! All that the pieces touch is handed in: the store, systemd, the files, the clock. So the simulation runs what a
//! host runs.

pub mod dead_man;
pub mod last_good;
mod own_keys;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use fleet_core::model::{Features, Keys, MachineId, Snapshot};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

use self::{last_good::LastGood, own_keys::OwnKeys};
use crate::{
    agent::{Agent, publish},
    clock::Clock,
    engine::Engine,
    filesystem::Filesystem,
    membership::{
        Describe, Entry, LeaseFile, Membership, Refusal, Registration,
        fence::Fence,
        proof::{self, proof_file},
    },
    metrics::Metrics,
    registry::{Store, files::Files, view::View},
    systemd::Systemd,
};

/// How long leaving waits for etcd to take the machine's entry away, which otherwise goes with its lease.
const FAREWELL: Duration = Duration::from_secs(3);

/// A host, and what its membership is made of.
pub struct Host<S, D, F> {
    /// Its machine ID.
    pub id: MachineId,
    /// The metadata that it is configured with.
    pub metadata: BTreeMap<String, String>,
    /// Tells what its entry in the registry is to say; asked anew each time it joins, and on `changed`.
    pub describe: Describe,
    /// What that says that it understands.
    pub features: Features,
    /// Tells that it may be reached by another address.
    pub changed: watch::Receiver<()>,
    /// How long it may be silent before it counts as dead.
    pub ttl: Duration,
    /// Whether it stands for election.
    pub candidate: bool,
    /// The registry.
    pub store: S,
    /// The keys in it.
    pub keys: Keys,
    /// The view of the cluster.
    pub view: View<S>,
    /// Unit files.
    pub files: Files<S>,
    /// Its systemd.
    pub systemd: D,
    /// Its files.
    pub filesystem: F,
    /// Its clock.
    pub clock: Clock,
    /// Where unit files are put. What else lasts until the next boot is put beside it.
    pub units: PathBuf,
    /// Where is put what lasts longer.
    pub state: PathBuf,
    /// Counters.
    pub metrics: Metrics,
}

/// How a membership ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The units stay, and so does the entry, for as long as its lease.
    Keep,
    /// The units are stopped, then the host leaves the cluster.
    Leave,
}

/// A host that is a member of the cluster, or is trying to become one. When this is dropped everything stops where
/// it is, as if the process had been killed.
pub struct Node<S: Store, D, F> {
    membership: Arc<Membership<S, F>>,
    agent: AbortOnDropHandle<Agent<S, D, F>>,
    joining: AbortOnDropHandle<()>,
    engine: Option<AbortOnDropHandle<()>>,
    /// The parts that only follow: leaving needs them to its last moment.
    followers: JoinSet<()>,
    last_good: LastGood<F>,
    view: View<S>,
    /// Ends with the engine's term.
    resigning: CancellationToken,
    shutdown: CancellationToken,
    /// Ends with the membership.
    staying: CancellationToken,
    registered: watch::Receiver<Option<Registration>>,
    refused: watch::Receiver<Refusal>,
    states: watch::Receiver<Option<publish::States>>,
}

impl<S: Store, D: Systemd, F: Filesystem> Node<S, D, F> {
    /// Starts all parts.
    ///
    /// # Errors
    /// When the directory of unit files cannot be used.
    pub fn start(host: Host<S, D, F>) -> anyhow::Result<Self> {
        let Host { id, store, keys, view, filesystem, clock, ttl, metrics, .. } = host;
        let proof_file = proof_file(&host.units);
        let (registration, registered) = watch::channel(None);
        let (refusal, refused) = watch::channel(None);
        let (cluster_sender, cluster) = watch::channel(Snapshot::default());
        let (states_sender, states) = watch::channel(None);
        let (agreement, agreed) = watch::channel(false);
        let (proof_sender, proven) = watch::channel(proof::recall(&filesystem, &proof_file));

        let membership = Arc::new(Membership {
            entry: Entry { store: store.clone(), keys: keys.clone(), id: id.clone() },
            describe: host.describe,
            changed: host.changed,
            ttl,
            clock,
            lease_file: LeaseFile::new(filesystem.clone(), proof_file.with_file_name("lease")),
            proof: proof_sender,
            registration,
            refusal,
        });
        // The engine's are others, and those of the API: each keeps what it needs, and no longer than that.
        let files = host.files;
        let engine_files = files.separate_cache();
        let mut agent = Agent::new(
            id.clone(),
            host.metadata,
            &host.units,
            filesystem.clone(),
            host.systemd,
            files.clone(),
            Fence::new(clock, proven.clone(), registered.clone()),
            cluster.clone(),
            states_sender,
            agreement,
        )?;
        let last_good = LastGood::new(filesystem.clone(), &host.state, id.clone());
        let shutdown = CancellationToken::new();
        let resigning = CancellationToken::new();
        let staying = CancellationToken::new();

        // A host that leaves is a member until its last unit is down, or they would be started elsewhere before; then
        // this ends first, or it would join again.
        let (joining, stays) = (Arc::clone(&membership), staying.clone());
        let joining = async move { stays.run_until_cancelled_owned(joining.run()).await.unwrap_or_default() };
        let engine = host.candidate.then(|| {
            let machine = id.clone();
            let (store, keys, view) = (store.clone(), keys.clone(), view.clone());
            let registered = registered.clone();
            let engine = Engine { store, keys, view, files: engine_files, machine, registered, ttl, metrics };
            let stop = resigning.clone();
            AbortOnDropHandle::new(tokio::spawn(async move { engine.run(&stop).await }))
        });
        let mut followers = JoinSet::new();
        let remembering = (filesystem, proven);
        followers.spawn(async move { proof::remember(remembering.0, &proof_file, remembering.1).await });
        let own_keys = OwnKeys {
            id: id.clone(),
            store: store.clone(),
            keys: keys.clone(),
            files: files.clone(),
            features: host.features,
            agreed,
            adopted: last_good.adopted(),
        };
        let member = registered.clone();
        let (keeping, kept_files, standing_in) = (last_good.clone(), files.clone(), last_good.clone());
        followers.spawn(keeping.keep(cluster, kept_files));
        followers.spawn(async move {
            // Whichever comes first; a snapshot from the disk then gives way to that of the mirror.
            tokio::join!(
                biased;
                own_keys.follow(member, &cluster_sender),
                standing_in.stand_in(&cluster_sender, &files),
            );
        });
        followers.spawn(publish::run(store, keys, id, states.clone(), registered.clone()));
        let stop = shutdown.clone();
        let agent = AbortOnDropHandle::new(tokio::spawn(async move {
            agent.run(&stop).await;
            agent
        }));
        let joining = AbortOnDropHandle::new(tokio::spawn(joining));
        Ok(Self {
            membership,
            agent,
            joining,
            engine,
            followers,
            last_good,
            view,
            resigning,
            shutdown,
            staying,
            registered,
            refused,
            states,
        })
    }

    /// Follows the registration.
    #[must_use]
    pub fn registered(&self) -> watch::Receiver<Option<Registration>> {
        self.registered.clone()
    }

    /// Follows the reason for which a person must act, if there is one.
    #[must_use]
    pub fn refused(&self) -> watch::Receiver<Refusal> {
        self.refused.clone()
    }

    /// Follows the states of the host's units.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<Option<publish::States>> {
        self.states.clone()
    }

    /// Ends in order, and returns when all parts have.
    ///
    /// # Errors
    /// When a part has broken.
    pub async fn end(mut self, end: End) -> anyhow::Result<()> {
        // Resigning takes as long as a request may; until then the agent keeps the fence.
        self.resigning.cancel();
        if let Some(engine) = self.engine {
            engine.await.context("the engine broke")?;
        }
        self.shutdown.cancel();
        self.view.close();
        let mut agent = self.agent.await.context("the agent broke")?;
        if end == End::Leave {
            agent.leave().await;
        }
        self.staying.cancel();
        self.joining.await.context("membership broke")?;
        if end == End::Leave {
            match timeout(FAREWELL, self.membership.leave()).await {
                Ok(Ok(true)) => {
                    // Its units run elsewhere from now on; a boot must not bring them back.
                    self.followers.shutdown().await;
                    self.last_good.forget();
                    info!("left the cluster");
                }
                Ok(Ok(false)) => info!("this host was not registered: it takes up again what was last wanted here"),
                _ => warn!("etcd does not answer: this machine's entry goes when its lease ends"),
            }
        }
        self.followers.shutdown().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

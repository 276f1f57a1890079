//! The daemon as a whole: which parts there are, how they are joined, and how they end.
//!
//! ```text
//!  membership ──registration──▶ publisher ◀──states── agent ◀──cluster── mirror of this host's keys
//!      │                                                │
//!      └──refusal──▶ api ◀──▶ view ◀──▶ engine          └── systemd
//! ```
//!
//! There are two ways to end. *Keeping*: fleetd goes, its units stay, and the next fleetd takes them up. *Leaving*:
//! the host leaves the cluster, so its units are stopped and its entry goes at once; that is what `systemctl stop
//! fleet`, a shutdown of the host, and Ctrl-C mean. SIGHUP is like keeping, but the next fleetd is this one with
//! its configuration read again; its sockets stay open all the while.

use std::{collections::BTreeMap, fs, io::Write, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use fleet_core::model::{Keys, MachineId, MachineRecord, StateRecord};
use sd_notify::NotifyState;
use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{
    agent::{Agent, Disk, publish},
    config::{Config, Listen},
    engine::Engine,
    http::{self, Api, Listeners},
    machine::{Membership, Registration},
    metrics::Metrics,
    registry::{Cluster, Etcd, etcd::Endpoints, files::Files, mirror, view::View},
    systemd::Dbus,
};

/// How long leaving waits for etcd to take the machine's entry away, which otherwise goes with its lease.
const FAREWELL: Duration = Duration::from_secs(3);

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Units stay.
    Keep,
    /// Units go.
    Leave,
    /// Units and sockets stay, all else begins anew.
    Reload,
}

/// Runs until a signal ends it. `reload` reads the configuration again.
///
/// # Errors
/// When it cannot begin: a socket in use, no machine ID, a directory that cannot be written.
pub async fn run(mut config: Config, reload: impl Fn() -> anyhow::Result<Config>) -> anyhow::Result<()> {
    let id = machine_id(Path::new("/etc/machine-id"))?;
    let mut signals = Signals::listen()?;
    let listeners = Arc::new(open(&config)?);
    loop {
        let end = member(&id, &config, Arc::clone(&listeners), &mut signals).await?;
        if end != End::Reload {
            return Ok(());
        }
        match reload().and_then(|new| check(&new).map(|()| new)) {
            Ok(new) => config = new,
            Err(error) => error!("configuration not taken, the old one stays: {error:#}"),
        }
    }
}

/// Tries what could fail with a new configuration, before the old one is given up.
fn check(config: &Config) -> anyhow::Result<()> {
    endpoints(config)?;
    Disk::open(&config.units_directory)?;
    Ok(())
}

/// Is a member of the cluster until a signal ends that.
async fn member(
    id: &MachineId,
    config: &Config,
    listeners: Arc<Listeners>,
    signals: &mut Signals,
) -> anyhow::Result<End> {
    let endpoints = endpoints(config)?;
    let tasks = TaskTracker::new();
    let shutdown = CancellationToken::new();
    spawn_watchdog(&tasks, &shutdown);
    // The parts that only follow end with a token of their own: leaving needs them to its last moment.
    let last = CancellationToken::new();
    let until_last = |task| {
        let last = last.clone();
        async move { last.run_until_cancelled_owned(task).await.unwrap_or_default() }
    };
    let (dbus, drain) = Dbus::new();
    tasks.spawn(until_last(boxed(drain)));
    notify(&[NotifyState::Ready, NotifyState::Status("connecting to etcd")]);
    let store = Etcd::new(endpoints);
    let keys = Keys::new(&config.etcd_key_prefix);
    let metrics = Metrics::default();
    let view = View::new(store.clone(), keys.clone());
    let files = Files::new(store.clone(), keys.clone());
    let (registration, registered) = watch::channel(None);
    let (refusal, refused) = watch::channel(None);
    let (cluster_sender, cluster) = watch::channel(Cluster::default());
    let (states_sender, states) = watch::channel(None);

    let membership = Arc::new(Membership {
        store: store.clone(),
        keys: keys.clone(),
        id: id.clone(),
        describe: {
            let config = config.clone();
            Box::new(move || machine_record(&config))
        },
        ttl: config.agent_ttl,
        lease_file: config.units_directory.parent().unwrap_or(Path::new("/run")).join("lease"),
        registration,
        refusal,
    });
    let mut agent = Agent::new(
        id.clone(),
        config.metadata.clone(),
        &config.units_directory,
        dbus.clone(),
        files.clone(),
        cluster,
        states_sender,
    )?;
    let engine = Engine {
        store: store.clone(),
        keys: keys.clone(),
        view: view.clone(),
        files: files.clone(),
        machine: id.clone(),
        ttl: config.agent_ttl,
        metrics: metrics.clone(),
    };
    let api = Api {
        store: store.clone(),
        keys: keys.clone(),
        view,
        files,
        token_limit: config.token_limit,
        refusal: refused,
        metrics: metrics.clone(),
        ending: shutdown.clone(),
    };
    let watched = api.view.clone();

    // A host that leaves is a member until its last unit is down, or they would be started elsewhere before; then this
    // ends first, or it would join again.
    let staying = CancellationToken::new();
    let (joining, stays) = (Arc::clone(&membership), staying.clone());
    let joined = tokio::spawn(async move { stays.run_until_cancelled_owned(joining.run()).await.unwrap_or_default() });
    let own = own_ranges(&keys, id);
    let (mirrored, mirrored_keys, mut member) = (store.clone(), keys.clone(), registered.clone());
    tasks.spawn(until_last(boxed(async move {
        // What is scheduled to this machine ID is this host's only once the ID is: another may live under it.
        if member.wait_for(Option::is_some).await.is_err() {
            return;
        }
        mirror::follow(&mirrored, &mirrored_keys, &own, &cluster_sender).await;
    })));
    tasks.spawn(until_last(boxed(publish::run(store, keys, id.clone(), states.clone(), registered.clone()))));
    tasks.spawn(until_last(boxed(tell_status(registered.clone(), states.clone(), metrics))));
    tasks.spawn(http::serve(http::router(Arc::new(api)), listeners, shutdown.clone()));
    if !config.disable_engine {
        let stop = shutdown.clone();
        tasks.spawn(async move { engine.run(&stop).await });
    }
    let stop = shutdown.clone();
    let agent = tokio::spawn(async move {
        agent.run(&stop).await;
        agent
    });
    info!(machine = %id, version = env!("CARGO_PKG_VERSION"), "fleetd runs");

    let end = signals.next(&dbus, || describe(&membership, &registered, &states)).await;
    match end {
        End::Keep => info!("fleetd ends, its units stay"),
        End::Leave => info!("fleetd ends, and this host leaves the cluster"),
        End::Reload => info!("reading the configuration again"),
    }
    notify(&[if end == End::Reload {
        NotifyState::Status("reading the configuration")
    } else {
        NotifyState::Stopping
    }]);
    shutdown.cancel();
    watched.close();
    let mut agent = agent.await.context("the agent broke")?;
    if end == End::Leave {
        notify(&[NotifyState::Status("leaving: stopping units")]);
        agent.leave().await;
    }
    staying.cancel();
    joined.await.context("membership broke")?;
    if end == End::Leave {
        match tokio::time::timeout(FAREWELL, membership.leave()).await {
            Ok(Ok(())) => info!("left the cluster"),
            _ => warn!("etcd does not answer: this machine's entry goes when its lease ends"),
        }
    }
    last.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(end)
}

/// What fleetd knows of its host, for SIGUSR1.
fn describe(
    membership: &Membership<Etcd>,
    registered: &watch::Receiver<Option<Registration>>,
    states: &watch::Receiver<Option<publish::States>>,
) -> serde_json::Value {
    let states = states.borrow().clone().unwrap_or_default();
    let units: BTreeMap<&str, &StateRecord> = states.iter().map(|(unit, state)| (unit.as_str(), &**state)).collect();
    json!({
        "id": membership.id,
        "registered": registered.borrow().is_some(),
        "units": units,
    })
}

fn boxed<F: Future<Output = ()> + Send + 'static>(task: F) -> futures_util::future::BoxFuture<'static, ()> {
    Box::pin(task)
}

/// The keys that this host's agent follows.
fn own_ranges(keys: &Keys, id: &MachineId) -> [(String, String); 3] {
    let metadata = keys.format(&fleet_core::model::Key::Metadata(id.clone()));
    let metadata = (metadata.clone(), format!("{metadata}\0"));
    [keys.under(&format!("sched/{id}/")), keys.under("global/"), metadata]
}

fn endpoints(config: &Config) -> anyhow::Result<Endpoints> {
    let read = |path: &std::path::PathBuf| {
        fs::read(path).with_context(|| format!("cannot read {}, named in the configuration", path.display()))
    };
    let identity = config.etcd_identity.as_ref();
    Ok(Endpoints {
        urls: config.etcd_servers.clone(),
        user: config.etcd_user.clone(),
        ca: config.etcd_cafile.as_ref().map(read).transpose()?,
        identity: identity
            .map(|(certificate, key)| Ok::<_, anyhow::Error>((read(certificate)?, read(key)?)))
            .transpose()?,
        request_timeout: config.etcd_request_timeout,
    })
}

fn open(config: &Config) -> anyhow::Result<Listeners> {
    let mut listeners = Listeners::from_systemd()?;
    for listen in &config.listen {
        match listen {
            // The usual case: what is configured is what systemd handed over.
            Listen::Unix(path) if listeners.has_unix(path) => {}
            Listen::Unix(path) => listeners.open_unix(path)?,
            Listen::Tcp(address) if listeners.has_tcp(*address) => {}
            Listen::Tcp(address) => listeners.open_tcp(*address)?,
        }
    }
    Ok(listeners)
}

fn machine_id(path: &Path) -> anyhow::Result<MachineId> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: run systemd-machine-id-setup", path.display()))?;
    MachineId::new(text.trim())
        .with_context(|| format!("{} is not usable: run systemd-machine-id-setup", path.display()))
}

/// What this host says of itself.
fn machine_record(config: &Config) -> anyhow::Result<MachineRecord> {
    let boot_id = "/proc/sys/kernel/random/boot_id";
    let boot_id = fs::read_to_string(boot_id).with_context(|| format!("cannot read {boot_id}"))?;
    let memory = rustix::system::sysinfo();
    Ok(MachineRecord {
        address: config.address()?,
        hostname: hostname::get().context("cannot tell the host's name")?.to_string_lossy().into_owned(),
        metadata: config.metadata.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        boot_id: boot_id.trim().into(),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
        memory: u64::from(memory.mem_unit) * memory.totalram,
    })
}

/// The signals that mean something to fleetd.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for a signal that ends something, and tells what it means. Prints what `describe` says on SIGUSR1.
    async fn next(&mut self, dbus: &Dbus, describe: impl Fn() -> serde_json::Value) -> End {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return End::Leave,
                _ = self.hangup.recv() => return End::Reload,
                _ = self.user.recv() => {
                    // Nobody may be reading; that ends nothing.
                    let _ = writeln!(std::io::stdout(), "{}", describe());
                }
                _ = self.terminate.recv() => {
                    // Systemd sends the same signal for a stop and for a restart; only it knows which.
                    return match dbus.own_job().await {
                        Ok(Some(job)) if job == "stop" => End::Leave,
                        Ok(job) => {
                            debug!(?job, "not stopped for good");
                            End::Keep
                        }
                        Err(error) => {
                            warn!(error = %crate::chain(&error), "systemd does not tell why fleetd ends, units stay");
                            End::Keep
                        }
                    };
                }
            }
        }
    }
}

/// Shows in `systemctl status fleet` how this host stands.
async fn tell_status(
    mut registered: watch::Receiver<Option<Registration>>,
    mut states: watch::Receiver<Option<publish::States>>,
    metrics: Metrics,
) {
    loop {
        let units = states.borrow_and_update().as_ref().map_or(0, publish::States::len);
        let member = registered.borrow_and_update().is_some();
        metrics.units.set(units as i64);
        metrics.registered.set(i64::from(member));
        let state = if member { "member of the cluster" } else { "not registered in etcd, units run on" };
        notify(&[NotifyState::Status(&format!("{state}, {units} units"))]);
        tokio::select! {
            changed = registered.changed() => if changed.is_err() { return },
            changed = states.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Proves to systemd that the runtime still turns.
fn spawn_watchdog(tasks: &TaskTracker, shutdown: &CancellationToken) {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return };
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        while !shutdown.is_cancelled() {
            notify(&[NotifyState::Watchdog]);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(timeout / 3) => {}
            }
        }
    });
}

fn notify(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, which is fine.
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "systemd not notified");
    }
}

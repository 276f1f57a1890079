//! The daemon as a whole: a [`Member`] of the cluster and the HTTP API, the signals, and how they end.
//!
//! There are two ways to end. *Keeping*: fleetd goes, its units stay, and the next fleetd takes them up. *Leaving*:
//! the host leaves the cluster, so its units are stopped and its entry goes at once; that is what `systemctl stop
//! fleet`, a shutdown of the host, and Ctrl-C mean; in a [`Role::Terminal`] Ctrl-C means keeping. SIGHUP is like keeping, but the next fleetd is this one with
//! its configuration read again; its sockets stay open all the while.

use std::{collections::BTreeMap, fs, io::Write, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use fleet_core::model::{Features, Keys, MachineId, MachineRecord, StateRecord, Unknown};
use sd_notify::NotifyState;
use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{debug, error, info, warn};

use crate::{
    agent::{Disk, publish},
    clock::Clock,
    config::{Config, Listen},
    filesystem::Real,
    http::{self, Api, Listeners},
    membership::Registration,
    metrics::Metrics,
    network,
    node::{self, Host, Node},
    registry::{Etcd, etcd::Endpoints, files::Files, view::View},
    systemd::{Bus, Dbus},
};

/// A busy machine may hold fleetd up for a second; it need not be killed for that.
const SHORTEST_WATCHDOG: Duration = Duration::from_secs(2);

/// What fleetd is run for, which decides what signals mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A service of the host.
    Service,
    /// A program in somebody's terminal: whatever ends it, its units stay.
    Terminal,
    /// To stop the units of an earlier run, and end.
    Leave,
}

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

/// Runs until a signal ends it. `reload` reads the configuration again; `taken` is told of one that counts from then on.
///
/// # Errors
/// When it cannot begin: a socket in use, no machine ID, a directory that cannot be written.
pub async fn run(
    mut config: Config,
    role: Role,
    reload: impl Fn() -> anyhow::Result<Config>,
    taken: impl Fn(&Config),
) -> anyhow::Result<()> {
    let id = machine_id(Path::new("/etc/machine-id"))?;
    let mut signals = Signals::listen(role)?;
    let listeners = Arc::new(open(&config)?);
    loop {
        let end = member(&id, &config, Arc::clone(&listeners), &mut signals).await?;
        if end != End::Reload {
            return Ok(());
        }
        match reload().and_then(|new| check(&new, &config).map(|()| new)) {
            Ok(new) => {
                taken(&new);
                config = new;
            }
            Err(error) => error!("configuration not taken, the old one stays: {error:#}"),
        }
    }
}

/// Tries what could fail with a new configuration, before the old one is given up.
fn check(config: &Config, old: &Config) -> anyhow::Result<()> {
    endpoints(config)?;
    bus(config)?;
    Disk::open(Real, &config.units_directory)?;
    if config.units_directory != old.units_directory {
        let left = Disk::open(Real, &old.units_directory)?.left()?;
        anyhow::ensure!(
            left.installed.is_empty(),
            "units_directory cannot be changed while units are in {}: stop fleet, change it, start fleet",
            old.units_directory.display()
        );
    }
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
    let watchdog = AbortOnDropHandle::new(tokio::spawn(feed_watchdog(config.agent_ttl)));
    let (dbus, drain) = Dbus::new(bus(config)?);
    let drain = AbortOnDropHandle::new(tokio::spawn(drain));
    notify(&[NotifyState::Ready, NotifyState::Status("connecting to etcd")]);
    let store = Etcd::new(endpoints);
    let keys = Keys::new(&config.etcd_key_prefix);
    let metrics = Metrics::default();
    let view = View::new(store.clone(), keys.clone());
    let files = Files::new(store.clone(), keys.clone());
    let described = Arc::new(config.clone());
    let (address_changed, changed) = watch::channel(());
    let (watched, reconnecting) = (Arc::clone(&described), store.clone());
    let listening = async move { network::tell(&watched, &reconnecting, address_changed).await };
    let listening = AbortOnDropHandle::new(tokio::spawn(listening));
    let node = Node::start(Host {
        id: id.clone(),
        metadata: config.metadata.clone(),
        features: Features::of_this_daemon(),
        describe: Box::new(move |known| {
            let (described, known) = (described.clone(), known.map(|known| known.address.clone()));
            Box::pin(async move { machine_record(&described, known.as_deref()).await })
        }),
        changed,
        ttl: config.agent_ttl,
        candidate: !config.disable_engine,
        store: store.clone(),
        keys: keys.clone(),
        view: view.clone(),
        files: files.separate_cache(),
        systemd: dbus.clone(),
        filesystem: Real,
        clock: Clock::Boottime,
        units: config.units_directory.clone(),
        state: config.state_directory.clone(),
        metrics: metrics.clone(),
    })?;
    let (registered, states) = (node.registered(), node.states());
    let telling = tell_status(registered.clone(), states.clone(), metrics.clone());
    let telling = AbortOnDropHandle::new(tokio::spawn(telling));
    let api = Api {
        store,
        keys,
        view,
        explainer: http::Explainer::new(files.separate_cache()),
        files,
        token_limit: config.token_limit,
        refusal: node.refused(),
        metrics,
        go_clients: http::GoClients::default(),
        ending: shutdown.clone(),
    };
    tasks.spawn(http::serve(http::router(Arc::new(api)), listeners, shutdown.clone()));
    info!(machine = %id, version = env!("CARGO_PKG_VERSION"), "fleetd runs");

    let end = signals.next(&dbus, || describe(id, &registered, &states)).await;
    let (status, ending) = match end {
        End::Keep => ("keeping units", node::End::Keep),
        End::Leave => ("leaving: stopping units", node::End::Leave),
        End::Reload => ("reading the configuration", node::End::Keep),
    };
    info!(status, "ending");
    notify(&[NotifyState::Status(status)]);
    if end != End::Reload {
        notify(&[NotifyState::Stopping]);
    }
    shutdown.cancel();
    drop(telling);
    drop(listening);
    node.end(ending).await?;
    drop(drain);
    tasks.close();
    tasks.wait().await;
    drop(watchdog);
    Ok(end)
}

/// What fleetd knows of its host, for SIGUSR1.
fn describe(
    id: &MachineId,
    registered: &watch::Receiver<Option<Registration>>,
    states: &watch::Receiver<Option<publish::States>>,
) -> serde_json::Value {
    let states = states.borrow().clone().unwrap_or_default();
    let units: BTreeMap<&str, &StateRecord> = states.iter().map(|(unit, state)| (unit.as_str(), &**state)).collect();
    json!({
        "id": id,
        "registered": registered.borrow().is_some(),
        "units": units,
    })
}

fn bus(config: &Config) -> anyhow::Result<Bus> {
    if !config.systemd_user {
        return Ok(Bus::System);
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    let runtime = runtime.context("a user's systemd is configured (systemd_user), but XDG_RUNTIME_DIR is not set")?;
    Ok(Bus::User(runtime.into()))
}

pub(crate) fn endpoints(config: &Config) -> anyhow::Result<Endpoints> {
    let read = |path: &std::path::PathBuf| {
        fs::read(path).with_context(|| format!("cannot read {}, named in the configuration", path.display()))
    };
    let tls = config.tls_by_default();
    let identity = config.etcd_identity.as_ref();
    Ok(Endpoints {
        urls: config.etcd_servers.iter().map(|server| server.url(tls)).collect(),
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

pub(crate) fn machine_id(path: &Path) -> anyhow::Result<MachineId> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: run systemd-machine-id-setup", path.display()))?;
    MachineId::new(text.trim())
        .with_context(|| format!("{} is not usable: run systemd-machine-id-setup", path.display()))
}

/// What this host says of itself, which was reached by the address that is `known`.
async fn machine_record(config: &Config, known: Option<&str>) -> anyhow::Result<MachineRecord> {
    let boot_id = "/proc/sys/kernel/random/boot_id";
    let boot_id = fs::read_to_string(boot_id).with_context(|| format!("cannot read {boot_id}"))?;
    let memory = rustix::system::sysinfo();
    Ok(MachineRecord {
        address: network::address(config, known).await?,
        hostname: hostname::get().context("cannot tell the host's name")?.to_string_lossy().into_owned(),
        metadata: config.metadata.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        boot_id: boot_id.trim().into(),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
        memory: u64::from(memory.mem_unit) * memory.totalram,
        leaving: false,
        features: Features::of_this_daemon(),
        unknown: Unknown::default(),
    })
}

/// The signals that mean something to fleetd.
struct Signals {
    role: Role,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn listen(role: Role) -> anyhow::Result<Self> {
        Ok(Self {
            role,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for a signal that ends something, and tells what it means. Prints what `describe` says on SIGUSR1.
    async fn next(&mut self, dbus: &Dbus, describe: impl Fn() -> serde_json::Value) -> End {
        if self.role == Role::Leave {
            return End::Leave;
        }
        let in_terminal = self.role == Role::Terminal;
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return if in_terminal { End::Keep } else { End::Leave },
                _ = self.hangup.recv() => return if in_terminal { End::Keep } else { End::Reload },
                _ = self.user.recv() => {
                    // Nobody may be reading; that ends nothing.
                    let _ = writeln!(std::io::stdout(), "{}", describe());
                }
                _ = self.terminate.recv() => {
                    if in_terminal {
                        return End::Keep;
                    }
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

/// Proves to systemd that the runtime still turns. One that hangs is killed and started again before the host's lease
/// runs out.
async fn feed_watchdog(ttl: Duration) {
    if sd_notify::watchdog_enabled().is_none() {
        return;
    }
    let timeout = (ttl / 3).max(SHORTEST_WATCHDOG);
    notify(&[NotifyState::WatchdogUsec(u32::try_from(timeout.as_micros()).unwrap_or(u32::MAX))]);
    loop {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(timeout / 3).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, which is fine.
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "systemd not notified");
    }
}

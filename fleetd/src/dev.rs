//! `fleetd dev`: a cluster of one, for a laptop.
//!
//! An etcd of its own, and a member that is this machine. Root's units run in the host's systemd, any other user's in
//! that user's own. etcd and the API listen on sockets in a directory that only this user may enter, and on no port: who
//! writes to etcd starts units. What etcd knows is kept from run to run. Ctrl-C ends fleetd and etcd, and no unit; the
//! next run takes up those that still run and starts the others, after a boot, too.

mod etcd;
mod places;

use std::{
    fmt::Display,
    fs::{self, File, TryLockError},
    io::{Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use fleet_core::{address::Server, unit::UnitName};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::etcd::PrivateEtcd;
pub use self::places::Places;
use crate::{
    agent::Disk,
    clock::Clock,
    config::{Config, Listen},
    daemon::{self, Role},
    filesystem::{Filesystem, Real},
    membership::proof,
    systemd::{Bus, Dbus, Systemd},
};

/// The configuration for [`run`]: nothing of `/etc/fleet/fleet.conf`, which is a cluster's, but a file that is named,
/// and the variables. Where things are is not theirs to say. Returns warnings, too.
///
/// # Errors
/// The first value that cannot be used, with the place it was given at.
pub fn configuration(
    file: Option<&Path>,
    places: &Places,
    variables: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<(Config, Vec<String>)> {
    let (config, warnings) = match file {
        Some(file) => Config::load(Some(file), variables)?,
        None => Config::read(Path::new(""), Vec::new(), variables)?,
    };
    let ports = config.listen.into_iter().filter(|listen| matches!(listen, Listen::Tcp(_)));
    let config = Config {
        etcd_servers: vec![Server::Unix(places.etcd_socket().display().to_string())],
        etcd_user: None,
        etcd_cafile: None,
        etcd_identity: None,
        // There may be no network.
        public_ip: config.public_ip.or_else(|| Some("127.0.0.1".into())),
        units_directory: places.units(),
        state_directory: places.state.clone(),
        listen: std::iter::once(Listen::Unix(places.socket.clone())).chain(ports).collect(),
        disable_engine: false,
        systemd_user: places.systemd != Bus::System,
        ..config
    };
    Ok((config, warnings))
}

/// Runs until a signal ends it.
///
/// # Errors
/// When it cannot begin: another one runs, there is no etcd or no systemd, a directory cannot be written.
pub async fn run(config: Config, places: &Places) -> anyhow::Result<()> {
    let _lock = begin(places).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let etcd = tokio::select! {
        started = PrivateEtcd::start(places) => started?,
        // What was started ends with the future that started it.
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    renew_proof(&config)?;
    say(format_args!("Units run in {}.", places.whose_systemd()));
    say(format_args!("State, and the log of etcd: {}", places.state.display()));
    say(places.directions());
    say("Ctrl-C ends this, and no unit.");
    let ending = CancellationToken::new();
    let minding = tokio::spawn(etcd.mind(ending.clone()));
    let outcome = daemon::run(config, Role::Terminal, || bail!("nothing is read again in a terminal"), |_| {}).await;
    ending.cancel();
    minding.await.context("what minds etcd broke")?;
    outcome?;
    let running = running(places).await?;
    if !running.is_empty() {
        let units: Vec<&str> = running.iter().map(UnitName::as_str).collect();
        say(format_args!("Still running: {}", units.join(" ")));
        say("`fleetd dev` takes them up again, `fleetd dev --stop-units` stops them.");
    }
    Ok(())
}

/// Stops the units that an earlier run left. The next run starts them again: what is wanted stays as it is.
///
/// # Errors
/// As [`run`].
pub async fn stop_units(config: Config, places: &Places) -> anyhow::Result<()> {
    let _lock = begin(places).await?;
    // Without etcd there is nothing to lead.
    let config = Config { disable_engine: true, ..config };
    daemon::run(config, Role::Leave, || bail!("nothing is read again"), |_| {}).await
}

/// Makes the directories, and sees to it that this is the only one and that there is a systemd.
async fn begin(places: &Places) -> anyhow::Result<File> {
    for directory in [&places.state, &places.runtime] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let lock = lock(places)?;
    let (dbus, _) = Dbus::new(places.systemd.clone());
    if let Err(error) = dbus.unit_path().await {
        bail!("{} does not answer: {}\nhint: {}", places.whose_systemd(), crate::chain(&error), places.systemd_hint());
    }
    Ok(lock)
}

/// A file that one run holds, with its process ID in it.
fn lock(places: &Places) -> anyhow::Result<File> {
    let path = places.runtime.join("dev.lock");
    let describe = || format!("cannot lock {}", path.display());
    let mut file =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).with_context(describe)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            file.read_to_string(&mut process).with_context(describe)?;
            bail!(
                "fleetd dev runs already, as process {}, and Ctrl-C in its terminal ends it\nhint: {}",
                process.trim(),
                places.directions()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(describe),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).with_context(describe)?;
    Ok(file)
}

/// Proves anew that units with `OnPartition=stop` are nowhere else: nobody can have moved them while etcd was away with
/// fleetd, and etcd gives its leases their whole time when it starts.
fn renew_proof(config: &Config) -> anyhow::Result<()> {
    let until = proof::proof(Clock::Boottime, config.agent_ttl).map(|until| until.as_millis().to_string());
    Real.replace(&proof::proof_file(&config.units_directory), until.unwrap_or_default().as_bytes())?;
    Ok(())
}

/// The units here that run.
async fn running(places: &Places) -> anyhow::Result<Vec<UnitName>> {
    let installed: Vec<UnitName> = Disk::open(Real, &places.units())?.left()?.installed.into_keys().collect();
    let (dbus, _) = Dbus::new(places.systemd.clone());
    let listed = dbus.list(&installed).await?;
    Ok(listed.into_iter().filter(|(_, runtime)| !runtime.is_down()).map(|(unit, _)| unit).collect())
}

/// Tells the person at the terminal, who may have gone.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// An absolute path in a variable. Another one counts as none, as the XDG base directory specification has it.
fn path_in(variable: Option<String>) -> Option<PathBuf> {
    variable.map(PathBuf::from).filter(|path| path.is_absolute())
}

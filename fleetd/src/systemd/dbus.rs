//! Systemd over the system bus, or a user's systemd over the user's bus.
//!
//! Two connections: calls go over one, signals come over the other. A connection whose signals are not read hangs
//! for calls, too, once its queue is full; so one task drains the second whatever happens, and only marks units in
//! [`Dirty`]. Either connection is opened again when the bus restarts, and when PID 1 is re-executed everything is
//! looked at anew.
//!
//! One thing goes past the bus: the links that make unit files known, see [`links`].

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    host::{Active, Job, Runtime},
    unit::UnitName,
};
use futures_util::StreamExt;
use tokio::sync::{Mutex, OnceCell};
use tracing::{info, warn};
use zbus::{
    Connection, MatchRule, MessageStream, connection, fdo::DBusProxy, message::Type, proxy::CacheProperties,
    wire::OwnedObjectPath,
};

use super::{Answer, Dirty, Ended, SYSTEM_UNITS, Systemd, SystemdError, Verb, links};
use crate::{
    backoff::Backoff,
    filesystem::{Filesystem, Real, show_change},
};

const SERVICE: &str = "org.freedesktop.systemd1";
const UNITS: &str = "/org/freedesktop/systemd1/unit";

/// Units that are looked for by name among the loaded ones. Beyond, it is cheaper to have them all listed.
const FEW: usize = 16;

/// How long PID 1 may take to answer. A reload with thousands of units keeps it busy for ten seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A row of `ListUnits`: name, description, load state, active state, sub state, followed unit, path, job number,
/// job type, job path.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A change that enabling made: type, symlink, destination.
type Change = (String, String, String);

/// A condition or an assertion: name, whether one of several is enough, whether it is negated, parameter, and the last
/// outcome: positive when it was met, negative when it was not, 0 when it was not looked at.
type Condition = (String, bool, bool, String, i32);

/// The part of `org.freedesktop.systemd1.Manager` that is used, see `org.freedesktop.systemd1(5)`.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn list_units(&self) -> zbus::Result<Vec<Row>>;
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Row>>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Row>>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn link_unit_files(&self, files: &[&str], runtime: bool, force: bool) -> zbus::Result<Vec<Change>>;
    fn enable_unit_files(&self, files: &[&str], runtime: bool, force: bool) -> zbus::Result<(bool, Vec<Change>)>;
    fn disable_unit_files(&self, files: &[&str], runtime: bool) -> zbus::Result<Vec<Change>>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    fn reload(&self) -> zbus::Result<()>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn unit_path(&self) -> zbus::Result<Vec<String>>;
}

/// The part of `org.freedesktop.systemd1.Unit` that is used.
#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn need_daemon_reload(&self) -> zbus::Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn job(&self) -> zbus::Result<(u32, OwnedObjectPath)>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn conditions(&self) -> zbus::Result<Vec<Condition>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn asserts(&self) -> zbus::Result<Vec<Condition>>;
}

/// The part of `org.freedesktop.systemd1.Job` that is used.
#[zbus::proxy(interface = "org.freedesktop.systemd1.Job", default_service = "org.freedesktop.systemd1")]
trait Job {
    #[zbus(property(emits_changed_signal = "false"))]
    fn job_type(&self) -> zbus::Result<String>;
}

/// Which systemd is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The host's, PID 1.
    System,
    /// The one of the user that fleetd runs as, whose runtime directory this is (`$XDG_RUNTIME_DIR`).
    User(PathBuf),
}

impl Bus {
    fn connection(&self) -> connection::Builder<'static> {
        match self {
            Self::System => connection::Builder::system(),
            Self::User(_) => connection::Builder::session(),
        }
    }
}

/// Systemd over a bus.
#[derive(Clone)]
pub struct Dbus {
    bus: Bus,
    calls: Arc<Mutex<Option<Connection>>>,
    dirty: Arc<Dirty>,
    /// The search path, which PID 1 settles when it starts.
    path: Arc<OnceCell<Vec<PathBuf>>>,
}

impl Dbus {
    /// A handle and the task that drains signals; the task runs until dropped.
    pub fn new(bus: Bus) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let dbus = Self { bus, calls: Arc::default(), dirty: Arc::default(), path: Arc::default() };
        let (calls, drain) = (dbus.clone(), drain(dbus.bus.clone(), Arc::clone(&dbus.dirty)));
        // The first call need not wait for its connection then; if there is none, it says so.
        let drain = async move { drop(tokio::join!(calls.manager(), drain)) };
        (dbus, drain)
    }

    /// The type of the systemd job that is ending this process: `stop`, `restart`, ...; `None` when there is none.
    ///
    /// # Errors
    /// When systemd does not answer, or this process is no unit of it.
    pub async fn own_job(&self) -> Result<Option<String>, SystemdError> {
        let manager = self.manager().await?;
        let connection = manager.inner().connection().clone();
        let job = async {
            let path = manager.get_unit_by_pid(std::process::id()).await?;
            let unit = UnitProxy::builder(&connection).path(path).cache_properties(CacheProperties::No).build().await?;
            let (number, path) = unit.job().await?;
            if number == 0 {
                return Ok(None);
            }
            let job = JobProxy::builder(&connection).path(path).cache_properties(CacheProperties::No).build().await?;
            job.job_type().await.map(Some)
        };
        job.await.map_err(|source| classify("tell the job of fleetd", source))
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>, SystemdError> {
        let mut calls = self.calls.lock().await;
        let connection = match calls.as_ref().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection.clone(),
            None => {
                let connection = self
                    .bus
                    .connection()
                    .method_timeout(CALL_TIMEOUT)
                    .build()
                    .await
                    .map_err(SystemdError::Unavailable)?;
                calls.insert(connection).clone()
            }
        };
        drop(calls);
        ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(SystemdError::Unavailable)
    }

    /// A unit, which is loaded for that.
    async fn unit(&self, unit: &UnitName) -> zbus::Result<UnitProxy<'static>> {
        let manager = self.manager().await.map_err(|error| match error {
            SystemdError::Unavailable(source) | SystemdError::Refused { source: Answer(source), .. } => source,
        })?;
        let path = manager.load_unit(unit.as_str()).await?;
        let connection = manager.inner().connection().clone();
        UnitProxy::builder(&connection).path(path).cache_properties(CacheProperties::No).build().await
    }

    /// Waits for a call that has PID 1 make links, and sees to it that it sees them.
    async fn linking<T>(&self, what: &str, call: impl Future<Output = zbus::Result<T>>) -> Result<(), SystemdError> {
        let directory = self.runtime_units();
        let before = Real.modified(&directory);
        let outcome = call.await;
        show_change(&Real, &directory, before).await;
        outcome.map(drop).map_err(|source| classify(what, source))
    }
}

/// Tells a refusal from silence. `NoReply` and a vanished name mean "unknown", never "failed".
fn classify(what: impl Into<String>, source: zbus::Error) -> SystemdError {
    use zbus::fdo::Error as Fdo;
    let answered = match &source {
        zbus::Error::MethodError(..) => true,
        zbus::Error::FDO(error) => !matches!(
            **error,
            Fdo::NoReply(_)
                | Fdo::Timeout(_)
                | Fdo::TimedOut(_)
                | Fdo::Disconnected(_)
                | Fdo::NoServer(_)
                | Fdo::ServiceUnknown(_)
                | Fdo::NameHasNoOwner(_)
                | Fdo::LimitsExceeded(_)
                | Fdo::IOError(_)
        ),
        _ => false,
    };
    match answered {
        true => SystemdError::Refused { what: what.into(), source: Answer(source) },
        false => SystemdError::Unavailable(source),
    }
}

/// A unit's state as a row of a list tells it.
fn runtime((name, _, load, active, sub, _, _, job, job_type, _): Row) -> Option<(UnitName, Runtime)> {
    let name = UnitName::new(&name).ok()?;
    let job = (job != 0).then(|| Job::from_word(&job_type));
    Some((name, Runtime { load, active: Active::from_word(&active), sub, job }))
}

/// The number of a job by its path: `/org/freedesktop/systemd1/job/123`.
fn job_number(path: &OwnedObjectPath) -> u32 {
    path.as_str().rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Those that kept the unit down, each as it would stand in its file.
fn unmet(conditions: Vec<Condition>) -> impl Iterator<Item = String> {
    let is_enough = |condition: &Condition| condition.1 && condition.4 > 0;
    let any_met = conditions.iter().any(is_enough);
    let is_unmet = move |condition: &Condition| condition.4 < 0 && !(condition.1 && any_met);
    conditions.into_iter().filter(is_unmet).map(|(name, trigger, negate, parameter, _)| {
        let (trigger, negate) = (if trigger { "|" } else { "" }, if negate { "!" } else { "" });
        format!("{name}={trigger}{negate}{parameter}")
    })
}

/// What a unit's `Result=` and `ExecMainStatus=` say, in words.
fn failure(result: &str, status: i32) -> Option<String> {
    match result {
        "success" => None,
        // It was another process than the main one.
        "exit-code" | "signal" | "core-dump" if status == 0 => Some(format!("result {result}")),
        "exit-code" => Some(format!("exit status {status}")),
        "signal" | "core-dump" => Some(format!("killed by signal {status}")),
        "start-limit-hit" => Some("started too often in a short time (StartLimitBurst=)".into()),
        "timeout" => Some("not done in time (TimeoutStartSec=, TimeoutStopSec=)".into()),
        other => Some(format!("result {other}")),
    }
}

fn as_text<'f>(files: impl IntoIterator<Item = &'f PathBuf>) -> Vec<&'f str> {
    files.into_iter().filter_map(|file| file.to_str()).collect()
}

impl Systemd for Dbus {
    async fn list(&self, units: &[UnitName]) -> Result<BTreeMap<UnitName, Runtime>, SystemdError> {
        if units.is_empty() {
            return Ok(BTreeMap::new());
        }
        let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
        let rows = self.manager().await?.list_units_by_names(&names).await;
        let rows = rows.map_err(|source| classify("list units", source))?;
        Ok(rows.into_iter().filter_map(runtime).collect())
    }

    async fn loaded(&self, units: &[UnitName]) -> Result<BTreeMap<UnitName, Runtime>, SystemdError> {
        if units.is_empty() {
            return Ok(BTreeMap::new());
        }
        let manager = self.manager().await?;
        let rows = if units.len() > FEW {
            manager.list_units().await
        } else {
            // No character of a unit name means something in a pattern but this one.
            let patterns: Vec<String> = units.iter().map(|unit| unit.as_str().replace('\\', r"\\")).collect();
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            manager.list_units_by_patterns(&[], &patterns).await
        };
        let rows = rows.map_err(|source| classify("list loaded units", source))?;
        let asked: BTreeSet<&str> = units.iter().map(UnitName::as_str).collect();
        Ok(rows.into_iter().filter(|row| asked.contains(&*row.0)).filter_map(runtime).collect())
    }

    async fn queue(&self, verb: Verb, unit: &str) -> Result<u32, SystemdError> {
        let manager = self.manager().await?;
        let queued = match verb {
            Verb::Start => manager.start_unit(unit, "replace").await,
            Verb::Stop => manager.stop_unit(unit, "replace").await,
            Verb::Restart => manager.restart_unit(unit, "replace").await,
        };
        let queued = queued.map_err(|source| classify(format!("{} {unit}", verb.as_str()), source))?;
        Ok(job_number(&queued))
    }

    async fn hold(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let held = self.manager().await?.ref_unit(unit.as_str()).await;
        held.map_err(|source| classify(format!("hold {unit}"), source))
    }

    async fn release(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let released = self.manager().await?.unref_unit(unit.as_str()).await;
        released.map_err(|source| classify(format!("release {unit}"), source))
    }

    async fn unmet(&self, unit: &UnitName) -> Result<Vec<String>, SystemdError> {
        let asked = async {
            let unit = self.unit(unit).await?;
            Ok(unmet(unit.conditions().await?).chain(unmet(unit.asserts().await?)).collect())
        };
        asked.await.map_err(|source| classify(format!("tell what kept {unit} down"), source))
    }

    async fn failure(&self, unit: &UnitName) -> Result<Option<String>, SystemdError> {
        let what = || format!("tell why {unit} failed");
        let manager = self.manager().await?;
        let asked = async {
            let path = manager.load_unit(unit.as_str()).await?;
            let kind = unit.as_str().rsplit('.').next().unwrap_or_default();
            let kind = kind[..1].to_ascii_uppercase() + &kind[1..];
            let unit = zbus::proxy::Builder::<zbus::Proxy<'_>>::new(manager.inner().connection())
                .destination(SERVICE)
                .path(path)
                .interface(format!("org.freedesktop.systemd1.{kind}"))
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            let result: String = unit.get_property("Result").await?;
            let status = match &*result {
                "exit-code" | "signal" | "core-dump" => unit.get_property("ExecMainStatus").await.unwrap_or_default(),
                _ => 0,
            };
            Ok((result, status))
        };
        let (result, status) = asked.await.map_err(|source| classify(what(), source))?;
        Ok(failure(&result, status))
    }

    async fn reset_failed(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let reset = self.manager().await?.reset_failed_unit(unit.as_str()).await;
        reset.map_err(|source| classify(format!("reset {unit}"), source))
    }

    async fn link(&self, files: &[PathBuf]) -> Result<(), SystemdError> {
        let directory = self.runtime_units();
        let links::Made { before, left } = links::make(&directory, files);
        show_change(&Real, &directory, before).await;
        if left.is_empty() {
            return Ok(());
        }
        let manager = self.manager().await?;
        self.linking("link unit files", manager.link_unit_files(&as_text(left), true, true)).await
    }

    async fn enable(&self, files: &[PathBuf]) -> Result<(), SystemdError> {
        let manager = self.manager().await?;
        self.linking("enable unit files", manager.enable_unit_files(&as_text(files), true, true)).await
    }

    async fn disable(&self, units: &[UnitName]) -> Result<(), SystemdError> {
        let left = links::take_away(&self.runtime_units(), units);
        if left.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = left.iter().map(|unit| unit.as_str()).collect();
        let disabled = self.manager().await?.disable_unit_files(&names, true).await;
        match disabled.map_err(|source| classify("disable unit files", source)) {
            // To PID 1, too, what could be done hides what could not.
            Err(error) if error.is_no_such_unit() && left.len() < units.len() => Ok(()),
            disabled => disabled.map(drop),
        }
    }

    async fn needs_reload(&self, unit: &UnitName) -> Result<bool, SystemdError> {
        let asked = async { self.unit(unit).await?.need_daemon_reload().await };
        asked.await.map_err(|source| classify(format!("load {unit}"), source))
    }

    async fn reload(&self) -> Result<(), SystemdError> {
        self.manager().await?.reload().await.map_err(|source| classify("reload", source))
    }

    async fn unit_path(&self) -> Result<Vec<PathBuf>, SystemdError> {
        let ask = || async {
            let path = self.manager().await?.unit_path().await;
            let path = path.map_err(|source| classify("tell its search path", source))?;
            Ok(path.into_iter().map(PathBuf::from).collect())
        };
        self.path.get_or_try_init(ask).await.cloned()
    }

    fn runtime_units(&self) -> PathBuf {
        match &self.bus {
            Bus::System => SYSTEM_UNITS.into(),
            Bus::User(runtime) => runtime.join("systemd/user"),
        }
    }

    fn dirty(&self) -> &Dirty {
        &self.dirty
    }
}

/// Reads signals for ever, over one connection after the other.
async fn drain(bus: Bus, dirty: Arc<Dirty>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match signals(&bus).await {
            Ok(mut stream) => {
                backoff.reset();
                dirty.mark_all();
                while let Some(message) = stream.next().await {
                    match message {
                        Ok(message) => {
                            if let Err(error) = mark(&dirty, &message) {
                                warn!(error = %crate::chain(&error), "signal of systemd cannot be read");
                            } else if is_new_owner(&message) {
                                info!("systemd is new on the bus, looking at everything");
                                break;
                            }
                        }
                        Err(error) => {
                            warn!(error = %crate::chain(&error), "bus connection broke");
                            break;
                        }
                    }
                }
            }
            Err(error) => warn!(error = %crate::chain(&error), "cannot listen to systemd, trying again"),
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}

/// Opens a connection on which all signals of interest arrive.
async fn signals(bus: &Bus) -> zbus::Result<MessageStream> {
    // 13 signals come per start and stop of a unit: room for a thousand units between two looks of the scheduler.
    let queue = NonZeroUsize::new(16_384).expect("not zero");
    let connection = bus.connection().max_queued(queue).build().await?;
    let bus = DBusProxy::new(&connection).await?;
    let from_systemd = || MatchRule::builder().msg_type(Type::Signal).sender(SERVICE);
    let manager = "org.freedesktop.systemd1.Manager";
    let rules = [
        from_systemd()
            .path_namespace(UNITS)
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .arg(0, "org.freedesktop.systemd1.Unit")
            .build()?,
        from_systemd().interface(manager).member("JobRemoved").build()?,
        // Not `UnitRemoved`: systemd loads a unit that is down only to tell its state and unloads it again, so each look
        // would ask for the next. What changes for a unit before it is unloaded is told in the others.
        MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, SERVICE)
            .build()?,
    ];
    for rule in rules {
        bus.add_match_rule(rule).await?;
    }
    // The stream exists before the subscription: nothing said in between is lost.
    let stream = MessageStream::from(&connection);
    ManagerProxy::new(&connection).await?.subscribe().await?;
    Ok(stream)
}

/// Marks the unit that a signal is about.
fn mark(dirty: &Dirty, message: &zbus::Message) -> zbus::Result<()> {
    if message.message_type() != Type::Signal {
        return Ok(());
    }
    let header = message.header();
    match header.member().map(|member| member.as_str()) {
        Some("PropertiesChanged") => {
            let path = header.path().map_or("", |path| path.as_str());
            if let Some(unit) = path.strip_prefix(UNITS).and_then(|label| unescape(label.trim_start_matches('/'))) {
                dirty.mark(&unit, None);
            }
        }
        Some("JobRemoved") => {
            let body = message.body();
            let (job, _, unit, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
            dirty.mark(&unit, Some(Ended { job, result }));
        }
        _ => {}
    }
    Ok(())
}

/// PID 1 took its name on the bus (again): it has forgotten our subscription.
fn is_new_owner(message: &zbus::Message) -> bool {
    let is_signal = message.header().member().is_some_and(|member| member.as_str() == "NameOwnerChanged");
    let body = message.body();
    is_signal
        && body.deserialize::<(String, String, String)>().is_ok_and(|(name, _, new)| name == SERVICE && !new.is_empty())
}

/// Reads the last element of a unit's object path: `web_401_2eservice` is `web@1.service` (`sd_bus_path_decode(3)`).
fn unescape(label: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'_', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                after
            }
            (byte, after) => {
                bytes.push(*byte);
                after
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_that_were_not_met_are_told_as_a_file_has_them() {
        let condition = |name: &str, trigger, negate, state| (name.to_owned(), trigger, negate, "/a".to_owned(), state);
        let told = |conditions| unmet(conditions).collect::<Vec<_>>();
        let plain =
            vec![condition("ConditionPathExists", false, false, 1), condition("ConditionHost", false, true, -1)];
        assert_eq!(told(plain), ["ConditionHost=!/a"]);
        let one_met = vec![condition("ConditionHost", true, false, -1), condition("ConditionUser", true, false, 1)];
        assert_eq!(told(one_met), [""; 0]);
        let none_met = vec![condition("ConditionHost", true, false, -1), condition("ConditionUser", true, false, -1)];
        assert_eq!(told(none_met), ["ConditionHost=|/a", "ConditionUser=|/a"]);
    }

    #[test]
    fn results_of_units_are_told_in_words() {
        for (result, status, told) in [
            ("success", 0, None),
            ("exit-code", 3, Some("exit status 3")),
            ("signal", 9, Some("killed by signal 9")),
            ("exit-code", 0, Some("result exit-code")),
            ("start-limit-hit", 0, Some("started too often in a short time (StartLimitBurst=)")),
            ("oom-kill", 0, Some("result oom-kill")),
        ] {
            assert_eq!(failure(result, status).as_deref(), told, "{result}");
        }
    }

    #[test]
    fn object_paths_name_their_units() {
        for (label, unit) in [
            ("web_401_2eservice", Some("web@1.service")),
            ("dev_2dsda_5cx2d1_2edevice", Some(r"dev-sda\x2d1.device")),
            ("_31_2eservice", Some("1.service")),
            ("bad_zz", None),
            ("cut_2", Some("cut_2")),
        ] {
            assert_eq!(unescape(label).as_deref(), unit, "{label}");
        }
    }
}

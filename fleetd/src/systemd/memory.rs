//! Systemd in memory: one host's PID 1 for the seeded simulation, with its faults.
//!
//! [`MemoryHost`] is the host's PID 1, [`MemorySystemd`] the handle of one fleetd on it. Units come from files that
//! the host is given as [`ReadFile`], take their time to start and to stop, end and fail as their commands say, and
//! leave a log of what ran when, from which the simulation tells whether a unit ran twice or was restarted for
//! nothing. What a real systemd does with old definitions, references and failed units is done here, too: the same
//! script runs against both (`tests/tests/twins.rs`).

mod definition;
mod log;
mod pid1;
mod unit;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use fleet_core::{
    host::{Job, Runtime},
    unit::UnitName,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use self::{log::Refusal, pid1::Pid1};
pub use self::{
    log::{Entry, What},
    pid1::ReadFile,
};
use super::{Answer, Dirty, Systemd, SystemdError, Verb};

/// How often something goes wrong by itself. Those that are no sets are probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Milliseconds that a message takes one way.
    pub latency: RangeInclusive<u64>,
    /// No answer comes. Half of what was asked is done all the same.
    pub silent: f64,
    /// A signal is lost.
    pub lose_signal: f64,
    /// A target leaves one of its units out of its transaction.
    pub leave_out: f64,
    /// Files of these units are refused.
    pub refuse: BTreeSet<String>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { latency: 0..=2, silent: 0.0, lose_signal: 0.0, leave_out: 0.0, refuse: BTreeSet::new() }
    }
}

struct State {
    pid1: Pid1,
    rng: fastrand::Rng,
    faults: Faults,
    up: bool,
    /// Until when PID 1 is away from the bus.
    away: Option<Instant>,
    listeners: Vec<Weak<Dirty>>,
    calls: u64,
}

struct Inner {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

/// The simulated PID 1 of a host. Cheap to clone.
#[derive(Clone)]
pub struct MemoryHost(Arc<Inner>);

impl MemoryHost {
    /// A host that is up and runs nothing, and the task that lets time pass on it; the task runs until the host is
    /// dropped.
    pub fn new(
        name: &str,
        files: Arc<dyn ReadFile>,
        mut rng: fastrand::Rng,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let pid1 = Pid1::new(name, files, rng.fork(), Instant::now());
        let state =
            State { pid1, rng, faults: Faults::default(), up: true, away: None, listeners: Vec::new(), calls: 0 };
        let inner = Arc::new(Inner { state: Mutex::new(state), changed: watch::channel(()).0 });
        let clock = run(Arc::downgrade(&inner), inner.changed.subscribe());
        (Self(inner), clock)
    }

    /// A handle with signals of its own, as a new fleetd opens it.
    #[must_use]
    pub fn connect(&self) -> MemorySystemd {
        let dirty = Arc::new(Dirty::default());
        self.0.look().listeners.push(Arc::downgrade(&dirty));
        MemorySystemd { host: Arc::clone(&self.0), dirty }
    }

    /// What goes wrong by itself.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.0.look();
        state.pid1.leaves_out = faults.leave_out;
        state.faults = faults;
    }

    /// Re-executes PID 1: for a while it does not answer and its signals are lost; units and jobs go on.
    pub fn reexecute(&self, away: Duration) {
        self.0.change(|state, now| state.away = Some(now + away));
    }

    /// Takes the power away: everything ends at once, and what was made known until the next boot is forgotten.
    pub fn lose_power(&self) {
        self.0.change(|state, now| {
            state.pid1.lose_power(now);
            state.up = false;
            state.listeners.clear();
        });
    }

    /// Boots it again.
    pub fn boot(&self) {
        self.0.change(|state, _| state.up = true);
    }

    /// Does something with a unit as a person at the host would.
    ///
    /// # Errors
    /// Systemd's refusal, as text.
    pub fn operate(&self, verb: Verb, unit: &str) -> Result<(), String> {
        self.0.change(|state, now| {
            let queued = state.pid1.queue(job(verb), unit, now);
            queued.map(drop).map_err(|Refusal(_, text)| text)
        })
    }

    /// What has happened on it, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Entry> {
        self.0.look().pid1.log().to_vec()
    }

    /// The units whose main process runs.
    #[must_use]
    pub fn alive(&self) -> BTreeSet<String> {
        self.0.look().pid1.alive()
    }

    /// The units that are linked until the next boot.
    #[must_use]
    pub fn links(&self) -> BTreeSet<String> {
        self.0.look().pid1.links()
    }

    /// How many calls clients have made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.look().calls
    }
}

impl Inner {
    fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells the listeners of what happened to units.
    fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.look();
        let now = Instant::now();
        state.pid1.advance(now);
        let result = change(&mut state, now);
        state.pid1.advance(now);
        self.tell(&mut state, now);
        drop(state);
        self.changed.send_replace(());
        result
    }

    fn tell(&self, state: &mut State, now: Instant) {
        let signals = state.pid1.take_signals();
        let away = state.away.is_some_and(|until| until > now);
        state.listeners.retain(|listener| listener.strong_count() > 0);
        let listeners: Vec<Arc<Dirty>> = state.listeners.iter().filter_map(Weak::upgrade).collect();
        for (unit, ended) in signals {
            let lost = state.faults.lose_signal > 0.0 && state.rng.f64() < state.faults.lose_signal;
            if !away && !lost {
                listeners.iter().for_each(|listener| listener.mark(&unit, ended.clone()));
            }
        }
    }

    /// Whether it is on the bus again after it was away; then everybody must look at everything.
    fn comes_back(&self) {
        let mut state = self.look();
        if state.away.is_some_and(|until| until <= Instant::now()) {
            state.away = None;
            state.listeners.iter().filter_map(Weak::upgrade).for_each(|listener| listener.mark_all());
        }
    }
}

/// Lets time pass on a host.
async fn run(host: Weak<Inner>, mut changed: watch::Receiver<()>) {
    loop {
        changed.borrow_and_update();
        let next = {
            let Some(host) = host.upgrade() else { return };
            host.comes_back();
            let (next, away) = {
                let state = host.look();
                (state.pid1.next(), state.away)
            };
            if next.is_some_and(|next| next <= Instant::now()) {
                host.change(|_, _| ());
                continue;
            }
            next.into_iter().chain(away).min()
        };
        tokio::select! {
            biased;
            () = async { match next { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
            changed = changed.changed() => if changed.is_err() { return },
        }
    }
}

/// A client's handle to a simulated systemd. Cheap to clone.
#[derive(Clone)]
pub struct MemorySystemd {
    host: Arc<Inner>,
    dirty: Arc<Dirty>,
}

impl MemorySystemd {
    async fn call<T>(
        &self,
        what: impl FnOnce() -> String,
        call: impl FnOnce(&mut State, Instant) -> Result<T, Refusal>,
    ) -> Result<T, SystemdError> {
        self.travel().await;
        self.host.comes_back();
        let busy = {
            let mut state = self.host.look();
            state.calls += 1;
            if !state.up || state.away.is_some() {
                return Err(no_reply());
            }
            state.pid1.busy_until()
        };
        sleep_until(busy).await;
        let (silent, done) = {
            let mut state = self.host.look();
            let silent = state.faults.silent > 0.0 && state.rng.f64() < state.faults.silent;
            (silent || !state.up, state.rng.bool())
        };
        if silent && !done {
            return Err(no_reply());
        }
        let answer = self.host.change(|state, now| call(state, now));
        self.travel().await;
        if silent || !self.host.look().up {
            return Err(no_reply());
        }
        answer.map_err(|refusal| refused(what(), refusal))
    }

    async fn travel(&self) {
        let latency = {
            let mut state = self.host.look();
            let latency = state.faults.latency.clone();
            state.rng.u64(latency)
        };
        match latency {
            // Others run at every point where they could in earnest.
            0 => tokio::task::yield_now().await,
            latency => sleep(Duration::from_millis(latency)).await,
        }
    }

    async fn change_files(&self, what: &'static str, files: &[PathBuf], enable: bool) -> Result<(), SystemdError> {
        let call = |state: &mut State, now| {
            let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for unit in files.iter().map(name) {
                state.pid1.note(now, &unit, What::Asked(what));
                check(&state.faults, &unit)?;
            }
            state.pid1.link(files, enable)
        };
        self.call(|| format!("{what} unit files"), call).await
    }
}

fn check(faults: &Faults, unit: &str) -> Result<(), Refusal> {
    match faults.refuse.contains(unit) {
        true => Err(Refusal("org.freedesktop.systemd1.BadUnitSetting", format!("{unit} is refused."))),
        false => Ok(()),
    }
}

fn job(verb: Verb) -> Job {
    match verb {
        Verb::Start => Job::Start,
        Verb::Stop => Job::Stop,
        Verb::Restart => Job::Restart,
    }
}

fn no_reply() -> SystemdError {
    let error = zbus::fdo::Error::NoReply("Message recipient disconnected from message bus without replying".into());
    SystemdError::Unavailable(zbus::Error::FDO(Box::new(error)))
}

fn refused(what: String, Refusal(name, text): Refusal) -> SystemdError {
    let answer = || -> zbus::Result<zbus::Error> {
        let message = zbus::Message::method_call("/org/freedesktop/systemd1", "Call").build(&())?;
        Ok(zbus::Error::MethodError(name.try_into()?, Some(text.clone()), message))
    };
    let source = answer().unwrap_or_else(|error| error);
    SystemdError::Refused { what, source: Answer(source) }
}

impl Systemd for MemorySystemd {
    async fn list(&self, units: &[UnitName]) -> Result<BTreeMap<UnitName, Runtime>, SystemdError> {
        if units.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list = |state: &mut State, _| {
            Ok(units.iter().map(|unit| (unit.clone(), state.pid1.list(unit.as_str()))).collect())
        };
        self.call(|| "list units".into(), list).await
    }

    async fn loaded(&self, units: &[UnitName]) -> Result<BTreeMap<UnitName, Runtime>, SystemdError> {
        if units.is_empty() {
            return Ok(BTreeMap::new());
        }
        let look = |state: &mut State, _| {
            Ok(units.iter().filter_map(|unit| Some((unit.clone(), state.pid1.loaded(unit.as_str())?))).collect())
        };
        self.call(|| "list loaded units".into(), look).await
    }

    async fn queue(&self, verb: Verb, unit: &str) -> Result<u32, SystemdError> {
        let queue = |state: &mut State, now| {
            state.pid1.note(now, unit, What::Asked(verb.as_str()));
            state.pid1.queue(job(verb), unit, now)
        };
        self.call(|| format!("{} {unit}", verb.as_str()), queue).await
    }

    // It has what it would be asked in its files; nothing needs to be held.
    async fn hold(&self, _: &UnitName) -> Result<(), SystemdError> {
        Ok(())
    }

    async fn release(&self, _: &UnitName) -> Result<(), SystemdError> {
        Ok(())
    }

    async fn unmet(&self, unit: &UnitName) -> Result<Vec<String>, SystemdError> {
        let unmet = |state: &mut State, _| Ok(state.pid1.unmet(unit.as_str()));
        self.call(|| format!("tell what kept {unit} down"), unmet).await
    }

    async fn failure(&self, _: &UnitName) -> Result<Option<String>, SystemdError> {
        Ok(None)
    }

    async fn reset_failed(&self, unit: &UnitName) -> Result<(), SystemdError> {
        let reset = |state: &mut State, now| {
            state.pid1.note(now, unit.as_str(), What::Asked("reset"));
            state.pid1.reset_failed(unit.as_str())
        };
        self.call(|| format!("reset {unit}"), reset).await
    }

    async fn link(&self, files: &[PathBuf]) -> Result<(), SystemdError> {
        self.change_files("link", files, false).await
    }

    async fn enable(&self, files: &[PathBuf]) -> Result<(), SystemdError> {
        self.change_files("enable", files, true).await
    }

    async fn disable(&self, units: &[UnitName]) -> Result<(), SystemdError> {
        let disable = |state: &mut State, now| {
            let names: Vec<String> = units.iter().map(|unit| unit.as_str().to_owned()).collect();
            for unit in &names {
                state.pid1.note(now, unit, What::Asked("disable"));
            }
            state.pid1.disable(&names)
        };
        self.call(|| "disable unit files".into(), disable).await
    }

    async fn needs_reload(&self, unit: &UnitName) -> Result<bool, SystemdError> {
        let ask = |state: &mut State, _| Ok(state.pid1.needs_reload(unit.as_str()));
        self.call(|| format!("load {unit}"), ask).await
    }

    async fn reload(&self) -> Result<(), SystemdError> {
        let busy = self.call(
            || "reload".into(),
            |state, now| {
                state.pid1.reload(now);
                Ok(state.pid1.busy_until())
            },
        );
        sleep_until(busy.await?).await;
        Ok(())
    }

    async fn unit_path(&self) -> Result<Vec<PathBuf>, SystemdError> {
        self.call(|| "tell its search path".into(), |_, _| Ok(pid1::SEARCH.map(PathBuf::from).to_vec())).await
    }

    fn dirty(&self) -> &Dirty {
        &self.dirty
    }
}

//! A cluster of simulated hosts, and what a script does to it.

mod host;
mod operator;

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use fleet_core::{
    model::{Desired, Features, Keys, Kind, Snapshot, features},
    ops::{Contents, Operation, RestartUnit, SetUnit, WhenSame},
};
use fleetd::registry::{
    Revision,
    memory::{Condition, Faults, Health, Link, MemoryStore},
    mirror,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use self::{host::SimHost, operator::Operator};
use crate::{
    record::{HostFacts, Note, Quiet, Record},
    script::{Event, Script, Whom},
    units::{self, Library, Unit},
};

/// After the last fault: leases run out, brakes are let go, what has failed often is tried again.
const SETTLE: Duration = Duration::from_secs(240);
/// Then nothing may happen for so long.
const QUIET: Duration = Duration::from_secs(60);
/// The client of the mirror that is compared with the store.
const MIRROR: &str = "mirror";

thread_local! {
    static BROKEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Remembers something that must not happen.
fn broke(what: String) {
    BROKEN.with_borrow_mut(|broken| broken.push(what));
}

/// Keeps panics of a thread's simulation for its record as well. To be called once.
pub fn catch_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        broke(panic.to_string());
        print(panic);
    }));
}

/// Plays a script from its beginning to its end.
///
/// # Panics
/// When there can be no runtime.
#[must_use]
pub fn play(script: &Script) -> Record {
    // The jitter of fleetd comes from this thread's generator.
    fastrand::seed(script.seed);
    BROKEN.with_borrow_mut(Vec::clear);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true);
    // Tokio wakes those who wait for one thing in an order of its own drawing. `make sim` builds so that it can be told.
    #[cfg(tokio_unstable)]
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&script.seed.to_le_bytes()));
    let runtime = runtime.build().expect("a runtime without IO needs nothing");
    let mut record = runtime.block_on(async { World::new(script).play(script).await });
    record.broken = BROKEN.with_borrow(Vec::clone);
    record
}

/// The keys that a mirror shows, and the revision that each was written at.
fn revisions(cluster: &Snapshot, keys: &Keys) -> BTreeMap<String, Revision> {
    cluster.entries().map(|(key, revision)| (keys.format(&key), revision)).collect()
}

enum Todo {
    Begin(Event),
    End(Option<usize>, Event),
}

struct World {
    start: Instant,
    store: MemoryStore,
    keys: Keys,
    hosts: Vec<SimHost>,
    units: Vec<Unit>,
    /// What the operator wants of each of them.
    desired: Vec<Desired>,
    edits: u32,
    library: Library,
    agenda: BTreeMap<(Instant, u64), Todo>,
    count: u64,
    notes: Vec<Note>,
    operator: Operator,
    /// Faults of the store that are under way, the newest last.
    store_faults: Vec<Condition>,
    cluster: watch::Receiver<Snapshot>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl World {
    fn new(script: &Script) -> Self {
        let start = Instant::now();
        let mut rng = fastrand::Rng::with_seed(script.twins);
        let keys = Keys::new("fleet");
        let (store, lessor) = MemoryStore::new(rng.fork());
        let mut tasks = vec![AbortOnDropHandle::new(tokio::spawn(lessor))];
        let zones = ["a", "b"];
        let hosts = (0..script.hosts)
            .map(|number| {
                let metadata = BTreeMap::from([("zone".to_owned(), zones[number % 2].to_owned())]);
                let (mut host, clock) = SimHost::new(number, metadata, rng.fork(), start, script.ttl);
                let upgrades = |event: &Event| matches!(event, Event::Upgrade(whom, _) if *whom == number);
                if script.events.iter().any(|(_, event)| upgrades(event)) {
                    host.features = [features::KEEPS_UNKNOWN].into_iter().collect();
                }
                tasks.push(AbortOnDropHandle::new(tokio::spawn(clock)));
                host
            })
            .collect();
        let operator = Operator::new(&store, &keys);
        let (sender, cluster) = watch::channel(Snapshot::default());
        let (client, mirrored) = (store.client(MIRROR), keys.clone());
        let follow = async move { mirror::follow(&client, &mirrored, &[mirrored.followed()], &sender).await };
        tasks.push(AbortOnDropHandle::new(tokio::spawn(follow)));
        Self {
            start,
            store,
            keys,
            hosts,
            desired: vec![Desired::Inactive; script.units.len()],
            units: script.units.clone(),
            edits: 0,
            library: Library::new(),
            agenda: BTreeMap::new(),
            count: 0,
            notes: Vec::new(),
            operator,
            store_faults: Vec::new(),
            cluster,
            _tasks: tasks,
        }
    }

    fn at(&mut self, at: Instant, todo: Todo) {
        self.count += 1;
        self.agenda.insert((at, self.count), todo);
    }

    async fn play(mut self, script: &Script) -> Record {
        for host in &mut self.hosts {
            host.start(&self.store, &self.keys);
        }
        for (at, event) in &script.events {
            self.at(self.start + *at, Todo::Begin(event.clone()));
        }
        let end = self.start + script.end() + SETTLE;
        while let Some((at, todo)) = self.next(end) {
            sleep_until(at).await;
            match todo {
                Todo::Begin(event) => self.begin(event),
                Todo::End(host, event) => self.end(host, event),
            }
        }
        sleep_until(end).await;
        let mut quiet = Quiet::default();
        quiet.store.0 = self.store.calls();
        quiet.systemd.0 = self.hosts.iter().map(|host| host.pid1.calls()).collect();
        let revision = self.store.revision();
        sleep_until(end + QUIET).await;
        quiet.store.1 = self.store.calls();
        quiet.systemd.1 = self.hosts.iter().map(|host| host.pid1.calls()).collect();
        quiet.commits = self.store.history(revision + 1).len();
        self.record(script, quiet)
    }

    fn next(&mut self, end: Instant) -> Option<(Instant, Todo)> {
        let entry = self.agenda.first_entry().filter(|entry| entry.key().0 < end)?;
        let at = entry.key().0;
        Some((at, entry.remove()))
    }

    fn record(self, script: &Script, quiet: Quiet) -> Record {
        let mut log: Vec<_> = self.hosts.iter().flat_map(|host| host.pid1.log()).collect();
        log.sort_by_key(|entry| entry.at);
        let cluster = self.cluster.borrow();
        Record {
            seed: script.seed,
            scenario: script.scenario,
            start: self.start,
            ttl: script.ttl,
            hosts: self
                .hosts
                .iter()
                .map(|host| HostFacts { name: host.name.clone(), id: host.id.clone(), metadata: host.metadata.clone() })
                .collect(),
            library: self.library,
            requirements: self
                .units
                .iter()
                .map(|unit| (unit.name.clone(), units::read(&unit.name, &unit.text).1.requirements))
                .collect(),
            orders: self.operator.given(),
            notes: self.notes,
            commits: self.store.history(2),
            log,
            entries: self.store.entries(&self.keys.all()),
            mirror: revisions(&cluster, &self.keys),
            keys: self.keys,
            alive: self.hosts.iter().map(|host| host.pid1.alive()).collect(),
            installed: self.hosts.iter().map(SimHost::installed).collect(),
            quiet,
            broken: Vec::new(),
        }
    }

    fn note(&mut self, begins: bool, host: Option<usize>, event: Event) {
        self.notes.push(Note { at: Instant::now(), begins, host, event });
    }

    fn resolve(&self, whom: Whom) -> usize {
        match whom {
            Whom::Host(host) => host,
            Whom::Leader => {
                let candidates = self.store.entries(&self.keys.of(Kind::Candidate));
                let leader = candidates.iter().min_by_key(|stored| stored.create_revision);
                let leads = |host: &SimHost| leader.is_some_and(|leader| leader.value == host.id.as_str().as_bytes());
                self.hosts.iter().position(leads).unwrap_or(0)
            }
        }
    }

    fn begin(&mut self, event: Event) {
        let now = Instant::now();
        let lasts = event.lasts();
        let host = event.whom().map(|whom| self.resolve(whom));
        let done = match (&event, host) {
            (Event::Want(..) | Event::Restart(_) | Event::Edit(_) | Event::Destroy(_) | Event::Drain(..), _) => {
                match host {
                    Some(host) => self.operator.order(Operation::Drain(self.hosts[host].id.clone())),
                    None => self.order(&event),
                }
                true
            }
            (Event::Store(condition, _), _) => {
                self.store_faults.push(*condition);
                self.store.set_condition(*condition);
                true
            }
            (Event::Member(member, health, _), _) => {
                self.store.set_health(*member, *health);
                true
            }
            (Event::Compact(share), _) => {
                let revision = 1 + ((self.store.revision() - 1) as f64 * share) as Revision;
                // A frozen store compacts nothing.
                let up = self.store.condition() == Condition::Up;
                if up {
                    self.store.compact(revision);
                }
                up
            }
            (Event::NetworkFaults(faults, _), _) => {
                self.store.set_faults(faults.clone());
                true
            }
            (Event::CutMany(first, count, _), _) => {
                let hosts = self.hosts.len();
                for number in (*first..first + count).map(|number| number % hosts) {
                    let event = Event::Link(Whom::Host(number), Link::Cut, lasts);
                    self.at(now, Todo::Begin(event));
                }
                true
            }
            (_, Some(number)) => self.begin_on(number, &event),
            (_, None) => false,
        };
        if done {
            self.note(true, host, event.clone());
            if lasts > Duration::ZERO {
                self.at(now + lasts, Todo::End(host, event));
            }
        }
    }

    fn begin_on(&mut self, number: usize, event: &Event) -> bool {
        let host = &mut self.hosts[number];
        match event {
            Event::Link(_, link, _) => {
                host.links.push(*link);
                self.store.set_link(&host.name, *link);
                true
            }
            Event::Disconnect(_) => {
                self.store.disconnect(&host.name);
                true
            }
            Event::Kill(..) => host.kill(),
            Event::RestartDaemon(..) => host.end(false),
            Event::Leave(..) => host.end(true),
            Event::Upgrade(..) => {
                host.end(false);
                true
            }
            Event::PowerLoss(..) => host.lose_power(&self.store),
            Event::Reexecute(_, away) => {
                host.pid1.reexecute(*away);
                true
            }
            Event::SystemdFaults(_, faults, _) => {
                host.pid1.set_faults(faults.clone());
                true
            }
            Event::Slow(_, most, _) => {
                let faults = Faults { latency: 1..=*most, ..Faults::default() };
                self.store.set_faults_of(&host.name, Some(faults));
                true
            }
            Event::FullDisk(..) => {
                host.files.set_full(true);
                true
            }
            _ => false,
        }
    }

    fn end(&mut self, host: Option<usize>, event: Event) {
        let again = Instant::now() + Duration::from_millis(500);
        match (&event, host) {
            (Event::Store(condition, _), _) => {
                if let Some(at) = self.store_faults.iter().position(|fault| fault == condition) {
                    self.store_faults.remove(at);
                }
                self.store.set_condition(*self.store_faults.last().unwrap_or(&Condition::Up));
            }
            (Event::Member(member, _, _), _) => self.store.set_health(*member, Health::Up),
            (Event::NetworkFaults(..), _) => self.store.set_faults(Faults::default()),
            (Event::Slow(..), Some(number)) => self.store.set_faults_of(&self.hosts[number].name, None),
            (Event::Drain(..), Some(number)) => {
                self.operator.order(Operation::Undrain(self.hosts[number].id.clone()));
            }
            (Event::Link(_, link, _), Some(number)) => {
                let host = &mut self.hosts[number];
                if let Some(at) = host.links.iter().position(|fault| fault == link) {
                    host.links.remove(at);
                }
                self.store.set_link(&host.name, *host.links.last().unwrap_or(&Link::Up));
            }
            (Event::Kill(..) | Event::RestartDaemon(..) | Event::Upgrade(..) | Event::Leave(..), Some(number)) => {
                let host = &mut self.hosts[number];
                if host.is_ending() {
                    return self.at(again, Todo::End(Some(number), event));
                }
                if matches!(event, Event::Upgrade(..)) {
                    host.features = Features::of_this_daemon();
                }
                host.start(&self.store, &self.keys);
            }
            (Event::PowerLoss(..), Some(number)) => self.hosts[number].boot(&self.store, &self.keys),
            (Event::SystemdFaults(..), Some(number)) => self.hosts[number].pid1.set_faults(Default::default()),
            (Event::FullDisk(..), Some(number)) => self.hosts[number].files.set_full(false),
            _ => {}
        }
        self.note(false, host, event);
    }

    /// Has the operator do something to a unit.
    fn order(&mut self, event: &Event) {
        let (Event::Want(number, _) | Event::Restart(number) | Event::Edit(number) | Event::Destroy(number)) = event
        else {
            return;
        };
        match event {
            Event::Want(_, desired) => self.desired[*number] = *desired,
            Event::Destroy(_) => self.desired[*number] = Desired::Inactive,
            Event::Edit(_) => {
                self.edits += 1;
                let unit = &mut self.units[*number];
                unit.text = units::edited(&unit.text, self.edits);
            }
            _ => {}
        }
        let unit = &self.units[*number];
        let (hash, contents) = units::read(&unit.name, &unit.text);
        let name = unit.name.clone();
        let operation = match event {
            Event::Destroy(_) => Operation::Destroy(name),
            Event::Restart(_) => Operation::Restart(RestartUnit { name, up_to: None, generation: None }),
            _ => Operation::Set(SetUnit {
                contents: Some(Contents::new(&contents.file, &name).expect("the simulation's units can be submitted")),
                name,
                desired: Some(self.desired[*number]),
                when_same: WhenSame::Ensure,
            }),
        };
        self.library.insert(hash, contents);
        self.operator.order(operation);
    }
}

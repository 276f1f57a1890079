//! A large cluster as the planner sees it, what happens to it while it is measured, and whether all is well in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    model::MachineId,
    sched::{Decision, Planner},
    unit::{Glob, Requirements, UnitName},
};
use rustix::time::{ClockId, clock_gettime};

/// Global units, each for one rack and in conflict with one unit.
const GLOBALS: usize = 20;

/// How many machines and units a cluster has.
#[derive(Clone, Copy)]
pub struct Size {
    pub machines: usize,
    pub units: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.machines, self.units)
    }
}

/// The sizes that are compared. `cargo bench` measures; everything else, `cargo test` among it, only tries each once.
pub fn sizes() -> [Size; 2] {
    let measures = std::env::args().any(|argument| argument == "--bench");
    let machines = if measures { [1_000, 10_000] } else { [20, 50] };
    machines.map(|machines| Size { machines, units: 10 * machines })
}

fn machine(n: usize) -> MachineId {
    // Spread like real IDs, which share no prefix.
    MachineId::new(&format!("{:08x}{n:024x}", (n as u32).wrapping_mul(2_654_435_761))).unwrap()
}

fn metadata(n: usize) -> BTreeMap<String, String> {
    let pairs = [
        ("disk", if n.is_multiple_of(3) { "ssd" } else { "hdd" }.into()),
        ("region", ["eu", "us", "ap"][n % 3].into()),
        ("rack", format!("r{}", n % 100)),
    ];
    pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

fn unit_name(n: usize) -> UnitName {
    let name = match n % 20 {
        // Ten instances of each template, which keep apart.
        0 | 1 => format!("web{}@{}.service", n / 100, n % 100),
        2 => format!("sidekick-{n}.service"),
        _ => format!("job-{n}.service"),
    };
    UnitName::new(&name).unwrap()
}

/// 10 % in conflict with their own kind, 5 % that follow another, 20 % with metadata, the rest without wishes.
fn requirements(n: usize) -> Requirements {
    let plain = Requirements::default();
    let set = |values: &[&str]| values.iter().map(|&value| value.into()).collect();
    match n % 20 {
        0 | 1 => Requirements { conflicts: [Glob::new(format!("web{}@*.service", n / 100))].into(), ..plain },
        2 => Requirements { machine_of: [unit_name(n + 1).to_string()].into(), ..plain },
        4 | 5 => Requirements { metadata: [("disk".into(), set(&["ssd"]))].into(), ..plain },
        6 | 7 => {
            let both = [("region".into(), set(&["eu", "us"])), ("disk".into(), set(&["hdd"]))];
            Requirements { metadata: both.into(), ..plain }
        }
        _ => plain,
    }
}

fn global(n: usize) -> (UnitName, Requirements) {
    let conflicts = [Glob::new(format!("web{n}@1.service"))].into();
    let metadata = [("rack".into(), [format!("r{n}")].into())].into();
    let requirements = Requirements { global: true, metadata, conflicts, ..Requirements::default() };
    (UnitName::new(&format!("global-{n}.service")).unwrap(), requirements)
}

/// Numbers below `count`, each once before any comes again, so that neighbours are far from each other.
fn spread(turn: usize, count: usize) -> usize {
    // A prime that divides no size.
    turn * 7919 % count
}

/// What a planner is told of a cluster, but for what is placed where.
struct News {
    machines: Vec<(MachineId, BTreeMap<String, String>)>,
    units: Vec<(UnitName, Arc<Requirements>)>,
    globals: Vec<(UnitName, Arc<Requirements>)>,
}

impl News {
    fn of(size: Size) -> Self {
        let shared = |(name, requirements)| (name, Arc::new(requirements));
        Self {
            machines: (0..size.machines).map(|n| (machine(n), metadata(n))).collect(),
            units: (0..size.units).map(|n| shared((unit_name(n), requirements(n)))).collect(),
            globals: (0..GLOBALS).map(global).map(shared).collect(),
        }
    }

    fn tell(self) -> Planner {
        let mut planner = Planner::new();
        self.machines.into_iter().for_each(|(id, metadata)| planner.set_machine(id, metadata));
        self.units.into_iter().for_each(|(name, requirements)| planner.set_unit(name, requirements, true));
        self.globals.into_iter().for_each(|(name, requirements)| planner.set_global(name, requirements, true));
        planner
    }
}

/// The processor time that this thread has used. What else the machine does meanwhile does not count.
fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A cluster, its planner, and a store that confirms every decision.
pub struct Cluster {
    size: Size,
    planner: Planner,
    /// Decisions that the planner knows to be in the store, and that are yet to be written there.
    confirmed: Vec<Decision>,
    store: BTreeMap<UnitName, MachineId>,
    /// How many units there are of `unit_name`.
    units: usize,
    turn: usize,
}

impl Cluster {
    /// A cluster of which the planner was told and nothing is placed yet.
    pub fn told(size: Size) -> Self {
        Self {
            size,
            planner: News::of(size).tell(),
            confirmed: Vec::new(),
            store: BTreeMap::new(),
            units: size.units,
            turn: 0,
        }
    }

    /// A cluster in which all is placed.
    pub fn full(size: Size) -> Self {
        let mut cluster = Self::told(size);
        cluster.plan();
        cluster.write();
        cluster
    }

    /// The planner decides, and hears that the store has it.
    fn plan(&mut self) {
        let decisions = self.planner.plan();
        for Decision { unit, from, to, .. } in &decisions {
            from.iter().for_each(|id| self.planner.removed(unit, id));
            if let Some(id) = to {
                self.planner.placed(unit.clone(), id.clone());
            }
        }
        self.confirmed.extend(decisions);
    }

    /// Brings the store up to date; how many decisions that took.
    fn write(&mut self) -> usize {
        let count = self.confirmed.len();
        for Decision { unit, to, .. } in self.confirmed.drain(..) {
            match to {
                Some(machine) => self.store.insert(unit, machine),
                None => self.store.remove(&unit),
            };
        }
        count
    }

    /// Plans everything; how long the planner took.
    pub fn plan_all(&mut self) -> Duration {
        let start = now();
        self.plan();
        let spent = now() - start;
        assert_eq!(self.write(), self.size.units);
        spent
    }

    /// Stops some units, one after the other, and starts them again likewise; how long the planner took.
    pub fn change_units(&mut self, count: usize) -> Duration {
        let units: Vec<usize> = (self.turn..self.turn + count).map(|turn| spread(turn, self.size.units)).collect();
        self.turn += count;
        let changes = [false, true].map(|wanted| units.iter().map(move |&n| (n, wanted)));
        let changes = changes.into_iter().flatten();
        let changes: Vec<_> = changes.map(|(n, wanted)| (unit_name(n), Arc::new(requirements(n)), wanted)).collect();
        let start = now();
        for (name, requirements, wanted) in changes {
            self.planner.set_unit(name, requirements, wanted);
            self.plan();
        }
        let spent = now() - start;
        self.write();
        spent
    }

    /// Loses some machines, one after the other, and then puts all back as it was; how long the planner took for the
    /// losses, and how many units were moved.
    pub fn lose_machines(&mut self, count: usize) -> (Duration, usize) {
        let before = self.store.clone();
        let lost: Vec<usize> = (self.turn..self.turn + count).map(|turn| spread(turn, self.size.machines)).collect();
        self.turn += count;
        let ids: Vec<MachineId> = lost.iter().map(|&n| machine(n)).collect();
        let start = now();
        for id in &ids {
            self.planner.remove_machine(id);
            self.plan();
        }
        let spent = now() - start;
        let moved = self.write();
        self.check_without(&lost);

        lost.iter().for_each(|&n| self.planner.set_machine(machine(n), metadata(n)));
        for (unit, now) in &self.store {
            if *now != before[unit] {
                self.planner.removed(unit, now);
                self.planner.placed(unit.clone(), before[unit].clone());
            }
        }
        self.store = before;
        assert_eq!(self.planner.plan(), [], "what was there before fits there");
        (spent, moved)
    }

    /// Submits new units of the same kinds, and then destroys them again; how long the planner took to place them.
    pub fn submit(&mut self, count: usize) -> Duration {
        let new: Range<usize> = self.units..self.units + count;
        let units: Vec<_> = new.clone().map(|n| (unit_name(n), Arc::new(requirements(n)))).collect();
        let start = now();
        for (name, requirements) in units {
            self.planner.set_unit(name, requirements, true);
        }
        self.plan();
        let spent = now() - start;
        assert_eq!(self.write(), count);
        self.units = new.end;
        self.check();

        self.units = new.start;
        new.for_each(|n| self.planner.remove_unit(&unit_name(n)));
        self.plan();
        self.write();
        spent
    }

    /// A new planner that knows everything, and how long it took to learn it.
    pub fn successor(&self) -> (Planner, Duration) {
        let placements: Vec<_> = self.store.iter().map(|(unit, on)| (unit.clone(), on.clone())).collect();
        let news = News::of(self.size);
        let start = now();
        let mut planner = news.tell();
        placements.into_iter().for_each(|(unit, on)| planner.placed(unit, on));
        let decisions = planner.plan();
        let spent = now() - start;
        assert_eq!(decisions, []);
        (planner, spent)
    }

    /// Submits units that no machine takes.
    pub fn submit_unplaceable(&mut self, count: usize) {
        let nowhere = Requirements { metadata: [("disk".into(), ["tape".into()].into())].into(), ..Default::default() };
        for n in 0..count {
            let name = UnitName::new(&format!("nowhere-{n}.service")).unwrap();
            self.planner.set_unit(name, Arc::new(nowhere.clone()), true);
        }
        self.plan();
        assert_eq!(self.write(), 0);
        assert_eq!(self.planner.pending().count(), count);
    }

    /// Adds some machines, one after the other, and removes them again; how long the planner took for their coming.
    pub fn add_machines(&mut self, count: usize) -> Duration {
        let new = self.size.machines..self.size.machines + count;
        let ids: Vec<MachineId> = new.clone().map(machine).collect();
        let news: Vec<_> = new.map(|n| (machine(n), metadata(n))).collect();
        let start = now();
        for (id, metadata) in news {
            self.planner.set_machine(id, metadata);
            self.plan();
        }
        let spent = now() - start;
        for id in &ids {
            self.planner.remove_machine(id);
        }
        self.plan();
        assert_eq!(self.write(), 0);
        spent
    }

    /// That every unit is on a machine, and none where it must not be: the rules again, naively.
    pub fn check(&self) {
        self.check_without(&[]);
    }

    fn check_without(&self, lost: &[usize]) {
        let machines: BTreeMap<MachineId, BTreeMap<String, String>> =
            (0..self.size.machines).filter(|n| !lost.contains(n)).map(|n| (machine(n), metadata(n))).collect();
        let mut here: BTreeMap<&MachineId, Vec<(UnitName, Requirements)>> = BTreeMap::new();
        for (name, requirements) in (0..self.units).map(|n| (unit_name(n), requirements(n))) {
            let on = self.store.get(&name).unwrap_or_else(|| panic!("{name} is nowhere"));
            let metadata = machines.get(on).unwrap_or_else(|| panic!("{name} is on {on}, which is gone"));
            let holds = |(key, values): (&String, &BTreeSet<String>)| values_contain(values, metadata.get(key));
            assert!(requirements.metadata.iter().all(holds), "{name} on {on}, which has {metadata:?}");
            let follows = |target: &String| self.store.get(target.as_str()) == Some(on);
            assert!(requirements.machine_of.iter().all(follows), "{name} is on {on}, and what it follows is not");
            here.entry(on).or_default().push((name, requirements));
        }
        for (name, requirements) in (0..GLOBALS).map(global) {
            let holds = |metadata: &BTreeMap<String, String>| {
                requirements.metadata.iter().all(|(key, values)| values_contain(values, metadata.get(key)))
            };
            for (on, _) in machines.iter().filter(|(_, metadata)| holds(metadata)) {
                if let Some((on, units)) = here.get_key_value(on) {
                    assert_apart(on, &(name.clone(), requirements.clone()), units);
                }
            }
        }
        for (on, units) in here {
            units.iter().for_each(|unit| assert_apart(on, unit, &units));
        }
    }
}

fn values_contain(values: &BTreeSet<String>, has: Option<&String>) -> bool {
    has.is_some_and(|value| values.contains(value))
}

fn assert_apart(on: &MachineId, (name, requirements): &(UnitName, Requirements), units: &[(UnitName, Requirements)]) {
    for (other, _) in units.iter().filter(|(other, _)| other != name) {
        let conflict = requirements.conflicts.iter().find(|glob| glob.matches(other.as_str()));
        assert_eq!(conflict, None, "{name} and {other} are on {on}");
    }
}

//! Cells over random histories: what is wanted changes, the fence turns, steps and jobs fail, units die, time passes.

use proptest::prelude::*;

use super::*;
use crate::{
    host::{Active, Job, Runtime},
    model::Target,
    unit::UnitHash,
};

/// `0` is strict.
const UNITS: u8 = 3;
/// The revision at which units are recalled.
const RECALLED: i64 = 9;

fn name(unit: u8) -> UnitName {
    UnitName::new(&format!("u{unit}.service")).unwrap()
}

/// Something that happens to a host.
#[derive(Clone, Debug)]
enum Event {
    /// This is wanted now, of each unit that is wanted: contents, how far, generation, request.
    Desire(BTreeMap<u8, (u8, Target, u64, u64)>),
    /// The fence opens or closes.
    Fence(bool),
    /// The agent has its turn; steps of the unit fail, if one is named.
    Turn(Option<u8>),
    /// All jobs end, and starts succeed or not.
    JobsEnd(bool),
    /// A unit dies.
    Dies(u8),
    /// So many milliseconds pass.
    Pass(u64),
}

/// A host, with systemd's side of it.
struct World {
    cells: Cells,
    now: Duration,
    open: bool,
    desired: DesiredSet,
    systemd: BTreeMap<UnitName, Runtime>,
    dirty: BTreeSet<UnitName>,
    ended: BTreeMap<UnitName, u32>,
    jobs: u32,
    /// Units whose stop the agent has asked for, until it is over.
    stopping: BTreeSet<UnitName>,
}

impl World {
    fn new() -> Self {
        Self {
            cells: Cells::default(),
            now: Duration::ZERO,
            open: true,
            desired: DesiredSet::default(),
            systemd: BTreeMap::new(),
            dirty: BTreeSet::new(),
            ended: BTreeMap::new(),
            jobs: 0,
            stopping: BTreeSet::new(),
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Desire(wanted) => self.desire(wanted),
            Event::Fence(open) => self.open = open,
            Event::Turn(fails) => self.turn(fails.map(name).as_ref()),
            Event::JobsEnd(well) => self.jobs_end(well),
            Event::Dies(unit) => {
                let unit = name(unit);
                if let Some(runtime) = self.systemd.get_mut(&unit).filter(|it| it.active == Active::Active) {
                    (runtime.active, runtime.sub) = (Active::Failed, "failed".into());
                    self.dirty.insert(unit);
                }
            }
            Event::Pass(millis) => self.now += Duration::from_millis(millis),
        }
    }

    fn desire(&mut self, wanted: BTreeMap<u8, (u8, Target, u64, u64)>) {
        let wanted = wanted.into_iter().map(|(unit, (contents, target, generation, request))| {
            let hash = UnitHash::of(&contents.to_string());
            (name(unit), Wanted { hash, target, generation: Some(generation), request: Some(request) })
        });
        let units: BTreeMap<UnitName, Wanted> = wanted.collect();
        let gone = self.cells.all_installed().filter(|(unit, _)| !units.contains_key(*unit));
        let recalled =
            gone.map(|(unit, entry)| (unit.clone(), Recall { hash: entry.hash, revision: RECALLED })).collect();
        let strict = units.keys().filter(|unit| **unit == name(0)).cloned().collect();
        self.desired = DesiredSet { units, strict, recalled };
        self.cells.assign(&self.desired);
    }

    fn jobs_end(&mut self, well: bool) {
        for (unit, runtime) in &mut self.systemd {
            let Some(job) = runtime.job.take() else { continue };
            (runtime.active, runtime.sub) = match (job, well) {
                (Job::Stop, _) => (Active::Inactive, "dead".into()),
                (_, true) => (Active::Active, "running".into()),
                (_, false) => (Active::Failed, "failed".into()),
            };
            self.stopping.remove(unit);
            self.dirty.insert(unit.clone());
            self.ended.insert(unit.clone(), self.jobs);
        }
    }

    fn turn(&mut self, fails: Option<&UnitName>) {
        self.cells.unwatch_others();
        let due: Vec<UnitName> = self.cells.due(self.now).cloned().collect();
        let ended = std::mem::take(&mut self.ended);
        self.cells.jobs_ended(ended.iter().map(|(unit, job)| (unit, *job)));
        let dirty = std::mem::take(&mut self.dirty);
        self.look(dirty.into_iter().chain(due));
        for _ in 0..8 {
            self.cells.apply_fence(self.open);
            let steps = self.cells.steps(self.now);
            for (unit, step, _) in &steps {
                self.take(unit, *step, fails == Some(unit));
            }
            self.look(steps.into_iter().filter(|(_, step, _)| *step != Step::Remove).map(|(unit, ..)| unit));
        }
        for (unit, report) in self.cells.report(self.now, true).unwrap_or_default() {
            let released = report.is_some_and(|report| report.released == Some(RECALLED));
            let is_down = self.systemd.get(&unit).is_none_or(Runtime::is_down);
            assert!(!released || is_down, "{unit} is given up while it runs");
        }
        if self.cells.is_unsaved() {
            self.cells.saved();
        }
        self.cells.rest(self.now);
    }

    fn look(&mut self, units: impl IntoIterator<Item = UnitName>) {
        for unit in units {
            let runtime = self.systemd.get(&unit).cloned().unwrap_or_default();
            if let Some(cell) = self.cells.edit(&unit).filter(|cell| cell.is_watched()) {
                cell.saw(runtime, self.now, 0);
            }
        }
    }

    fn take(&mut self, unit: &UnitName, step: Step, fails: bool) {
        let runtime = self.systemd.entry(unit.clone()).or_default();
        let cell = self.cells.edit(unit).expect("a unit with a step has a cell");
        assert!(!self.stopping.contains(unit), "{step:?} of {unit} while it is being stopped");
        if matches!(step, Step::Install | Step::Remove) {
            assert!(runtime.is_down(), "{step:?} of {unit} while it runs");
        }
        if fails && step != Step::Settle {
            cell.failed("no", self.now, 0.5);
            return;
        }
        self.jobs += 1;
        match step {
            Step::Install => {
                runtime.load = "loaded".into();
                cell.placed(Behaviour::default());
                cell.linked(self.now);
            }
            Step::Start | Step::Restart => {
                runtime.job = Some(Job::Start);
                cell.before_start();
                cell.start_queued(self.jobs, false, self.now);
            }
            Step::Stop => {
                runtime.job = Some(Job::Stop);
                self.stopping.insert(unit.clone());
                cell.stop_asked();
                cell.stop_queued(false);
            }
            Step::Settle => cell.settled(),
            Step::Remove => {
                cell.removed();
                self.systemd.remove(unit);
            }
        }
    }

    /// Goes on until nothing is to be done any more.
    fn come_to_rest(&mut self) {
        for _ in 0..20 {
            self.turn(None);
            self.jobs_end(true);
            self.now += Duration::from_secs(1000);
        }
        self.turn(None);
        self.desired.recalled.clear();
        self.cells.assign(&self.desired);
        self.turn(None);
        assert_eq!(self.cells.steps(self.now), []);
        assert_eq!(self.cells.wake(self.now), None);
        assert_eq!(self.cells.awake().count(), 0);
    }

    fn runs(&self, unit: u8) -> bool {
        self.systemd.get(&name(unit)).is_some_and(|runtime| runtime.active == Active::Active)
    }
}

fn any_desire() -> impl Strategy<Value = BTreeMap<u8, (u8, Target, u64, u64)>> {
    let target = prop::sample::select(vec![Target::Loaded, Target::Launched]);
    prop::collection::btree_map(0..UNITS, (0..2u8, target, 0..2u64, 0..2u64), 0..usize::from(UNITS))
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => any_desire().prop_map(Event::Desire),
        1 => any::<bool>().prop_map(Event::Fence),
        4 => prop::option::weighted(0.3, 0..UNITS).prop_map(Event::Turn),
        2 => any::<bool>().prop_map(Event::JobsEnd),
        1 => (0..UNITS).prop_map(Event::Dies),
        1 => (1..3000u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn every_history_ends_at_rest_and_as_wanted(
        history in prop::collection::vec(any_event(), 0..40),
        last in any_desire(),
        open in any::<bool>(),
    ) {
        let mut world = World::new();
        history.into_iter().for_each(|event| world.happens(event));
        world.open = true;
        world.come_to_rest();
        // Asked for once more, so that what has died by itself is started, too.
        let last: BTreeMap<_, _> = last.into_iter().map(|(unit, (n, to, generation, _))| (unit, (n, to, generation, 7))).collect();
        world.desire(last.clone());
        world.come_to_rest();
        prop_assert_eq!(world.cells.iter().count(), last.len(), "nothing is known of other units");
        for unit in 0..UNITS {
            let launched = last.get(&unit).is_some_and(|(_, target, ..)| *target == Target::Launched);
            prop_assert_eq!(world.runs(unit), launched, "u{}", unit);
        }
        world.open = open;
        world.turn(None);
        world.come_to_rest();
        for unit in 0..UNITS {
            let launched = last.get(&unit).is_some_and(|(_, target, ..)| *target == Target::Launched);
            prop_assert_eq!(world.runs(unit), launched && (open || unit > 0), "u{}", unit);
        }
        world.open = true;
        world.come_to_rest();
        prop_assert_eq!(world.runs(0), last.get(&0).is_some_and(|(_, target, ..)| *target == Target::Launched));
    }

    #[test]
    fn before_the_first_list_only_the_fence_does_anything(open in any::<bool>(), runs in any::<bool>()) {
        let mut world = World::new();
        for unit in 0..UNITS {
            let entry = Installed { applied: Target::Launched, ..Installed::loaded(UnitHash::of("0"), None) };
            let active = if runs { Active::Active } else { Active::Inactive };
            world.systemd.insert(name(unit), Runtime { load: "loaded".into(), active, ..Runtime::default() });
            world.cells.adopt(name(unit), entry);
            world.cells.read(&name(unit), Behaviour::default(), unit == 0);
        }
        world.open = open;
        for _ in 0..3 {
            world.turn(None);
            world.jobs_end(true);
        }
        for unit in 0..UNITS {
            prop_assert_eq!(world.runs(unit), runs && (open || unit > 0));
        }
    }
}

#[test]
fn a_unit_that_nothing_happens_to_rests_and_costs_nothing() {
    let mut world = World::new();
    world.desire((0..UNITS).map(|unit| (unit, (0, Target::Launched, 0, 0))).collect());
    world.come_to_rest();
    world.dirty.insert(name(1));
    world.look([name(1)]);
    assert_eq!(world.cells.awake().map(|(unit, _)| unit.clone()).collect::<Vec<_>>(), [name(1)]);
}

#[test]
fn what_a_start_comes_to_is_reported_once_when_it_is_over_soon() {
    let mut world = World::new();
    world.desire([(1, (0, Target::Launched, 0, 0))].into());
    world.turn(None);
    assert!(world.cells.get(&name(1)).unwrap().is_in_grace(world.now));
    let reports = world.cells.report(world.now, true).unwrap();
    assert_eq!(reports, [], "it has just been started");
    world.jobs_end(true);
    world.turn(None);
    world.now += crate::host::SETTLE;
    world.look([name(1)]);
    let reports = world.cells.report(world.now, true).unwrap();
    assert_eq!(reports.iter().filter_map(|(_, state)| state.as_ref()).filter(|state| !state.job).count(), 1);
}

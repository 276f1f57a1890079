//! What an answer to `why` costs once the input knows the cluster, and what it costs to keep it up to date:
//! `cargo bench -p fleet-core --bench input`. Processor times; each measurement checks what comes out.

#![allow(missing_docs, reason = "nobody calls a benchmark")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on should stop")]

use std::{collections::BTreeMap, time::Duration};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use fleet_core::{
    model::{Desired, Features, Key, MachineId, MachineRecord, MetadataEdits, Record, Snapshot, UnitRecord, Unknown},
    sched::{Held, Input},
    unit::{UnitFile, UnitHash, UnitName},
};

/// Machines and units. `cargo bench` measures; everything else, `cargo test` among it, only tries each once.
fn size() -> (usize, usize) {
    let measures = std::env::args().any(|argument| argument == "--bench");
    if measures { (1_000, 20_000) } else { (20, 400) }
}

fn machine(n: usize) -> MachineId {
    MachineId::new(&format!("{:08x}{n:024x}", (n as u32).wrapping_mul(2_654_435_761))).unwrap()
}

fn unit(n: usize) -> UnitName {
    UnitName::new(&format!("web{}@{}.service", n / 100, n % 100)).unwrap()
}

/// A tenth keep apart from their kind, a tenth want a disk, and one wants a disk that no machine has.
fn file(n: usize) -> UnitFile {
    let section = match n % 10 {
        _ if n == 7 => "MachineMetadata=disk=tape".to_owned(),
        0 => format!("Conflicts=web{}@*.service", n / 100),
        1 => "MachineMetadata=disk=ssd".to_owned(),
        _ => String::new(),
    };
    UnitFile::parse(&format!("[Service]\nExecStart=/bin/s\n[X-Fleet]\n{section}\n")).unwrap()
}

/// A cluster in which all is placed where it fits, and all files.
struct Cluster {
    snapshot: Snapshot,
    files: BTreeMap<UnitHash, UnitFile>,
}

impl Cluster {
    fn new() -> Self {
        let (machines, units) = size();
        let mut cluster = Self { snapshot: Snapshot::default(), files: BTreeMap::new() };
        for n in 0..machines {
            let disk = if n % 3 == 0 { "ssd" } else { "hdd" };
            let record = MachineRecord {
                address: "10.0.0.1".into(),
                hostname: format!("h{n}"),
                metadata: [("disk".to_owned(), disk.to_owned())].into(),
                version: "1".into(),
                boot_id: "b".into(),
                cpus: 1,
                memory: 1,
                leaving: false,
                features: Features::default(),
                unknown: Unknown::default(),
            };
            cluster.put(&Key::Machine(machine(n)), &record);
        }
        for n in 0..units {
            let file = file(n);
            cluster.put(&Key::Unit(unit(n)), &UnitRecord::new(file.hash(), Desired::Launched, 0));
            cluster.files.insert(file.hash(), file);
        }
        let mut input = Input::default();
        cluster.feed(&mut input);
        for decision in input.parts().0.plan() {
            let Some(to) = decision.to else { continue };
            let record = UnitRecord::clone(&cluster.snapshot.units.get(&decision.unit).unwrap().record);
            cluster.put(&Key::Sched(to, decision.unit), &record);
        }
        cluster
    }

    fn put(&mut self, key: &Key, record: &impl Record) {
        let revision = self.snapshot.revision + 1;
        self.snapshot.put(key, &record.encode(), revision, Duration::ZERO).unwrap();
    }

    fn feed(&self, input: &mut Input) {
        let unread = input.unread(&self.snapshot);
        for hash in unread.hashes() {
            input.read(&unread, hash, self.files.get(&hash));
        }
        input.apply(&self.snapshot);
        input.hold(&Held::default());
    }
}

fn input(criterion: &mut Criterion) {
    let mut cluster = Cluster::new();
    let mut input = Input::default();
    cluster.feed(&mut input);
    let (machines, units) = size();
    let mut group = criterion.benchmark_group(format!("input {machines}x{units}"));
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_secs(1));
    group.bench_function("learn all", |bencher| {
        bencher.iter(|| {
            let mut input = Input::default();
            cluster.feed(&mut input);
            input
        });
    });
    group.bench_function("explain a placed unit", |bencher| {
        bencher.iter(|| assert!(input.explain(&unit(10)).placed.is_some()));
    });
    group.bench_function("explain one that fits nowhere", |bencher| {
        bencher.iter(|| assert!(input.explain(&unit(7)).placed.is_none()));
    });
    group.bench_function("explain after one unit has changed", |bencher| {
        bencher.iter(|| {
            let mut record = UnitRecord::clone(&cluster.snapshot.units.get(&unit(3)).unwrap().record);
            record.generation += 1;
            cluster.put(&Key::Unit(unit(3)), &record);
            cluster.feed(&mut input);
            assert!(input.explain(&unit(10)).placed.is_some());
        });
    });
    cluster.put(&Key::Metadata(machine(0)), &MetadataEdits { drain: true, ..MetadataEdits::default() });
    cluster.feed(&mut input);
    group.bench_function("what is stuck on a drained machine", |bencher| {
        // Among few machines none is without some of each kind, so those that keep apart from theirs fit nowhere else.
        let keeps_apart = |unit: &UnitName| unit.as_str().ends_with("0.service");
        bencher.iter(|| assert!(input.stuck_on(&machine(0)).keys().all(keeps_apart)));
    });
}

criterion_group!(benches, input);
criterion_main!(benches);

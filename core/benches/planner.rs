//! What the planner's decisions cost, in a cluster and in one ten times as large: `cargo bench -p fleet-core`.
//!
//! All times are processor times of the planner's whole share of the work: it is told what changed, decides, and is
//! told that the store has it. Each measurement checks its end state. Figures: docs/performance.md.

#![allow(missing_docs, reason = "nobody calls a benchmark")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on should stop")]

mod cluster;

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main, measurement::WallTime};

use self::cluster::{Cluster, sizes};

/// All units are new: a decision for each.
fn full_plan(criterion: &mut Criterion) {
    let mut group = group(criterion, "full plan");
    for size in sizes() {
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter_custom(|times| {
                let plan = |_| {
                    let mut cluster = Cluster::told(size);
                    let spent = cluster.plan_all();
                    cluster.check();
                    spent
                };
                (0..times).map(plan).sum()
            });
        });
    }
}

/// A new leader is told of a cluster in which all is placed, and finds nothing to do.
fn take_over(criterion: &mut Criterion) {
    let mut group = group(criterion, "take over");
    for size in sizes() {
        let mut cluster = None;
        group.bench_function(size.to_string(), |bencher| {
            let cluster = cluster.get_or_insert_with(|| Cluster::full(size));
            bencher.iter_custom(|times| (0..times).map(|_| cluster.successor().1).sum());
        });
    }
}

/// A unit is stopped, or started again.
fn changed_unit(criterion: &mut Criterion) {
    let mut group = group(criterion, "changed unit");
    for size in sizes() {
        let mut cluster = None;
        group.bench_function(size.to_string(), |bencher| {
            let cluster = cluster.get_or_insert_with(|| Cluster::full(size));
            bencher.iter_custom(|times| batches(times, 1_000, || cluster.change_units(500)));
        });
        cluster.iter().for_each(Cluster::check);
    }
}

/// Machines are lost one by one, a twentieth of all; per unit that goes elsewhere.
fn lost_machine(criterion: &mut Criterion) {
    let mut group = group(criterion, "lost machine, per moved unit");
    for size in sizes() {
        let mut cluster = None;
        group.bench_function(size.to_string(), |bencher| {
            let cluster = cluster.get_or_insert_with(|| Cluster::full(size));
            bencher.iter_custom(|times| {
                let (mut spent, mut moved) = (Duration::ZERO, 0);
                while moved < times as usize {
                    let (time, units) = cluster.lose_machines(size.machines / 20);
                    spent += time;
                    moved += units;
                }
                spent.mul_f64(times as f64 / moved as f64)
            });
        });
        cluster.iter().for_each(Cluster::check);
    }
}

/// Units are submitted to a cluster that runs others.
fn submitted_units(criterion: &mut Criterion) {
    let mut group = group(criterion, "1000 units submitted");
    for size in sizes() {
        let mut cluster = None;
        group.bench_function(size.to_string(), |bencher| {
            let cluster = cluster.get_or_insert_with(|| Cluster::full(size));
            bencher.iter_custom(|times| (0..times).map(|_| cluster.submit(1_000)).sum());
        });
        cluster.iter().for_each(Cluster::check);
    }
}

/// A machine joins while units wait for one that has what this one has not.
fn new_machine(criterion: &mut Criterion) {
    let mut group = group(criterion, "new machine, 5000 units pending");
    for size in sizes() {
        let mut cluster = None;
        let waiting = || {
            let mut cluster = Cluster::full(size);
            cluster.submit_unplaceable(5_000);
            cluster
        };
        group.bench_function(size.to_string(), |bencher| {
            let cluster = cluster.get_or_insert_with(waiting);
            bencher.iter_custom(|times| batches(times, 100, || cluster.add_machines(100)));
        });
        cluster.iter().for_each(Cluster::check);
    }
}

/// The time that so many take when only batches of some can be measured.
fn batches(times: u64, batch: u64, mut measure: impl FnMut() -> Duration) -> Duration {
    let batches = times.div_ceil(batch);
    let spent: Duration = (0..batches).map(|_| measure()).sum();
    spent.mul_f64(times as f64 / (batches * batch) as f64)
}

fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    // To build a cluster takes longer than most of what is measured.
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_secs(1));
    group
}

criterion_group!(planner, full_plan, take_over, changed_unit, lost_machine, submitted_units, new_machine);
criterion_main!(planner);

//! How much memory the planner holds: `cargo bench -p fleet-core --bench memory`.
//!
//! Counts the bytes that were asked of the allocator and not given back. What the allocator adds is not counted.

#![allow(missing_docs, reason = "nobody calls a benchmark")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on should stop")]

#[allow(dead_code, reason = "the other benchmark needs the rest")]
mod cluster;

use self::cluster::{Cluster, sizes};

fn main() {
    for size in sizes() {
        let cluster = Cluster::full(size);
        let mut planner = None;
        let heap = allocation_counter::measure(|| planner = Some(cluster.successor().0));
        let bytes = heap.bytes_current as f64;
        println!(
            "{size}: {:.1} MB on the heap in {} blocks, {:.0} bytes a unit",
            bytes / 1e6,
            heap.count_current,
            bytes / size.units as f64
        );
    }
}

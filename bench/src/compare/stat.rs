//! What the kernel's `stat` of a process tells of its processor time.

use std::fs;

use anyhow::{Context, Result};

/// The clock that the kernel counts processor time by, on every Linux that there is a Debian for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time of those children of this process that have ended.
///
/// # Errors
/// When the kernel does not tell.
pub fn of_children() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    two(&stat, 13).context("/proc/self/stat does not tell of children")
}

/// Whether it is of a program, by the whole name that the kernel has of it.
pub fn is(stat: &str, comm: &str) -> bool {
    stat.split_once(" (").and_then(|(_, rest)| rest.rsplit_once(") ")).is_some_and(|(name, _)| name == comm)
}

/// Seconds of its own.
pub fn used(stat: &str) -> Option<f64> {
    two(stat, 11)
}

/// In user and in kernel mode: two fields, one beside the other.
fn two(stat: &str, first: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(first).map(|field| field.parse::<f64>().ok());
    Some((fields.next()?? + fields.next()??) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (fle) etd) S 1 42 42 0 -1 4194560 2411 0 3 0 17 25 2 3 20 0 4 0 5168 98304 4016";

    #[test]
    fn processor_time_is_that_of_both_modes() {
        assert_eq!(used(STAT), Some(0.42));
        assert_eq!(two(STAT, 13), Some(0.05));
        assert_eq!(used("42 (fleetd) S 1"), None);
    }

    #[test]
    fn programs_are_known_by_their_whole_names() {
        assert!(is(STAT, "fle) etd"));
        assert!(!is(STAT, "etd"));
    }
}

//! The table at the end of a soak.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use super::{
    fault::Kind,
    judge::{Breach, Record, Struck, judge},
    units,
};

/// The result as Markdown. `command` repeats it.
#[must_use]
pub fn table(record: &Record, command: &str) -> String {
    let breaches = judge(record);
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{args}");
    };
    let units = |kind| record.units.iter().filter(|unit| unit.kind == kind).count();
    use units::Kind::{Affine, Conflicting, Failing, Global, Ordinary, Scratch, Strict};
    let kinds = [Ordinary, Global, Strict, Affine, Conflicting, Failing, Scratch];
    let kinds = kinds.map(|kind| format!("{} {}", units(kind), kind.name()));
    line(format_args!(
        "`{command}`: {} hosts, `agent_ttl` {} s, {} faults in {} min; units: {}.",
        record.hosts.len(),
        record.ttl.as_secs(),
        record.faults.len(),
        minutes(record),
        kinds.join(", ")
    ));
    line(format_args!(""));
    line(format_args!("| Promise | Broken |"));
    line(format_args!("|---|---|"));
    let count = |what: &dyn Fn(&Breach) -> bool| breaches.iter().filter(|breach| what(breach)).count();
    line(format_args!(
        "| Units restarted or moved that should not have been | {} |",
        count(&|breach| matches!(breach, Breach::Restart { .. }))
    ));
    line(format_args!(
        "| Two copies of a strict unit | {} |",
        count(&|breach| matches!(breach, Breach::Overlap { strict: true, .. }))
    ));
    line(format_args!(
        "| Two copies of another unit that no silent host explains | {} |",
        count(&|breach| matches!(breach, Breach::Overlap { strict: false, .. }))
    ));
    line(format_args!("| Lost units | {} |", count(&|breach| matches!(breach, Breach::Lost { .. }))));
    line(format_args!(""));
    line(format_args!("Copies that ran and told of themselves: {}.", record.copies.len()));
    line(format_args!(""));
    line(format_args!("| Fault | Times | Of them beside another or an operator | Recovered after, median | at most |"));
    line(format_args!("|---|---|---|---|---|"));
    let mut by_kind: BTreeMap<Kind, Vec<&Struck>> = BTreeMap::new();
    for struck in &record.faults {
        by_kind.entry(struck.fault.kind).or_default().push(struck);
    }
    for (kind, struck) in &by_kind {
        let alone: Vec<Duration> = struck
            .iter()
            .filter(|struck| struck.alone)
            .map(|struck| struck.recovered.saturating_sub(struck.end))
            .collect();
        let (median, most) =
            spread(&alone).map_or(("-".into(), "-".into()), |(median, most)| (seconds(median), seconds(most)));
        line(format_args!(
            "| {} | {} | {} | {median} | {most} |",
            kind.name(),
            struck.len(),
            struck.len() - alone.len()
        ));
    }
    line(format_args!(""));
    line(format_args!(
        "The time to recover counts from the end of the fault, of those that were alone, until every unit runs where it should, every host is registered and etcd says the same."
    ));
    let moved: Vec<Duration> =
        record.faults.iter().filter(|struck| struck.alone).filter_map(|struck| struck.moved).collect();
    if let Some((median, most)) = spread(&moved) {
        let floor = record.ttl + record.raw_start;
        let ratio = |time: Duration| time.as_secs_f64() / floor.as_secs_f64();
        line(format_args!(""));
        line(format_args!(
            "Loss of a host, until its units (without strict ones) run elsewhere, {} times: median {}, at most {}; that \
             is {:.2} and {:.2} times the floor of TTL plus `systemctl start` of as many units ({} + {:.3} s).",
            moved.len(),
            seconds(median),
            seconds(most),
            ratio(median),
            ratio(most),
            record.ttl.as_secs(),
            record.raw_start.as_secs_f64()
        ));
    }
    text
}

fn minutes(record: &Record) -> u64 {
    let times = record.faults.first().zip(record.faults.last());
    times.map_or(0, |(first, last)| (last.settled - first.start).as_secs().div_ceil(60))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Median and maximum.
fn spread(times: &[Duration]) -> Option<(Duration, Duration)> {
    let mut times = times.to_vec();
    times.sort_unstable();
    Some((*times.get(times.len() / 2)?, *times.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_of_the_upper_half_and_nothing_has_none() {
        let seconds = |times: &[u64]| times.iter().map(|time| Duration::from_secs(*time)).collect::<Vec<_>>();
        assert_eq!(spread(&seconds(&[9, 1, 5])), Some((Duration::from_secs(5), Duration::from_secs(9))));
        assert_eq!(spread(&seconds(&[4, 1])), Some((Duration::from_secs(4), Duration::from_secs(4))));
        assert_eq!(spread(&[]), None);
    }
}

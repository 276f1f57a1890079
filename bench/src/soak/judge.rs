//! What was promised, held against what happened.
//!
//! The verdict rests on what the copies wrote down of themselves and on when which fault was at work. A pure
//! function: a record that was kept can be judged again.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    copies::Copy,
    fault::{Fault, Harm},
    units::{Kind, Unit},
};

/// How long a copy that is one too many may live on after its host is heard of again: a lease's time to register and
/// to be told, and what the unit takes to stop.
const STOPPING: Duration = Duration::from_secs(5);

/// A fault that was at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// What it was.
    pub fault: Fault,
    /// When it began.
    pub start: Duration,
    /// When it was undone.
    pub end: Duration,
    /// When everything was as it should be again, and stayed so.
    pub recovered: Duration,
    /// Until when that was waited for: what comes later is no consequence.
    pub settled: Duration,
    /// What was not as it should be when the time to recover was over.
    pub unsettled: Vec<String>,
    /// For a host whose power was gone until its units ran elsewhere: how long that took, without strict ones.
    pub moved: Option<Duration>,
    /// Whether no other fault was at work at the time, nor an operator.
    pub alone: bool,
}

/// All that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the faults were drawn with.
    pub seed: u64,
    /// The TTL of the machines' leases.
    pub ttl: Duration,
    /// All hosts.
    pub hosts: Vec<String>,
    /// All units. They are wanted from before the first fault to after the last.
    pub units: Vec<Unit>,
    /// All faults, in order.
    pub faults: Vec<Struck>,
    /// All copies, in the order of their starts.
    pub copies: Vec<Copy>,
    /// How long `systemctl start` takes on a host for as many units as a host has.
    pub raw_start: Duration,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the text of each says what they are")]
pub enum Breach {
    /// A unit was started though nothing had taken it from where it ran.
    Restart { unit: String, at: Duration, from: String, to: String },
    /// Two copies of a unit, or two that exclude each other on a host, for so long.
    Overlap { units: [String; 2], hosts: [String; 2], at: Duration, length: Duration, strict: bool },
    /// What should run does not, after the time to recover; with the number of the fault.
    Lost { what: String, fault: usize },
}

impl Breach {
    /// When, in the time of the copies; `None` for what is not bound to a moment.
    #[must_use]
    pub fn at(&self) -> Option<Duration> {
        match self {
            Self::Restart { at, .. } | Self::Overlap { at, .. } => Some(*at),
            Self::Lost { .. } => None,
        }
    }

    /// The faults during which it happened, or after which.
    #[must_use]
    pub fn faults<'r>(&self, record: &'r Record) -> Vec<&'r Struck> {
        let at = match self {
            Self::Restart { at, .. } | Self::Overlap { at, .. } => *at,
            Self::Lost { fault, .. } => record.faults.get(*fault).map_or(Duration::ZERO, |struck| struck.start),
        };
        record.faults.iter().filter(|struck| struck.start <= at && at <= struck.settled).collect()
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart { unit, from, to, .. } if from == to => write!(f, "{unit} was restarted on {to}"),
            Self::Restart { unit, from, to, .. } => write!(f, "{unit} was moved from {from} to {to}"),
            Self::Overlap { units: [one, other], hosts: [here, there], length, strict, .. } => {
                let strict = if *strict { " (strict)" } else { "" };
                write!(f, "{one} on {here} and {other} on {there} ran at once for {length:.1?}{strict}")
            }
            Self::Lost { what, .. } => write!(f, "not recovered: {what}"),
        }
    }
}

/// All promises that were broken.
#[must_use]
pub fn judge(record: &Record) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for unit in &record.units {
        let copies: Vec<&Copy> = record.copies.iter().filter(|copy| copy.birth.unit == unit.name).collect();
        if unit.kind == Kind::Global {
            for host in &record.hosts {
                let here: Vec<&Copy> = copies.iter().copied().filter(|copy| copy.birth.host == *host).collect();
                restarts(record, unit, &here, &mut breaches);
                overlaps(record, unit.kind, &here, &here, &mut breaches);
            }
        } else {
            if unit.kind != Kind::Scratch {
                restarts(record, unit, &copies, &mut breaches);
            }
            overlaps(record, unit.kind, &copies, &copies, &mut breaches);
        }
    }
    let apart = record.units.iter().filter(|unit| unit.kind == Kind::Conflicting);
    for host in &record.hosts {
        let here = |unit: &Unit| -> Vec<&Copy> {
            record.copies.iter().filter(|copy| copy.birth.unit == unit.name && copy.birth.host == *host).collect()
        };
        for (number, one) in apart.clone().enumerate() {
            for other in apart.clone().skip(number + 1) {
                overlaps(record, Kind::Conflicting, &here(one), &here(other), &mut breaches);
            }
        }
    }
    for (number, struck) in record.faults.iter().enumerate() {
        breaches.extend(struck.unsettled.iter().map(|what| Breach::Lost { what: what.clone(), fault: number }));
    }
    breaches.sort_by_key(|breach| (breach.at(), breach.clone()));
    breaches
}

/// Each start after the first needs a fault that took the copy before it from where it ran.
fn restarts(record: &Record, unit: &Unit, copies: &[&Copy], breaches: &mut Vec<Breach>) {
    for pair in copies.windows(2) {
        let [before, after] = pair else { continue };
        let (from, to, at) = (&before.birth.host, &after.birth.host, after.birth.start);
        let returned = from == to && is_return(record, unit, after);
        if !returned && !at_work(record, at, from).any(|harm| excuses_start(harm, unit.kind, from == to)) {
            breaches.push(Breach::Restart { unit: unit.name.clone(), at, from: from.clone(), to: to.clone() });
        }
    }
}

/// Whether a unit may have been on its way between its copies, to a host that was then lost as well: the host that it
/// was taken from could not be heard, and another one cannot be now.
fn is_return(record: &Record, unit: &Unit, after: &Copy) -> bool {
    let at = after.birth.start;
    let lost = |harm: Harm| matches!(harm, Harm::Silent | Harm::Down);
    let mut others = record.hosts.iter().filter(|host| **host != after.birth.host);
    unit.kind != Kind::Global
        && at_work(record, at, &after.birth.host).any(|harm| harm == Harm::Silent)
        && others.any(|host| at_work(record, at, host).any(lost))
}

/// The harm that is being done to a host at a moment, until its units have recovered.
fn at_work<'r>(record: &'r Record, at: Duration, host: &'r String) -> impl Iterator<Item = Harm> {
    let then = record.faults.iter().filter(move |struck| struck.start <= at && at <= struck.settled);
    then.flat_map(|struck| struck.fault.harms(&record.hosts, record.ttl))
        .filter(|(_, hosts)| hosts.contains(host))
        .map(|(harm, _)| harm)
}

fn excuses_start(harm: Harm, kind: Kind, in_place: bool) -> bool {
    match (harm, kind) {
        (Harm::Down, _) => true,
        (Harm::DownTogether, _) => in_place,
        (Harm::Silent | Harm::SilentTogether, Kind::Global) => false,
        (Harm::Silent, Kind::Strict) => true,
        (Harm::Silent, _) => !in_place,
        (Harm::SilentTogether, _) => kind == Kind::Strict && in_place,
    }
}

/// Copies that ran at the same time. The first of a pair is from `one`, the second from `other`.
fn overlaps(record: &Record, kind: Kind, one: &[&Copy], other: &[&Copy], breaches: &mut Vec<Breach>) {
    for first in one {
        for second in other {
            let same = std::ptr::eq(*first, *second);
            // A pair within one list comes twice.
            let twin = std::ptr::eq(one, other) && second.birth.start < first.birth.start;
            let from = first.birth.start.max(second.birth.start);
            let until = first.alive.min(second.alive);
            if same || twin || until <= from {
                continue;
            }
            let hosts = [first.birth.host.clone(), second.birth.host.clone()];
            if is_excused(record, kind, &hosts, (from, until)) {
                continue;
            }
            breaches.push(Breach::Overlap {
                units: [first.birth.unit.clone(), second.birth.unit.clone()],
                hosts,
                at: from,
                length: until - from,
                strict: kind == Kind::Strict,
            });
        }
    }
}

/// Whether one of the hosts could not be heard all the while.
fn is_excused(record: &Record, kind: Kind, hosts: &[String; 2], (from, until): (Duration, Duration)) -> bool {
    // Of two copies that exclude each other on one host, one was placed there after the other host was given up.
    let in_place = hosts[0] == hosts[1] && kind != Kind::Conflicting;
    if kind == Kind::Strict || in_place {
        return false;
    }
    record.faults.iter().any(|struck| {
        let harms = struck.fault.harms(&record.hosts, record.ttl);
        let silent =
            harms.iter().any(|(harm, hit)| *harm == Harm::Silent && hosts.iter().any(|host| hit.contains(host)));
        silent && struck.start <= from && until <= struck.end + record.ttl + STOPPING
    })
}

/// What is not as it should be at a moment at which all hosts are well: nothing when all is. Of units that an operator
/// starts and stops only the operator knows.
#[must_use]
pub fn missing(units: &[Unit], hosts: &[String], copies: &[Copy], now: Duration) -> Vec<String> {
    let mut running: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for copy in copies.iter().filter(|copy| copy.is_running(now)) {
        running.entry(&copy.birth.unit).or_default().push(&copy.birth.host);
    }
    let of = |unit: &str| running.get(unit).cloned().unwrap_or_default();
    let mut missing = Vec::new();
    for unit in units.iter().filter(|unit| unit.kind != Kind::Scratch) {
        let mut there = of(&unit.name);
        there.sort_unstable();
        let well = match unit.kind {
            Kind::Global => there == hosts.iter().map(String::as_str).collect::<Vec<_>>(),
            Kind::Failing => there.is_empty(),
            Kind::Affine => there.len() == 1 && unit.with.as_ref().is_some_and(|with| of(with) == there),
            Kind::Ordinary | Kind::Strict | Kind::Conflicting | Kind::Scratch => there.len() == 1,
        };
        if !well {
            let place = if there.is_empty() { "nowhere".to_owned() } else { format!("on {}", there.join(", ")) };
            missing.push(format!("{} ({}) runs {place}", unit.name, unit.kind.name()));
        }
    }
    missing
}

#[cfg(test)]
mod tests;

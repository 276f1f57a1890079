//! Why a unit is where it is, or is nowhere: as data, and in words for an operator.

use std::{collections::BTreeSet, fmt};

use super::conflicts::Clash;
use crate::{
    model::MachineId,
    unit::{Glob, UnitName},
};

/// What speaks against a unit on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The unit's desired state is inactive.
    NotWanted,
    /// There is no such unit any more, or it is global now.
    Removed,
    /// The machine counts as dead.
    MachineGone,
    /// The machine is being drained: it gets nothing new.
    Draining,
    /// The machine is away and may come back: it keeps what it has and gets nothing new.
    MachineAway,
    /// `MachineID` means another machine.
    MachineId {
        /// The ID asked for.
        wanted: String,
    },
    /// `MachineMetadata` does not hold.
    Metadata {
        /// The metadata key.
        key: String,
        /// The values of which the machine should have one.
        wanted: BTreeSet<String>,
        /// What the machine has instead.
        has: Option<String>,
    },
    /// A target of `MachineOf` is on no machine.
    NotScheduled {
        /// The target.
        target: String,
    },
    /// A target of `MachineOf` is on another machine.
    ScheduledTo {
        /// The target.
        target: UnitName,
        /// Where it is.
        machine: MachineId,
    },
    /// One of two units declares a conflict with the other.
    Conflict {
        /// The other unit.
        with: UnitName,
        /// The pattern of `Conflicts`.
        pattern: Glob,
        /// Whether the other unit declares it.
        theirs: bool,
        /// Whether the other unit is global.
        global: bool,
    },
    /// A unit on the machine replaces this one.
    ReplacedBy {
        /// The unit that replaces.
        by: UnitName,
        /// Its pattern of `Replaces`.
        pattern: Glob,
    },
    /// A unit on the machine would have to leave by `Replaces`, but cannot be made to.
    Replaces {
        /// The unit that would have to leave.
        unit: UnitName,
        /// The pattern of `Replaces`.
        pattern: Glob,
    },
    /// The unit is on another machine as well.
    Duplicate {
        /// The machine that keeps it.
        kept: MachineId,
    },
}

impl Cause {
    pub(super) fn conflict(with: &UnitName, clash: Clash<'_>, global: bool) -> Self {
        Self::Conflict { with: with.clone(), pattern: clash.pattern.clone(), theirs: clash.theirs, global }
    }

    /// Whether it speaks against every unit with the same requirements, whatever its name.
    pub(super) fn is_by_requirements(&self) -> bool {
        use Cause::{Conflict, Draining, MachineAway, MachineGone, MachineId, Metadata};
        matches!(self, MachineGone | MachineAway | Draining | MachineId { .. } | Metadata { .. })
            || matches!(self, Conflict { theirs: false, global: false, .. })
    }

    /// Whether both are the same reason as far as a count is concerned.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Metadata { key, .. }, Self::Metadata { key: other, .. }) => key == other,
            (
                Self::Conflict { pattern, theirs, global, .. },
                Self::Conflict { pattern: p, theirs: t, global: g, .. },
            ) => (pattern, theirs, global) == (p, t, g),
            (Self::ReplacedBy { pattern, .. }, Self::ReplacedBy { pattern: other, .. })
            | (Self::Replaces { pattern, .. }, Self::Replaces { pattern: other, .. }) => pattern == other,
            _ => self == other,
        }
    }

    /// The cause as the predicate of `machines` machines, of which not all need mean the same unit.
    fn count(&self, f: &mut fmt::Formatter<'_>, machines: usize, alike: bool) -> fmt::Result {
        let s = if machines == 1 { "s" } else { "" };
        let (is, has) = if machines == 1 { ("is", "has") } else { ("are", "have") };
        let others = if alike { "" } else { " and others" };
        match self {
            Self::Metadata { key, wanted, .. } => write!(f, "{machines} lack{s} metadata {}", Pairs(key, wanted)),
            Self::MachineId { wanted } => write!(f, "{machines} {is} not {wanted}"),
            Self::ScheduledTo { target, machine } => {
                write!(f, "{machines} {has} not {target}, which is on {}", machine.short())
            }
            Self::Conflict { with, global, .. } => {
                write!(f, "{machines} conflict{s} with {}{with}{others}", if *global { "global " } else { "" })
            }
            Self::ReplacedBy { by, .. } => write!(f, "{machines} {has} {by}{others}, replacing it"),
            Self::Replaces { unit, .. } => write!(f, "{machines} {has} {unit}{others}, which cannot be replaced"),
            Self::MachineAway => write!(f, "{machines} {is} away"),
            Self::Draining => write!(f, "{machines} {is} being drained"),
            cause => write!(f, "{machines}: {cause}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWanted => f.write_str("not wanted (inactive)"),
            Self::Removed => f.write_str("no such unit any more"),
            Self::MachineGone => f.write_str("machine is gone"),
            Self::MachineAway => f.write_str("machine is away"),
            Self::Draining => f.write_str("machine is being drained"),
            Self::MachineId { wanted } => write!(f, "MachineID={wanted} wanted"),
            Self::Metadata { key, wanted, has } => {
                write!(f, "metadata {} wanted, machine has ", Pairs(key, wanted))?;
                match has {
                    Some(value) => write!(f, "{key}={value}"),
                    None => write!(f, "no {key}"),
                }
            }
            Self::NotScheduled { target } => write!(f, "MachineOf={target}: not scheduled"),
            Self::ScheduledTo { target, machine } => write!(f, "MachineOf={target}: scheduled to {}", machine.short()),
            Self::Conflict { with, pattern, theirs, global } => {
                let global = if *global { "global " } else { "" };
                let its = if *theirs { "its " } else { "" };
                write!(f, "conflicts with {global}{with} ({its}Conflicts={})", pattern.as_str())
            }
            Self::ReplacedBy { by, pattern } => write!(f, "replaced by {by} (its Replaces={})", pattern.as_str()),
            Self::Replaces { unit, pattern } => write!(f, "cannot replace {unit} (Replaces={})", pattern.as_str()),
            Self::Duplicate { kept } => write!(f, "scheduled to {} as well", kept.short()),
        }
    }
}

/// A metadata requirement: `region=eu|us`.
struct Pairs<'p>(&'p str, &'p BTreeSet<String>);

impl fmt::Display for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, value) in self.1.iter().enumerate() {
            write!(f, "{}{value}", if i == 0 { format!("{}=", self.0) } else { "|".into() })?;
        }
        Ok(())
    }
}

/// Why this machine of all that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The least loaded of those that fit.
    LeastLoaded {
        /// How many machines came into question.
        of: usize,
        /// How many units the machine had.
        units: usize,
    },
    /// `MachineID` leaves no choice.
    MachineId {
        /// The ID asked for.
        wanted: String,
    },
    /// It is where the targets of `MachineOf` are.
    Follows {
        /// The first of them.
        target: UnitName,
    },
    /// It takes the place of a unit.
    Replaces {
        /// The unit, which moves elsewhere.
        unit: UnitName,
    },
    /// A pending unit, for which this machine has become the first that fits.
    NowFits,
    /// It was there before, and what spoke against that is gone.
    Back,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeastLoaded { of: 1, .. } => f.write_str("only machine in question"),
            Self::LeastLoaded { of, units } => {
                let s = if *units == 1 { "" } else { "s" };
                write!(f, "least loaded that fits of {of} machines ({units} unit{s})")
            }
            Self::MachineId { wanted } => write!(f, "MachineID={wanted}"),
            Self::Follows { target } => write!(f, "MachineOf={target}"),
            Self::Replaces { unit } => write!(f, "replaces {unit}"),
            Self::NowFits => f.write_str("first machine that fits"),
            Self::Back => f.write_str("fits again where it was"),
        }
    }
}

/// Why a decision was made: what was wrong with the old place, and what is right with the new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// Why it left; `None` when it was nowhere.
    pub left: Option<Cause>,
    /// Why it goes where it goes; `None` when it goes nowhere.
    pub chosen: Option<Choice>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.left, &self.chosen) {
            (Some(left), Some(chosen)) => write!(f, "{left}; {chosen}"),
            (Some(left), None) => left.fmt(f),
            (None, Some(chosen)) => chosen.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

/// Why no machine takes a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplaceable {
    /// There is none.
    NoMachine,
    /// A target of `MachineOf` is on no machine.
    NotScheduled {
        /// The target.
        target: String,
    },
    /// It was told to stop on a machine where it may still run, and must not run twice.
    Leaving {
        /// The machine.
        machine: MachineId,
    },
    /// Units that must be on one machine may not be on one.
    Contradiction {
        /// One of them.
        unit: UnitName,
        /// What it has against another.
        cause: Cause,
    },
    /// Each machine has something against it.
    NoneFits(Tally),
}

impl fmt::Display for Unplaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMachine => f.write_str("no machine in the cluster"),
            Self::NotScheduled { target } => Cause::NotScheduled { target: target.clone() }.fmt(f),
            Self::Leaving { machine } => write!(f, "waiting until it has stopped on {}", machine.short()),
            Self::Contradiction { unit, cause } => write!(f, "must be with {unit}, which {cause}"),
            Self::NoneFits(tally) => write!(f, "no machine fits ({tally})"),
        }
    }
}

/// How many machines were ruled out by what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: Vec<Count>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Count {
    machines: usize,
    /// The first of its kind.
    cause: Cause,
    /// Whether all were equal to it.
    alike: bool,
}

/// Causes told one by one; what is left is counted together. A line should stay a line.
const CAUSES_TOLD: usize = 4;

impl Tally {
    /// How many machines were ruled out.
    #[must_use]
    pub fn machines(&self) -> usize {
        self.counts.iter().map(|count| count.machines).sum()
    }

    /// The causes, each with the number of machines, the most frequent first.
    #[must_use]
    pub fn causes(&self) -> Vec<(usize, &Cause)> {
        self.sorted().into_iter().map(|count| (count.machines, &count.cause)).collect()
    }

    pub(super) fn add(&mut self, machines: usize, cause: Cause) {
        if machines == 0 {
            return;
        }
        match self.counts.iter_mut().find(|count| count.cause.is_like(&cause)) {
            Some(count) => {
                count.machines += machines;
                count.alike &= count.cause == cause;
            }
            None => self.counts.push(Count { machines, cause, alike: true }),
        }
    }

    fn sorted(&self) -> Vec<&Count> {
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.machines));
        counts
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machines = self.machines();
        write!(f, "{machines} machine{}: ", if machines == 1 { "" } else { "s" })?;
        let counts = self.sorted();
        for (i, count) in counts.iter().take(CAUSES_TOLD).enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            count.cause.count(f, count.machines, count.alike)?;
        }
        let rest: usize = counts.iter().skip(CAUSES_TOLD).map(|count| count.machines).sum();
        if rest > 0 { write!(f, ", {rest} for other reasons") } else { Ok(()) }
    }
}

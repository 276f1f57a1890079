//! The units of the soak: some of each kind, all of which tell of themselves.

use serde::{Deserialize, Serialize};

use super::copies::exec_start;

/// What fleet promises of a unit under faults depends on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// One copy somewhere; a second one is possible while its host is cut off.
    Ordinary,
    /// A copy on every host.
    Global,
    /// `OnPartition=stop`: never two copies.
    Strict,
    /// With another unit, on its host.
    Affine,
    /// Not with another one of its like.
    Conflicting,
    /// Ends in failure as soon as it is started.
    Failing,
    /// Started, stopped and destroyed by an operator all the while.
    Scratch,
}

impl Kind {
    /// Whether it runs elsewhere as soon as its host counts as dead. A strict one waits until it must have ended, a
    /// failing one does not run.
    #[must_use]
    pub fn moves_at_once(self) -> bool {
        matches!(self, Self::Ordinary | Self::Affine | Self::Conflicting)
    }

    /// As the table names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Global => "global",
            Self::Strict => "strict",
            Self::Affine => "affine",
            Self::Conflicting => "conflicting",
            Self::Failing => "failing",
            Self::Scratch => "operated",
        }
    }
}

/// One unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// For an affine unit, the one it goes with.
    pub with: Option<String>,
}

/// Unit files by name, and the units to start, in the order of their needs.
#[must_use]
pub fn units(strict: bool) -> (Vec<(String, String)>, Vec<Unit>) {
    let file = |name: &str, options: &str, service: &str, fleet: &str| {
        let exec = exec_start(options);
        let section = if fleet.is_empty() { String::new() } else { format!("[X-Fleet]\n{fleet}\n") };
        (name.to_owned(), format!("[Service]\n{exec}\nTimeoutStopSec=5\n{service}{section}"))
    };
    let mut files = vec![
        file("plain@.service", "", "", ""),
        file("everywhere@.service", "", "", "Global=true"),
        file("beside@.service", "", "", "MachineOf=plain@%i.service"),
        file("apart@.service", "", "", "Conflicts=apart@*.service"),
        file("broken@.service", "--fail", "", ""),
        file("scratch@.service", "", "", ""),
    ];
    let mut units = Vec::new();
    let mut add = |name: &str, kind: Kind, count: usize| {
        for number in 1..=count {
            let with = (kind == Kind::Affine).then(|| format!("plain@{number}.service"));
            units.push(Unit { name: format!("{name}@{number}.service"), kind, with });
        }
    };
    add("plain", Kind::Ordinary, 6);
    add("everywhere", Kind::Global, 2);
    add("beside", Kind::Affine, 2);
    add("apart", Kind::Conflicting, 3);
    add("broken", Kind::Failing, 1);
    add("scratch", Kind::Scratch, 3);
    if strict {
        add("single", Kind::Strict, 4);
        // It takes its time to end: whoever starts the next copy too early is seen.
        files.push(file("single@.service", "--linger 1.5", "", "OnPartition=stop"));
    }
    (files, units)
}

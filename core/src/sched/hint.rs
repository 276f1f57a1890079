//! Units at first sight: that two have nothing against each other can mostly be seen from how they begin.

use crate::unit::{Requirements, UnitName};

/// The first bytes of a name or pattern, filled up with zeros, which no name contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Initials([u8; 4]);

/// How a unit's name begins, and how those do that it declares something against. A machine keeps this of each of its
/// units. To look at the unit itself, its requirements, their patterns and the text of these would be to wait for
/// memory four times, one after the other, and for each machine that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConflictHint {
    name: Initials,
    against: Initials,
}

impl ConflictHint {
    /// Of a unit that is called so and asks for this, if it asks for anything that concerns others.
    pub fn of(name: &UnitName, wanted: Option<&Requirements>) -> Self {
        let declared = wanted.into_iter().flat_map(|wanted| wanted.conflicts.iter().chain(&wanted.replaces));
        let against = declared.map(|pattern| Initials::of(pattern.literal_prefix())).reduce(Initials::common);
        Self { name: Initials::of(name.as_str()), against: against.unwrap_or(Initials::OF_NO_NAME) }
    }

    /// Whether one of the two may have declared something against the other. If not, none has.
    pub fn may_conflict(self, other: Self) -> bool {
        self.against.may_begin(other.name) || other.against.may_begin(self.name)
    }
}

impl Initials {
    /// Names are ASCII.
    const OF_NO_NAME: Self = Self([u8::MAX; 4]);

    fn of(text: &str) -> Self {
        let mut bytes = text.bytes();
        Self([(); 4].map(|()| bytes.next().unwrap_or(0)))
    }

    /// Those of all that begin like this one or like the other.
    fn common(self, other: Self) -> Self {
        let mut same = true;
        let mut pairs = self.0.into_iter().zip(other.0);
        Self([(); 4].map(|()| {
            let pair = pairs.next().filter(|(ours, theirs)| ours == theirs).filter(|_| same);
            same = pair.is_some();
            pair.map_or(0, |(byte, _)| byte)
        }))
    }

    /// Whether a name with these initials may begin with the text that this is the beginning of.
    fn may_begin(self, name: Self) -> bool {
        self.0.into_iter().zip(name.0).all(|(ours, theirs)| ours == 0 || ours == theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::Glob;

    fn hint(name: &str, conflicts: &[&str], replaces: &[&str]) -> ConflictHint {
        let [conflicts, replaces] =
            [conflicts, replaces].map(|patterns| patterns.iter().map(|&pattern| Glob::new(pattern)).collect());
        let requirements = Requirements { conflicts, replaces, ..Requirements::default() };
        ConflictHint::of(&UnitName::new(name).unwrap(), Some(&requirements))
    }

    #[test]
    fn units_that_begin_otherwise_than_all_patterns_are_passed_over() {
        for (patterns, expected) in [
            (&[][..], false),
            (&["db@*.service"], false),
            (&["web.service"], false),
            (&["workers*"], true),
            (&["worker.service"], true),
            (&["wo*"], true),
            (&["*"], true),
            (&["[w]orker.service"], true),
            (&["db.service", "w?rker.service"], true),
            (&["wabe.service", "wabi.service"], false),
        ] {
            let worker = hint("worker.service", &[], &[]);
            for other in [hint("a.service", patterns, &[]), hint("a.service", &[], patterns)] {
                assert_eq!([worker.may_conflict(other), other.may_conflict(worker)], [expected; 2], "{patterns:?}");
            }
        }
    }
}

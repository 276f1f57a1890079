//! Patterns over unit names: who is in conflict with whom, who replaces whom, and an index to ask for many at once.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use crate::unit::{Glob, Requirements, UnitName};

/// What a unit is called and asks for: all that relations between two units rest on.
pub(super) type Party<'p> = (&'p UnitName, &'p Requirements);

/// Two units that may not be on one machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clash<'p> {
    /// The pattern that says so.
    pub pattern: &'p Glob,
    /// Whether the other one has declared it.
    pub theirs: bool,
}

/// The conflict between two units, whoever declares it. A unit is never in conflict with itself.
pub(super) fn clash<'p>(one: Party<'p>, other: Party<'p>) -> Option<Clash<'p>> {
    if one.0 == other.0 {
        return None;
    }
    let ours = hit(&one.1.conflicts, other.0).map(|pattern| Clash { pattern, theirs: false });
    ours.or_else(|| hit(&other.1.conflicts, one.0).map(|pattern| Clash { pattern, theirs: true }))
}

/// The pattern by which `one` replaces `other`; when each replaces the other, neither does.
pub(super) fn replaces<'p>(one: Party<'p>, other: Party<'p>) -> Option<&'p Glob> {
    let pattern = hit(&one.1.replaces, other.0)?;
    (one.0 != other.0 && hit(&other.1.replaces, one.0).is_none()).then_some(pattern)
}

fn hit<'p>(patterns: &'p BTreeSet<Glob>, name: &UnitName) -> Option<&'p Glob> {
    patterns.iter().find(|pattern| matches(pattern, name.as_str()))
}

/// `Glob::matches`, with a quick no for names that begin otherwise: nearly all that are asked.
fn matches(pattern: &Glob, name: &str) -> bool {
    name.starts_with(pattern.literal_prefix()) && pattern.matches(name)
}

/// Those of `names` that match, found by the pattern's literal prefix.
pub(super) fn matching<'n, V>(
    names: &'n BTreeMap<UnitName, V>,
    pattern: &Glob,
) -> impl Iterator<Item = (&'n UnitName, &'n V)> {
    let prefix = pattern.literal_prefix();
    names
        .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(name, _)| name.as_str().starts_with(prefix))
        .filter(|(name, _)| pattern.matches(name.as_str()))
}

/// Who declared which pattern. Asked with a name, it looks at the patterns that begin like the name, not at all:
/// those without wildcards by the names they spell, others in groups by literal prefix, and one that many units declare
/// only once.
#[derive(Debug)]
pub(super) struct Patterns<T> {
    exact: BTreeMap<String, BTreeSet<T>>,
    globs: BTreeMap<String, BTreeMap<Glob, BTreeSet<T>>>,
    /// How many groups have a prefix of this length: the few lengths that a name must be cut to.
    lengths: BTreeMap<usize, usize>,
}

impl<T: Ord + Clone> Patterns<T> {
    pub fn insert(&mut self, pattern: &Glob, who: T) {
        if let Some(names) = pattern.names() {
            for name in names {
                self.exact.entry(name).or_default().insert(who.clone());
            }
            return;
        }
        let prefix = pattern.literal_prefix();
        let group = self.globs.entry(prefix.into()).or_insert_with(|| {
            *self.lengths.entry(prefix.len()).or_default() += 1;
            BTreeMap::new()
        });
        group.entry(pattern.clone()).or_default().insert(who);
    }

    pub fn remove(&mut self, pattern: &Glob, who: &T) {
        if let Some(names) = pattern.names() {
            names.iter().for_each(|name| remove_from(&mut self.exact, name, who));
            return;
        }
        let prefix = pattern.literal_prefix();
        let Some(group) = self.globs.get_mut(prefix) else { return };
        remove_from(group, pattern, who);
        if group.is_empty() {
            self.globs.remove(prefix);
            if let Some(groups) = self.lengths.get_mut(&prefix.len()) {
                *groups -= 1;
                if *groups == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }

    /// Those who declared a pattern that `name` matches; one may come more than once.
    pub fn declared_against(&self, name: &UnitName) -> impl Iterator<Item = &T> {
        let name = name.as_str();
        let prefixes = self.lengths.keys().filter_map(move |&length| name.get(..length));
        let globs = prefixes
            .filter_map(|prefix| self.globs.get(prefix))
            .flatten()
            .filter(move |(pattern, _)| pattern.matches(name))
            .map(|(_, declarers)| declarers);
        self.exact.get(name).into_iter().chain(globs).flatten()
    }
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self { exact: BTreeMap::new(), globs: BTreeMap::new(), lengths: BTreeMap::new() }
    }
}

/// Removes `member` from the set under `key`, and the set when that was the last.
pub(super) fn remove_from<K, Q, T>(sets: &mut BTreeMap<K, BTreeSet<T>>, key: &Q, member: &T)
where
    K: Ord + Borrow<Q>,
    Q: Ord + ?Sized,
    T: Ord,
{
    if let Some(set) = sets.get_mut(key) {
        set.remove(member);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UnitName {
        UnitName::new(text).unwrap()
    }

    #[test]
    fn index_answers_like_matching_each_pattern() {
        let patterns = [
            "web@*.service",
            "web@1.service",
            "w*",
            "*",
            "web@[12].service",
            "db.service",
            "[",
            "x\\*",
            r"my\x2dapp.service",
            r"my\x2d*",
        ];
        let names = [
            "web@1.service",
            "web@3.service",
            "w.timer",
            "db.service",
            "x.service",
            r"my\x2dapp.service",
            "myx2dapp.service",
        ]
        .map(name);
        let mut index = Patterns::default();
        for (n, pattern) in patterns.iter().enumerate() {
            index.insert(&Glob::new(*pattern), n);
        }
        for left in (0..=patterns.len()).rev() {
            for name in &names {
                let found: BTreeSet<_> = index.declared_against(name).copied().collect();
                let expected = (0..left).filter(|&n| Glob::new(patterns[n]).matches(name.as_str()));
                assert_eq!(found, expected.collect(), "{name} against {left} patterns");
            }
            if let Some(last) = left.checked_sub(1) {
                index.remove(&Glob::new(patterns[last]), &last);
            }
        }
        assert!(index.exact.is_empty() && index.globs.is_empty() && index.lengths.is_empty());
    }

    #[test]
    fn names_are_found_by_a_pattern() {
        let names: BTreeMap<_, _> =
            ["a.service", "web@1.service", "web@2.timer", "wex.service"].map(|text| (name(text), ())).into();
        for (pattern, expected) in
            [("web@*", 2), ("*.service", 3), ("a.service", 1), ("b*", 0), ("?.service", 1), ("[", 0)]
        {
            assert_eq!(matching(&names, &Glob::new(pattern)).count(), expected, "{pattern}");
        }
    }
}

//! Shell patterns over unit names, with the meaning of Go's `path.Match`, which CoreOS fleet used.
//!
//! Names that systemd has escaped hold a backslash (`srv-my\\x2dapp.mount`), and there a pattern has two readings: the
//! backslash takes the meaning off what follows it, or it is part of the name. Both count. Whoever writes a unit's name,
//! or has `%p` put it there, means that unit; what the first reading matches is what CoreOS fleet would.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A pattern: `*` and `?` (neither crosses `/`), `[a-z]`, `[^a]`, and `\x` for a literal `x`, or for `\x` itself.
///
/// A malformed pattern (see [`Glob::check`]) matches nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

/// The pattern cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("malformed pattern `{0}`")]
pub struct GlobError(String);

/// What a backslash before a character without a meaning of its own is.
#[derive(Clone, Copy, PartialEq)]
enum Backslash {
    /// It goes, as in Go.
    Quotes,
    /// It stands for itself, as in a name that systemd has escaped.
    Stands,
}

/// What one element of a pattern accepts.
enum Element<'p> {
    Star,
    Any,
    Literal(char),
    Class { negated: bool, body: &'p str },
}

impl Glob {
    /// Takes `pattern` as it is.
    #[must_use]
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern can only ever match the one name that it spells.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains(['*', '?', '[', '\\'])
    }

    /// All names that a pattern without wildcards matches: one, and more when it has a backslash. `None` when it has
    /// wildcards, or is malformed.
    pub(crate) fn names(&self) -> Option<BTreeSet<String>> {
        if self.is_exact() {
            return Some([self.0.clone()].into());
        }
        if self.0.contains(['*', '?', '[']) || self.check().is_err() {
            return None;
        }
        let mut names = BTreeSet::from([self.0.clone()]);
        for backslash in [Backslash::Quotes, Backslash::Stands] {
            let mut rest = self.0.as_str();
            let mut name = String::new();
            while let Some((Element::Literal(literal), after)) = next_element(rest, backslash) {
                name.push(literal);
                rest = after;
            }
            names.insert(name);
        }
        Some(names)
    }

    /// What it spells out before its first metacharacter, and every name that matches begins with: `web@` of
    /// `web@*.service`.
    pub(crate) fn literal_prefix(&self) -> &str {
        self.0.find(['*', '?', '[', '\\']).map_or(&*self.0, |end| &self.0[..end])
    }

    /// Says whether the pattern is well formed.
    ///
    /// # Errors
    /// An unclosed or empty `[`, a range that lacks an end, or a `\` at the end.
    pub fn check(&self) -> Result<(), GlobError> {
        let mut rest = self.0.as_str();
        while !rest.is_empty() {
            let (element, after) = next_element(rest, Backslash::Quotes).ok_or_else(|| GlobError(self.0.clone()))?;
            if let Element::Class { body, .. } = element {
                // Reading the class against any character reads all of its ranges.
                class_contains(body, '\0').ok_or_else(|| GlobError(self.0.clone()))?;
            }
            rest = after;
        }
        Ok(())
    }

    /// Whether the whole of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.is_exact() {
            return self.0 == name;
        }
        let stands = || self.0.contains('\\') && (self.0 == name || matches_from(&self.0, name, Backslash::Stands));
        // In this order: most patterns match nothing of what they are asked about, and that is soon seen.
        (matches_from(&self.0, name, Backslash::Quotes) || stands()) && self.check().is_ok()
    }
}

/// Matches with one level of backtracking: a later `*` makes the choice of every earlier one final,
/// so the work is at most the product of both lengths, whatever the pattern.
fn matches_from(pattern: &str, name: &str, backslash: Backslash) -> bool {
    let (mut p, mut n) = (pattern, name);
    let mut retry: Option<(&str, &str)> = None;
    loop {
        let step = match next_element(p, backslash) {
            Some((Element::Star, after)) => {
                retry = Some((after, n));
                p = after;
                continue;
            }
            Some((element, after)) => match n.chars().next() {
                Some(c) if accepts(&element, c) => Some((after, &n[c.len_utf8()..])),
                _ => None,
            },
            None if n.is_empty() => return true,
            None => None,
        };
        if let Some((next_p, next_n)) = step {
            (p, n) = (next_p, next_n);
            continue;
        }
        // Let the last star swallow one more character.
        let Some((after_star, from)) = retry else { return false };
        match from.chars().next() {
            Some(c) if c != '/' => {
                n = &from[c.len_utf8()..];
                p = after_star;
                retry = Some((after_star, n));
            }
            _ => return false,
        }
    }
}

/// Splits the first element off a pattern; `None` at its end or where it is malformed.
fn next_element(pattern: &str, backslash: Backslash) -> Option<(Element<'_>, &str)> {
    let first = pattern.chars().next()?;
    let rest = &pattern[first.len_utf8()..];
    match first {
        '*' => Some((Element::Star, rest)),
        '?' => Some((Element::Any, rest)),
        '\\' => {
            let literal = rest.chars().next()?;
            if backslash == Backslash::Stands && !r"*?[]\".contains(literal) {
                return Some((Element::Literal('\\'), rest));
            }
            Some((Element::Literal(literal), &rest[literal.len_utf8()..]))
        }
        '[' => {
            let (negated, body) = rest.strip_prefix('^').map_or((false, rest), |body| (true, body));
            let mut escaped = false;
            let end = body.char_indices().position(|(i, c)| {
                let closes = c == ']' && !escaped && i > 0;
                escaped = c == '\\' && !escaped;
                closes
            })?;
            let end = body.char_indices().nth(end)?.0;
            Some((Element::Class { negated, body: &body[..end] }, &body[end + 1..]))
        }
        literal => Some((Element::Literal(literal), rest)),
    }
}

fn accepts(element: &Element<'_>, c: char) -> bool {
    match element {
        Element::Star => unreachable!("handled by the caller"),
        Element::Any => c != '/',
        Element::Literal(literal) => *literal == c,
        Element::Class { negated, body } => class_contains(body, c).is_some_and(|inside| inside != *negated),
    }
}

/// Whether `c` is in a class such as `a-z0\-`; `None` when the class is malformed.
fn class_contains(body: &str, c: char) -> Option<bool> {
    let mut chars = body.chars().peekable();
    let literal = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        plain => Some(plain),
    };
    let mut inside = false;
    while chars.peek().is_some() {
        let low = literal(&mut chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { literal(&mut chars)? } else { low };
        inside |= (low..=high).contains(&c);
    }
    Some(inside)
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, expected) in [
            ("web@*.service", "web@1.service", true),
            ("web@*.service", "web@.service", true),
            ("web@*.service", "web@1.timer", false),
            ("*", "anything.service", true),
            ("*", "a/b", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            (r"[\-x]", "-", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3d", false),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("[", "[", false),
            ("a\\", "a\\", false),
            ("web.service", "web.service", true),
            ("ü*", "übung", true),
            (r"srv-my\x2dapp.mount", r"srv-my\x2dapp.mount", true),
            (r"srv-my\x2dapp.mount", "srv-myx2dapp.mount", true),
            (r"srv-my\x2dapp.mount", "srv-my-app.mount", false),
            (r"srv-my\\x2dapp.mount", r"srv-my\x2dapp.mount", true),
            (r"my\x2dapp@*.service", r"my\x2dapp@1.service", true),
            (r"my\x2dapp@*.service", r"my\x2dother@1.service", false),
            (r"a\\b.service", r"a\\b.service", true),
            (r"a\*", r"a\x2db.service", false),
            (r"[\x2d]", r"\", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in ".{0,12}", name in ".{0,12}") {
            let _ = Glob::new(pattern).matches(&name);
        }

        #[test]
        fn escaped_text_matches_only_itself(name in "[a-z*?@.]{0,8}", other in "[a-z*?@.]{0,8}") {
            let escaped: String = name.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(Glob::new(&*escaped).matches(&name));
            prop_assert_eq!(Glob::new(escaped).matches(&other), name == other);
        }

        #[test]
        fn name_that_systemd_escaped_matches_itself(name in r"([a-z@.]|\\x2d|\\){0,8}", other in r"([a-z@.]|\\x2d|\\){0,8}") {
            let glob = Glob::new(&*name);
            if glob.check().is_ok() {
                prop_assert!(glob.matches(&name));
                prop_assert_eq!(glob.names().unwrap().contains(&other), glob.matches(&other));
                prop_assert!(glob.names().unwrap().iter().all(|name| glob.matches(name)));
            }
            let escaped = name.replace(r"\\", "-");
            let (pattern, longer) = (format!("{escaped}*"), format!("{escaped}{other}"));
            if !escaped.ends_with('\\') {
                prop_assert!(Glob::new(pattern).matches(&longer));
            }
        }

        #[test]
        fn star_is_any_text_without_slash(prefix in "[a-z]{0,3}", middle in "[a-z.@]{0,6}", suffix in "[a-z]{0,3}") {
            let glob = Glob::new(format!("{prefix}*{suffix}"));
            let name = format!("{prefix}{middle}{suffix}");
            prop_assert!(glob.matches(&name));
        }
    }
}

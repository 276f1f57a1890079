//! The keys in etcd: made and read. Which there are is said by the table of [`super::kinds`]; `docs/etcd-schema.md`
//! describes them to people who watch them from outside.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Kind, MachineId, kinds::with_kinds};
use crate::unit::{UnitHash, UnitName};

/// The identity of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub i64);

/// As etcd's own clients write it in keys.
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A half-open range of keys, `[from, to)`.
pub type Range = (String, String);

/// Makes and reads keys under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

/// Something that a key names, as a part of it between slashes.
trait Part: Sized {
    /// Reads it; `None` when it is none.
    fn read(text: &str) -> Option<Self>;
}

impl Part for UnitName {
    fn read(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }
}

impl Part for MachineId {
    fn read(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }
}

impl Part for UnitHash {
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Part for LeaseId {
    fn read(text: &str) -> Option<Self> {
        let lease = Self(i64::from_str_radix(text, 16).ok()?);
        (lease.to_string() == text).then_some(lease)
    }
}

macro_rules! keys {
    (
        followed {$(
            $(#[doc = $about:literal])+
            $kind:ident $(( $($part:ident: $type:ty),+ ))? { name: $name:literal, $($_rest:tt)* }
        )+}
        others {$(
            $(#[doc = $other_about:literal])+
            $other:ident $(( $($other_part:ident: $other_type:ty),+ ))? { name: $other_name:literal, $($_other_rest:tt)* }
        )+}
    ) => {
        keys! {$(
            $(#[doc = $about])+ $kind $(( $($part: $type),+ ))? = $name;
        )+ $(
            $(#[doc = $other_about])+ $other $(( $($other_part: $other_type),+ ))? = $other_name;
        )+}
    };
    ($( $(#[doc = $about:literal])+ $kind:ident $(( $($part:ident: $type:ty),+ ))? = $name:literal; )+) => {
        /// A key of the schema.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key {$(
            $(#[doc = $about])+
            $kind $(( $($type),+ ))?,
        )+}

        impl Key {
            /// What it is about.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $( Self::$kind { .. } => Kind::$kind, )+ }
            }

            /// As it is under the prefix.
            fn path(&self) -> String {
                match self {$(
                    Self::$kind $(( $($part),+ ))? => [$name.to_owned() $($(, $part.to_string())+)?].join("/"),
                )+}
            }

            /// Reads what is under the prefix.
            fn read(kind: Kind, path: &str) -> Option<Self> {
                let mut parts = path.strip_prefix(kind.name())?.split('/').skip(1);
                let key = match kind {
                    $( Kind::$kind => Self::$kind $(( $(<$type as Part>::read(parts.next()?)?),+ ))?, )+
                };
                parts.next().is_none().then_some(key)
            }
        }
    };
}
with_kinds!(keys);

impl Keys {
    /// Keys under `prefix`, for example `/fleet/`. A missing slash at either end is added.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        match prefix.trim_matches('/') {
            "" => Self { prefix: "/".into() },
            inner => Self { prefix: format!("/{inner}/") },
        }
    }

    /// The prefix, with a slash at both ends.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key as etcd has it.
    #[must_use]
    pub fn format(&self, key: &Key) -> String {
        format!("{}{}", self.prefix, key.path())
    }

    /// Reads a key; `None` when it is not of this schema.
    #[must_use]
    pub fn parse(&self, key: &str) -> Option<Key> {
        Key::read(self.kind(key)?, key.strip_prefix(&self.prefix)?)
    }

    /// What a key is about, if it is about anything that this fleet knows; its name may be none that it can have.
    #[must_use]
    pub fn kind(&self, key: &str) -> Option<Kind> {
        let path = key.strip_prefix(&self.prefix)?;
        let is_of =
            |kind: &Kind| path.strip_prefix(kind.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        Kind::ALL.iter().copied().find(is_of)
    }

    /// All keys under the prefix.
    #[must_use]
    pub fn all(&self) -> Range {
        self.under("")
    }

    /// One key.
    #[must_use]
    pub fn one(&self, key: &Key) -> Range {
        let key = self.format(key);
        (key.clone(), format!("{key}\0"))
    }

    /// All keys of a kind that names something.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Range {
        self.under(&format!("{}/", kind.name()))
    }

    /// Those that name a machine before all else.
    #[must_use]
    pub fn on(&self, kind: Kind, machine: &MachineId) -> Range {
        self.under(&format!("{}/{machine}/", kind.name()))
    }

    /// All that is followed, as one range: that keeps etcd's order between kinds, so that who follows it sees what a new
    /// leader has signed only after what the one before has written. Other kinds may lie within.
    #[must_use]
    pub fn followed(&self) -> Range {
        let names = Kind::FOLLOWED.iter().map(|kind| kind.name());
        let (first, last) = (names.clone().min().unwrap_or_default(), names.max().unwrap_or_default());
        // The slash that ends a name is followed by `0`.
        (format!("{}{first}", self.prefix), format!("{}{last}0", self.prefix))
    }

    /// The name of the engine's election, in which its candidates' keys stand.
    #[must_use]
    pub fn election(&self) -> String {
        format!("{}{}", self.prefix, Kind::Candidate.name())
    }

    /// Everything that begins with `path`, which ends in a slash unless it is empty.
    #[must_use]
    pub fn under(&self, path: &str) -> Range {
        let from = format!("{}{path}", self.prefix);
        let to = format!("{}0", from.trim_end_matches('/'));
        (from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_themselves() {
        let keys = Keys::new("fleet");
        let machine = MachineId::new("d097a72e4aef45bf815b90988acdbf13").unwrap();
        let name = UnitName::new("web@1.service").unwrap();
        let (hash, of_nothing) = (UnitHash::of(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        let all = [
            (Key::Candidate(LeaseId(0x7587_ac01)), "/fleet/election/engine/7587ac01".to_owned()),
            (Key::File(hash), format!("/fleet/file/{of_nothing}")),
            (Key::Global(name.clone()), "/fleet/global/web@1.service".into()),
            (Key::Held, "/fleet/engine/held".into()),
            (Key::InUse, "/fleet/in-use".into()),
            (Key::Leader, "/fleet/leader".into()),
            (Key::Machine(machine.clone()), format!("/fleet/machine/{machine}")),
            (Key::Metadata(machine.clone()), format!("/fleet/metadata/{machine}")),
            (Key::Sched(machine.clone(), name.clone()), format!("/fleet/sched/{machine}/web@1.service")),
            (Key::State(machine.clone(), name.clone()), format!("/fleet/state/{machine}/web@1.service")),
            (Key::Submitted(name.clone(), hash), format!("/fleet/cloud-config/web@1.service/{of_nothing}")),
            (Key::Unit(name), "/fleet/unit/web@1.service".into()),
        ];
        let kinds: Vec<Kind> = all.iter().map(|(key, _)| key.kind()).collect();
        assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "one of each kind is tried");
        for (key, text) in all {
            assert_eq!(keys.format(&key), text);
            assert_eq!((keys.parse(&text), keys.kind(&text)), (Some(key.clone()), Some(key.kind())));
            let (from, to) = keys.one(&key);
            assert!(from <= text && text < to && !(from..to).contains(&format!("{text}0")), "{text}");
            let (from, to) = keys.of(key.kind());
            assert_eq!(from <= text && text < to, !matches!(key, Key::Held | Key::InUse | Key::Leader), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_told_from_keys_that_are_not_known_here() {
        let keys = Keys::new("fleet");
        for unknown in ["/other/unit/a.service", "/fleet/later/a.service", "/fleet/units/a.service", "/fleet/", ""] {
            assert_eq!((keys.parse(unknown), keys.kind(unknown)), (None, None), "{unknown}");
        }
        for (bad, kind) in [
            ("/fleet/unit/a", Kind::Unit),
            ("/fleet/unit/a.service/b", Kind::Unit),
            ("/fleet/unit", Kind::Unit),
            ("/fleet/sched/x/a.service", Kind::Sched),
            ("/fleet/leader/x", Kind::Leader),
            ("/fleet/election/engine/x", Kind::Candidate),
            ("/fleet/election/engine/+1", Kind::Candidate),
        ] {
            assert_eq!((keys.parse(bad), keys.kind(bad)), (None, Some(kind)), "{bad}");
        }
    }

    #[test]
    fn followed_range_holds_the_kinds_that_are_followed_and_no_other() {
        let (from, to) = Keys::new("fleet").followed();
        for kind in Kind::ALL {
            let key = format!("/fleet/{}", kind.pattern());
            // One that comes to lie within is passed over by who follows, and is to be named here.
            assert_eq!(from <= key && key < to, Kind::FOLLOWED.contains(kind), "{key}");
        }
    }

    #[test]
    fn prefix_may_be_written_with_or_without_slashes() {
        for (given, prefix) in [("/fleet/", "/fleet/"), ("a/b", "/a/b/"), ("", "/"), ("/", "/")] {
            assert_eq!(Keys::new(given).prefix(), prefix);
            let (from, to) = Keys::new(given).all();
            assert!(from == prefix && to == format!("{}0", &prefix[..prefix.len() - 1]), "{to}");
        }
        let machine = MachineId::new("d097a72e4aef45bf815b90988acdbf13").unwrap();
        let under = |end: char| format!("/fleet/sched/{machine}{end}");
        assert_eq!(Keys::new("fleet").on(Kind::Sched, &machine), (under('/'), under('0')));
    }
}

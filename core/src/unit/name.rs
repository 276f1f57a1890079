//! Unit names: what is allowed, and how templates and instances relate.
//!
//! The rules and their messages are those of CoreOS fleet, which every client of its HTTP API knows.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Systemd's limit in bytes, which counts the NUL that ends a name. One byte less is also the longest file name.
const MAX_LENGTH: usize = 256;

/// The name of a unit, for example `web@1.service`. Cheap to clone; ordered by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(Arc<str>);

/// Why a string is not a unit name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// The empty string.
    #[error("unit name cannot be empty")]
    Empty,
    /// More than 255 bytes.
    #[error("unit name exceeds maximum length ({MAX_LENGTH})")]
    TooLong,
    /// No suffix at all.
    #[error("unit name must contain \".\"")]
    NoSuffix,
    /// A dot and nothing after it.
    #[error("unit name cannot end in \".\"")]
    EmptySuffix,
    /// A suffix that systemd does not know.
    #[error("invalid unit type: \"{0}\"")]
    UnknownType(String),
    /// An `@` in the name of a unit whose type has no templates.
    #[error("invalid unit type for template: \"{0}\"")]
    NoTemplates(UnitType),
    /// A character outside `A-Za-z0-9:-_.\@`.
    #[error("invalid character {0:?} in unit name")]
    Character(char),
    /// `@1.service`: an instance of nothing.
    #[error("unit name cannot start in \"@\"")]
    EmptyPrefix,
    /// `.service`, which systemd refuses.
    #[error("unit name is empty before \".\"")]
    EmptyStem,
}

macro_rules! unit_types {
    ($($variant:ident $suffix:literal),* $(,)?) => {
        /// The type of a unit, told by the suffix of its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum UnitType {
            $(
                #[doc = concat!("`.", $suffix, "`")]
                $variant,
            )*
        }

        impl UnitType {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The suffix without its dot.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $suffix,)* }
            }

            fn from_suffix(suffix: &str) -> Option<Self> {
                match suffix { $($suffix => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

unit_types! {
    Automount "automount", Busname "busname", Device "device", Mount "mount", Path "path", Scope "scope",
    Service "service", Slice "slice", Snapshot "snapshot", Socket "socket", Swap "swap", Target "target",
    Timer "timer",
}

impl UnitType {
    /// Whether systemd knows templates (`name@.type`) of this type.
    #[must_use]
    pub fn has_templates(self) -> bool {
        matches!(self, Self::Path | Self::Service | Self::Socket | Self::Target | Self::Timer)
    }
}

impl fmt::Display for UnitType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl UnitName {
    /// Checks `name` and takes it.
    ///
    /// # Errors
    /// The first rule that the name breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() >= MAX_LENGTH {
            return Err(NameError::TooLong);
        }
        let (stem, suffix) = name.rsplit_once('.').ok_or(NameError::NoSuffix)?;
        if suffix.is_empty() {
            return Err(NameError::EmptySuffix);
        }
        let kind = UnitType::from_suffix(suffix).ok_or_else(|| NameError::UnknownType(suffix.into()))?;
        if stem.contains('@') && !kind.has_templates() {
            return Err(NameError::NoTemplates(kind));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || r":-_.\@".contains(c);
        if let Some(bad) = stem.chars().find(|&c| !allowed(c)) {
            return Err(NameError::Character(bad));
        }
        if stem.starts_with('@') {
            return Err(NameError::EmptyPrefix);
        }
        if stem.is_empty() {
            return Err(NameError::EmptyStem);
        }
        Ok(Self(name.into()))
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type.
    #[must_use]
    pub fn kind(&self) -> UnitType {
        UnitType::from_suffix(self.split().1).expect("checked in new")
    }

    /// The name without its suffix (`%N`): `web@1` of `web@1.service`.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.split().0
    }

    /// What stands before the `@`, or the whole stem of a plain unit (`%p`): `web` of `web@1.service`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.stem().split_once('@').map_or(self.stem(), |(prefix, _)| prefix)
    }

    /// What stands after the `@` (`%i`): `1` of `web@1.service`; `None` for plain units and templates.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.stem().split_once('@').map(|(_, instance)| instance).filter(|instance| !instance.is_empty())
    }

    /// Whether this is a template such as `web@.service`, which never runs itself.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.stem().split_once('@').is_some_and(|(_, instance)| instance.is_empty())
    }

    /// The template that this unit is an instance of: `web@.service` for `web@1.service`.
    #[must_use]
    pub fn template(&self) -> Option<Self> {
        self.instance()?;
        Some(Self(format!("{}@.{}", self.prefix(), self.split().1).into()))
    }

    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('.').expect("checked in new")
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for UnitName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for UnitName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.as_str().into()
    }
}

impl Borrow<str> for UnitName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for UnitName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_get_the_messages_that_clients_know() {
        for (name, message) in [
            ("", "unit name cannot be empty"),
            (&*("a".repeat(250) + ".service"), "unit name exceeds maximum length (256)"),
            ("hello", "unit name must contain \".\""),
            ("hello.", "unit name cannot end in \".\""),
            ("hello.bogus", "invalid unit type: \"bogus\""),
            ("a@b.mount", "invalid unit type for template: \"mount\""),
            ("he!lo.service", "invalid character '!' in unit name"),
            ("a/b.service", "invalid character '/' in unit name"),
            ("@.service", "unit name cannot start in \"@\""),
            (".service", "unit name is empty before \".\""),
        ] {
            assert_eq!(UnitName::new(name).unwrap_err().to_string(), message, "{name}");
        }
    }

    #[test]
    fn longest_name_is_one_that_a_file_can_have() {
        let name = |length: usize| format!("{}.service", "a".repeat(length - ".service".len()));
        assert!(UnitName::new(&name(255)).is_ok());
        assert_eq!(UnitName::new(&name(256)), Err(NameError::TooLong));
    }

    #[test]
    fn templates_and_instances_know_each_other() {
        let instance = UnitName::new("web@eu.1.service").unwrap();
        assert_eq!(instance.prefix(), "web");
        assert_eq!(instance.instance(), Some("eu.1"));
        assert_eq!(instance.stem(), "web@eu.1");
        assert_eq!(instance.template().unwrap().as_str(), "web@.service");
        assert!(!instance.is_template());

        let template = UnitName::new("web@.service").unwrap();
        assert!(template.is_template());
        assert_eq!(template.instance(), None);
        assert_eq!(template.template(), None);

        let plain = UnitName::new(r"dev-sda\x2d1.device").unwrap();
        assert_eq!((plain.prefix(), plain.kind()), (r"dev-sda\x2d1", UnitType::Device));
        assert_eq!(plain.template(), None);
    }
}

//! Unit files and what they mean to fleet.

mod behaviour;
mod doubts;
mod file;
mod glob;
mod hash;
mod install;
mod name;
mod requirements;
mod span;
mod specifier;
mod stop_bound;
mod text;
pub mod verify;
mod warning;

pub use behaviour::{Behaviour, triggered};
pub use doubts::doubts;
pub use file::{ParseError, ParseErrorKind, UnitFile, UnitOption, X_FLEET};
pub use glob::{Glob, GlobError};
pub use hash::{HashError, UnitHash};
pub use install::{InstallError, InstallReason, aliases, check_install};
pub use name::{NameError, UnitName, UnitType};
pub use requirements::{OnPartition, Requirements, RequirementsError};
pub use span::{SpanError, parse as parse_span};
pub use specifier::expand as expand_specifiers;
pub use stop_bound::Unbounded;
pub use text::suggest;
pub use warning::Warning;

//! Unit files and what they mean to fleet.

mod file;
mod glob;
mod hash;
mod name;
mod requirements;
mod specifier;
mod text;

pub use file::{ParseError, ParseErrorKind, UnitFile, UnitOption};
pub use glob::{Glob, GlobError};
pub use hash::{HashError, UnitHash};
pub use name::{NameError, UnitName, UnitType};
pub use requirements::{OnPartition, Requirements, RequirementsError, SECTION as X_FLEET, Warning};
pub use specifier::expand as expand_specifiers;
pub use text::suggest;

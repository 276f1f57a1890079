//! What is said of a file that can be used.

/// Something in `[X-Fleet]` that is passed over, and probably was meant otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The line of the file, from 1; 0 when unknown.
    pub line: u32,
    /// What is passed over.
    pub message: String,
    /// The mend, where one is known.
    pub hint: Option<String>,
}

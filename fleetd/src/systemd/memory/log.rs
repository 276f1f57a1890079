//! What a simulated systemd writes down and how it says no.

use tokio::time::Instant;

/// Something that happened to a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// Where.
    pub host: String,
    /// To what.
    pub unit: String,
    /// What.
    pub what: What,
}

/// What happened to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its main process began; the number tells one run from the next.
    Started(u32),
    /// Its main process ended.
    Stopped,
    /// Somebody asked systemd to do this with it.
    Asked(&'static str),
}

/// The answer no: the name of a D-Bus error, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub &'static str, pub String);

//! What daemons say that they understand, so that a capability is used only when those who must understand it do.

use serde::{Deserialize, Serialize};

/// Members of records that it does not know are kept when it writes the record.
pub const KEEPS_UNKNOWN: &str = "keeps-unknown";
/// Global units are placed by the engine, and reach a machine by `sched/` as all others do.
pub const GLOBAL_PLACEMENTS: &str = "global-placements";
/// What a cluster begins to use when all who are concerned understand it, and says in `in-use` that it does.
pub const SWITCHED_OVER: &[&str] = &[GLOBAL_PLACEMENTS];

/// Words for what a daemon understands, in `machine/<id>` and in `leader`, or for what a cluster uses, in `in-use`. A word stands for one thing for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features(Box<[Box<str>]>);

impl Features {
    /// What this daemon understands.
    #[must_use]
    pub fn of_this_daemon() -> Self {
        [KEEPS_UNKNOWN, GLOBAL_PLACEMENTS].into_iter().collect()
    }

    /// Whether a word is among them.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.words().any(|known| known == feature)
    }

    /// The words.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|word| &**word)
    }

    /// Whether it says nothing, as daemons did before there were such words.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'w> FromIterator<&'w str> for Features {
    fn from_iter<I: IntoIterator<Item = &'w str>>(words: I) -> Self {
        Self(words.into_iter().map(Into::into).collect())
    }
}

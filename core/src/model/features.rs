//! What daemons say that they understand, so that a capability is used only when those who must understand it do.

use std::iter;

use serde::{Deserialize, Serialize};

/// Members of records that it does not know are kept when it writes the record.
pub const KEEPS_UNKNOWN: &str = "keeps-unknown";

/// The words for what a daemon understands, in `machine/<id>` and in `leader`. A word stands for one thing for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features(Box<[Box<str>]>);

impl Features {
    /// What this daemon understands.
    #[must_use]
    pub fn of_this_daemon() -> Self {
        Self(iter::once(KEEPS_UNKNOWN.into()).collect())
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

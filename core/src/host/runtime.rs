//! What systemd says of a unit, in its own words.

use std::fmt;

/// What systemd says of a unit now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load: String,
    /// The active state.
    pub active: Active,
    /// The sub state.
    pub sub: String,
    /// The unfinished job, if there is one.
    pub job: Option<Job>,
}

impl Default for Runtime {
    /// A unit that systemd does not know.
    fn default() -> Self {
        Self { load: "not-found".into(), active: Active::Inactive, sub: "dead".into(), job: None }
    }
}

impl Runtime {
    /// Nothing of the unit runs, and nothing is about to.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.active, Active::Inactive | Active::Failed) && self.job.is_none()
    }

    /// The unit waits for systemd to start it again after it failed.
    #[must_use]
    pub fn waits_for_restart(&self) -> bool {
        self.active == Active::Activating && self.sub.starts_with("auto-restart") && self.job.is_none()
    }

    /// Systemd knows why the unit failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.active == Active::Failed || self.waits_for_restart()
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $other:ident { $($variant:ident $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)*
        }

        impl $name {
            /// Systemd's word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Reads systemd's word; one that is not known here becomes the variant that promises least.
            #[must_use]
            pub fn from_word(word: &str) -> Self {
                match word { $($word => Self::$variant,)* _ => Self::$other }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Systemd's active states (`org.freedesktop.systemd1(5)`).
    Active, Active {
        Active "active", Reloading "reloading", Inactive "inactive", Failed "failed", Activating "activating",
        Deactivating "deactivating", Maintenance "maintenance", Refreshing "refreshing",
    }
}

words! {
    /// Systemd's job types (`org.freedesktop.systemd1(5)`).
    Job, Start {
        Start "start", VerifyActive "verify-active", Stop "stop", Reload "reload", ReloadOrStart "reload-or-start",
        Restart "restart", TryRestart "try-restart", Nop "nop",
    }
}

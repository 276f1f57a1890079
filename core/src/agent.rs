//! The next step that brings one host from what it has to what it should have.
//!
//! [`next_step`] looks at one unit: what is wanted of it here, what the agent has put in place, and what systemd
//! says now. It names at most one step. The agent carries it out, looks again and asks again, until there is
//! nothing left to do; so every path, a crash in the middle included, is the same path:
//!
//! ```text
//!            Install          Start
//!  nothing ───────────▶ loaded ───────────▶ launched ──┐ Restart (generation changed)
//!     ▲                   │  ▲                │        │
//!     │ Remove            │  └──── Stop ◀─────┤  ◀─────┘
//!     └───────── Stop ◀───┴───────────────────┘
//! ```
//!
//! A unit that ends or fails by itself is not started again: its `Restart=` is what does that, or whoever asks once more
//! ([`Wanted::request`]). A unit that the agent has not installed is never named in a step other than `Install`.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    model::Target,
    unit::{UnitHash, UnitName},
};

/// What this host should have of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The contents.
    pub hash: UnitHash,
    /// How far to bring it.
    pub target: Target,
    /// Grows when a restart is asked for; `None` is content with any.
    pub generation: Option<u64>,
    /// Grows when somebody asks once more for what was wanted already: what does not run is started then, and what is
    /// only to be loaded is stopped. `None` is content with any.
    pub request: Option<u64>,
}

/// What the agent has put in place of a unit, as its manifest on disk remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The contents of the file on this host.
    pub hash: UnitHash,
    /// How far the agent brought it.
    pub applied: Target,
    /// The generation it carried out; `None` when that is not known any more, which counts as carried out.
    pub generation: Option<u64>,
    /// The request it carried out; `None` when that is not known any more, which counts as carried out.
    #[serde(default)]
    pub request: Option<u64>,
    /// For that, it was started or stopped, not found as it should be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acted: bool,
    /// The agent asked for it to be stopped, so that it is down, or will be, not by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    /// It has ended as it should and is not to run again, as a oneshot does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// Systemd does not find its file: it has to be put in place again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

impl Installed {
    /// A unit whose file has just been put in place.
    #[must_use]
    pub fn loaded(hash: UnitHash, generation: Option<u64>) -> Self {
        Self {
            hash,
            applied: Target::Loaded,
            generation,
            request: None,
            acted: false,
            stopping: false,
            finished: false,
            lost: false,
        }
    }

    /// What is wanted when nothing is to change.
    #[must_use]
    pub fn as_wanted(&self) -> Wanted {
        Wanted { hash: self.hash, target: self.effective(), generation: self.generation, request: self.request }
    }

    /// Takes note that the unit was started, or restarted, as it is wanted.
    pub fn launched(&mut self, wanted: &Wanted) {
        self.applied = Target::Launched;
        self.carried_out(wanted);
        (self.acted, self.stopping, self.finished) = (true, false, false);
    }

    /// Takes note that the unit is as it is wanted, and needs no step.
    pub fn settled(&mut self, wanted: &Wanted) {
        self.applied = wanted.target;
        self.carried_out(wanted);
        self.acted = std::mem::take(&mut self.stopping);
        self.finished &= wanted.target == Target::Launched;
    }

    fn carried_out(&mut self, wanted: &Wanted) {
        self.generation = wanted.generation.or(self.generation);
        self.request = wanted.request.or(self.request);
    }

    /// How far it is still brought.
    fn effective(&self) -> Target {
        if self.stopping { Target::Loaded } else { self.applied }
    }
}

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

/// One thing to do with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write its file and make systemd know it.
    Install,
    /// Ask systemd to start it.
    Start,
    /// Ask systemd to restart it.
    Restart,
    /// Ask systemd to stop it. The next step waits until it is down.
    Stop,
    /// Remember that what is wanted already is so; systemd is not asked for anything.
    Settle,
    /// Forget it: disable it, clear its failure, delete its file.
    Remove,
}

/// A step and why it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The unit.
    pub unit: UnitName,
    /// What to do.
    pub step: Step,
    /// Why, in words for a log.
    pub reason: &'static str,
}

/// The next step for one unit, and why; `None` when nothing is to be done, or only to be waited for.
#[must_use]
pub fn next_step(
    wanted: Option<&Wanted>,
    installed: Option<&Installed>,
    runtime: &Runtime,
) -> Option<(Step, &'static str)> {
    let (wanted, installed) = match (wanted, installed) {
        (None, None) => return None,
        (None, Some(_)) => return once_down(runtime, Step::Remove, "no longer wanted here"),
        (Some(_), None) => return Some((Step::Install, "wanted here")),
        (Some(wanted), Some(installed)) => (wanted, installed),
    };
    if wanted.hash != installed.hash {
        return once_down(runtime, Step::Install, "its contents changed");
    }
    if installed.lost && runtime.is_down() {
        return Some((Step::Install, "systemd does not find its file"));
    }
    let is_restart = differ(wanted.generation, installed.generation);
    let is_asked = differ(wanted.request, installed.request);
    let is_settled = [(wanted.generation, installed.generation), (wanted.request, installed.request)]
        .iter()
        .all(|(wanted, installed)| wanted.is_none() || wanted == installed);
    match (wanted.target, installed.applied) {
        (Target::Loaded, Target::Launched) => once_down(runtime, Step::Settle, "wanted loaded, not launched"),
        (Target::Loaded, Target::Loaded) if is_asked => once_down(runtime, Step::Settle, "asked to be stopped"),
        // A stop that is still under way ends first: its ExecStop may need what a start would overwrite.
        (Target::Launched, _) if installed.effective() == Target::Loaded && is_stopping(runtime) => None,
        (Target::Launched, _) if is_restart => Some((Step::Restart, "restart asked for")),
        // Also when it was wanted otherwise only for a moment: what stopped it was the agent.
        (Target::Launched, _) if installed.effective() == Target::Loaded => Some((Step::Start, "wanted launched")),
        (Target::Launched, _) if is_asked => asked_to_run(installed, runtime),
        _ if !is_settled => Some((Step::Settle, "already as wanted")),
        _ => None,
    }
}

/// What is to be done for a launched unit that somebody asked to start.
fn asked_to_run(installed: &Installed, runtime: &Runtime) -> Option<(Step, &'static str)> {
    let has_finished = installed.finished && runtime.active == Active::Inactive;
    if runtime.waits_for_restart() || runtime.is_down() && !has_finished {
        return Some((Step::Start, "asked for, and it does not run"));
    }
    // Whatever stops it, it is to run after that.
    let is_ending = is_stopping(runtime) || runtime.active == Active::Deactivating;
    (!is_ending).then_some((Step::Settle, "asked for, and it runs or has finished"))
}

/// Whether both are known and not the same.
fn differ(wanted: Option<u64>, carried_out: Option<u64>) -> bool {
    wanted.zip(carried_out).is_some_and(|(wanted, carried_out)| wanted != carried_out)
}

/// The next step of each of these units that has one, in their order.
#[must_use]
pub fn reconcile<'u>(
    units: impl IntoIterator<Item = &'u UnitName>,
    wanted: &BTreeMap<UnitName, Wanted>,
    installed: &BTreeMap<UnitName, Installed>,
    runtime: &BTreeMap<UnitName, Runtime>,
) -> Vec<Action> {
    let unknown = Runtime::default();
    let step = |unit: &UnitName| {
        next_step(wanted.get(unit), installed.get(unit), runtime.get(unit).unwrap_or(&unknown))
            .map(|(step, reason)| Action { unit: unit.clone(), step, reason })
    };
    units.into_iter().filter_map(step).collect()
}

/// `step` when the unit is down; before that, a stop, or waiting for one.
fn once_down(runtime: &Runtime, step: Step, reason: &'static str) -> Option<(Step, &'static str)> {
    if runtime.is_down() {
        Some((step, reason))
    } else if is_stopping(runtime) {
        None
    } else {
        Some((Step::Stop, reason))
    }
}

fn is_stopping(runtime: &Runtime) -> bool {
    runtime.job == Some(Job::Stop)
}

#[cfg(test)]
mod tests;

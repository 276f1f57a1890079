//! The next step that brings one unit from what a host has of it to what it should have.
//!
//! [`next_step`] looks at what is wanted of the unit here, what the agent has put in place, and what systemd says now. It
//! names at most one step. The agent carries it out, looks again and asks again, until there is nothing left to do; so
//! every path, a crash in the middle included, is the same path:
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

use super::{
    assignment::Wanted,
    installed::Installed,
    runtime::{Active, Job, Runtime},
};
use crate::model::Target;

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

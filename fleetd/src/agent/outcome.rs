//! What became of a start that came to nothing, in words.
//!
//! Systemd tells that a job has ended and how, in one word ([`Ended`]). What that word means for a unit is asked for here:
//! which condition was not met, which unit that it needs is down, which one that it is to start does not exist.

use std::collections::BTreeSet;

use fleet_core::{
    agent::{Active, Runtime},
    model::Target,
    unit::{UnitName, triggered},
};
use tracing::{info, warn};

use super::{Agent, look::has_failed};
use crate::{
    filesystem::Filesystem,
    registry::Store,
    systemd::{Ended, Systemd},
};

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// A job of a unit has ended.
    pub(super) async fn job_ended(&mut self, unit: &UnitName, ended: &Ended) {
        self.unconfirmed.remove(unit);
        self.touch(unit);
        let is_down = self.runtime.get(unit).is_some_and(|runtime| runtime.active == Active::Inactive);
        if is_down {
            match &*ended.result {
                "canceled" | "skipped" => {}
                "done" => {
                    self.succeeded(unit);
                    self.tell_unmet(unit).await;
                }
                "assert" => {
                    let unmet = self.unmet(unit).await.unwrap_or_else(|| "an assertion of its file is not met".into());
                    self.came_to_nothing(unit, &format!("systemd did not start it: {unmet}"));
                }
                "dependency" => {
                    let lacking = self.lacking_dependency(unit).await;
                    self.came_to_nothing(unit, &format!("systemd did not start it: {lacking}"));
                }
                result => match self.missing_trigger(unit).await {
                    Some(missing) => self.waits_for(
                        unit,
                        format!("systemd does not start it before there is {missing}, which it is to start"),
                    ),
                    None => self.came_to_nothing(unit, &format!("its job in systemd ended with \"{result}\"")),
                },
            }
        }
        self.let_go(unit).await;
    }

    /// Systemd refused to start a unit, or does not know it.
    pub(super) async fn refused(&mut self, unit: &UnitName, problem: String) {
        let listed = self.systemd.list(std::slice::from_ref(unit)).await;
        match listed.ok().and_then(|mut listed| listed.remove(unit)) {
            // Its link is gone, say because a removal was cut short. It is put in place again.
            Some(runtime) if runtime.load == "not-found" => {
                if let Some(entry) = self.installed.get_mut(unit) {
                    entry.lost = true;
                }
                self.failed(unit, problem);
            }
            // Another one is missing, without which it is not started.
            _ => self.waits_for(unit, problem),
        }
    }

    /// A unit cannot be started before another one is there.
    fn waits_for(&mut self, unit: &UnitName, problem: String) {
        if let Some(entry) = self.installed.get_mut(unit) {
            entry.applied = Target::Loaded;
            self.unsaved = true;
        }
        self.lacking.insert(unit.clone());
        self.alone.insert(unit.clone());
        self.failed(unit, problem);
    }

    /// Has those of these units be started each by itself that need a unit which does not exist: as part of a batch
    /// systemd would start them without it.
    pub(super) async fn set_needy_apart(&mut self, units: &[UnitName]) {
        let needs = |unit: &UnitName| self.behaviour.get(unit).map_or(&[][..], |behaviour| &behaviour.requires);
        let all: BTreeSet<UnitName> = units.iter().flat_map(needs).cloned().collect();
        if all.is_empty() {
            return;
        }
        let all: Vec<UnitName> = all.into_iter().collect();
        let Ok(states) = self.systemd.list(&all).await else { return };
        let is_missing = |need: &UnitName| states.get(need).is_none_or(|runtime| runtime.load == "not-found");
        let needy = units.iter().filter(|unit| needs(unit).iter().any(is_missing));
        let needy: Vec<UnitName> = needy.cloned().collect();
        self.alone.extend(needy);
    }

    /// Units have come: those that may have waited for them are tried again at once.
    pub(super) fn retry_lacking(&mut self) {
        for unit in std::mem::take(&mut self.lacking) {
            self.retry_now(&unit);
        }
    }

    fn came_to_nothing(&mut self, unit: &UnitName, problem: &str) {
        self.retries.remove(unit);
        if self.is_news(unit, problem) {
            warn!(%unit, problem, "unit did not start");
        }
        self.problems.insert(unit.clone(), problem.into());
    }

    /// A start that is over and left nothing: says so if that was because of a condition. Else, what ends by itself has
    /// finished.
    async fn tell_unmet(&mut self, unit: &UnitName) {
        let behaviour = self.behaviour.get(unit).cloned().unwrap_or_default();
        let launched = self.installed.get(unit).is_some_and(|entry| entry.applied == Target::Launched);
        if !launched {
            return;
        }
        if behaviour.conditional
            && let Some(unmet) = self.unmet(unit).await
        {
            let notice = format!("systemd did not start it: {unmet}");
            if self.notices.get(unit) != Some(&notice) {
                info!(%unit, notice, "unit did not start");
                self.notices.insert(unit.clone(), notice);
            }
        } else if behaviour.ends {
            self.finished(unit);
        }
    }

    /// A unit that ends by itself has ended well.
    pub(super) fn finished(&mut self, unit: &UnitName) {
        if let Some(entry) = self.installed.get_mut(unit).filter(|entry| !entry.finished && !entry.stopping) {
            entry.finished = true;
            self.unsaved = true;
            self.touch(unit);
        }
    }

    /// The conditions that kept a unit from its start; `None` when there are none.
    async fn unmet(&self, unit: &UnitName) -> Option<String> {
        let unmet = self.systemd.unmet(unit).await.unwrap_or_default();
        match &*unmet {
            [] => None,
            [one] => Some(format!("{one} is not met")),
            several => Some(format!("{} are not met", several.join(", "))),
        }
    }

    /// What of a unit's dependencies keeps it down.
    async fn lacking_dependency(&self, unit: &UnitName) -> String {
        let needs = self.behaviour.get(unit).map(|behaviour| behaviour.requires.clone()).unwrap_or_default();
        let states = self.systemd.list(&needs).await.unwrap_or_default();
        let is_up = |runtime: &Runtime| matches!(runtime.active, Active::Active | Active::Reloading);
        let lacking: Vec<String> = needs
            .iter()
            .filter_map(|need| Some((need, states.get(need)?)))
            .filter(|(_, runtime)| !is_up(runtime))
            .map(|(need, runtime)| match &*runtime.load {
                "loaded" => format!("{need}, which it needs, is {}", runtime.active),
                _ => format!("{need}, which it needs, does not exist"),
            })
            .collect();
        match lacking.is_empty() {
            true => "a unit that it needs did not start".into(),
            false => lacking.join(", "),
        }
    }

    /// The unit that a timer, a path or a socket is to start, if that does not exist here.
    async fn missing_trigger(&self, unit: &UnitName) -> Option<UnitName> {
        let starts = triggered(&self.disk.file(unit)?, unit)?;
        let listed = self.systemd.list(std::slice::from_ref(&starts)).await.ok()?;
        (listed.get(&starts)?.load == "not-found").then_some(starts)
    }

    /// Asks why those of these units failed that have, once for each failure.
    pub(super) async fn ask_why_failed(&mut self, units: &[UnitName]) {
        let failed = units
            .iter()
            .filter(|unit| !self.failures.contains_key(*unit) && self.runtime.get(*unit).is_some_and(has_failed));
        for unit in failed.cloned().collect::<Vec<_>>() {
            if let Ok(Some(why)) = self.systemd.failure(&unit).await {
                self.touch(&unit);
                self.failures.insert(unit, why);
            }
        }
    }

    /// Before a unit is started because somebody asked for it: the limit of its starts begins anew, and it stays loaded
    /// until its conditions can be asked for.
    pub(super) async fn before_start(&mut self, unit: &UnitName) {
        let is_retry = self.retries.contains_key(unit);
        let failed = self.runtime.get(unit).is_some_and(|runtime| runtime.active == Active::Failed);
        if !is_retry && (failed || self.has_run.contains(unit)) {
            // It fails when systemd has unloaded the unit, and forgotten its starts with it.
            let _ = self.systemd.reset_failed(unit).await;
        }
        let conditional = self.behaviour.get(unit).is_some_and(|behaviour| behaviour.conditional);
        if conditional && self.systemd.hold(unit).await.is_ok() {
            self.held.insert(unit.clone());
        }
        self.notices.remove(unit);
        self.failures.remove(unit);
    }

    /// What was to be known of a start is known.
    pub(super) async fn let_go(&mut self, unit: &UnitName) {
        if self.held.remove(unit) {
            // The bus does it when the connection is gone.
            let _ = self.systemd.release(unit).await;
        }
    }
}

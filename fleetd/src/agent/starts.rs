//! What became of a start that came to nothing, in words.
//!
//! Systemd tells that a job has ended and how, in one word ([`Ended`]). What that word means for a unit is asked for here:
//! which condition was not met, which unit that it needs is down, which one that it is to start does not exist.

use std::collections::BTreeSet;

use fleet_core::{
    host::{Active, Cell, Runtime},
    model::Target,
    unit::{UnitName, triggered},
};
use tracing::info;

use super::{Disk, units::Units};
use crate::{
    filesystem::Filesystem,
    systemd::{Ended, Systemd},
};

/// Asks systemd how starts went.
pub(super) struct Starts<D, F> {
    systemd: D,
    disk: Disk<F>,
    /// Units that systemd keeps loaded until it was asked how their start went.
    held: BTreeSet<UnitName>,
}

impl<D: Systemd, F: Filesystem> Starts<D, F> {
    pub fn new(systemd: D, disk: Disk<F>) -> Self {
        Self { systemd, disk, held: BTreeSet::new() }
    }

    /// A job of a unit has ended.
    pub async fn job_ended(&mut self, units: &mut Units, unit: &UnitName, ended: &Ended) {
        units.edit(unit, |cell, _| cell.confirm());
        if units.get(unit).is_some_and(|cell| cell.has_active(Active::Inactive)) {
            match &*ended.result {
                "canceled" | "skipped" => {}
                "done" => {
                    units.edit(unit, |cell, _| cell.succeeded());
                    self.tell_unmet(units, unit).await;
                }
                "assert" => {
                    let unmet = self.unmet(unit).await.unwrap_or_else(|| "an assertion of its file is not met".into());
                    units.came_to_nothing(unit, &format!("systemd did not start it: {unmet}"));
                }
                "dependency" => {
                    let lacking = self.lacking_dependency(units, unit).await;
                    units.came_to_nothing(unit, &format!("systemd did not start it: {lacking}"));
                }
                result => match self.missing_trigger(unit).await {
                    Some(missing) => units.waits_for(
                        unit,
                        &format!("systemd does not start it before there is {missing}, which it is to start"),
                    ),
                    None => units.came_to_nothing(unit, &format!("its job in systemd ended with \"{result}\"")),
                },
            }
        }
        self.let_go(unit).await;
    }

    /// Systemd refused to start a unit, or does not know it.
    pub async fn refused(&self, units: &mut Units, unit: &UnitName, problem: &str) {
        let listed = self.systemd.list(std::slice::from_ref(unit)).await;
        match listed.ok().and_then(|mut listed| listed.remove(unit)) {
            // Its link is gone, say because a removal was cut short. It is put in place again.
            Some(runtime) if runtime.load == "not-found" => {
                units.edit(unit, |cell, _| cell.lost_file());
                units.failed(unit, problem);
            }
            // Another one is missing, without which it is not started.
            _ => units.waits_for(unit, problem),
        }
    }

    /// Has those of these units be started each by itself that need a unit which does not exist: as part of a batch
    /// systemd would start them without it.
    pub async fn set_needy_apart(&self, units: &mut Units, starting: &[UnitName]) {
        let needs = |units: &Units, unit: &UnitName| units.get(unit).map(|cell| cell.behaviour().requires.clone());
        let all: BTreeSet<UnitName> = starting.iter().filter_map(|unit| needs(units, unit)).flatten().collect();
        if all.is_empty() {
            return;
        }
        let all: Vec<UnitName> = all.into_iter().collect();
        let Ok(states) = self.systemd.list(&all).await else { return };
        let is_missing = |need: &UnitName| states.get(need).is_none_or(|runtime| runtime.load == "not-found");
        let is_needy = |cell: &Cell| cell.behaviour().requires.iter().any(is_missing);
        let needy: Vec<UnitName> = units.filter(starting, is_needy).cloned().collect();
        units.edit_all(&needy, |cell, _| cell.set_alone());
    }

    /// A start that is over and left nothing: says so if that was because of a condition. Else, what ends by itself has
    /// finished.
    async fn tell_unmet(&self, units: &mut Units, unit: &UnitName) {
        let Some(cell) = units.get(unit) else { return };
        if cell.installed().is_none_or(|entry| entry.applied != Target::Launched) {
            return;
        }
        let (ends, conditional) = (cell.behaviour().ends, cell.behaviour().conditional);
        let unmet = if conditional { self.unmet(unit).await } else { None };
        if let Some(unmet) = unmet {
            let notice = format!("systemd did not start it: {unmet}");
            if units.edit(unit, |cell, _| cell.was_skipped(&notice)) == Some(true) {
                info!(%unit, notice, "unit did not start");
            }
        } else if ends {
            units.edit(unit, |cell, _| cell.finished());
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
    async fn lacking_dependency(&self, units: &Units, unit: &UnitName) -> String {
        let needs = units.get(unit).map(|cell| cell.behaviour().requires.clone()).unwrap_or_default();
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
    pub async fn ask_why_failed(&self, units: &mut Units, looked: &[UnitName]) {
        let failed: Vec<UnitName> = units.filter(looked, Cell::wants_cause).cloned().collect();
        for unit in failed {
            if let Ok(Some(why)) = self.systemd.failure(&unit).await {
                units.edit(&unit, |cell, _| cell.has_failed(&why));
            }
        }
    }

    /// Before a unit is started because somebody asked for it: the limit of its starts begins anew, and it stays loaded
    /// until its conditions can be asked for.
    pub async fn before_start(&mut self, units: &mut Units, unit: &UnitName) {
        let Some(cell) = units.get(unit) else { return };
        let conditional = cell.behaviour().conditional;
        if cell.may_be_limited() {
            // It fails when systemd has unloaded the unit, and forgotten its starts with it.
            let _ = self.systemd.reset_failed(unit).await;
        }
        if conditional && self.systemd.hold(unit).await.is_ok() {
            self.held.insert(unit.clone());
        }
        units.edit(unit, |cell, _| cell.before_start());
    }

    /// What was to be known of a start is known.
    pub async fn let_go(&mut self, unit: &UnitName) {
        if self.held.remove(unit) {
            // The bus does it when the connection is gone.
            let _ = self.systemd.release(unit).await;
        }
    }
}

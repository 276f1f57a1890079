//! What the verbs on units have in common: `start`, `load`, `stop`, `unload`, `restart` and `destroy`.

use std::collections::BTreeSet;

use fleet_api::{Again, Unit};

use super::Context;
use crate::{
    error::{Ending, Failure},
    output,
    units::Argument,
    wait::{self, Goal, Patience, Reached},
};

/// A verb at work.
pub struct Verb<'c> {
    /// What it works with.
    pub context: &'c Context,
    /// `stop`
    pub name: &'static str,
    /// `stopping`
    pub doing: &'static str,
    /// Where its units are to get.
    pub goal: Goal,
    /// How long it waits for that.
    pub patience: Patience,
}

impl Verb<'_> {
    /// What its failures begin with.
    pub fn failing(&self) -> String {
        format!("Error {} units", self.doing)
    }

    /// The units that the arguments name and the cluster knows; says which ones it does not know.
    ///
    /// # Errors
    /// It cannot be told which.
    pub async fn known(&self, texts: &[String]) -> Result<Vec<Unit>, Failure> {
        let names = Argument::names(texts);
        let units = self.context.known(&names, &self.failing()).await?;
        tell_unknown(&names, units.iter().map(|unit| &*unit.name));
        Ok(units)
    }

    /// Sets the desired state of units; `again` is what is to be done with those that have it already.
    ///
    /// # Errors
    /// The first that is refused.
    pub async fn set(&self, units: &[String], desired: &'static str, again: Again) -> Result<(), Failure> {
        let setting = self.context.set_desired(units, desired, again).await;
        setting.map_err(|error| error.during(&self.failing()))
    }

    /// Says on stdout that a global unit was asked for; CoreOS fleet does not wait for those.
    ///
    /// # Errors
    /// Nobody reads on.
    pub fn triggered(&self, global: &str) -> Result<(), Failure> {
        output::result(&format!("Triggered global unit {global} {}", self.name))
    }

    /// Waits for units, if it waits at all. Those in `again` had the desired state before: of them, only such count as
    /// reached with which something had to be done.
    ///
    /// # Errors
    /// One does not get there.
    pub async fn wait(&self, units: &[String], again: &BTreeSet<String>) -> Result<Reached, Failure> {
        wait::wait_for(self.context, units, again, self.goal, self.name, self.patience).await
    }

    /// Says, if it has waited, with which units something was done, and with which there was nothing to do.
    pub fn tell(&self, done: &str, units: &[String], nothing: &str, others: &[String]) {
        if self.patience.waits() {
            tell(done, units);
            tell(nothing, others);
        }
    }
}

/// Says which names the cluster does not know. CoreOS fleet passes over them, and exits with 0.
pub fn tell_unknown<'n>(names: &[String], known: impl IntoIterator<Item = &'n str>) {
    let known: BTreeSet<&str> = known.into_iter().collect();
    for name in names.iter().filter(|name| !known.contains(&***name)) {
        output::note(&format!("warning: unit {name} does not exist"));
    }
}

/// Says what became of units: `stopped a.service b.service`.
fn tell(done: &str, names: &[String]) {
    if !names.is_empty() {
        output::note(&format!("{done} {}", names.join(" ")));
    }
}

//! The restart of a global unit, on one machine after the other.

use fleet_api::UnitStatus;
use tokio::time::{Instant, timeout_at};

use super::{Rolling, Verb, ask};
use crate::{
    error::{Ending, Failure},
    follow::Feed,
    machines::Roster,
    output,
    wait::progress::{self, Progress},
};

/// Restarts a unit on the machines that have it launched, in the order of their IDs: each next one when the unit is
/// active again on the last. A machine that goes away meanwhile is passed over.
///
/// # Errors
/// The unit fails on a machine, or time is up: the machines after that keep what they run.
pub async fn roll(verb: &Verb<'_>, name: &str) -> Result<(), Failure> {
    let feed = Feed::open(&verb.context.client, &[name.to_owned()]);
    let roster = verb.context.roster().await?;
    let mut roll = Roll { verb, name, roster, feed, deadline: verb.patience.deadline() };
    let before = roll.next().await?;
    let launched = before.reports.iter().filter(|report| report.current_state == "launched");
    let mut machines: Vec<String> = launched.map(|report| report.machine_id.clone()).collect();
    machines.sort();
    if machines.is_empty() {
        output::note(&format!("{name} runs nowhere yet, nothing is restarted"));
        return Ok(());
    }
    let mut generation = None;
    for (number, machine) in machines.iter().enumerate() {
        roll.ask(Some(machine), generation).await?;
        let outcome = roll.on(machine, before.generation, &mut generation).await;
        outcome.map_err(|failure| match machines.len() - number - 1 {
            0 => failure,
            left => failure.line(format!("{left} of {} machines were left as they are", machines.len())),
        })?;
    }
    roll.ask(None, generation).await
}

struct Roll<'v> {
    verb: &'v Verb<'v>,
    name: &'v str,
    roster: Roster,
    feed: Feed,
    deadline: Option<Instant>,
}

impl Roll<'_> {
    async fn ask(&mut self, up_to: Option<&String>, generation: Option<u64>) -> Result<(), Failure> {
        let rolling = Rolling { up_to: up_to.cloned(), generation };
        ask(self.verb, self.name, &rolling).await?;
        // It begins with how the unit stands now.
        self.feed = Feed::open(&self.verb.context.client, &[self.name.to_owned()]);
        Ok(())
    }

    /// Waits until the restart is over on a machine. `before` is the generation that was there before it, and `now` is
    /// set to the one that it has.
    async fn on(&mut self, machine: &str, before: u64, now: &mut Option<u64>) -> Result<(), Failure> {
        loop {
            let status = self.next().await?;
            if now.is_none() && status.generation != before {
                *now = Some(status.generation);
            }
            if now.is_none() {
                continue;
            }
            let legend = self.roster.legend(machine, false);
            let Some(report) = status.reports.iter().find(|report| report.machine_id == machine) else {
                output::note(&format!("warning: {legend} went away, {} was not restarted there", self.name));
                return Ok(());
            };
            match progress::here(&status, report, self.verb.goal) {
                Progress::Reached => {
                    output::note(&format!("restarted {} on {legend}", self.name));
                    return Ok(());
                }
                Progress::Failed(what) => {
                    let failure = Failure::new(format!("{} on {legend}: {what}", self.name));
                    let tail = self.verb.context.remote.journal_tail(machine, self.name, &self.roster).await;
                    let tail = tail.unwrap_or_default();
                    return Err(tail.lines().fold(failure, |failure, line| failure.line(format!("  {line}"))));
                }
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> Result<UnitStatus, Failure> {
        let next = self.feed.next();
        let next = match self.deadline {
            Some(deadline) => timeout_at(deadline, next).await.map_err(|_| {
                Failure::new(format!("timed out: the restart of {} is not over", self.name))
                    .hint(format!("`fleetctl why {}` tells how it is on each machine", self.name))
            })?,
            None => next.await,
        };
        next.map_err(|error| error.during("Error waiting for units"))
    }
}

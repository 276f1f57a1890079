//! Waiting until units are where they were asked to be.
//!
//! All units of a command are followed at once ([`Feed`]); each status is judged by a pure function ([`progress`]). What
//! is reached is said on stdout, unit by unit. What is in the way is said on stderr: why a unit has no machine, and when
//! one fails, what happened to it, with the end of its journal ([`waiter`]).

mod explain;
pub mod progress;
mod spinner;
mod waiter;

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::repeat_n,
    time::Duration,
};

use clap::Args;
use tokio::time::{Instant, sleep_until};

pub use self::progress::Goal;
use self::waiter::Waiter;
use crate::{
    context::Context,
    error::{Ending, Failure},
    follow::Feed,
    output,
};

/// One of the attempts of `--block-attempts`.
const ATTEMPT: Duration = Duration::from_secs(2);

/// How long a command waits for what it asked for.
#[derive(Args, Clone, Copy, Debug)]
pub struct Patience {
    /// Wait for N times 2 seconds; 0 means without end
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    block_attempts: i32,
    /// Return at once
    #[arg(long)]
    no_block: bool,
}

impl Patience {
    /// Whether the command waits at all.
    pub fn waits(&self) -> bool {
        !self.no_block && self.block_attempts >= 0
    }

    /// When a command that waits gives up.
    pub fn deadline(&self) -> Option<Instant> {
        let attempts = u32::try_from(self.block_attempts).unwrap_or(0);
        (attempts > 0).then(|| Instant::now() + ATTEMPT * attempts)
    }
}

/// When it was heard of each unit that it is where it should be.
pub type Reached = BTreeMap<String, Instant>;

/// Waits until all units have reached the goal, or says `Triggered unit X VERB` and returns. Those in `again`
/// had the desired state before: of them only those count as reached, and are spoken of, with which something had to be
/// done.
///
/// # Errors
/// A unit has failed, time is up, or the cluster cannot be followed.
pub async fn wait_for(
    context: &Context,
    names: &[String],
    again: &BTreeSet<String>,
    goal: Goal,
    verb: &str,
    patience: Patience,
) -> Result<Reached, Failure> {
    if !patience.waits() {
        let new = names.iter().filter(|name| !again.contains(*name));
        let mut lines = new.flat_map(|name| repeat_n(name, times("start", verb)));
        lines.try_for_each(|name| output::result(&format!("Triggered unit {name} {verb}")))?;
        return Ok(Reached::new());
    }
    if names.is_empty() {
        return Ok(Reached::new());
    }
    let mut feed = Feed::open(&context.client, names);
    let mut waiter = Waiter::new(context, names, again, goal, times("restart", verb), patience.deadline());
    while !waiter.is_over() {
        let wake = waiter.wakes_at();
        tokio::select! {
            status = feed.next() => match status {
                Ok(status) => waiter.take(status).await?,
                Err(error) => return Err(error.during("Error waiting for units")),
            },
            () = sleep_until(wake) => waiter.on_time().await?,
        }
    }
    Ok(waiter.into_reached())
}

/// How often CoreOS fleet says a line: `start --no-block` and a `restart` that waits say it twice, and somebody may
/// count.
fn times(twice: &str, verb: &str) -> usize {
    if verb == twice { 2 } else { 1 }
}

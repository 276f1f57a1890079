//! The comparison: fleet against a person with `systemctl` on every host, and against plain etcd.
//!
//! Both sides do the same on the same three hosts, in turn, in the same run: what slows the machine down slows down
//! both. Commands wait in their hosts before the clock starts ([`gate`]). When units became active systemd itself has
//! written down ([`systemd`]); when the last of them ended is seen in the control groups ([`slice`]). Every round
//! ends with a look at what came of it, by systemd's word, and the bench fails when that is not what was asked for.

mod batch;
mod cold;
pub mod counters;
pub mod gate;
mod idle;
mod lists;
mod loss;
mod one;
mod replace;
pub mod report;
pub mod row;
pub mod series;
pub mod slice;
pub mod spent;
pub mod stage;
mod stat;
pub mod systemd;
pub mod units;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::ValueEnum;

use self::{row::Row, stage::Stage};

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// One unit started
    One,
    /// 300 units started, stopped, destroyed
    Batch,
    /// 1,000 units started, stopped, destroyed
    Large,
    /// The file of a running unit replaced among 1,000 others
    Replace,
    /// `list-units` and `list-unit-files` with 1,000 units
    Lists,
    /// Nothing happens to 300 units
    Idle,
    /// Nothing happens to 1,000 units
    IdleLarge,
    /// A host is lost with 100 units
    Loss,
    /// fleetd comes back to 1,000 units
    Cold,
}

/// How much of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rounds of what takes long.
    pub rounds: usize,
    /// Units of a batch.
    pub batch: usize,
    /// Units of a large one.
    pub large: usize,
    /// Units of a host that is lost.
    pub loss: usize,
    /// How long nothing happens.
    pub idle: Duration,
    /// `agent_ttl`.
    pub ttl: Duration,
    /// How long etcd must have had nothing to write before the next round begins.
    pub quiet: Duration,
}

impl Sizes {
    /// What the document tells of.
    #[must_use]
    pub fn full(rounds: usize) -> Self {
        let (idle, ttl, quiet) = (Duration::from_secs(60), Duration::from_secs(10), Duration::from_millis(400));
        Self { rounds, batch: 300, large: 1000, loss: 100, idle, ttl, quiet }
    }

    /// Enough to see that everything can be measured.
    #[must_use]
    pub fn small(rounds: usize) -> Self {
        let (idle, ttl, quiet) = (Duration::from_secs(3), Duration::from_secs(4), Duration::from_millis(100));
        Self { rounds, batch: 6, large: 12, loss: 2, idle, ttl, quiet }
    }

    /// Rounds of what takes milliseconds.
    #[must_use]
    pub fn quick_rounds(&self) -> usize {
        if self.rounds == 1 { 1 } else { self.rounds * 4 }
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much of it.
    pub sizes: Sizes,
    /// What of it.
    pub subjects: Vec<Subject>,
    /// Where fleetd and fleetctl are, if not beside this program.
    pub bin: Option<PathBuf>,
}

/// Measures everything that was asked for. `tell` is given each row as soon as it is there.
///
/// # Errors
/// When something cannot be measured, or a round did not end as it should.
pub fn run(options: &Options, tell: &dyn Fn(&Row)) -> Result<Vec<Row>> {
    let sizes = &options.sizes;
    let mut stage = Stage::set(sizes, options.bin.as_deref())?;
    let mut rows = Vec::new();
    for subject in &options.subjects {
        let measured = match subject {
            Subject::One => one::measure(&mut stage, sizes),
            Subject::Batch => batch::measure(&mut stage, sizes, sizes.batch),
            Subject::Large => batch::measure(&mut stage, sizes, sizes.large),
            Subject::Replace => replace::measure(&mut stage, sizes),
            Subject::Lists => lists::measure(&mut stage, sizes),
            Subject::Idle => idle::measure(&mut stage, sizes, sizes.batch),
            Subject::IdleLarge => idle::measure(&mut stage, sizes, sizes.large),
            Subject::Loss => loss::measure(&mut stage, sizes),
            Subject::Cold => cold::measure(&mut stage, sizes),
        };
        let measured = measured.with_context(|| format!("while measuring {subject:?}"))?;
        measured.iter().for_each(tell);
        rows.extend(measured);
    }
    Ok(rows)
}

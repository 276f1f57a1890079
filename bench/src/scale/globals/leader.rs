//! What an engine that leads needs to know a cluster: the picture that fleetd has, and the planner with its input.
//!
//! It is a process of its own, so that its memory is that of nothing else: [`Leader::ask`] runs `fleet-scale --leader`,
//! which does [`learn`] and prints what it took.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use fleet_core::{
    model::{Keys, Snapshot},
    sched::{Held, Input},
};
use fleetd::registry::{Store, contents, files::Files, view::View};
use serde::{Deserialize, Serialize};
use tokio::{
    process::Command,
    time::{Instant, timeout},
};

use super::{Options, PREFIX, connect};
use crate::scale::figures::{memory, most_memory};

/// What a leader has learned, and what that took. Memory is in MiB, and what the process grew by.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Leader {
    /// Machines.
    pub machines: usize,
    /// Entries of the schedule.
    pub entries: usize,
    /// States.
    pub states: usize,
    /// Until the picture was there.
    pub reads: Duration,
    /// Until the planner knew of it, after that.
    pub plans: Duration,
    /// Memory with the picture alone.
    pub picture: u64,
    /// Memory with the planner and its input.
    pub memory: u64,
    /// The most that it was meanwhile.
    pub peak: u64,
}

impl Leader {
    /// Runs one against this etcd.
    pub(super) async fn ask(options: &Options, url: &str) -> Result<Self> {
        let mut command = Command::new(&options.program);
        command.args(["--leader", url]).stdout(Stdio::piped()).kill_on_drop(true);
        let leader = command.spawn().with_context(|| format!("cannot run {}", options.program.display()))?;
        let done = timeout(options.patience, leader.wait_with_output()).await;
        let output = done.context("a leader learns for too long")??;
        ensure!(output.status.success(), "a leader did not learn: {}", output.status);
        serde_json::from_slice(&output.stdout).context("what a leader says of itself")
    }
}

/// Learns what there is in this etcd, as an engine does when it is elected.
///
/// # Errors
/// Etcd does not answer.
pub async fn learn(url: &str) -> Result<Leader> {
    let (store, keys) = (connect(url), Keys::new(PREFIX));
    // What the process needs anyhow: a connection, and buffers for it.
    store.list(&keys.under("none/"), None, 1).await?;
    let before = memory(None)?;
    let grown = |now: u64| now.saturating_sub(before);
    let start = Instant::now();
    let view = View::new(store.clone(), keys.clone());
    let (_running, mut snapshots) = view.open();
    let current = snapshots.wait_for(Snapshot::is_fresh).await?.clone();
    let (reads, picture) = (start.elapsed(), grown(memory(None)?));
    let mut input = Input::default();
    contents::read(&mut input, &current, &Files::new(store, keys)).await?;
    input.apply(&current);
    input.hold(&Held::default());
    let plans = start.elapsed() - reads;
    Ok(Leader {
        machines: current.machines.len(),
        entries: current.scheduled.len(),
        states: current.states.len(),
        reads,
        plans,
        picture,
        memory: grown(memory(None)?),
        peak: grown(most_memory(None)?),
    })
}

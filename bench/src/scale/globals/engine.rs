//! An engine that leads: that of one machine of the cluster on which a whole fleetd runs.

use std::time::Duration;

use anyhow::{Result, bail};
use fleet_core::model::Keys;
use tokio::time::{Instant, sleep};

use super::{Options, PREFIX};
use crate::scale::{counted::Tally, machine::Machine};

/// The engine, until it is dropped.
pub struct Engine {
    machine: Machine,
}

impl Engine {
    /// Has the first machine of the cluster lead.
    ///
    /// # Errors
    /// It does not come to lead.
    pub async fn start(options: &Options, url: &str) -> Result<Self> {
        let mut machine = Machine::new(0, url, &Keys::new(PREFIX), options.ttl)?;
        machine.start(true)?;
        let deadline = Instant::now() + options.patience;
        while !machine.leads() {
            if Instant::now() > deadline {
                bail!("not within {:?}: the engine leads", options.patience);
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { machine })
    }

    /// What its machine has written.
    pub fn tally(&self) -> Tally {
        self.machine.tally()
    }
}

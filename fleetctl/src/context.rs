//! What commands work with: the ways to fleetd and to the machines, and what several ask there.

use std::sync::Arc;

use fleet_api::{Again, Change, Unit};
use fleet_client::{Client, ClientError, NamedError};

use crate::{
    error::{Ending, Failure},
    machines::Roster,
    remote::Remote,
};

/// What commands work with.
pub struct Context {
    /// The way to fleetd.
    pub client: Arc<Client>,
    /// The way to the machines.
    pub remote: Remote,
}

impl Context {
    /// The units among `names` that the cluster knows, in that order, for a command that is `doing` something.
    ///
    /// # Errors
    /// The first request that fails. An answer that is not of this moment, because etcd is away, is no ground for
    /// changing something, nor for finding that nothing is to be changed.
    pub async fn known(&self, names: &[String], doing: &str) -> Result<Vec<Unit>, Failure> {
        let found = self.client.units_named(names).await.map_err(|(name, error): NamedError| {
            error.during(&format!("{doing}: error retrieving Unit({name}) from Registry"))
        })?;
        if self.client.was_aged() {
            return Err(Failure::said(format!("{doing}: fleet server unable to communicate with etcd")));
        }
        Ok(found)
    }

    /// The machines, for their addresses.
    pub async fn roster(&self) -> Result<Roster, Failure> {
        let machines = self.client.machines().await;
        machines.map(Roster::new).map_err(|error| error.during("Error retrieving list of active machines"))
    }

    /// Sets the desired state of several units; `again` is what is to be done with those that have it already.
    ///
    /// # Errors
    /// The first request that fails.
    pub async fn set_desired(&self, names: &[String], desired: &'static str, again: Again) -> Result<(), ClientError> {
        let change =
            |name: &String| Change { name: name.clone(), desired_state: desired.into(), again, ..Change::default() };
        self.client.change(names.iter().map(change).collect()).await.map(drop).map_err(|(_, error)| error)
    }
}

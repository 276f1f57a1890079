//! Calls about machines.

use fleet_api::{
    Drain, Held, Machine, MachinePage,
    paths::{self, DRAIN, EVICT, HELD, MACHINES},
};
use hyper::Method;

use crate::{Client, Result};

impl Client {
    /// The machines that are alive.
    ///
    /// # Errors
    /// There is no good answer; so with every call.
    pub async fn machines(&self) -> Result<Vec<Machine>> {
        self.list::<MachinePage>(MACHINES, &[]).await
    }

    /// Empties a machine, or lets it have units again.
    ///
    /// # Errors
    /// There is no machine of this ID.
    pub async fn set_drained(&self, machine: &str, drained: bool) -> Result<()> {
        let method = if drained { Method::PUT } else { Method::DELETE };
        self.tell(method, &paths::of(DRAIN, machine)).await
    }

    /// How far a machine is from being empty. `None` for one that does not exist.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn drain(&self, machine: &str) -> Result<Option<Drain>> {
        self.get(&paths::of(DRAIN, machine)).await
    }

    /// Says that a machine which is not there is gone for good.
    ///
    /// # Errors
    /// It is alive, or nothing is known of it.
    pub async fn evict(&self, machine: &str) -> Result<()> {
        self.tell(Method::PUT, &paths::of(EVICT, machine)).await
    }

    /// What the engine holds back. Nothing, from a fleetd that holds nothing back.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn held(&self) -> Result<Held> {
        match self.get(HELD).await {
            Err(error) if error.is_unsupported() => Ok(Held::default()),
            held => held.map(Option::unwrap_or_default),
        }
    }
}

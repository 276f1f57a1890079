//! What fleetd is.

use fleet_api::{Version, paths::VERSION};

use crate::{Client, Result};

impl Client {
    /// The version of fleetd and what it can do. `None` from one that is older than the question.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn version(&self) -> Result<Option<Version>> {
        match self.get(VERSION).await {
            Err(error) if error.is_unsupported() => Ok(None),
            version => version,
        }
    }
}

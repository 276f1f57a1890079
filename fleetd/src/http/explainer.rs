//! What explains the engine's decisions: an input like the engine's own, kept up to date while somebody asks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleet_core::{
    model::{HeldRecord, Snapshot},
    sched::{Held, Input},
};
use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard},
    task::AbortHandle,
    time::sleep,
};

use crate::registry::{Store, StoreError, contents, files::Files};

/// How long the input stays after it was last asked for. It is then dropped, so that a host that nobody asks holds
/// nothing of the cluster's units.
const LINGER: Duration = Duration::from_secs(60);

/// Explains where units are. The first answer costs a look at every unit, the next only what has changed since.
pub struct Explainer<S> {
    /// The files that are missing; of others is kept what was read in them.
    files: Files<S>,
    input: Arc<AsyncMutex<Input>>,
    linger: Mutex<Option<AbortHandle>>,
}

impl<S: Store> Explainer<S> {
    /// One that knows nothing yet, and keeps files to itself.
    #[must_use]
    pub fn new(files: Files<S>) -> Self {
        Self { files, input: Arc::default(), linger: Mutex::default() }
    }

    /// The input as of a snapshot, and of what the engine holds back.
    ///
    /// # Errors
    /// The store does not answer, and not all is known of what units ask for.
    pub async fn at(&self, snapshot: &Snapshot, held: &HeldRecord) -> Result<MutexGuard<'_, Input>, StoreError> {
        self.linger();
        let mut input = self.input.lock().await;
        contents::read(&mut input, snapshot, &self.files).await?;
        self.files.retain(|hash| input.known().contents.missing().contains_key(hash));
        input.apply(snapshot);
        input.hold(&Held {
            machines: held.machines.iter().map(|held| held.id.clone()).collect(),
            units: held.units.iter().map(|held| (held.name.clone(), held.machine.clone())).collect(),
        });
        Ok(input)
    }

    fn linger(&self) {
        let input = Arc::clone(&self.input);
        let task = tokio::spawn(async move {
            sleep(LINGER).await;
            *input.lock().await = Input::default();
        });
        let mut linger = self.linger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = linger.replace(task.abort_handle()) {
            before.abort();
        }
    }
}

impl<S> Drop for Explainer<S> {
    fn drop(&mut self) {
        let linger = self.linger.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(linger) = linger.take() {
            linger.abort();
        }
    }
}

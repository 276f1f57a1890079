//! Many changes in few requests.
//!
//! What a fleetd does not know how to do at once (CoreOS fleet's knows nothing of it), is asked for one by one.

use std::sync::Arc;

use fleet_api::{Again, Change, Changes, ChangesMade, paths::CHANGES};
use hyper::Method;
use tokio::time::Instant;

use crate::{Client, ClientError, Result};

/// Changes in one request. A few requests under way keep fleetd and etcd busy at the same time.
const MOST: usize = 100;
/// Most bytes of contents in one: fleetd takes bodies of 2 MB.
const BYTES: usize = 512 << 10;

/// What could not be done, and to which unit.
pub type NamedError = (String, ClientError);

impl Client {
    /// Carries out changes, each of a unit of its own. Says of each whether there was something to change: what is to
    /// be destroyed may not exist.
    ///
    /// # Errors
    /// The first that is refused; others may have been taken.
    pub async fn change(self: &Arc<Self>, changes: Vec<Change>) -> std::result::Result<Vec<bool>, NamedError> {
        if changes.len() > 1 || changes.iter().any(|change| change.again != Again::No) {
            let made = self.each(chunks(&changes), |client, chunk| async move { client.change_at_once(chunk).await });
            match made.await {
                Ok(made) => return Ok(made.into_iter().flatten().collect()),
                Err((_, error)) if error.is_unsupported() => {}
                Err(error) => return Err(error),
            }
        }
        self.each(changes, |client, change| async move { client.change_one(change).await }).await
    }

    async fn change_one(&self, change: Change) -> std::result::Result<bool, NamedError> {
        // CoreOS fleet's fleetd cannot be asked again.
        let Change { name, options, desired_state, destroy, again: _ } = change;
        let made = match destroy {
            true => self.destroy(&name).await,
            false => self.put(&name, options, &desired_state).await.map(|()| true),
        };
        made.map_err(|error| (name, error))
    }

    async fn change_at_once(&self, changes: Vec<Change>) -> std::result::Result<Vec<bool>, NamedError> {
        let first = changes.first().map(|change| change.name.clone()).unwrap_or_default();
        let destroyed: Vec<bool> = changes.iter().map(|change| change.destroy).collect();
        let made = self.made(changes).await.map_err(|error| (first, error))?;
        let outcomes = made.results.into_iter().zip(destroyed).map(|(made, destroyed)| match made.code {
            200..300 => Ok(true),
            404 if destroyed => Ok(false),
            code => Err((made.name, ClientError::Api { code, message: made.message, reason: made.reason })),
        });
        outcomes.collect()
    }

    async fn made(&self, changes: Vec<Change>) -> Result<ChangesMade> {
        let (count, sent) = (changes.len(), Instant::now());
        let answer = self.send(Method::POST, CHANGES, &Changes { changes }).await?;
        let made: ChangesMade = self.decode(&answer)?;
        if made.results.len() != count {
            return Err(self.pool.unreadable("it does not tell of every change"));
        }
        self.taken.note(made.results.iter().map(|made| &*made.name), sent, answer.times);
        Ok(made)
    }
}

/// Splits changes into what fits into a request each.
fn chunks(changes: &[Change]) -> Vec<Vec<Change>> {
    let size = |change: &Change| -> usize {
        change.options.iter().map(|option| option.name.len() + option.section.len() + option.value.len() + 64).sum()
    };
    let mut chunks: Vec<Vec<Change>> = Vec::new();
    let mut bytes = 0;
    for change in changes {
        bytes += size(change);
        match chunks.last_mut().filter(|chunk| chunk.len() < MOST && bytes <= BYTES) {
            Some(chunk) => chunk.push(change.clone()),
            None => {
                bytes = size(change);
                chunks.push(vec![change.clone()]);
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use fleet_api::UnitOption;

    use super::*;

    #[test]
    fn requests_have_few_units_and_few_bytes() {
        let change = |size: usize| Change {
            options: vec![UnitOption { value: "x".repeat(size), ..UnitOption::default() }],
            ..Change::default()
        };
        let sizes = |changes: Vec<Change>| chunks(&changes).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![change(1); 250]), [100, 100, 50]);
        assert_eq!(sizes(vec![change(200 << 10); 3]), [2, 1]);
        assert_eq!(sizes(vec![change(BYTES); 2]), [1, 1]);
        assert!(sizes(Vec::new()).is_empty());
    }
}

//! The client of one fleetd: what its calls have in common. The calls themselves are in a file for each resource.

use std::{sync::Arc, time::Duration};

use fleet_core::model::json;
use hyper::Method;
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::JoinSet;

use crate::{
    Result, Transport,
    event::Event,
    pool::{Answer, Pool},
    taken::{Taken, TakenTimes},
};

/// A client of one fleetd.
pub struct Client {
    pub(crate) pool: Pool,
    /// When fleetd took what was sent of each unit.
    pub(crate) taken: TakenTimes,
}

impl Client {
    /// A client that connects when it is first asked something, and fails a request that takes longer than `timeout`.
    /// `agent` is how it calls itself: `fleetctl/0.1.0`.
    #[must_use]
    pub fn new(transport: Transport, timeout: Duration, agent: &str) -> Self {
        Self::with_events(transport, timeout, agent, |_| {})
    }

    /// The same, whose events are heard by somebody.
    #[must_use]
    pub fn with_events(
        transport: Transport,
        timeout: Duration,
        agent: &str,
        listener: impl Fn(Event<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self { pool: Pool::new(transport, timeout, agent.into(), Box::new(listener)), taken: TakenTimes::default() }
    }

    /// Whether the last answer told what was known before etcd went out of reach.
    #[must_use]
    pub fn was_aged(&self) -> bool {
        self.pool.is_old()
    }

    /// When fleetd took the last change of a unit that was sent; `None` also when it does not say.
    #[must_use]
    pub fn taken(&self, name: &str) -> Option<Taken> {
        self.taken.of(name)
    }

    /// Does `work` with every item, several at a time. The results are in the order of the items.
    ///
    /// # Errors
    /// The first error; what has not begun by then is left undone.
    pub async fn each<I, T, F, E>(
        self: &Arc<Self>,
        items: impl IntoIterator<Item = I>,
        work: impl Fn(Arc<Self>, I) -> F,
    ) -> std::result::Result<Vec<T>, E>
    where
        F: Future<Output = std::result::Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut items = items.into_iter().enumerate();
        let mut running = JoinSet::new();
        let mut done = Vec::new();
        loop {
            while running.len() < self.pool.transport.connections() {
                let Some((place, item)) = items.next() else { break };
                let job = work(Arc::clone(self), item);
                running.spawn(async move { (place, job.await) });
            }
            let Some(joined) = running.join_next().await else { break };
            let (place, result) = joined.expect("requests do not panic, and nobody cancels them");
            done.push((place, result?));
        }
        done.sort_unstable_by_key(|(place, _)| *place);
        Ok(done.into_iter().map(|(_, value)| value).collect())
    }

    /// What is there; `None` when fleetd knows nothing of the name.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        match self.pool.ask(Method::GET, path, None).await {
            Ok(answer) => self.decode(&answer).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A request without a body, for its effect.
    pub(crate) async fn tell(&self, method: Method, path: &str) -> Result<()> {
        self.pool.ask(method, path, None).await.map(drop)
    }

    pub(crate) async fn send<T: Serialize>(&self, method: Method, path: &str, body: &T) -> Result<Answer> {
        let body = serde_json::to_vec(body).expect("API types are plain JSON objects");
        self.pool.ask(method, path, Some(body)).await
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T> {
        json::from_slice(&answer.bytes).map_err(|error| self.pool.unreadable(&error.to_string()))
    }
}

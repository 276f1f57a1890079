//! What the engine does in the store while its decisions go on: writes that no snapshot shows, and lists.

use fleet_core::{control::Answer, model::Key};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tracing::debug;

use super::{
    Engine,
    commit::{Files, Proposal, each_alone, pack, send},
    writers::ControllerId,
};
use crate::registry::{Detail, Leadership, Range, Store};

/// Transactions under way at a time for one controller.
const IN_FLIGHT: usize = 4;

/// What has come of something that nothing waited for.
pub enum News {
    /// Changes.
    Answered(Vec<(Proposal, Answer)>),
    /// A list of keys; `None`: the store did not tell.
    Listed(ControllerId, Option<Vec<Key>>),
}

/// What is under way.
pub struct Beside<'e, S> {
    engine: &'e Engine<S>,
    leadership: &'e Leadership,
    under_way: FuturesUnordered<BoxFuture<'e, News>>,
}

impl<'e, S: Store> Beside<'e, S> {
    /// For one leader.
    pub fn new(engine: &'e Engine<S>, leadership: &'e Leadership) -> Self {
        Self { engine, leadership, under_way: FuturesUnordered::new() }
    }

    /// Writes.
    pub fn commit(&mut self, proposals: Vec<Proposal>) {
        if proposals.is_empty() {
            return;
        }
        let (store, keys, leadership) = (&self.engine.store, &self.engine.keys, self.leadership);
        let write = async move {
            let mut outcomes = send(store, pack(proposals, &Files::new(), keys, leadership), IN_FLIGHT).await;
            let again = each_alone(&mut outcomes, keys, leadership);
            outcomes.extend(send(store, again, IN_FLIGHT).await);
            let answers = outcomes.into_iter().flat_map(|sent| {
                let answer = match sent.outcome {
                    Ok(Some(_)) => Answer::Done,
                    Ok(None) => Answer::Refused,
                    Err(error) => {
                        debug!(error = %crate::chain(&error), "not written, trying again");
                        Answer::Unknown
                    }
                };
                sent.parts.into_iter().map(move |part| (part, answer))
            });
            News::Answered(answers.collect())
        };
        self.under_way.push(Box::pin(write));
    }

    /// Lists the keys of a range for a controller.
    pub fn list(&mut self, id: ControllerId, range: Range) {
        let engine = self.engine;
        let list = async move {
            let keys = match engine.store.list_all(Detail::Keys, &range).await {
                Ok(listed) => Some(listed.entries.iter().filter_map(|stored| engine.keys.parse(&stored.key)).collect()),
                Err(error) => {
                    debug!(error = %crate::chain(&error), controller = ?id, "keys are not listed, trying again");
                    None
                }
            };
            News::Listed(id, keys)
        };
        self.under_way.push(Box::pin(list));
    }

    /// What comes next of what is under way; never, if that is nothing. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> News {
        match self.under_way.next().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }
}

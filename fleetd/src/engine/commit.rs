//! The one way of what controllers want into the store.
//!
//! In: changes. Out: what became of each. Every transaction is guarded by the leadership, so that one whose leadership is
//! over cannot write, however late its packets arrive. Changes of one controller share transactions, several of which are
//! under way at a time; those of one that is refused are then tried each by itself, so that one thing that has changed
//! meanwhile holds up no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    control::{Answer, Change},
    model::{Features, Key, Keys, LeaderRecord, Placement, Record, Unknown},
    ops,
    unit::{UnitFile, UnitHash, UnitName},
};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;
use tracing::warn;

use super::{
    Engine,
    writers::{ControllerId, WRITERS},
};
use crate::registry::{
    Guard, Leadership, LeaseId, Revision, Store, StoreError, Transaction, Write,
    commit::{Packed, Packer},
};

/// Transactions under way at a time.
const IN_FLIGHT: usize = 8;
/// How long changes wait for files to be sent along.
const PATIENCE: Duration = Duration::from_millis(500);
/// Changes whose files are in memory at a time.
const AT_ONCE: usize = 1024;
/// Most bytes of an entry with a file that is sent along: a full transaction is to stay far below the 1.5 MiB that etcd
/// takes.
const SMALL: usize = 8192;

/// A change, and who wants it.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The controller.
    pub by: ControllerId,
    /// The change.
    pub change: Change,
}

/// Files by their hashes.
pub(super) type Files = BTreeMap<UnitHash, Arc<UnitFile>>;

/// What came of a transaction.
pub(super) struct Sent {
    /// What it carries out.
    pub parts: Vec<Proposal>,
    /// Whether it does more than to delete.
    puts: bool,
    pub outcome: Result<Option<Revision>, StoreError>,
}

/// Writes for one leader.
pub struct Committer<'e, S> {
    engine: &'e Engine<S>,
    leadership: &'e Leadership,
    lease: LeaseId,
    /// The last revision that leaders have written of what snapshots show.
    written: Revision,
    /// It is not known whether all that was written last is in the store.
    unsure: bool,
}

impl<'e, S: Store> Committer<'e, S> {
    /// Begins a term by saying who leads.
    ///
    /// # Errors
    /// The leadership is over, or the store does not answer.
    pub async fn begin(engine: &'e Engine<S>, leadership: &'e Leadership, lease: LeaseId) -> Result<Self, StoreError> {
        let mut committer = Self { engine, leadership, lease, written: 0, unsure: false };
        committer.sign().await?;
        Ok(committer)
    }

    /// The revision that a snapshot has to show: nothing is decided on one that does not show all that leaders have
    /// written.
    pub fn written(&self) -> Revision {
        self.written
    }

    /// Says who leads. Whoever sees this written has seen all that leaders have written before; also what this one does
    /// not know of, because an answer was lost.
    async fn sign(&mut self) -> Result<(), StoreError> {
        let (key, lease) = (self.engine.keys.format(&Key::Leader), Some(self.lease));
        let (machine, features) = (self.engine.machine.clone(), Features::of_this_daemon());
        let record = LeaderRecord { machine, features, unknown: Unknown::default() };
        let writes = vec![Write::Put { key, value: record.encode(), lease }];
        let transaction = Transaction { guards: vec![self.leadership.guard()], writes };
        let revision = self.engine.store.commit(transaction).await?.ok_or(StoreError::LeaseGone)?;
        self.written = self.written.max(revision);
        Ok(())
    }

    /// Whether it is known what was written last. If not, signs anew: whoever sees that has seen it, too.
    ///
    /// # Errors
    /// The leadership is over.
    pub async fn make_sure(&mut self) -> Result<bool, StoreError> {
        if self.unsure {
            match self.sign().await {
                Ok(()) => self.unsure = false,
                Err(StoreError::Unavailable(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes, and waits. Of the files that are read for it those in `missing` stay at hand.
    ///
    /// # Errors
    /// The leadership is over, or given up because it cannot be told what the store holds. It also is when nobody knows
    /// whether a strict unit was placed: that transaction may still be on its way, and only the end of this term stops
    /// it before another one for the same unit.
    pub async fn commit(
        &mut self,
        proposals: Vec<Proposal>,
        missing: &BTreeMap<UnitHash, BTreeSet<UnitName>>,
    ) -> Result<Vec<(Proposal, Answer)>, StoreError> {
        let mut answers = Vec::new();
        let mut outcomes = Vec::new();
        let mut rest = proposals.into_iter();
        while rest.len() > 0 {
            let part: Vec<Proposal> = rest.by_ref().take(AT_ONCE).collect();
            let files = self.files(&part, missing).await;
            outcomes.extend(self.send(self.pack(part, &files)).await);
            if outcomes.iter().any(|sent| sent.outcome.is_err()) {
                break;
            }
        }
        answers.extend(rest.map(|proposal| (proposal, Answer::Unknown)));
        if outcomes.iter().any(|sent| matches!(sent.outcome, Ok(None))) {
            if !self.still_leads().await? {
                return Err(StoreError::LeaseGone);
            }
            let again = self.each_alone(&mut outcomes);
            outcomes.extend(self.send(again).await);
            // A transaction that was sent twice, because its first answer got lost, is refused for what it has done
            // itself. The next decisions rest on a snapshot that shows it.
            self.sign().await?;
        }
        for Sent { parts, puts, outcome } in outcomes {
            let answer = match outcome {
                Ok(Some(revision)) => {
                    // What is only deleted may have been gone: then the revision is that of another's write, which
                    // the snapshot may never show.
                    if puts {
                        self.written = self.written.max(revision);
                    }
                    Answer::Done
                }
                Ok(None) => Answer::Refused,
                Err(error @ StoreError::Unavailable(_)) if parts.iter().any(|part| part.change.once) => {
                    warn!("it is not known whether strict units were scheduled: leaving the lead to find out");
                    return Err(error);
                }
                // Nobody knows whether it was written: what comes next must rest on a snapshot that shows it.
                Err(StoreError::Unavailable(_)) => {
                    self.unsure = true;
                    Answer::Unknown
                }
                Err(error) => return Err(error),
            };
            answers.extend(parts.into_iter().map(|part| (part, answer)));
        }
        Ok(answers)
    }

    /// The files that machines will need for what they are given. To send them along costs one request for many
    /// machines, where each would ask for its own.
    async fn files(&self, proposals: &[Proposal], missing: &BTreeMap<UnitHash, BTreeSet<UnitName>>) -> Files {
        let new: Vec<UnitHash> = proposals.iter().filter_map(|proposal| proposal.change.carries).collect();
        // For others the machines ask, so nothing waits for a store that is slow.
        let files = match timeout(PATIENCE, self.engine.files.get(new.iter().copied())).await {
            Ok(Ok(files)) => files,
            _ => self.engine.files.at_hand(new),
        };
        // Memory is to hold few files, and what is still of use was read in them.
        self.engine.files.retain(|hash| missing.contains_key(hash));
        files
    }

    /// Whether a refusal was about the changes and not about the leadership.
    async fn still_leads(&self) -> Result<bool, StoreError> {
        let page = match self.engine.store.get(std::slice::from_ref(&self.leadership.key)).await {
            Err(StoreError::Unavailable(_)) => return Ok(true),
            page => page?,
        };
        Ok(page.entries.first().is_some_and(|stored| stored.create_revision == self.leadership.revision))
    }

    fn pack(&self, proposals: Vec<Proposal>, files: &Files) -> Vec<Packed<Proposal>> {
        pack(proposals, files, &self.engine.keys, self.leadership)
    }

    fn each_alone(&self, outcomes: &mut Vec<Sent>) -> Vec<Packed<Proposal>> {
        each_alone(outcomes, &self.engine.keys, self.leadership)
    }

    async fn send(&self, packed: Vec<Packed<Proposal>>) -> Vec<Sent> {
        send(&self.engine.store, packed, IN_FLIGHT).await
    }
}

pub(super) async fn send<S: Store>(store: &S, packed: Vec<Packed<Proposal>>, in_flight: usize) -> Vec<Sent> {
    let commit = |Packed { transaction, parts }: Packed<Proposal>| async move {
        let puts = transaction.writes.iter().any(|write| matches!(write, Write::Put { .. }));
        // One that lands after it was answered could hand a unit over a second time, without waiting for its end.
        let outcome = if parts.iter().any(|part: &Proposal| part.change.once) {
            store.commit_once(transaction).await
        } else {
            store.commit(transaction).await
        };
        Sent { parts, puts, outcome }
    };
    stream::iter(packed).map(commit).buffer_unordered(in_flight).collect().await
}

/// Takes out what was refused, each change by itself.
pub(super) fn each_alone(outcomes: &mut Vec<Sent>, keys: &Keys, leadership: &Leadership) -> Vec<Packed<Proposal>> {
    let refused = outcomes.extract_if(.., |sent| matches!(sent.outcome, Ok(None)) && sent.parts.len() > 1);
    let parts: Vec<Proposal> = refused.flat_map(|sent| sent.parts).collect();
    parts.into_iter().flat_map(|part| pack(vec![part], &Files::new(), keys, leadership)).collect()
}

/// Packs the changes of each controller into as few transactions as etcd's limits allow. Of `files` the small ones are
/// sent along.
pub(super) fn pack(
    proposals: Vec<Proposal>,
    files: &Files,
    keys: &Keys,
    leadership: &Leadership,
) -> Vec<Packed<Proposal>> {
    let mut packers = WRITERS.map(|(id, ..)| (id, Packer::default()));
    for proposal in proposals {
        let transaction = transaction(&proposal.change, files, keys, leadership);
        if let Some((_, packer)) = packers.iter_mut().find(|(id, _)| *id == proposal.by) {
            packer.add(proposal, transaction);
        }
    }
    packers.into_iter().flat_map(|(_, packer)| packer.close()).collect()
}

fn transaction(change: &Change, files: &Files, keys: &Keys, leadership: &Leadership) -> Transaction {
    let guards = change.set.guards.iter().map(|guard| Guard::Unchanged(keys.format(&guard.key), guard.revision));
    let written = change.set.writes.iter().map(|write| keys.format(write.key()));
    let not_after = written.filter_map(|key| Some(Guard::NotAfter(key, change.not_written_after?)));
    let writes = change.set.writes.iter().map(|write| match write {
        ops::Write::Put(key, value) => {
            let with_file = change.carries.and_then(|hash| with_file(value, files.get(&hash)?));
            Write::put(keys.format(key), with_file.unwrap_or_else(|| value.clone()))
        }
        ops::Write::Delete(key) => Write::Delete { key: keys.format(key) },
    });
    let none_after = change.none_after.map(|(kind, revision)| Guard::NoneAfter(keys.of(kind), revision));
    let guards = [leadership.guard()].into_iter().chain(guards).chain(not_after).chain(none_after).collect();
    Transaction { guards, writes: writes.collect() }
}

/// An entry of `sched/` together with the file that it is about, if that is small.
fn with_file(entry: &[u8], file: &UnitFile) -> Option<Vec<u8>> {
    let placement = Placement::decode(entry).ok().filter(|placement| placement.hash == file.hash())?;
    let value = placement.encode_with_file(&file.canonical());
    (value.len() <= SMALL).then_some(value)
}

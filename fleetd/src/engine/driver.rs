//! What the engine does while it leads: it asks the controllers in turn what is to be done about one snapshot and what
//! has changed in it, and hands what they want written to the committer.
//!
//! Nothing is decided on a snapshot that does not show all that this leader and those before it have written.
//!
//! Machines that are not there are held for as long as [`Losses`] says: a store that was away may have lost the leases
//! of machines that are well.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fleet_core::{
    control::{Answer, Collection, Controller, Evictions, Facts, HeldBack, InUse, Losses, Scheduler, hold},
    model::{Delta, Kind, MachineId, Snapshot},
    sched::Input,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Engine,
    beside::{Beside, News},
    commit::{Committer, Proposal},
    log::log,
    missed_keepalives::MissedKeepalives,
    writers::{ControllerId, Pace, WRITERS, admit},
};
use crate::{
    pace::Pacer,
    registry::{Leadership, LeaseId, Store, StoreError, contents},
};

/// Passes: a few at once, then one each interval, so that a burst of changes is planned as one.
const PASSES: (Duration, u32) = (Duration::from_millis(50), 4);
/// After a pass that the store did not take whole.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks for files that the store should have.
const MISSING: Duration = Duration::from_secs(10);

/// A term of office.
pub(super) struct Term<'t> {
    /// The proof.
    pub leadership: &'t Leadership,
    /// The lease that it rests on.
    pub lease: LeaseId,
    /// Since when that lease has lived: what kept it alive has kept those of the machines alive, too.
    pub since: Instant,
    /// When the last keepalive was sent that the store has answered.
    pub acknowledged: watch::Receiver<Instant>,
    /// The machines that were there a moment ago.
    pub machines: BTreeSet<MachineId>,
}

/// Leads until the leadership is lost.
pub(super) async fn lead<S: Store>(engine: &Engine<S>, mut term: Term<'_>) -> Result<(), StoreError> {
    // As it was when this one was elected: an answer that comes while it signs is the end of a trouble before.
    let sent = *term.acknowledged.borrow();
    let committer = Committer::begin(engine, term.leadership, term.lease).await?;
    let (_running, mut snapshots) = engine.view.open();
    let mut driver = Driver::new(engine, &term, sent, committer);
    let mut pacer = Pacer::new(PASSES.0, PASSES.1);
    loop {
        pacer.round().await;
        driver.hear(*term.acknowledged.borrow_and_update());
        let sure = driver.committer.make_sure().await?;
        let current = snapshots.borrow_and_update().clone();
        let ready = sure && driver.may_decide_on(&current);
        let again = if ready { driver.pass(current).await? } else { (!sure).then(|| Instant::now() + RETRY) };
        loop {
            tokio::select! {
                biased;
                changed = term.acknowledged.changed() => {
                    if changed.is_err() { return Ok(()) }
                    // The end of a trouble sets a time for what it has held up.
                    if driver.hear(*term.acknowledged.borrow_and_update()) { break }
                    continue;
                }
                changed = snapshots.changed() => if changed.is_err() { return Ok(()) },
                news = driver.beside.next() => {
                    driver.take(news);
                    break;
                }
                () = async { match again { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => break,
            }
            // Most changes are states, which decide nothing. After a stale snapshot any is welcome: a time to decide
            // may have passed unused.
            if !ready || driver.is_concerned(&snapshots.borrow_and_update()) {
                break;
            }
        }
    }
}

/// Runs the controllers for one leader.
struct Driver<'e, S> {
    engine: &'e Engine<S>,
    committer: Committer<'e, S>,
    beside: Beside<'e, S>,
    /// The moment that this leader's time counts from.
    epoch: Instant,
    /// The cluster as the controllers know it, and what is known of its units.
    input: Input,
    losses: Losses,
    /// Machines that were there before this leader was, and have not been looked for yet.
    recent: BTreeSet<MachineId>,
    missed_keepalives: MissedKeepalives,
    controllers: Controllers,
}

/// The controllers.
struct Controllers {
    scheduler: Scheduler,
    evictions: Evictions,
    in_use: InUse,
    held_back: HeldBack,
    collection: Collection,
}

impl Controllers {
    fn of(&self, id: ControllerId) -> &dyn Controller {
        match id {
            ControllerId::Scheduler => &self.scheduler,
            ControllerId::Evictions => &self.evictions,
            ControllerId::InUse => &self.in_use,
            ControllerId::HeldBack => &self.held_back,
            ControllerId::Collection => &self.collection,
        }
    }

    fn of_mut(&mut self, id: ControllerId) -> &mut dyn Controller {
        match id {
            ControllerId::Scheduler => &mut self.scheduler,
            ControllerId::Evictions => &mut self.evictions,
            ControllerId::InUse => &mut self.in_use,
            ControllerId::HeldBack => &mut self.held_back,
            ControllerId::Collection => &mut self.collection,
        }
    }
}

impl<'e, S: Store> Driver<'e, S> {
    fn new(engine: &'e Engine<S>, term: &Term<'e>, sent: Instant, committer: Committer<'e, S>) -> Self {
        let epoch = term.since;
        let now = epoch.elapsed();
        let sent = sent.saturating_duration_since(epoch);
        let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            engine,
            committer,
            beside: Beside::new(engine, term.leadership),
            epoch,
            input: Input::default(),
            losses: Losses::new(engine.ttl, Duration::ZERO, sent),
            recent: term.machines.clone(),
            missed_keepalives: MissedKeepalives::default(),
            controllers: Controllers {
                scheduler: Scheduler::default(),
                evictions: Evictions::default(),
                in_use: InUse::default(),
                held_back: HeldBack::new(today.saturating_sub(now)),
                collection: Collection::new(now),
            },
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The store has answered a keepalive sent at this time. Whether anything waits for such news.
    fn hear(&mut self, sent: Instant) -> bool {
        let now = self.now();
        let waited = self.losses.wake(now);
        self.losses.heard(sent.saturating_duration_since(self.epoch), now);
        self.losses.wake(now) != waited
    }

    /// Whether a snapshot is fit to decide on. One that was not needed for a while begins with what it knew then.
    fn may_decide_on(&self, current: &Snapshot) -> bool {
        current.is_fresh() && current.revision >= self.committer.written()
    }

    /// Whether a snapshot holds anything new to decide on.
    fn is_concerned(&self, current: &Snapshot) -> bool {
        let delta = Delta::between(self.input.known().snapshot, current);
        WRITERS.iter().any(|(id, ..)| delta.touches(self.controllers.of(*id).follows()))
    }

    /// Asks all controllers once, and writes. Returns when to do so again though nothing may have changed.
    async fn pass(&mut self, current: Snapshot) -> Result<Option<Instant>, StoreError> {
        let before = self.input.known().snapshot.clone();
        let delta = Delta::between(&before, &current);
        match contents::read(&mut self.input, &current, &self.engine.files).await {
            // Nothing is lost: the next pass sees the same changes.
            Err(StoreError::Unavailable(_)) => return Ok(Some(Instant::now() + RETRY)),
            done => done?,
        }
        let news = self.input.apply(&current);
        let placements = self.input.known().placements;
        let now = self.now();
        let recent = std::mem::take(&mut self.recent);
        log(self.losses.follow(delta, placements, &recent, now));
        let missed = if self.losses.is_new() { self.missed_keepalives.count(self.engine, &current).await } else { 0 };
        log(self.losses.settle(&current, self.input.known().placements, missed, now));
        let (news, losses) = (&news, &self.losses);
        let facts = Facts { delta, known: self.input.known(), news, losses, at_rest: true, now };
        let (held, down_at) = hold(&facts);
        self.input.hold(&held);
        let (planner, known) = self.input.parts();
        let facts = Facts { delta, known, news, losses, at_rest: true, now };
        let mut wake_at = vec![self.losses.wake(now), down_at];
        let mut proposals: Vec<Proposal> = Vec::new();
        for (id, kind, pace) in WRITERS {
            let facts = Facts { at_rest: proposals.is_empty(), ..facts };
            let mut outcome = self.controllers.of_mut(id).reconcile(&facts, planner);
            log(outcome.events);
            wake_at.push(outcome.wake_at);
            admit(id, kind, &mut outcome.changes);
            let wanted = outcome.changes.into_iter().map(|change| Proposal { by: id, change });
            match pace {
                Pace::Shown => proposals.extend(wanted),
                Pace::Beside => self.beside.commit(wanted.collect()),
            }
            if outcome.list {
                self.beside.list(id, self.engine.keys.of(Kind::File));
            }
        }
        self.engine.metrics.held_machines.set(self.controllers.held_back.machines() as i64);
        let answers = self.committer.commit(proposals, self.input.known().contents.missing()).await?;
        let retry = answers.iter().any(|(_, answer)| *answer != Answer::Done).then(|| Instant::now() + RETRY);
        self.answer(answers);
        let missing = (!self.input.known().contents.missing().is_empty()).then(|| Instant::now() + MISSING);
        let decided = wake_at.into_iter().flatten().min().and_then(|at| self.epoch.checked_add(at));
        Ok([retry, missing, decided].into_iter().flatten().min())
    }

    /// Tells the controllers what has come of what they wanted.
    fn answer(&mut self, answers: Vec<(Proposal, Answer)>) {
        let now = self.now();
        for (proposal, answer) in answers {
            if proposal.by == ControllerId::Scheduler && answer == Answer::Done {
                self.engine.metrics.placements.inc();
            }
            self.controllers.of_mut(proposal.by).answered(&proposal.change, answer, now);
        }
    }

    /// The same of what nothing waited for.
    fn take(&mut self, news: News) {
        match news {
            News::Answered(answers) => self.answer(answers),
            News::Listed(id, keys) => {
                let now = self.now();
                self.controllers.of_mut(id).listed(keys, now);
            }
        }
    }
}

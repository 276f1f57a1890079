//! The machines, what is scheduled to them, and who of them could take a unit.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Index,
};

use smallvec::SmallVec;

use super::{
    filter::is_named,
    hint::ConflictHint,
    ids,
    keys::{MachineKey, UnitKey},
    ranking::{Ranking, Seat, merge},
    reason::Cause,
};
use crate::{model::MachineId, unit::Requirements};

/// What may happen on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Nothing: what is scheduled to it is planned anew.
    Gone,
    /// What is scheduled to it stays, nothing is added.
    Held,
    /// What is scheduled to it goes where else it fits, or stays; nothing is added.
    Draining,
    /// It takes units.
    Up,
}

#[derive(Debug)]
pub(super) struct MachineSlot {
    pub id: MachineId,
    pub status: Status,
    pub metadata: BTreeMap<String, String>,
    /// What is scheduled to it. The order has no meaning.
    residents: SmallVec<[Resident; 16]>,
    /// How many of the machines have a lower ID, as long as [`Machines::is_ranked`].
    position: u32,
    /// The rankings that it is in while it is up.
    rankings: SmallVec<[RankingKey; 4]>,
}

#[derive(Debug)]
struct Resident {
    unit: UnitKey,
    hint: ConflictHint,
}

impl MachineSlot {
    /// What is scheduled to it. The order has no meaning.
    pub fn units(&self) -> impl Iterator<Item = UnitKey> {
        self.residents.iter().map(|resident| resident.unit)
    }

    pub fn load(&self) -> usize {
        self.residents.len()
    }

    /// Those of its units that need be compared with some that come, or are there.
    pub fn maybe_conflicting<'m>(
        &'m self,
        hints: impl Iterator<Item = ConflictHint> + Clone + 'm,
    ) -> impl Iterator<Item = UnitKey> + 'm {
        let may_conflict = move |resident: &&Resident| hints.clone().any(|hint| hint.may_conflict(resident.hint));
        self.residents.iter().filter(may_conflict).map(|resident| resident.unit)
    }
}

/// A ranking's place in the table.
#[derive(Clone, Copy, Debug)]
struct RankingKey(usize);

/// The ranking of all that are up.
const ALL: RankingKey = RankingKey(0);

/// All machines ever heard of. A slot is never given back: a machine that is gone may still stand in the store,
/// and a cluster sees few machines compared with units.
#[derive(Debug)]
pub(super) struct Machines {
    slots: Vec<MachineSlot>,
    keys: BTreeMap<u128, MachineKey>,
    /// How many are up.
    up: usize,
    /// Those that are up: all, and those with some metadata.
    rankings: Vec<Ranking>,
    /// The machines by their position, as long as `is_ranked`.
    order: Vec<MachineKey>,
    /// Whether positions and rankings are right. They are not from when a machine is heard of first, which may be in the
    /// middle of the order, until a unit is to be placed. To put all in order again takes as long as to place some
    /// hundred units; machines come many at a time when a leader is new, and else seldom.
    is_ranked: bool,
    /// The rankings by metadata key and value.
    by_metadata: BTreeMap<String, BTreeMap<String, RankingKey>>,
}

impl Default for Machines {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            keys: BTreeMap::new(),
            up: 0,
            rankings: vec![Ranking::in_use()],
            order: Vec::new(),
            is_ranked: true,
            by_metadata: BTreeMap::new(),
        }
    }
}

/// The machines that are worth a closer look for a unit, in order of preference.
pub(super) struct Candidates<'m> {
    pub seats: Box<dyn Iterator<Item = Seat> + 'm>,
    pub count: usize,
    /// What the others lack.
    pub others: Option<Cause>,
}

impl Machines {
    /// The key of a machine, which is `Gone` when it was not known.
    pub fn intern(&mut self, id: MachineId) -> MachineKey {
        let number = ids::number(&id);
        if let Some(&key) = self.keys.get(&number) {
            return key;
        }
        let key = MachineKey::from_index(self.slots.len());
        self.keys.insert(number, key);
        self.is_ranked = false;
        self.slots.push(MachineSlot {
            id,
            status: Status::Gone,
            metadata: BTreeMap::new(),
            residents: SmallVec::new(),
            position: 0,
            rankings: SmallVec::new(),
        });
        key
    }

    pub fn key(&self, id: &MachineId) -> Option<MachineKey> {
        self.keys.get(&ids::number(id)).copied()
    }

    /// How many are up.
    pub fn count(&self) -> usize {
        self.up
    }

    /// All that are not gone, by ID.
    pub fn known(&self) -> impl Iterator<Item = (MachineKey, &MachineSlot)> {
        let all = self.keys.values().map(|&key| (key, &self[key]));
        all.filter(|(_, machine)| machine.status != Status::Gone)
    }

    pub fn set_up(&mut self, key: MachineKey, metadata: BTreeMap<String, String>) {
        let by_metadata = metadata.iter().map(|(name, value)| self.intern_ranking(name, value));
        let rankings = [ALL].into_iter().chain(by_metadata).collect();
        self.set_down(key, Status::Gone);
        let machine = self.get_mut(key);
        machine.metadata = metadata;
        machine.rankings = rankings;
        self.change(key, |machine| machine.status = Status::Up);
    }

    /// Takes the machine out of the candidates, and has its units look for others.
    pub fn set_draining(&mut self, key: MachineKey, metadata: BTreeMap<String, String>) {
        self.set_down(key, Status::Draining);
        self.get_mut(key).metadata = metadata;
    }

    /// Takes the machine out of the candidates.
    pub fn set_down(&mut self, key: MachineKey, status: Status) {
        self.change(key, |machine| machine.status = status);
    }

    pub fn enter(&mut self, key: MachineKey, unit: UnitKey, hint: ConflictHint) {
        self.change(key, |machine| machine.residents.push(Resident { unit, hint }));
    }

    pub fn leave(&mut self, key: MachineKey, unit: UnitKey) {
        let at = self[key].units().position(|other| other == unit);
        if let Some(at) = at {
            self.change(key, |machine| {
                machine.residents.swap_remove(at);
            });
        }
    }

    /// A unit that is scheduled to the machine has changed.
    pub fn set_hint(&mut self, key: MachineKey, unit: UnitKey, hint: ConflictHint) {
        let residents = self.get_mut(key).residents.iter_mut();
        residents.filter(|resident| resident.unit == unit).for_each(|resident| resident.hint = hint);
    }

    /// The machine that has a seat.
    pub fn on(&self, seat: Seat) -> MachineKey {
        self.order[seat.position as usize]
    }

    /// The machine as a candidate.
    pub fn seat_of(&self, key: MachineKey) -> Seat {
        let machine = &self[key];
        // Of more than fit in the number, all are full.
        let load = u32::try_from(machine.load()).unwrap_or(u32::MAX);
        Seat { load, position: machine.position }
    }

    /// The machines that could take units with these requirements, all together:
    /// narrowed down by `MachineID`, else by the metadata key that leaves the fewest. The rest is for the caller.
    pub fn candidates<'m>(&'m self, wanted: &[&'m Requirements]) -> Candidates<'m> {
        if let Some(id) = wanted.iter().find_map(|wanted| wanted.machine_id.as_ref()) {
            let mut seats: Vec<Seat> = self.named(id).map(|key| self.seat_of(key)).collect();
            seats.sort_unstable();
            let others = Some(Cause::MachineId { wanted: id.clone() });
            return Candidates { count: seats.len(), seats: Box::new(seats.into_iter()), others };
        }
        let narrow = wanted
            .iter()
            .flat_map(|wanted| &wanted.metadata)
            .min_by_key(|(key, values)| self.rankings(key, values).map(Ranking::len).sum::<usize>());
        match narrow {
            Some((key, values)) => Candidates {
                seats: Box::new(merge(self.rankings(key, values))),
                count: self.rankings(key, values).map(Ranking::len).sum(),
                others: Some(Cause::Metadata { key: key.clone(), wanted: values.clone(), has: None }),
            },
            None => {
                let all = &self.rankings[ALL.0];
                Candidates { seats: Box::new(all.seats()), count: all.len(), others: None }
            }
        }
    }

    /// The machines that are up and have one of `values` under `key`.
    fn rankings<'m>(&'m self, key: &str, values: &'m BTreeSet<String>) -> impl Iterator<Item = &'m Ranking> {
        let by_value = self.by_metadata.get(key);
        values.iter().filter_map(move |value| by_value?.get(value)).map(|ranking| &self.rankings[ranking.0])
    }

    /// The machines that are up and that `id` means: a whole ID, or one in short.
    fn named(&self, id: &str) -> impl Iterator<Item = MachineKey> {
        let known = ids::beginning_with(id).map(|numbers| self.keys.range(numbers));
        let known = known.into_iter().flatten().map(|(_, &key)| key);
        known.filter(move |&key| is_named(&self[key].id, id) && self[key].status == Status::Up)
    }

    /// Has machines ranked by what a unit asks for. What none asks for would be kept in order in vain.
    pub fn rank_by(&mut self, wanted: &BTreeMap<String, BTreeSet<String>>) {
        for (key, value) in wanted.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value))) {
            let RankingKey(ranking) = self.intern_ranking(key, value);
            self.is_ranked &= self.rankings[ranking].in_use;
            self.rankings[ranking].in_use = true;
        }
    }

    /// Puts the machines in order, if there are new ones, or some are asked for in another way.
    pub fn rank(&mut self) {
        if self.is_ranked {
            return;
        }
        self.is_ranked = true;
        self.rankings.iter_mut().for_each(Ranking::clear);
        self.order = self.keys.values().copied().collect();
        for (position, key) in (0..).zip(self.order.clone()) {
            self.get_mut(key).position = position;
            let seat = self.seat_if_up(key);
            self.reseat(key, None, seat);
        }
    }

    /// Changes what decides about the machine's seat: its load, or whether it is up.
    fn change(&mut self, key: MachineKey, change: impl FnOnce(&mut MachineSlot)) {
        let was = self.seat_if_up(key);
        change(self.get_mut(key));
        let is = self.seat_if_up(key);
        self.up = self.up + usize::from(is.is_some()) - usize::from(was.is_some());
        if self.is_ranked {
            self.reseat(key, was, is);
        }
    }

    fn reseat(&mut self, key: MachineKey, was: Option<Seat>, is: Option<Seat>) {
        for &RankingKey(ranking) in &self.slots[key.index()].rankings {
            self.rankings[ranking].replace(was, is);
        }
    }

    fn seat_if_up(&self, key: MachineKey) -> Option<Seat> {
        (self[key].status == Status::Up).then(|| self.seat_of(key))
    }

    fn get_mut(&mut self, key: MachineKey) -> &mut MachineSlot {
        &mut self.slots[key.index()]
    }

    fn intern_ranking(&mut self, key: &str, value: &str) -> RankingKey {
        if let Some(&ranking) = self.by_metadata.get(key).and_then(|by_value| by_value.get(value)) {
            return ranking;
        }
        let ranking = RankingKey(self.rankings.len());
        self.rankings.push(Ranking::default());
        self.by_metadata.entry(key.into()).or_default().insert(value.into(), ranking);
        ranking
    }
}

impl Index<MachineKey> for Machines {
    type Output = MachineSlot;

    fn index(&self, key: MachineKey) -> &MachineSlot {
        &self.slots[key.index()]
    }
}

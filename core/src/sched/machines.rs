//! The machines, what is scheduled to them, and who of them could take a unit.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, Index},
};

use super::{
    Cause,
    ranking::{Ranking, Seat, merge, rank},
    units::UnitKey,
};
use crate::{
    model::MachineId,
    unit::{Requirements, UnitName},
};

/// A machine's place in the table. Its order has no meaning: no decision may rest on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MachineKey(u32);

impl MachineKey {
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a cluster has fewer than 2^32 machines"))
    }
}

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
pub(super) struct Machine {
    pub id: MachineId,
    pub status: Status,
    pub metadata: BTreeMap<String, String>,
    /// What is scheduled to it, by name: every look at a machine goes in the same order.
    pub units: BTreeMap<UnitName, UnitKey>,
    rank: u128,
}

impl Machine {
    pub fn load(&self) -> usize {
        self.units.len()
    }
}

/// All machines ever heard of. A slot is never given back: a machine that is gone may still stand in the store,
/// and a cluster sees few machines compared with units.
#[derive(Debug, Default)]
pub(super) struct Machines {
    slots: Vec<Machine>,
    keys: BTreeMap<MachineId, MachineKey>,
    /// Those that are up.
    up: Ranking,
    /// Those that are up, by metadata key and value.
    by_metadata: BTreeMap<String, BTreeMap<String, Ranking>>,
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
        if let Some(&key) = self.keys.get(&id) {
            return key;
        }
        let key = MachineKey::from_index(self.slots.len());
        self.keys.insert(id.clone(), key);
        self.slots.push(Machine {
            rank: rank(&id),
            id,
            status: Status::Gone,
            metadata: BTreeMap::new(),
            units: BTreeMap::new(),
        });
        key
    }

    pub fn key(&self, id: &MachineId) -> Option<MachineKey> {
        self.keys.get(id).copied()
    }

    /// How many are up.
    pub fn count(&self) -> usize {
        self.up.len()
    }

    /// All that are not gone, by ID.
    pub fn known(&self) -> impl Iterator<Item = (MachineKey, &Machine)> {
        let all = self.keys.values().map(|&key| (key, &self[key]));
        all.filter(|(_, machine)| machine.status != Status::Gone)
    }

    pub fn set_up(&mut self, key: MachineKey, metadata: BTreeMap<String, String>) {
        self.unseat(key);
        let machine = self.get_mut(key);
        machine.status = Status::Up;
        machine.metadata = metadata;
        self.seat(key);
    }

    /// Takes the machine out of the candidates, and has its units look for others.
    pub fn set_draining(&mut self, key: MachineKey, metadata: BTreeMap<String, String>) {
        self.unseat(key);
        let machine = self.get_mut(key);
        machine.status = Status::Draining;
        machine.metadata = metadata;
    }

    /// Takes the machine out of the candidates.
    pub fn set_down(&mut self, key: MachineKey, status: Status) {
        self.unseat(key);
        self.get_mut(key).status = status;
    }

    pub fn enter(&mut self, key: MachineKey, name: &UnitName, unit: UnitKey) {
        self.unseat(key);
        self.get_mut(key).units.insert(name.clone(), unit);
        self.seat(key);
    }

    pub fn leave(&mut self, key: MachineKey, name: &UnitName) {
        self.unseat(key);
        self.get_mut(key).units.remove(name);
        self.seat(key);
    }

    /// The machine as a candidate.
    pub fn seat_of(&self, key: MachineKey) -> Seat {
        let machine = &self[key];
        Seat { load: machine.load(), rank: machine.rank, machine: key }
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
            None => Candidates { seats: Box::new(self.up.seats()), count: self.up.len(), others: None },
        }
    }

    /// The machines that are up and have one of `values` under `key`.
    fn rankings<'m>(&'m self, key: &str, values: &'m BTreeSet<String>) -> impl Iterator<Item = &'m Ranking> {
        let by_value = self.by_metadata.get(key);
        values.iter().filter_map(move |value| by_value?.get(value))
    }

    /// The machines that are up and that `id` means: a whole ID, or one in short.
    fn named(&self, id: &str) -> impl Iterator<Item = MachineKey> {
        let from = self.keys.range::<str, _>((Bound::Included(id), Bound::Unbounded));
        from.take_while(move |(machine, _)| machine.as_str().starts_with(id))
            .filter(move |(machine, key)| is_named(machine, id) && self[**key].status == Status::Up)
            .map(|(_, &key)| key)
    }

    fn seat(&mut self, key: MachineKey) {
        let seat = self.seat_of(key);
        let machine = &self.slots[key.0 as usize];
        if machine.status != Status::Up {
            return;
        }
        self.up.insert(seat);
        for (name, value) in &machine.metadata {
            // Looked up first because `entry` would copy both strings at each change of the load.
            let ranking = match self.by_metadata.get_mut(name).and_then(|values| values.get_mut(value)) {
                Some(ranking) => ranking,
                None => self.by_metadata.entry(name.clone()).or_default().entry(value.clone()).or_default(),
            };
            ranking.insert(seat);
        }
    }

    fn unseat(&mut self, key: MachineKey) {
        let seat = self.seat_of(key);
        let machine = &self.slots[key.0 as usize];
        if machine.status != Status::Up {
            return;
        }
        self.up.remove(seat);
        for (name, value) in &machine.metadata {
            if let Some(ranking) = self.by_metadata.get_mut(name).and_then(|values| values.get_mut(value)) {
                ranking.remove(seat);
            }
        }
    }

    fn get_mut(&mut self, key: MachineKey) -> &mut Machine {
        &mut self.slots[key.0 as usize]
    }
}

impl Index<MachineKey> for Machines {
    type Output = Machine;

    fn index(&self, key: MachineKey) -> &Machine {
        &self.slots[key.0 as usize]
    }
}

/// Whether `MachineID=wanted` means this machine.
pub(super) fn is_named(machine: &MachineId, wanted: &str) -> bool {
    machine.as_str() == wanted || machine.short() == wanted
}

//! Machines in the order in which they are tried: by load, and within one load from a point of a ring.
//!
//! Ties between equally loaded machines are broken by a hash of unit and machine, so that every engine decides
//! alike and the units of one plan do not all run to the same machine. A hash of the *pair* would have to be
//! computed for every tied machine; here each name has one fixed point on a ring of 2^64, and a unit takes the
//! first machine at or after its own point. That is a search in an ordered set, whatever the number of ties.

use std::{
    collections::BTreeSet,
    iter::{Peekable, successors},
};

use super::machines::MachineKey;

/// The point of a name on the ring: FNV-1a (64 bits), then MurmurHash3's finalizer, because FNV alone leaves names
/// that differ in their last character close together. Part of the contract between versions: never change it.
pub(super) fn point(name: &str) -> u64 {
    let fnv = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

/// A machine as a candidate for one unit. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    /// How many units are scheduled to it.
    pub load: usize,
    /// How far it is from the unit, once around the ring.
    pub distance: u64,
    pub machine: MachineKey,
}

/// A set of machines by load and point.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring(BTreeSet<(usize, u64, MachineKey)>);

impl Ring {
    pub fn insert(&mut self, load: usize, point: u64, machine: MachineKey) {
        self.0.insert((load, point, machine));
    }

    pub fn remove(&mut self, load: usize, point: u64, machine: MachineKey) {
        self.0.remove(&(load, point, machine));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All machines in order of preference for a unit at the point `from`.
    pub fn seats(&self, from: u64) -> impl Iterator<Item = Seat> {
        let lowest = self.0.first().map(|&(load, ..)| load);
        let next_load = |&load: &usize| self.0.range((load + 1, 0, MachineKey::FIRST)..).next().map(|&(load, ..)| load);
        successors(lowest, next_load).flat_map(move |load| {
            let start = (load, from, MachineKey::FIRST);
            let ahead = self.0.range(start..(load + 1, 0, MachineKey::FIRST));
            let around = self.0.range((load, 0, MachineKey::FIRST)..start);
            ahead.chain(around).map(move |&(load, point, machine)| Seat {
                load,
                distance: point.wrapping_sub(from),
                machine,
            })
        })
    }
}

/// Several rings without a machine in common as if they were one.
pub(super) fn merge<'r>(rings: impl IntoIterator<Item = &'r Ring>, from: u64) -> impl Iterator<Item = Seat> {
    let mut heads: Vec<Peekable<_>> = rings.into_iter().map(|ring| ring.seats(from).peekable()).collect();
    std::iter::from_fn(move || {
        let (_, next) = heads.iter_mut().enumerate().filter_map(|(i, head)| Some((*head.peek()?, i))).min()?;
        heads[next].next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_the_same_in_every_build() {
        assert_eq!(point(""), 0xefd0_1f60_ba99_2926);
        assert_eq!(point("web@1.service"), 0xea18_7dd8_4d1d_34d1);
    }

    #[test]
    fn lower_load_comes_first_and_ties_go_round_the_ring() {
        let mut ring = Ring::default();
        for (n, (load, point)) in [(1, 10), (0, 10), (0, 30), (0, 20), (7, 0)].into_iter().enumerate() {
            ring.insert(load, point, MachineKey::from_index(n));
        }
        let order: Vec<_> = ring.seats(20).map(|seat| (seat.load, seat.distance)).collect();
        assert_eq!(order, [(0, 0), (0, 10), (0, u64::MAX - 9), (1, u64::MAX - 9), (7, u64::MAX - 19)]);
    }

    #[test]
    fn merged_rings_keep_the_order() {
        let (mut one, mut two) = (Ring::default(), Ring::default());
        one.insert(0, 5, MachineKey::from_index(0));
        one.insert(2, 5, MachineKey::from_index(1));
        two.insert(0, 4, MachineKey::from_index(2));
        two.insert(1, 5, MachineKey::from_index(3));
        let order: Vec<_> = merge([&one, &two], 0).map(|seat| (seat.load, seat.distance)).collect();
        assert_eq!(order, [(0, 4), (0, 5), (1, 5), (2, 5)]);
    }
}

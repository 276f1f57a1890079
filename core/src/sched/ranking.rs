//! Machines in the order in which they are tried: by load, then by ID, as in CoreOS fleet.

use std::{collections::BTreeSet, iter::Peekable};

use super::machines::MachineKey;
use crate::model::MachineId;

/// The place of a machine among those with the same load: its ID as a number.
pub(super) fn rank(id: &MachineId) -> u128 {
    u128::from_str_radix(id.as_str(), 16).expect("an ID is 32 hexadecimal digits")
}

/// A machine as a candidate for a unit. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    /// How many units are scheduled to it.
    pub load: usize,
    pub rank: u128,
    pub machine: MachineKey,
}

/// A set of machines in order of preference.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranking(BTreeSet<Seat>);

impl Ranking {
    pub fn insert(&mut self, seat: Seat) {
        self.0.insert(seat);
    }

    pub fn remove(&mut self, seat: Seat) {
        self.0.remove(&seat);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn seats(&self) -> impl Iterator<Item = Seat> {
        self.0.iter().copied()
    }
}

/// Several rankings without a machine in common as if they were one.
pub(super) fn merge<'r>(rankings: impl IntoIterator<Item = &'r Ranking>) -> impl Iterator<Item = Seat> {
    let mut heads: Vec<Peekable<_>> = rankings.into_iter().map(|ranking| ranking.seats().peekable()).collect();
    std::iter::from_fn(move || {
        let (_, next) = heads.iter_mut().enumerate().filter_map(|(i, head)| Some((*head.peek()?, i))).min()?;
        heads[next].next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(seats: &[(usize, u128)]) -> Ranking {
        let mut ranking = Ranking::default();
        for (n, &(load, rank)) in seats.iter().enumerate() {
            ranking.insert(Seat { load, rank, machine: MachineKey::from_index(n) });
        }
        ranking
    }

    fn order(seats: impl Iterator<Item = Seat>) -> Vec<(usize, u128)> {
        seats.map(|seat| (seat.load, seat.rank)).collect()
    }

    #[test]
    fn lower_load_comes_first_and_ties_go_by_id() {
        let ranking = ranking(&[(1, 10), (0, 10), (0, 30), (0, 20), (7, 0)]);
        assert_eq!(order(ranking.seats()), [(0, 10), (0, 20), (0, 30), (1, 10), (7, 0)]);
        let id = |text: &str| rank(&MachineId::new(text).unwrap());
        assert!(id("0f97a72e4aef45bf815b90988acdbf13") < id("d097a72e4aef45bf815b90988acdbf13"));
    }

    #[test]
    fn merged_rankings_keep_the_order() {
        let (one, two) = (ranking(&[(0, 5), (2, 5)]), ranking(&[(0, 4), (1, 5)]));
        assert_eq!(order(merge([&one, &two])), [(0, 4), (0, 5), (1, 5), (2, 5)]);
    }
}

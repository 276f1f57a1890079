//! Machines in the order in which they are tried: by load, then by ID, as in CoreOS fleet.

use std::{collections::BTreeSet, iter::Peekable};

use super::machines::MachineKey;
use crate::model::MachineId;

/// The place of a machine among those with the same load: its ID as a number, in two halves because a `u128` would
/// have a seat take half as much room again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u64, u64);

impl Rank {
    pub fn of(id: &MachineId) -> Self {
        let (first, last) = Self::beginning_with(id.as_str()).expect("an ID is 32 hexadecimal digits");
        debug_assert_eq!(first, last);
        first
    }

    /// The first and the last that an ID may have that begins with these digits; `None` when no ID does.
    pub fn beginning_with(digits: &str) -> Option<(Self, Self)> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(is_digit) {
            return None;
        }
        let open = 4 * (32 - digits.len());
        let first = u128::from_str_radix(digits, 16).ok()? << open;
        Some((Self::from_number(first), Self::from_number(first | ((1 << open) - 1))))
    }

    fn from_number(number: u128) -> Self {
        Self((number >> 64) as u64, number as u64)
    }
}

/// A machine as a candidate for a unit. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    /// How many units are scheduled to it.
    pub load: u32,
    pub rank: Rank,
    pub machine: MachineKey,
}

/// A set of machines in order of preference.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranking {
    seats: BTreeSet<Seat>,
    /// While nobody asks, loads are left out: of what a machine has for metadata most is never asked for.
    in_use: bool,
}

impl Ranking {
    pub fn in_use() -> Self {
        Self { seats: BTreeSet::new(), in_use: true }
    }

    /// Takes the loads in.
    pub fn begin(&mut self, seat_of: impl Fn(MachineKey) -> Seat) {
        if !self.in_use {
            self.in_use = true;
            self.seats = self.seats.iter().map(|seat| seat_of(seat.machine)).collect();
        }
    }

    /// Moves a machine to another seat; `None`: it has none.
    pub fn replace(&mut self, was: Option<Seat>, is: Option<Seat>) {
        let [was, is] =
            [was, is].map(|seat| seat.map(|seat| if self.in_use { seat } else { Seat { load: 0, ..seat } }));
        if was != is {
            if let Some(seat) = was {
                self.seats.remove(&seat);
            }
            self.seats.extend(is);
        }
    }

    pub fn len(&self) -> usize {
        self.seats.len()
    }

    pub fn seats(&self) -> impl Iterator<Item = Seat> {
        debug_assert!(self.in_use, "without loads there is no order");
        self.seats.iter().copied()
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

    fn ranking(seats: &[(u32, u64)]) -> Ranking {
        let mut ranking = Ranking::in_use();
        for (n, &(load, rank)) in seats.iter().enumerate() {
            ranking.replace(None, Some(Seat { load, rank: Rank(0, rank), machine: MachineKey::from_index(n) }));
        }
        ranking
    }

    fn order(seats: impl Iterator<Item = Seat>) -> Vec<(u32, u64)> {
        seats.map(|seat| (seat.load, seat.rank.1)).collect()
    }

    #[test]
    fn lower_load_comes_first_and_ties_go_by_id() {
        let ranking = ranking(&[(1, 10), (0, 10), (0, 30), (0, 20), (7, 0)]);
        assert_eq!(order(ranking.seats()), [(0, 10), (0, 20), (0, 30), (1, 10), (7, 0)]);
    }

    #[test]
    fn ranks_are_in_the_order_of_ids_and_found_by_their_beginning() {
        let id = |text: &str| Rank::of(&MachineId::new(text).unwrap());
        let ids = [
            "0f97a72e4aef45bf815b90988acdbf13",
            "0f97a72e4aef45bf915b90988acdbf13",
            "d097a72e4aef45bf815b90988acdbf13",
        ];
        assert!(ids.map(id).is_sorted());
        let (first, last) = Rank::beginning_with("0f97a72e").unwrap();
        assert_eq!(ids.map(|text| (first..=last).contains(&id(text))), [true, true, false]);
        assert_eq!(Rank::beginning_with(ids[0]), Some((id(ids[0]), id(ids[0]))));
        assert!(
            ["", "+f97a72e", "0F97A72E", "web", &"0".repeat(33)]
                .iter()
                .all(|text| Rank::beginning_with(text).is_none())
        );
    }

    #[test]
    fn ranking_orders_by_load_as_soon_as_it_is_asked_for() {
        let seat = |load, n: usize| Seat { load, rank: Rank(0, n as u64), machine: MachineKey::from_index(n) };
        let mut ranking = Ranking::default();
        ranking.replace(None, Some(seat(3, 1)));
        ranking.replace(None, Some(seat(1, 2)));
        ranking.replace(Some(seat(1, 2)), Some(seat(2, 2)));
        ranking.replace(None, Some(seat(0, 3)));
        ranking.replace(Some(seat(7, 3)), None);
        let now = [seat(0, 0), seat(3, 1), seat(2, 2)];
        ranking.begin(|machine| *now.iter().find(|seat| seat.machine == machine).unwrap());
        assert_eq!(order(ranking.seats()), [(2, 2), (3, 1)]);
        ranking.replace(Some(seat(3, 1)), Some(seat(1, 1)));
        assert_eq!(order(ranking.seats()), [(1, 1), (2, 2)]);
    }

    #[test]
    fn merged_rankings_keep_the_order() {
        let (one, two) = (ranking(&[(0, 5), (2, 5)]), ranking(&[(0, 4), (1, 5)]));
        assert_eq!(order(merge([&one, &two])), [(0, 4), (0, 5), (1, 5), (2, 5)]);
    }
}

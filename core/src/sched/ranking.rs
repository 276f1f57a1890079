//! Machines in the order in which they are tried: by load, then by ID, as in CoreOS fleet.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    iter::{Peekable, successors},
};

/// A machine as a candidate for a unit. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    /// How many units are scheduled to it.
    pub load: u32,
    /// Its place among all machines by ID.
    pub position: u32,
}

/// As many seats with the same load as there are bits in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    load: u32,
    number: u32,
}

/// A set of machines in order of preference.
///
/// Most have one of a few loads, and so a bit for each does: a ranking of ten thousand machines stays in the cache
/// from one decision to the next, where a tree of seats would have to be fetched anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranking {
    /// The seats that are taken: never none.
    rows: BTreeMap<Row, u64>,
    len: usize,
    /// While nobody asks it is left empty: of what a machine has for metadata most is never asked for.
    pub in_use: bool,
}

impl Ranking {
    pub fn in_use() -> Self {
        Self { in_use: true, ..Self::default() }
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.len = 0;
    }

    /// Moves a machine to another seat; `None`: it has none.
    pub fn replace(&mut self, was: Option<Seat>, is: Option<Seat>) {
        if was == is || !self.in_use {
            return;
        }
        was.into_iter().for_each(|seat| self.remove(seat));
        is.into_iter().for_each(|seat| self.insert(seat));
    }

    fn insert(&mut self, seat: Seat) {
        let (row, bit) = seat.in_row();
        *self.rows.entry(row).or_default() |= bit;
        self.len += 1;
    }

    fn remove(&mut self, seat: Seat) {
        let (row, bit) = seat.in_row();
        let Entry::Occupied(mut taken) = self.rows.entry(row) else { return };
        if taken.get() & bit == 0 {
            return;
        }
        *taken.get_mut() &= !bit;
        if *taken.get() == 0 {
            taken.remove();
        }
        self.len -= 1;
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn seats(&self) -> impl Iterator<Item = Seat> {
        debug_assert!(self.in_use, "what is not in use is empty");
        self.rows.iter().flat_map(|(&Row { load, number }, &taken)| {
            let rest = successors(Some(taken), |rest| Some(rest & (rest - 1)).filter(|&rest| rest != 0));
            rest.map(move |rest| Seat { load, position: number * u64::BITS + rest.trailing_zeros() })
        })
    }
}

impl Seat {
    fn in_row(self) -> (Row, u64) {
        (Row { load: self.load, number: self.position / u64::BITS }, 1 << (self.position % u64::BITS))
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

    fn seat((load, position): (u32, u32)) -> Seat {
        Seat { load, position }
    }

    fn ranking(seats: &[(u32, u32)]) -> Ranking {
        let mut ranking = Ranking::in_use();
        seats.iter().for_each(|&taken| ranking.replace(None, Some(seat(taken))));
        ranking
    }

    fn order(seats: impl Iterator<Item = Seat>) -> Vec<(u32, u32)> {
        seats.map(|seat| (seat.load, seat.position)).collect()
    }

    #[test]
    fn lower_load_comes_first_and_ties_go_by_position() {
        let ranking = ranking(&[(1, 10), (0, 10), (0, 127), (0, 128), (0, 63), (0, 64), (7, 0)]);
        assert_eq!(order(ranking.seats()), [(0, 10), (0, 63), (0, 64), (0, 127), (0, 128), (1, 10), (7, 0)]);
    }

    #[test]
    fn machine_changes_seats_and_leaves() {
        let mut ranking = ranking(&[(3, 1), (1, 2), (1, 3)]);
        ranking.replace(Some(seat((1, 2))), Some(seat((2, 2))));
        ranking.replace(Some(seat((1, 3))), None);
        assert_eq!((order(ranking.seats()), ranking.len()), (vec![(2, 2), (3, 1)], 2));
        ranking.replace(Some(seat((9, 9))), None);
        ranking.replace(Some(seat((3, 9))), None);
        ranking.replace(Some(seat((3, 1))), Some(seat((3, 1))));
        assert_eq!((order(ranking.seats()), ranking.len()), (vec![(2, 2), (3, 1)], 2));
    }

    #[test]
    fn what_nobody_asks_for_takes_no_room() {
        let mut ranking = Ranking::default();
        ranking.replace(None, Some(seat((3, 1))));
        assert_eq!((ranking.len(), ranking.rows.len()), (0, 0));
    }

    #[test]
    fn merged_rankings_keep_the_order() {
        let (one, two) = (ranking(&[(0, 5), (2, 5)]), ranking(&[(0, 4), (1, 6)]));
        assert_eq!(order(merge([&one, &two])), [(0, 4), (0, 5), (1, 6), (2, 5)]);
    }
}

//! Places in the planner's tables.

/// A unit's place in the table of units. Its order has no meaning: no decision may rest on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnitKey(u32);

impl UnitKey {
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a cluster has fewer than 2^32 units"))
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A machine's place in the table of machines. Its order has no meaning: no decision may rest on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MachineKey(u32);

impl MachineKey {
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a cluster has fewer than 2^32 machines"))
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

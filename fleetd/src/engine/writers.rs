//! Who writes what: of each kind of keys that the engine writes, the one controller that does.

use fleet_core::{control::Change, model::Kind};
use tracing::error;

/// A controller. (One that is put in here, into [`WRITERS`] and into the driver's list, is run.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerId {
    /// [`fleet_core::control::Scheduler`]
    Scheduler,
    /// [`fleet_core::control::Evictions`]
    Evictions,
    /// [`fleet_core::control::InUse`]
    InUse,
    /// [`fleet_core::control::HeldBack`]
    HeldBack,
    /// [`fleet_core::control::Collection`]
    Collection,
}

/// How the driver goes on once it has handed on what a controller wants written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It waits, and then until a snapshot shows what was written.
    Shown,
    /// It does not wait, as no snapshot shows such keys: other decisions go on meanwhile.
    Beside,
}

/// The controllers in the order in which they are asked: what it writes, and how.
pub const WRITERS: [(ControllerId, Kind, Pace); 5] = [
    (ControllerId::Scheduler, Kind::Sched, Pace::Shown),
    (ControllerId::Evictions, Kind::Metadata, Pace::Shown),
    (ControllerId::InUse, Kind::InUse, Pace::Shown),
    (ControllerId::HeldBack, Kind::Held, Pace::Beside),
    (ControllerId::Collection, Kind::File, Pace::Beside),
];

/// Leaves out the changes that would write what is another's to write. There are none unless a controller is broken.
pub fn admit(id: ControllerId, kind: Kind, changes: &mut Vec<Change>) {
    changes.retain(|change| {
        let foreign = change.set.writes.iter().find(|write| write.key().kind() != kind);
        if let Some(write) = foreign {
            let key = write.key();
            debug_assert!(false, "{id:?} writes {key:?}");
            error!(controller = ?id, ?key, "a controller would write what is another's to write: left out");
        }
        foreign.is_none()
    });
}

#[cfg(test)]
mod tests {
    use fleet_core::{
        model::{Key, Writer},
        ops::{Write, WriteSet},
    };

    use super::*;

    #[test]
    fn each_kind_has_one_writer() {
        for (place, (id, kind, _)) in WRITERS.iter().enumerate() {
            let others = &WRITERS[place + 1..];
            assert!(others.iter().all(|(other, theirs, _)| other != id && theirs != kind), "{id:?}");
        }
    }

    #[test]
    fn what_snapshots_show_is_waited_for() {
        for (id, kind, pace) in WRITERS {
            assert_eq!(Kind::FOLLOWED.contains(&kind), pace == Pace::Shown, "{id:?}");
            assert!(kind == Kind::File || kind.writers().contains(&Writer::Engine), "{id:?} is named as a writer");
        }
    }

    #[test]
    #[should_panic(expected = "Collection writes Held")]
    fn what_is_another_controllers_to_write_is_refused() {
        let set = WriteSet { guards: Vec::new(), writes: vec![Write::Delete(Key::Held)] };
        admit(ControllerId::Collection, Kind::File, &mut vec![Change { set, ..Change::default() }]);
    }
}

//! What holds of any sequence of operations, on a store of a few lines.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    model::{Desired, Key, MachineId, Record, Revision, UnitRecord},
    unit::{UnitFile, UnitName},
};

/// Keys, their values, and the revisions that wrote them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Store {
    revision: Revision,
    keys: BTreeMap<Key, (Vec<u8>, Revision)>,
}

impl Store {
    fn read(&self, keys: &[Key]) -> Current {
        let mut current = Current::at(self.revision);
        for key in keys {
            if let Some((value, revision)) = self.keys.get(key) {
                current.put(key.clone(), value, *revision);
            }
        }
        current
    }

    /// Whether the guards held.
    fn commit(&mut self, set: &WriteSet) -> bool {
        let revision = |key: &Key| self.keys.get(key).map_or(0, |(_, revision)| *revision);
        if !set.guards.iter().all(|guard| revision(&guard.key) == guard.revision) {
            return false;
        }
        self.revision += 1;
        for write in &set.writes {
            match write {
                Write::Put(key, value) => drop(self.keys.insert(key.clone(), (value.clone(), self.revision))),
                Write::Delete(key) => drop(self.keys.remove(key)),
            }
        }
        true
    }
}

const TEXTS: [&str; 3] = ["[Unit]\nDescription=1\n", "[Unit]\nDescription=2\n", "[X-Fleet]\nGlobal=true\n"];

fn unit() -> impl Strategy<Value = UnitName> {
    prop::sample::select(vec!["a.service", "b.service", "t@.service"]).prop_map(|name| UnitName::new(name).unwrap())
}

fn contents() -> impl Strategy<Value = Contents> {
    prop::sample::select(TEXTS.to_vec())
        .prop_map(|text| Contents::new(&UnitFile::parse(text).unwrap(), &UnitName::new("a.service").unwrap()).unwrap())
}

fn desired() -> impl Strategy<Value = Desired> {
    prop::sample::select(vec![Desired::Inactive, Desired::Loaded, Desired::Launched])
}

fn machine() -> impl Strategy<Value = MachineId> {
    prop::sample::select(vec!["1", "2"]).prop_map(|digit| MachineId::new(&digit.repeat(32)).unwrap())
}

fn operation() -> impl Strategy<Value = Operation> {
    let when_same = prop::sample::select(vec![WhenSame::Nothing, WhenSame::Ensure, WhenSame::Restart]);
    let set = (unit(), option::of(contents()), option::of(desired()), when_same);
    let once = (unit(), contents(), desired(), any::<bool>(), machine());
    let edits = prop::collection::btree_map("[ab]", option::of("[xy]"), 0..3);
    prop_oneof![
        4 => set.prop_map(|(name, contents, desired, when_same)| {
            Operation::Set(SetUnit { name, contents, desired, when_same })
        }),
        1 => unit().prop_map(Operation::Destroy),
        2 => (unit(), option::of(machine()), option::of(0..6u64)).prop_map(|(name, up_to, generation)| {
            Operation::Restart(RestartUnit { name, up_to, generation })
        }),
        1 => once.prop_map(|(name, contents, desired, replace, machine)| {
            Operation::SubmitOnce(SubmitOnce { name, contents, desired, replace, machine })
        }),
        1 => (machine(), edits).prop_map(|(machine, edits)| Operation::EditMetadata(machine, edits)),
        1 => machine().prop_map(Operation::Drain),
        1 => machine().prop_map(Operation::Undrain),
        1 => (machine(), any::<bool>()).prop_map(|(machine, is_known)| Operation::Evict { machine, is_known }),
    ]
}

/// A store in which the first machine is alive.
fn store() -> Store {
    let alive = Key::Machine(MachineId::new(&"1".repeat(32)).unwrap());
    Store { revision: 5, keys: [(alive, (b"{}".to_vec(), 5))].into() }
}

/// A unit is ordinary or global, and the contents of each are stored.
fn check(store: &Store) {
    for key in store.keys.keys() {
        let Key::Unit(name) = key else { continue };
        assert!(!store.keys.contains_key(&Key::Global(name.clone())), "{name} is ordinary and global");
    }
    for (key, (value, _)) in &store.keys {
        if let Key::Unit(_) | Key::Global(_) = key {
            let record = UnitRecord::decode(value).unwrap();
            assert!(store.keys.contains_key(&Key::File(record.hash)), "{key:?} has no contents");
        }
    }
}

proptest! {
    #[test]
    fn each_write_set_holds_once_and_leaves_the_store_in_order(operations in vec(operation(), 1..40)) {
        let mut store = store();
        for operation in operations {
            let Ok(Edit { set, .. }) = operation.decide(&store.read(&operation.reads())) else { continue };
            if set.writes.is_empty() {
                continue;
            }
            for write in &set.writes {
                let is_contents = matches!(write.key(), Key::File(_));
                let is_guarded = set.guards.iter().any(|guard| guard.key == *write.key());
                prop_assert!(is_contents || is_guarded, "{operation} writes {:?} whatever is there", write.key());
            }
            prop_assert!(store.commit(&set), "{operation}: its guards hold");
            prop_assert!(!store.commit(&set), "{operation}: they hold a second time");
            check(&store);
        }
    }

    #[test]
    fn what_was_decided_before_another_change_of_its_records_is_refused(one in operation(), other in operation()) {
        let mut store = store();
        let decided = one.decide(&store.read(&one.reads()));
        let (Ok(first), Ok(second)) = (decided, other.decide(&store.read(&other.reads()))) else { return Ok(()) };
        prop_assume!(!first.set.writes.is_empty() && !second.set.writes.is_empty());
        let guarded = |key: &Key| first.set.guards.iter().any(|guard| guard.key == *key);
        let touched = second.set.writes.iter().any(|write| guarded(write.key()));
        prop_assert!(store.commit(&second.set));
        prop_assert_eq!(store.commit(&first.set), !touched);
    }

    #[test]
    fn what_has_been_done_is_done(operations in vec(operation(), 1..20), last in operation()) {
        // Restarts and units that are asked for once more are new each time.
        let repeats = match &last {
            Operation::Set(request) => request.when_same != WhenSame::Nothing,
            Operation::Restart(request) => request.generation.is_none(),
            Operation::Destroy(_) => true,
            _ => false,
        };
        prop_assume!(!repeats);
        let mut store = store();
        for operation in operations.iter().chain([&last]) {
            if let Ok(edit) = operation.decide(&store.read(&operation.reads())) {
                store.commit(&edit.set);
            }
        }
        if let Ok(edit) = last.decide(&store.read(&last.reads())) {
            prop_assert_eq!(edit, Edit::none(), "{}", last);
        }
    }
}

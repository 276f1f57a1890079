//! Units that leave machines which are drained, and those that must be down before they start elsewhere.

use super::*;
use crate::sched::Cause;

const NONE: [&str; 0] = [];

impl Cluster {
    fn drain(&mut self, n: u32, pairs: &str) {
        self.planner.drain_machine(id(n), metadata(pairs));
    }

    /// Plans and writes as the engine does: `s.service`, which is strict, is told to leave.
    fn recall(&mut self) -> Vec<String> {
        let decisions = self.planner.plan();
        for Decision { unit, from, to, .. } in &decisions {
            for id in from {
                match unit.as_str() {
                    "s.service" => self.planner.recalled(unit.clone(), id.clone()),
                    _ => self.planner.removed(unit, id),
                }
            }
            if let Some(id) = to {
                self.planner.placed(unit.clone(), id.clone());
            }
        }
        decisions.iter().map(short).collect()
    }

    /// The machines of a pair of units of which one needs `disk=ssd`: the first, where they are placed by `units`, then
    /// one that takes only the other, and one that takes both and has more to do.
    fn pair_with_one_other_place(units: [(&str, &str); 2]) -> Self {
        let mut cluster = Self::default();
        cluster.machine(1, "disk=ssd");
        units.iter().for_each(|(unit, section)| cluster.unit(unit, section));
        cluster.plan();
        cluster.machine(2, "");
        cluster.machine(3, "disk=ssd");
        cluster.unit("load.service", "MachineID=00000003");
        cluster.plan();
        cluster
    }

    /// What is said of units that cannot leave.
    fn stuck(&mut self) -> Vec<String> {
        let stuck = (1..=3).map(|n| (n, self.planner.stuck_on(&id(n))));
        stuck
            .flat_map(|(n, stuck)| {
                stuck.into_iter().map(move |(unit, reason)| format!("{unit} on {}: {reason}", id(n).short()))
            })
            .collect()
    }
}

#[test]
fn drained_machine_loses_what_fits_elsewhere_and_keeps_the_rest() {
    let mut cluster = Cluster::default();
    cluster.machine(1, "disk=ssd");
    cluster.unit("a.service", "");
    cluster.unit("b.service", "MachineMetadata=disk=ssd");
    cluster.plan();
    cluster.machine(2, "");
    cluster.drain(1, "disk=ssd");
    assert_eq!(cluster.plan(), ["a.service: m1 -> m2"]);
    assert_eq!(cluster.stuck(), ["b.service on 00000001: no machine fits (1 machine: 1 lacks metadata disk=ssd)"]);
    assert!(cluster.summary("b.service").contains("being drained, and cannot leave: no machine fits"));
    cluster.unit("c.service", "MachineMetadata=disk=ssd");
    assert_eq!(cluster.plan(), NONE, "nothing new comes");
    assert!(cluster.summary("c.service").contains("1 is being drained"), "{}", cluster.summary("c.service"));
    // As soon as another machine fits, the rest follows.
    cluster.machine(3, "disk=ssd");
    assert_eq!(cluster.plan(), ["b.service: m1 -> m3", "c.service:  -> m3"]);
    assert_eq!(cluster.stuck(), NONE);
    cluster.machine(1, "disk=ssd");
    assert_eq!(cluster.plan(), NONE, "nothing comes back by itself");
}

#[test]
fn units_that_must_be_together_leave_a_drained_machine_together_or_not_at_all() {
    let mut cluster = Cluster::default();
    cluster.machine(1, "disk=ssd");
    cluster.unit("db.service", "");
    cluster.unit("side.service", "MachineOf=db.service\nMachineMetadata=disk=ssd");
    cluster.plan();
    cluster.machine(2, "");
    cluster.drain(1, "disk=ssd");
    assert_eq!(cluster.plan(), NONE);
    assert_eq!(cluster.stuck().len(), 2);
    cluster.machine(3, "disk=ssd");
    let mut moves = cluster.plan();
    moves.sort();
    assert_eq!(moves, ["db.service: m1 -> m3", "side.service: m1 -> m3"]);
}

#[test]
fn nobody_leaves_for_a_unit_of_a_drained_machine() {
    let mut cluster = Cluster::of(2);
    cluster.unit("r.service", "Replaces=b.service");
    cluster.plan();
    cluster.unit("b.service", "MachineID=00000002");
    cluster.plan();
    assert_eq!((cluster.at("r.service"), cluster.at("b.service")), (1, 2));
    cluster.drain(1, "");
    assert_eq!(cluster.plan(), NONE);
    assert!(cluster.stuck()[0].contains("which cannot be replaced"), "{:?}", cluster.stuck());
}

#[test]
fn of_two_places_the_one_that_is_not_drained_stays() {
    let mut cluster = Cluster::of(2);
    cluster.unit("a.service", "");
    cluster.drain(1, "");
    cluster.placed("a.service", 1);
    cluster.placed("a.service", 2);
    let decisions = cluster.planner.plan();
    assert_eq!(decisions.len(), 1);
    assert_eq!((&decisions[0].from[..], &decisions[0].to), (&[id(1)][..], &Some(id(2))));
    assert_eq!(decisions[0].reason.left, Some(Cause::Draining));
}

#[test]
fn strict_unit_is_told_to_leave_and_placed_only_when_it_has_stopped() {
    let mut cluster = Cluster::of(2);
    cluster.unit("s.service", "OnPartition=stop\nMachineMetadata=disk=ssd");
    cluster.unit("side.service", "MachineOf=s.service");
    cluster.machine(1, "disk=ssd");
    cluster.plan();
    cluster.machine(2, "disk=ssd");
    cluster.machine(1, "");
    assert_eq!(cluster.recall(), ["s.service: m1 -> ", "side.service: m1 -> "]);
    assert_eq!(cluster.summary("s.service"), "not placed: waiting until it has stopped on 00000001");
    assert_eq!(cluster.recall(), NONE);
    // Another leader, which only has the store to go by, waits as well.
    let mut other = Cluster::of(0);
    other.machine(1, "");
    other.machine(2, "disk=ssd");
    other.unit("s.service", "OnPartition=stop\nMachineMetadata=disk=ssd");
    other.planner.recalled(name("s.service"), id(1));
    for cluster in [&mut cluster, &mut other] {
        assert_eq!(cluster.recall(), NONE);
        cluster.planner.given_up(&name("s.service"), &id(1));
        assert_eq!(cluster.recall()[0], "s.service:  -> m2");
    }
    assert_eq!(cluster.at("side.service"), 2);
}

#[test]
fn strict_unit_that_was_told_to_leave_may_go_back_but_nowhere_else() {
    let mut cluster = Cluster::of(2);
    cluster.unit("s.service", "OnPartition=stop\nMachineMetadata=disk=ssd");
    cluster.machine(1, "disk=ssd");
    cluster.plan();
    cluster.machine(1, "");
    assert_eq!(cluster.recall(), ["s.service: m1 -> "]);
    cluster.machine(1, "disk=ssd");
    assert_eq!(cluster.plan(), ["s.service:  -> m1"]);
}

#[test]
fn strict_unit_that_is_stopped_and_started_again_does_not_start_elsewhere() {
    let mut cluster = Cluster::of(2);
    let section = "OnPartition=stop";
    cluster.unit("s.service", section);
    cluster.plan();
    let place = cluster.at("s.service");
    cluster.stop("s.service", section);
    assert_eq!(cluster.recall(), [format!("s.service: m{place} -> ")]);
    cluster.planner.drain_machine(id(place), BTreeMap::new());
    cluster.unit("s.service", section);
    assert_eq!(cluster.recall(), NONE);
    cluster.planner.given_up(&name("s.service"), &id(place));
    assert_eq!(cluster.recall(), [format!("s.service:  -> m{}", 3 - place)]);
}

#[test]
fn held_unit_stays_on_a_machine_that_is_gone_while_the_others_leave() {
    let mut cluster = Cluster::of(1);
    cluster.unit("a.service", "");
    cluster.unit("s.service", "OnPartition=stop");
    cluster.unit("side.service", "MachineOf=s.service");
    cluster.plan();
    cluster.machine(2, "");
    cluster.planner.hold_unit(&name("s.service"), &id(1));
    cluster.planner.remove_machine(&id(1));
    assert_eq!(cluster.plan(), ["side.service: m1 -> ", "a.service: m1 -> m2"]);
    assert!(cluster.summary("s.service").contains("waiting until it has stopped there for certain"));
    cluster.planner.release_unit(&name("s.service"), &id(1));
    assert_eq!(cluster.plan(), ["s.service: m1 -> m2", "side.service:  -> m2"]);
}

#[test]
fn refused_recall_leaves_the_unit_where_the_store_has_it() {
    let mut cluster = Cluster::of(2);
    cluster.unit("s.service", "OnPartition=stop");
    cluster.plan();
    let place = cluster.at("s.service");
    cluster.planner.drain_machine(id(place), BTreeMap::new());
    assert_eq!(cluster.planner.plan().len(), 1);
    cluster.planner.set_machine(id(place), BTreeMap::new());
    cluster.planner.refused(&name("s.service"));
    assert_eq!(cluster.plan(), NONE);
    assert_eq!(cluster.at("s.service"), place);
}

#[test]
fn drained_group_with_a_strict_unit_is_together_again_where_all_of_it_fits() {
    // The strict unit follows another one, and only m3 takes both.
    let mut cluster = Cluster::pair_with_one_other_place([
        ("db.service", ""),
        ("s.service", "OnPartition=stop\nMachineOf=db.service\nMachineMetadata=disk=ssd"),
    ]);
    cluster.drain(1, "disk=ssd");
    let mut moves = cluster.recall();
    moves.sort();
    assert_eq!(moves, ["db.service: m1 -> m3", "s.service: m1 -> "], "it leads the way");
    cluster.planner.given_up(&name("s.service"), &id(1));
    assert_eq!(cluster.recall(), ["s.service:  -> m3"]);
}

#[test]
fn strict_unit_that_was_drained_goes_where_its_followers_fit_too() {
    let mut cluster = Cluster::pair_with_one_other_place([
        ("s.service", "OnPartition=stop"),
        ("side.service", "MachineOf=s.service\nMachineMetadata=disk=ssd"),
    ]);
    cluster.drain(1, "disk=ssd");
    assert_eq!(cluster.recall(), ["s.service: m1 -> ", "side.service: m1 -> "]);
    cluster.planner.given_up(&name("s.service"), &id(1));
    assert_eq!(cluster.recall(), ["s.service:  -> m3", "side.service:  -> m3"]);
}

#[test]
fn units_of_a_dead_machine_go_where_those_that_follow_them_fit_too() {
    let mut cluster = Cluster::pair_with_one_other_place([
        ("db.service", ""),
        ("side.service", "MachineOf=db.service\nMachineMetadata=disk=ssd"),
    ]);
    cluster.planner.remove_machine(&id(1));
    assert_eq!(cluster.plan(), ["db.service: m1 -> m3", "side.service: m1 -> m3"]);
    // Where not all fit, those go that do.
    cluster.planner.remove_machine(&id(3));
    assert_eq!(cluster.at("db.service"), 3);
    cluster.plan();
    assert_eq!((cluster.at("db.service"), cluster.at("side.service")), (2, 0));
}

#[test]
fn unit_that_was_held_is_held_no_more_when_its_machine_has_been_back() {
    let mut cluster = Cluster::of(1);
    cluster.unit("s.service", "OnPartition=stop");
    cluster.plan();
    cluster.planner.hold_unit(&name("s.service"), &id(1));
    cluster.planner.remove_machine(&id(1));
    assert_eq!(cluster.plan(), NONE);
    cluster.machine(1, "");
    cluster.machine(2, "");
    cluster.planner.remove_machine(&id(1));
    assert_eq!(cluster.plan(), ["s.service: m1 -> m2"]);
}

#[test]
fn unit_that_a_follower_held_back_leaves_once_that_goes_its_own_way() {
    let mut cluster = Cluster::default();
    cluster.machine(1, "disk=ssd");
    cluster.unit("b.service", "");
    cluster.unit("a.service", "MachineOf=b.service\nMachineMetadata=disk=ssd");
    cluster.plan();
    cluster.machine(2, "");
    cluster.drain(1, "disk=ssd");
    cluster.plan();
    assert_eq!(cluster.at("b.service"), 1, "what follows it fits nowhere else");
    cluster.unit("a.service", "MachineMetadata=disk=ssd");
    cluster.plan();
    assert_eq!(cluster.at("b.service"), 2);
}

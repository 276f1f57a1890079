//! Units that must be with others, or take the place of others.

use super::{Cluster, id, name, short};

#[test]
fn followers_are_placed_with_all_of_their_targets_and_after_them() {
    let mut cluster = Cluster::of(2);
    cluster.unit("a.service", "MachineOf=b.service");
    cluster.unit("b.service", "MachineOf=c.service");
    assert_eq!(cluster.plan(), [""; 0]);
    assert_eq!(cluster.summary("a.service"), "not placed: MachineOf=b.service: not scheduled");
    cluster.unit("c.service", "MachineID=00000002");
    assert_eq!(cluster.plan(), ["c.service:  -> m2", "b.service:  -> m2", "a.service:  -> m2"]);
    assert_eq!(cluster.verdict("a.service", 1), "MachineOf=b.service: scheduled to 00000002");

    // A chain settles in one plan when its head moves, and when it goes.
    cluster.unit("c.service", "MachineID=00000001");
    assert_eq!(cluster.plan(), ["c.service: m2 -> m1", "b.service: m2 -> m1", "a.service: m2 -> m1"]);
    cluster.unit("d.service", "MachineID=00000002");
    cluster.unit("both.service", "MachineOf=\"c.service\" \"d.service\"");
    assert_eq!(cluster.plan(), ["d.service:  -> m2"]);
    cluster.unit("d.service", "MachineID=00000001");
    assert_eq!(cluster.plan(), ["d.service: m2 -> m1", "both.service:  -> m1"]);
    cluster.planner.remove_unit(&name("c.service"));
    let gone = cluster.plan();
    assert_eq!(gone.iter().filter(|line| line.ends_with("m1 -> ")).count(), 4, "{gone:?}");
    assert_eq!(cluster.summary("c.service"), "unknown unit");
}

#[test]
fn target_that_is_no_unit_name_is_never_scheduled() {
    let mut cluster = Cluster::of(1);
    cluster.unit("a.service", "MachineOf=db");
    cluster.plan();
    assert_eq!(cluster.summary("a.service"), "not placed: MachineOf=db: not scheduled");
}

#[test]
fn units_that_follow_each_other_are_placed_together_or_not_at_all() {
    let mut cluster = Cluster::default();
    cluster.machine(1, "disk=ssd");
    cluster.machine(2, "region=eu");
    cluster.unit("a.service", "MachineOf=b.service\nMachineMetadata=disk=ssd");
    cluster.unit("b.service", "MachineOf=c.service\nMachineMetadata=region=eu");
    cluster.unit("c.service", "MachineOf=a.service");
    assert_eq!(cluster.plan(), [""; 0]);
    assert_eq!(
        cluster.summary("c.service"),
        "not placed: no machine fits (2 machines: 1 lacks metadata region=eu, 1 lacks metadata disk=ssd)"
    );
    cluster.machine(3, "disk=ssd region=eu");
    assert_eq!(cluster.plan(), ["a.service:  -> m3", "b.service:  -> m3", "c.service:  -> m3"]);
    cluster.machine(4, "disk=ssd region=eu");
    cluster.planner.remove_machine(&id(3));
    assert_eq!(cluster.plan(), ["a.service: m3 -> m4", "b.service: m3 -> m4", "c.service: m3 -> m4"]);
    // One that is stopped takes the others with it.
    cluster.stop("b.service", "MachineOf=c.service");
    assert_eq!(cluster.plan().len(), 3);
    assert_eq!(cluster.summary("a.service"), "not placed: MachineOf=b.service: not scheduled");
    assert_eq!(cluster.summary("b.service"), "not wanted (inactive)");
    // A unit that follows itself follows nobody.
    cluster.unit("self.service", "MachineOf=self.service");
    assert_eq!(cluster.plan().len(), 1);
}

#[test]
fn units_that_must_and_must_not_be_together_are_placed_nowhere() {
    let mut cluster = Cluster::of(2);
    cluster.unit("a.service", "MachineOf=b.service");
    cluster.unit("b.service", "MachineOf=a.service\nConflicts=c*");
    cluster.unit("c.service", "MachineOf=a.service");
    cluster.unit("d.service", "MachineOf=e.service");
    cluster.unit("e.service", "MachineOf=f.service");
    cluster.unit("f.service", "MachineOf=d.service\nConflicts=e*");
    cluster.plan();
    assert!(cluster.at("a.service") > 0 && cluster.at("a.service") == cluster.at("b.service"));
    assert_eq!(cluster.at("c.service"), 0);
    assert_eq!(
        cluster.summary("e.service"),
        "not placed: must be with e.service, which conflicts with f.service (its Conflicts=e*)"
    );
}

#[test]
fn replacing_unit_takes_the_place_and_the_replaced_one_moves_elsewhere() {
    let mut cluster = Cluster::of(2);
    cluster.unit("old.service", "");
    cluster.plan();
    let (old, other) = if cluster.at("old.service") == 1 { (1, 2) } else { (2, 1) };
    cluster.unit("new.service", "Replaces=old*");
    let decisions = cluster.planner.plan();
    let texts: Vec<_> = decisions.iter().map(|decision| format!("{} ({})", short(decision), decision.reason)).collect();
    assert_eq!(
        texts,
        [
            format!("new.service:  -> m{old} (replaces old.service)"),
            format!(
                "old.service: m{old} -> m{other} (replaced by new.service (its Replaces=old*); \
                 least loaded that fits of 2 machines (0 units))"
            ),
        ]
    );
    // It may not come back while the other is there.
    cluster.planner.remove_machine(&id(other));
    cluster.plan();
    assert_eq!(cluster.verdict("old.service", old), "replaced by new.service (its Replaces=old*)");
    cluster.planner.remove_unit(&name("new.service"));
    cluster.plan();
    assert_eq!(cluster.at("old.service"), old);
}

#[test]
fn replaces_has_no_effect_when_nothing_is_replaced_or_both_replace_each_other() {
    let mut cluster = Cluster::of(1);
    cluster.unit("a.service", "Replaces=nothing.service");
    assert_eq!(cluster.plan(), ["a.service:  -> m1"]);
    cluster.unit("a.service", "Replaces=b.service");
    cluster.unit("b.service", "Replaces=a.service");
    assert_eq!(cluster.plan(), ["b.service:  -> m1"]);
    // When one of them takes it back, it is the other that has its way.
    cluster.unit("b.service", "");
    assert_eq!(cluster.plan(), ["b.service: m1 -> "]);
}

#[test]
fn unit_that_begins_to_replace_its_neighbour_drives_it_away() {
    let mut cluster = Cluster::of(1);
    cluster.unit("a.service", "");
    cluster.unit("b.service", "");
    cluster.plan();
    cluster.machine(2, "");
    cluster.unit("b.service", "Replaces=a.service");
    assert_eq!(cluster.plan(), ["a.service: m1 -> m2"]);
}

#[test]
fn unit_cannot_replace_what_it_follows() {
    let mut cluster = Cluster::of(3);
    cluster.unit("a.service", "");
    cluster.unit("b.service", "MachineOf=a.service");
    cluster.unit("c.service", "MachineOf=b.service\nReplaces=a.service");
    assert_eq!(cluster.plan().len(), 2);
    let on = cluster.at("a.service");
    assert_eq!(cluster.verdict("c.service", on), "cannot replace a.service (Replaces=a.service)");
}

#[test]
fn units_that_replace_each_other_in_a_circle_come_to_rest() {
    for machines in 1..=4 {
        let mut cluster = Cluster::of(machines);
        cluster.unit("a.service", "Replaces=b.service");
        cluster.unit("b.service", "Replaces=c.service");
        cluster.unit("c.service", "Replaces=a.service");
        cluster.plan();
        let placed = ["a.service", "b.service", "c.service"].iter().filter(|unit| cluster.at(unit) > 0).count();
        assert_eq!(placed, 3.min(machines as usize), "on {machines} machines");
    }
}

#[test]
fn follower_may_replace_what_it_follows_no_more() {
    let mut cluster = Cluster::of(1);
    cluster.unit("v.service", "");
    cluster.unit("w.service", "MachineOf=v.service");
    cluster.unit("c.service", "MachineOf=w.service\nReplaces=v.service");
    assert_eq!(cluster.plan().len(), 2);
    cluster.machine(2, "");
    cluster.unit("w.service", "");
    assert_eq!(cluster.plan(), ["c.service:  -> m1", "v.service: m1 -> m2"]);
}

#[test]
fn cycle_that_lost_a_member_gets_it_back_where_it_is() {
    let mut cluster = Cluster::of(3);
    cluster.unit("a.service", "MachineOf=b.service");
    cluster.unit("b.service", "MachineOf=a.service");
    cluster.plan();
    let at = cluster.at("a.service");
    cluster.unit("c.service", &format!("MachineID={}", id(at)));
    cluster.plan();
    // Others are less loaded, but nothing moves without need.
    cluster.planner.removed(&name("b.service"), &id(at));
    assert_eq!(cluster.plan(), [format!("b.service:  -> m{at}")]);
}

#[test]
fn place_that_becomes_free_within_a_plan_is_seen_by_units_alike() {
    let mut cluster = Cluster::of(1);
    cluster.unit("a@0.service", "Replaces=nothing.service");
    cluster.plan();
    // `aa` finds the machine ruled out; for `c`, which wants the same, it is not any more.
    cluster.unit("aa.service", "Conflicts=a@*.service");
    cluster.unit("b.service", "Replaces=\"a@0.service\" \"aa.service\"");
    cluster.unit("c.service", "Conflicts=a@*.service");
    let mut decisions = cluster.plan();
    decisions.sort();
    assert_eq!(decisions, ["a@0.service: m1 -> ", "b.service:  -> m1", "c.service:  -> m1"]);
}

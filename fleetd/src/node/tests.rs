//! What a host does with global units, before the cluster uses placements of them, in the moment when it begins to, and
//! after.

mod world;

use std::time::Duration;

use fleet_core::model::Desired;
use tokio::time::sleep;

use self::world::{World, global};
use crate::registry::memory::{Condition, Faults, Link};

/// Longer than an agent needs for anything.
const SETTLED: Duration = Duration::from_secs(30);

/// A host that runs two global units, about which it decides by itself.
async fn deciding(seed: u64) -> World {
    let mut world = World::new(seed);
    world.submit("g.service", &global("g"));
    world.submit("h.service", &global("h"));
    world.start();
    sleep(SETTLED).await;
    world.assert_ran_once(&["g.service", "h.service"]);
    world
}

/// The same host in a cluster that uses placements.
async fn placed(seed: u64) -> World {
    let world = deciding(seed).await;
    world.place("g.service");
    world.place("h.service");
    world.begin_to_use();
    sleep(SETTLED).await;
    world
}

#[tokio::test(start_paused = true)]
async fn placements_take_over_without_a_word_to_systemd() {
    let world = placed(1).await;
    world.assert_ran_once(&["g.service", "h.service"]);
    assert!(world.disk().contains(r#""globals":{}"#), "{}", world.disk());
    // From now on they alone count.
    world.submit("new.service", &global("new"));
    world.delete_global("g.service");
    sleep(SETTLED).await;
    world.assert_ran_once(&["g.service", "h.service"]);
    world.place("new.service");
    world.unplace("g.service");
    sleep(SETTLED).await;
    world.assert_runs(&["h.service", "new.service"]);
    let started = world.state("new.service").start.expect("it is traced").revision;
    assert_eq!(started, world.placement_revision("new.service"));
}

#[tokio::test(start_paused = true)]
async fn placements_of_global_units_count_for_nothing_before_the_cluster_uses_them() {
    let world = deciding(1).await;
    world.submit_as("none.service", &global("none"), Desired::Inactive);
    world.place_anyway("none.service");
    world.place("g.service");
    sleep(SETTLED).await;
    world.assert_ran_once(&["g.service", "h.service"]);
    assert_eq!(world.alive().len(), 2);
    world.unplace("g.service");
    world.delete_global("h.service");
    sleep(SETTLED).await;
    world.assert_ran_once(&["g.service"]);
    world.assert_runs(&["g.service"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_stops_when_word_of_the_change_comes_before_the_placements() {
    for seed in 0..60 {
        let world = deciding(seed).await;
        world.store.set_faults(Faults { latency: 0..=400, break_watch: 0.1, ..Faults::default() });
        world.place("g.service");
        world.place("h.service");
        world.begin_to_use();
        sleep(SETTLED * 2).await;
        world.assert_ran_once(&["g.service", "h.service"]);
        world.delete_global("g.service");
        sleep(SETTLED).await;
        world.assert_ran_once(&["g.service", "h.service"]);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_stops_when_the_mirror_breaks_in_the_change() {
    for (away, compacts) in [(5, false), (5, true), (120, false), (120, true)] {
        let world = deciding(away).await;
        world.store.set_link("h1", Link::Cut);
        world.place("g.service");
        sleep(Duration::from_secs(away / 2)).await;
        world.place("h.service");
        world.begin_to_use();
        sleep(Duration::from_secs(away / 2)).await;
        if compacts {
            world.store.compact(world.store.revision());
        }
        world.store.set_link("h1", Link::Up);
        sleep(SETTLED * 2).await;
        world.assert_ran_once(&["g.service", "h.service"]);
        assert!(world.disk().contains(r#""globals":{}"#), "{}", world.disk());
    }
}

#[tokio::test(start_paused = true)]
async fn host_that_was_away_during_the_change_gives_up_what_was_destroyed_meanwhile() {
    let world = deciding(1).await;
    world.store.set_link("h1", Link::Cut);
    sleep(SETTLED).await;
    world.delete_global("g.service");
    world.place("h.service");
    world.begin_to_use();
    world.store.set_link("h1", Link::Up);
    sleep(SETTLED).await;
    world.assert_runs(&["h.service"]);
    world.assert_ran_once(&["h.service"]);
}

#[tokio::test(start_paused = true)]
async fn change_in_the_moment_of_the_change_over_is_done_once() {
    let world = deciding(1).await;
    world.place("g.service");
    world.place("h.service");
    let before = world.placement("g.service");
    world.restart("g.service");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.starts("g.service"), 2);
    // The engine comes to write it a moment after the agent has begun to go by what it writes.
    world.put_placement("g.service", &before);
    world.begin_to_use();
    sleep(Duration::from_secs(2)).await;
    world.place("g.service");
    sleep(SETTLED).await;
    assert_eq!(world.starts("g.service"), 2, "{:?}", world.log());
    world.assert_ran_once(&["h.service"]);
}

#[tokio::test(start_paused = true)]
async fn host_that_the_engine_has_not_come_to_goes_on_deciding() {
    let mut world = deciding(1).await;
    world.place("g.service");
    world.begin_to_use();
    sleep(SETTLED).await;
    assert!(!world.disk().contains("in_use"), "{}", world.disk());
    // It was away when the cluster began to use placements, and comes back before the engine has looked at it.
    world.store.set_link("h1", Link::Cut);
    sleep(SETTLED).await;
    world.store.set_link("h1", Link::Up);
    sleep(SETTLED).await;
    world.restart_fleetd().await;
    sleep(SETTLED).await;
    world.assert_ran_once(&["g.service", "h.service"]);
    world.place("h.service");
    sleep(SETTLED).await;
    assert!(world.disk().contains("in_use") && world.disk().contains(r#""globals":{}"#), "{}", world.disk());
    world.assert_ran_once(&["g.service", "h.service"]);
    world.unplace("g.service");
    sleep(SETTLED).await;
    world.assert_runs(&["h.service"]);
}

#[tokio::test(start_paused = true)]
async fn rolling_restart_that_has_not_come_here_stays_away_in_the_change() {
    let world = deciding(1).await;
    world.restart_up_to("g.service", &"0".repeat(32));
    world.place("g.service");
    world.place("h.service");
    world.begin_to_use();
    sleep(SETTLED).await;
    world.assert_ran_once(&["g.service", "h.service"]);
    world.restart("g.service");
    world.place("g.service");
    sleep(SETTLED).await;
    assert_eq!(world.starts("g.service"), 2);
}

#[tokio::test(start_paused = true)]
async fn fleetd_that_is_started_again_restarts_nothing_in_either_mode() {
    for in_use in [false, true] {
        let mut world = if in_use { placed(1).await } else { deciding(1).await };
        world.restart_fleetd().await;
        sleep(SETTLED).await;
        world.assert_ran_once(&["g.service", "h.service"]);
        // Without a lease, it gets another; without etcd, the disk stands in.
        world.lose_lease().await;
        sleep(SETTLED).await;
        world.store.set_condition(Condition::Down);
        world.restart_fleetd().await;
        sleep(SETTLED).await;
        world.store.set_condition(Condition::Up);
        sleep(SETTLED).await;
        world.assert_ran_once(&["g.service", "h.service"]);
    }
}

#[tokio::test(start_paused = true)]
async fn change_while_fleetd_is_down_restarts_nothing() {
    let mut world = deciding(1).await;
    world.kill();
    world.place("g.service");
    world.place("h.service");
    world.begin_to_use();
    world.start();
    sleep(SETTLED).await;
    world.assert_ran_once(&["g.service", "h.service"]);
}

#[tokio::test(start_paused = true)]
async fn host_that_boots_without_etcd_runs_its_global_units_in_either_mode() {
    for in_use in [false, true] {
        let mut world = if in_use { placed(1).await } else { deciding(1).await };
        world.store.set_condition(Condition::Down);
        world.lose_power();
        sleep(SETTLED).await;
        world.boot();
        sleep(SETTLED).await;
        world.assert_runs(&["g.service", "h.service"]);
        world.store.set_condition(Condition::Up);
        sleep(SETTLED).await;
        for unit in ["g.service", "h.service"] {
            assert_eq!(world.starts(unit), 2, "once in each boot: {:?}", world.log());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_says_of_the_time_before_the_change_stands_until_etcd_answers() {
    let mut world = deciding(1).await;
    assert!(!world.disk().contains("in_use"), "as an older fleetd writes it: {}", world.disk());
    world.lose_power();
    world.delete_global("g.service");
    world.place("h.service");
    world.begin_to_use();
    world.store.set_link("h1", Link::Cut);
    sleep(SETTLED).await;
    world.boot();
    sleep(SETTLED).await;
    world.assert_runs(&["g.service", "h.service"]);
    world.store.set_link("h1", Link::Up);
    sleep(SETTLED * 2).await;
    world.assert_runs(&["h.service"]);
    assert_eq!(world.starts("h.service"), 2, "once in each boot");
    // It is never heard of again.
    world.store.set_link("h1", Link::Cut);
    world.lose_power();
    world.boot();
    sleep(SETTLED).await;
    world.assert_runs(&["h.service"]);
}

#[tokio::test(start_paused = true)]
async fn word_of_use_that_is_overwritten_or_taken_back_stops_nothing() {
    let mut world = placed(1).await;
    world.garble_use();
    sleep(SETTLED).await;
    world.restart_fleetd().await;
    sleep(SETTLED).await;
    world.assert_ran_once(&["g.service", "h.service"]);
    world.begin_to_use();
    sleep(SETTLED).await;
    world.end_use();
    sleep(SETTLED).await;
    world.begin_to_use();
    sleep(SETTLED).await;
    world.assert_ran_once(&["g.service", "h.service"]);
}

#[tokio::test(start_paused = true)]
async fn store_from_a_backup_of_the_time_before_the_change_stops_nothing() {
    for seed in 0..20 {
        let world = placed(seed).await;
        world.store.set_link("h1", Link::Cut);
        world.unplace("g.service");
        world.unplace("h.service");
        world.end_use();
        world.store.compact(world.store.revision());
        sleep(SETTLED).await;
        world.store.set_faults(Faults { latency: 0..=400, ..Faults::default() });
        world.store.set_link("h1", Link::Up);
        sleep(SETTLED * 2).await;
        world.assert_ran_once(&["g.service", "h.service"]);
        world.delete_global("h.service");
        sleep(SETTLED).await;
        world.assert_runs(&["g.service"]);
    }
}

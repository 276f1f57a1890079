//! A small run of what `fleet-lab sim` does at large: the end states, and who is woken by what.

use std::time::Duration;

use fleet_bench::scale::{
    campaign::{self, Options},
    globals,
};
use fleet_tests::DEADLINE;

#[tokio::test(flavor = "multi_thread")]
async fn each_placement_wakes_the_one_agent_that_it_is_for() {
    let options = Options {
        machines: 20,
        units: 200,
        changed: 10,
        killed: 2,
        ttl: Duration::from_secs(6),
        idle: Duration::from_secs(4),
        floors: 1,
        patience: DEADLINE * 4,
    };
    // Each phase ends only when each unit is active on exactly one machine.
    let outcome = campaign::run(&options, |next| eprintln!("{next}")).await.unwrap();
    for phase in &outcome.phases[1..] {
        let (wakes, changes) = phase.tally.agent();
        assert_eq!(changes, phase.placements, "{}: who is not concerned is not told", phase.name);
        assert!(wakes <= changes && phase.woken as u64 <= wakes, "{}: {phase:?}", phase.name);
    }
    let single = &outcome.phases[2];
    assert_eq!(single.tally.agent(), (10, 10), "one placement is one wake-up of one agent: {single:?}");
    let idle = outcome.phases.last().unwrap();
    assert_eq!((idle.figures.count("Txn"), idle.figures.count("Range")), (0, 0), "{idle:?}");
    assert!(idle.figures.keepalives > 0, "etcd counts what it is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_vanish_and_come_back_have_nothing_written_but_what_they_write() {
    let options = globals::Options {
        machines: 40,
        globals: 3,
        joining: 10,
        ttl: Duration::from_secs(2),
        patience: DEADLINE * 4,
        program: env!("CARGO_BIN_EXE_fleet-scale").into(),
    };
    // Each leader has learned of all there is, and each machine has heard of its entries.
    let outcome = globals::run(&options, |next| eprintln!("{next}")).await.unwrap();
    for side in [outcome.plain, outcome.watched, outcome.led] {
        let vanish = side.vanish;
        assert_eq!((vanish.own, vanish.leases, vanish.heard), (20, 10, 0), "{vanish:?}");
        assert_eq!(vanish.scheduled, 0, "{vanish:?}");
        assert_eq!(vanish.transactions - vanish.others, vanish.own, "{vanish:?}");
        assert_eq!(vanish.revisions, vanish.transactions + vanish.leases, "{vanish:?}");
    }
    let (plain, led) = (outcome.plain, outcome.led);
    assert_eq!((plain.vanish.others, plain.change.entries, led.join.entries), (0, 40, 30));
    eprintln!("{}", globals::section(&outcome));
}

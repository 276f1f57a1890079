//! Hosts that lose their network, their power, their disk or their time, and what must not happen then.

use std::time::Duration;

use fleet_bench::soak::{fault::Kind, trial::Trial};
use fleet_lab::{Lab, Volume, eventually};
use fleet_tests::{Cluster, DEADLINE};

const COPY: &str = env!("CARGO_BIN_EXE_fleet-copy");
const TTL: Duration = Duration::from_secs(4);
/// Longer than a lease lives.
const LONG: f64 = 9.0;

#[test]
fn host_and_its_daemon_may_stumble_and_no_unit_notices() {
    let mut trial = Trial::new(3, 1, TTL, COPY);
    for kind in [Kind::Cut, Kind::CutInbound, Kind::CutOutbound, Kind::DaemonFrozen] {
        trial.does_not_notice(&[Trial::fault(kind, &["h2"], 1.0)]);
    }
    trial.does_not_notice(&[Trial::fault(Kind::Thin, &["h2"], LONG)]);
    let all = ["h1", "h2", "h3"];
    for kind in [Kind::DaemonsKilled, Kind::DaemonsRestarted] {
        trial.does_not_notice(&[Trial::fault(kind, &all, 0.0)]);
    }
    for kind in [Kind::SystemdReplaced, Kind::BusRestarted] {
        trial.does_not_notice(&[Trial::fault(kind, &["h3"], 0.0), Trial::fault(Kind::DaemonKilled, &["h2"], 0.0)]);
    }
    // Two hours ahead, and for long enough that every lease would have run out.
    trial.does_not_notice(&[Trial::fault(Kind::ClockTurned, &all, 6.0)]);
    for kind in [Kind::RootFull, Kind::RunFull] {
        trial.does_not_notice(&[Trial::fault(kind, &all, 6.0), Trial::fault(Kind::DaemonKilled, &["h2"], 0.0)]);
    }
}

#[test]
fn silent_host_loses_its_units_and_none_of_the_others_do() {
    let mut trial = Trial::new(4, 1, TTL, COPY);
    for (kind, host) in
        [(Kind::Cut, "h1"), (Kind::CutInbound, "h2"), (Kind::CutOutbound, "h3"), (Kind::DaemonFrozen, "h4")]
    {
        trial.suffers(&[Trial::fault(kind, &[host], LONG)]);
    }
}

#[test]
fn host_that_lost_its_power_or_left_costs_its_own_units_a_start_and_no_other() {
    let mut trial = Trial::new(4, 1, TTL, COPY);
    trial.suffers(&[Trial::fault(Kind::PowerLost, &["h1"], LONG)]);
    trial.suffers(&[Trial::fault(Kind::PowerLost, &["h2"], 0.0)]);
    trial.suffers(&[Trial::fault(Kind::Rebooted, &["h3"], 0.0), Trial::fault(Kind::PowerLost, &["h4"], 1.0)]);
    trial.suffers(&[Trial::fault(Kind::HostLeft, &["h1"], 2.0)]);
    trial.suffers(&[Trial::fault(Kind::PowerLostWithoutStore, &["h2"], 6.0)]);
}

#[test]
fn full_disk_holds_up_what_is_new_until_there_is_room() {
    let cluster = Cluster::with(Lab::builder().config("agent_ttl=\"4s\""));
    let h1 = cluster.host("h1");
    cluster.write(&[("before.service", "[Service]\nExecStart=/bin/sleep 10001\n")]);
    cluster.write(&[("after.service", "[Service]\nExecStart=/bin/sleep 10002\n")]);
    cluster.ok(&["start", "before.service"]);
    let before = cluster.invocations("before.service");
    h1.fill(Volume::Run).unwrap();
    let started = cluster.fleetctl(&["start", "--no-block", "after.service"]).unwrap();
    assert_eq!(started.code, 0, "it is wanted, whether or not there is room: {started:?}");
    eventually(DEADLINE, "the reason is told", || {
        Ok(cluster.lab.etcdctl(&["get", "--prefix", "/fleet/state/"])?.contains("No space left on device"))
    })
    .unwrap();
    h1.empty(Volume::Run).unwrap();
    cluster.active(&[("before.service", "h1"), ("after.service", "h1")]);
    assert_eq!(cluster.invocations("before.service"), before);
}

#[test]
fn most_hosts_that_vanish_at_once_and_are_back_soon_keep_their_units() {
    let mut trial = Trial::new(5, 1, TTL, COPY);
    trial.suffers(&[Trial::fault(Kind::ManyCut, &["h1", "h2", "h3"], 6.0)]);
    trial.suffers(&[Trial::fault(Kind::ManyPowerLost, &["h3", "h4", "h5"], 6.0)]);
}

//! Units that are moved on purpose, and those that are not moved because their hosts may come back.

use std::collections::BTreeMap;

use fleet_lab::{Host, Lab, eventually};
use fleet_tests::{Cluster, DEADLINE};
use serde_json::Value;

/// Notes when it began to run and when it has ended; takes a second for each.
const WEB: &str = "[Service]\nExecStartPre=/bin/sleep 1\nExecStart=/bin/sleep 10001\n\
    ExecStartPost=/bin/sh -c 'date +%%s%%N >> /root/%n.began'\n\
    ExecStopPost=/bin/sleep 1\nExecStopPost=/bin/sh -c 'date +%%s%%N >> /root/%n.ended'\nTimeoutStopSec=5\n";
const GLOBAL: &str = "[Service]\nExecStart=/bin/sleep 10003\n[X-Fleet]\nGlobal=true\n";

fn with(section: &str) -> String {
    format!("{WEB}[X-Fleet]\n{section}\n")
}

/// The host that a unit is on, by each unit's name.
fn places(cluster: &Cluster) -> BTreeMap<String, String> {
    let rows = cluster.rows().unwrap().into_iter().filter(|row| row.active == "active" && row.unit != "glob.service");
    rows.map(|row| (row.unit, row.host)).collect()
}

/// The last time that a unit `began` or `ended` on a host, on the clock that all hosts share.
fn time(host: &Host, unit: &str, what: &str) -> u128 {
    let times = host.sh(&format!("cat /root/{unit}.{what}")).unwrap();
    times.lines().last().unwrap().parse().unwrap()
}

/// The keys of the schedule, without their prefix.
fn scheduled(cluster: &Cluster) -> Vec<String> {
    let keys = cluster.lab.etcdctl(&["get", "--prefix", "--keys-only", "/fleet/sched/"]).unwrap();
    keys.lines().filter_map(|key| Some(key.strip_prefix("/fleet/sched/")?.to_owned())).collect()
}

fn leader(cluster: &Cluster) -> Host {
    let leader = cluster.lab.etcdctl(&["get", "--print-value-only", "/fleet/leader"]).unwrap();
    let leader: Value = serde_json::from_str(&leader).unwrap();
    cluster.host(&cluster.name_of(leader["machine"].as_str().unwrap()))
}

#[test]
fn drained_host_keeps_each_unit_until_it_runs_elsewhere_and_its_global_units_for_good() {
    let cluster = Cluster::new(3);
    cluster.write(&[("web@.service", WEB), ("glob.service", GLOBAL)]);
    cluster.ok(&["start", "glob.service"]);
    cluster.ok(&["start", "web@1", "web@2", "web@3", "web@4", "web@5", "web@6"]);
    let (before, glob) = (places(&cluster), cluster.invocations("glob.service"));
    let staying: Vec<&String> = before.iter().filter(|(_, host)| *host != "h2").map(|(unit, _)| unit).collect();
    let unmoved: Vec<_> = staying.iter().map(|unit| cluster.invocations(unit)).collect();
    assert_eq!((before.len(), staying.len()), (6, 4));

    let run = cluster.fleetctl(&["drain", "h2"]).unwrap();
    assert_eq!((run.code, run.stdout.lines().filter(|line| line.contains(" moved from ")).count()), (0, 2), "{run:?}");
    assert!(run.stderr.contains("Global units stay") && run.stderr.contains("glob.service"), "{run:?}");
    let after = places(&cluster);
    assert_eq!(after.len(), 6);
    let h2 = cluster.host("h2");
    for (unit, _) in before.iter().filter(|(_, host)| *host == "h2") {
        assert_ne!(after[unit], "h2");
        eventually(DEADLINE, "the old copy is down", || Ok(h2.sh(&format!("test -e /root/{unit}.ended")).is_ok()))
            .unwrap();
        let (began, ended) = (time(&cluster.host(&after[unit]), unit, "began"), time(&h2, unit, "ended"));
        assert!(began < ended, "{unit} was away");
    }
    assert_eq!(staying.iter().map(|unit| cluster.invocations(unit)).collect::<Vec<_>>(), unmoved);
    assert_eq!(cluster.invocations("glob.service"), glob);
    assert!(cluster.ok(&["list-machines", "--no-legend", "--fields=drained"]).contains("yes"));

    cluster.ok(&["start", "web@7", "web@8"]);
    assert!(places(&cluster).values().all(|host| host != "h2"), "nothing new comes");
    cluster.ok(&["undrain", "h2"]);
    assert!(places(&cluster).values().all(|host| host != "h2"), "nothing comes back by itself");
    cluster.ok(&["start", "web@9"]);
    assert_eq!(cluster.host_of("web@9.service").as_deref(), Some("h2"));
}

#[test]
fn unit_that_fits_nowhere_else_stays_on_a_drained_host_and_is_named() {
    let cluster = Cluster::with(Lab::builder().hosts(2).metadata("h1", "disk=ssd"));
    cluster
        .write(&[("db.service", &with("MachineMetadata=disk=ssd")), ("side.service", &with("MachineOf=db.service"))]);
    cluster.write(&[("web.service", WEB)]);
    cluster.ok(&["start", "db.service", "side.service"]);
    cluster.ok(&["start", "web.service"]);
    let before = [cluster.invocations("db.service"), cluster.invocations("side.service")];
    let run = cluster.fleetctl(&["drain", &cluster.host("h1").machine_id()[..8]]).unwrap();
    assert_eq!(run.code, 1, "{run:?}");
    for unit in ["db.service", "side.service"] {
        assert!(run.stderr.contains(&format!("Unit {unit} cannot leave")), "{run:?}");
    }
    assert!(run.stderr.contains("disk=ssd"), "{run:?}");
    assert_eq!([cluster.invocations("db.service"), cluster.invocations("side.service")], before);
    let why = cluster.ok(&["why", "db.service"]);
    assert!(why.contains("which is being drained, and cannot leave"), "{why}");
    // As soon as there is a place, they go there, both together.
    let id = cluster.host("h2").machine_id().to_owned();
    let body = format!(r#"[{{"op":"add","path":"/{id}/metadata/disk","value":"ssd"}}]"#);
    let args = ["-X", "PATCH", "-H", "Content-Type: application/json", "-d", &body];
    assert_eq!(cluster.request(&args, "/fleet/v1/machines").0, 204);
    assert_eq!(cluster.fleetctl(&["drain", "h1"]).unwrap().code, 0);
    cluster.active(&[("db.service", "h2"), ("side.service", "h2"), ("web.service", "h2")]);
}

#[test]
fn strict_unit_of_a_drained_host_is_down_before_it_starts_elsewhere() {
    let cluster = Cluster::new(2);
    cluster.write(&[("one.service", &with("OnPartition=stop")), ("side.service", &with("MachineOf=one.service"))]);
    cluster.ok(&["start", "one.service", "side.service"]);
    let from = cluster.host_of("one.service").unwrap();
    let run = cluster.fleetctl(&["drain", &from]).unwrap();
    assert_eq!(run.code, 0, "{run:?}");
    let to = if from == "h1" { "h2" } else { "h1" };
    cluster.active(&[("one.service", to), ("side.service", to)]);
    let (ended, began) =
        (time(&cluster.host(&from), "one.service", "ended"), time(&cluster.host(to), "one.service", "began"));
    assert!(ended < began, "two copies");
    assert_eq!(scheduled(&cluster).len(), 2, "no recall is left");
    // Stopped and started again at once it may not run twice either.
    cluster.ok(&["undrain", &from]);
    cluster.ok(&["destroy", "one.service", "side.service"]);
    assert_eq!(scheduled(&cluster), [""; 0]);
}

#[test]
fn drain_goes_on_under_another_leader() {
    let cluster = Cluster::with(Lab::builder().hosts(3).config("agent_ttl=\"3s\""));
    cluster.write(&[("slow.service", &WEB.replace("StartPre=/bin/sleep 1", "StartPre=/bin/sleep 6"))]);
    cluster.write(&[("one.service", &WEB.replace("StopPost=/bin/sleep 1", "StopPost=/bin/sleep 4"))]);
    let strict = format!("{WEB}[X-Fleet]\nOnPartition=stop\nMachineOf=slow.service\n");
    cluster.write(&[("one.service", &strict.replace("StopPost=/bin/sleep 1", "StopPost=/bin/sleep 4"))]);
    cluster.ok(&["start", "slow.service"]);
    cluster.ok(&["start", "one.service"]);
    let from = cluster.host(&cluster.host_of("slow.service").unwrap());
    cluster.ok(&["drain", "--no-block", from.name()]);
    eventually(DEADLINE, "it is scheduled to two hosts", || {
        Ok(scheduled(&cluster).iter().filter(|key| key.ends_with("/slow.service")).count() == 2)
    })
    .unwrap();
    let old = leader(&cluster);
    old.sh("systemctl kill --kill-whom=main -s KILL fleet").unwrap();
    eventually(DEADLINE, "all have left", || {
        Ok(scheduled(&cluster).iter().all(|key| !key.starts_with(from.machine_id())))
    })
    .unwrap();
    let to = cluster.host(&cluster.host_of("slow.service").unwrap());
    cluster.active(&[("slow.service", to.name()), ("one.service", to.name())]);
    for unit in ["slow.service", "one.service"] {
        eventually(DEADLINE, "the old copy is down", || Ok(from.sh(&format!("test -e /root/{unit}.ended")).is_ok()))
            .unwrap();
    }
    assert!(time(&to, "slow.service", "began") < time(&from, "slow.service", "ended"), "it was away");
    assert!(time(&from, "one.service", "ended") < time(&to, "one.service", "began"), "two copies");
}

/// Four hosts with units on each; the onlooker, h1, stays.
fn four() -> (Cluster, BTreeMap<String, String>) {
    let cluster = Cluster::with(Lab::builder().hosts(4).config("agent_ttl=\"6s\""));
    cluster.write(&[("web@.service", WEB)]);
    cluster.ok(&["start", "web@1", "web@2", "web@3", "web@4", "web@5", "web@6", "web@7", "web@8"]);
    let places = places(&cluster);
    assert!(["h1", "h2", "h3", "h4"].iter().all(|host| places.values().filter(|place| place == host).count() == 2));
    (cluster, places)
}

/// Waits until h1 says that the other three are held.
fn three_are_held(cluster: &Cluster) {
    eventually(DEADLINE, "three hosts are held", || {
        let list = cluster.fleetctl(&["list-machines", "--no-legend"])?;
        let named = ["h2", "h3", "h4"]
            .iter()
            .all(|host| list.stderr.contains(&format!("fleetctl evict {}", &cluster.host(host).machine_id()[..8])));
        Ok(list.stdout.lines().count() == 1 && named)
    })
    .unwrap();
}

fn held_machines(cluster: &Cluster) -> u64 {
    let hosts = cluster.lab.hosts().iter().filter(|host| host.is_up());
    let held = hosts.map(|host| {
        let metrics = host.sh("curl -s --unix-socket /run/fleet.sock http://fleet/metrics").unwrap_or_default();
        let line = metrics.lines().find_map(|line| line.strip_prefix("fleet_engine_held_machines "));
        line.map_or(0, |figure| figure.parse::<u64>().unwrap())
    });
    held.sum()
}

#[test]
fn hosts_that_are_cut_off_together_keep_their_units_running() {
    let (cluster, places) = four();
    let before: Vec<_> = places.keys().map(|unit| cluster.invocations(unit)).collect();
    let others = ["h2", "h3", "h4"].map(|host| cluster.host(host));
    others.iter().for_each(|host| host.partition().unwrap());
    three_are_held(&cluster);
    assert_eq!(held_machines(&cluster), 3);
    let unit = places.iter().find(|(_, host)| *host == "h3").unwrap().0;
    let why = cluster.ok(&["why", unit]);
    assert!(why.contains("is away and may come back; it moves at 20"), "{why}");
    others.iter().for_each(|host| host.heal().unwrap());
    cluster.joined(4);
    eventually(DEADLINE, "nothing is held any more", || Ok(held_machines(&cluster) == 0)).unwrap();
    let list = cluster.fleetctl(&["list-machines"]).unwrap();
    assert_eq!(list.stderr, "");
    assert_eq!(places.keys().map(|unit| cluster.invocations(unit)).collect::<Vec<_>>(), before);
    assert_eq!(scheduled(&cluster).len(), 8);
}

#[test]
fn evicted_host_loses_its_units_at_once_while_the_others_are_held() {
    let (cluster, before) = four();
    let [h2, h3, h4] = ["h2", "h3", "h4"].map(|host| cluster.host(host));
    [&h2, &h3, &h4].iter().for_each(|host| host.kill().unwrap());
    three_are_held(&cluster);
    let refused = cluster.fleetctl(&["evict", "h1"]).unwrap();
    assert!(refused.code == 1 && refused.stderr.contains("is alive"), "{refused:?}");
    cluster.ok(&["evict", &h2.machine_id()[..8]]);
    [&h3, &h4].iter().for_each(|host| host.boot().unwrap());
    cluster.joined(3);
    let expected = before.iter().map(|(unit, host)| (&**unit, if host == "h2" { "h1" } else { host }));
    cluster.active(&expected.clone().collect::<Vec<_>>());
    let placed: BTreeMap<&str, &str> = expected.collect();
    for (unit, host) in &placed {
        assert_eq!(cluster.host_of(unit).as_deref(), Some(*host), "those that came back have kept theirs");
        let began = cluster.host("h1").sh(&format!("test -e /root/{unit}.began"));
        assert_eq!(began.is_ok(), *host == "h1", "{unit} was started where it does not belong");
    }
    // It is a host like any other when it comes back.
    h2.boot().unwrap();
    cluster.joined(4);
    let key = format!("/fleet/metadata/{}", h2.machine_id());
    eventually(DEADLINE, "the eviction is over", || Ok(!cluster.lab.etcdctl(&["get", &key])?.contains("evicted")))
        .unwrap();
    assert_eq!(places(&cluster), placed.into_iter().map(|(unit, host)| (unit.into(), host.into())).collect());
}

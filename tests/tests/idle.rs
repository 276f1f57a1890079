//! Nothing happens when nothing should.

use std::{collections::BTreeMap, time::Duration};

use fleet_lab::{Lab, eventually};
use fleet_tests::{Cluster, DEADLINE};

/// Etcd's own counters of what clients ask of it.
fn counters(cluster: &Cluster) -> BTreeMap<String, u64> {
    let url = format!("{}/metrics", cluster.lab.etcd(1).endpoint());
    let text = cluster.host("h1").sh(&format!("curl -s {url}")).unwrap();
    let interesting = [
        "etcd_debugging_mvcc_put_total",
        "etcd_mvcc_put_total",
        "etcd_debugging_mvcc_delete_total",
        "etcd_debugging_mvcc_txn_total",
        "etcd_debugging_mvcc_range_total",
        "etcd_mvcc_range_total",
        "etcd_debugging_lease_granted_total",
    ];
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let lines = lines.filter(|(name, _)| interesting.contains(name));
    lines.map(|(name, value)| (name.to_owned(), value.parse::<f64>().unwrap() as u64)).collect()
}

#[test]
fn idle_cluster_neither_writes_nor_reads_nor_talks_to_systemd() {
    let cluster = Cluster::with(Lab::builder().hosts(3).config("agent_ttl=\"3s\""));
    cluster.write(&[
        ("many@.service", "[Service]\nExecStart=/bin/sleep 10001\n"),
        ("glob.service", "[Service]\nExecStart=/bin/sleep 10001\n[X-Fleet]\nGlobal=true\n"),
        ("waiting.service", "[Service]\nExecStart=/bin/sleep 10001\n"),
        ("over.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n"),
    ]);
    // Units that are down: systemd unloads them after each look at them, and says so.
    cluster.ok(&["load", "waiting.service"]);
    cluster.ok(&["start", "--no-block", "over.service"]);
    let names: Vec<String> = (0..30).map(|n| format!("many@{n}")).collect();
    cluster.ok(&[&["start", "glob.service"], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    eventually(DEADLINE, "all units are active", || {
        Ok(cluster.rows()?.iter().filter(|row| row.active == "active").count() == 33)
    })
    .unwrap();
    // Counting starts when the last state is published and the engine has seen it.
    let mut last = counters(&cluster);
    eventually(DEADLINE, "the cluster is at rest", || {
        let pause = std::time::Instant::now();
        eventually(DEADLINE, "two seconds", || Ok(pause.elapsed() > Duration::from_secs(2)))?;
        let now = counters(&cluster);
        let still = now == last;
        last = now;
        Ok(still)
    })
    .unwrap();
    // One call of our own at the end shows that the monitor sees calls.
    let control = "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.DBus.Peer Ping";
    let monitor = "busctl monitor org.freedesktop.systemd1 --match \"type='method_call'\"";
    let script = format!("(sleep 14; {control}) & timeout 16 {monitor} 2>/dev/null | grep 'Member=' || true");
    let hosts: Vec<_> = cluster.names().iter().map(|name| cluster.host(name)).collect();
    let asked: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> = hosts.iter().map(|host| scope.spawn(|| host.sh(&script).unwrap())).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let now = counters(&cluster);
    for asked in asked {
        let foreign: Vec<&str> = asked.lines().filter(|line| !line.contains("Member=Hello")).collect();
        assert!(foreign.len() == 1 && foreign[0].contains("Member=Ping"), "no other call to systemd: {foreign:?}");
        let journal = cluster.host("h2").sh("journalctl -u fleet --no-pager").unwrap();
        assert!(!journal.contains("out of reach"), "connections with etcd stay: {journal}");
    }
    assert_eq!(now, last, "keepalives only, for five times the TTL");
    assert!(!now.is_empty(), "etcd shows its counters");
    for host in cluster.lab.hosts() {
        // etcd closes connections that are probed too often, quiet ones first.
        let log = host.sh("journalctl -u fleet --no-pager").unwrap();
        assert!(!log.contains("out of reach"), "{}: {log}", host.name());
    }
}

#[test]
fn one_placement_wakes_one_agent() {
    let cluster = Cluster::new(3);
    let watchers = || {
        let url = format!("{}/metrics", cluster.lab.etcd(1).endpoint());
        let text = cluster.host("h1").sh(&format!("curl -s {url}")).unwrap();
        let line = text.lines().find(|line| line.starts_with("etcd_debugging_mvcc_events_total ")).map(str::to_owned);
        line.unwrap().rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64
    };
    cluster.write(&[("a.service", "[Service]\nExecStart=/bin/sleep 10001\n")]);
    // The view of h1's API, opened by the first request, and the leader's see all; they are not agents.
    cluster.ok(&["start", "a.service"]);
    let host = cluster.host_of("a.service").unwrap();
    let before = watchers();
    cluster.ok(&["stop", "a.service"]);
    let events = watchers() - before;
    // Three keys change (unit, sched, state, the last up to three times), each seen by at most two views and one agent.
    assert!(events <= 15, "{events} events were delivered");
    for other in cluster.names().into_iter().filter(|name| *name != host) {
        let log = cluster.host(&other).sh("journalctl -u fleet --no-pager").unwrap();
        assert!(!log.contains("unit installed"), "{other}'s agent had nothing to do: {log}");
    }
}

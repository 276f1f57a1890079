//! Units with `OnPartition=stop`: at most one copy in the cluster, whatever happens to hosts and daemons.

use std::time::{Duration, Instant};

use fleet_lab::{Host, Lab, eventually};
use fleet_tests::{Cluster, DEADLINE};

const ONE: &str = "[Service]\nExecStart=/bin/sleep 10001\nTimeoutStopSec=2\n[X-Fleet]\nOnPartition=stop\n";
const KEPT: &str = "[Service]\nExecStart=/bin/sleep 10002\n[X-Fleet]\nMachineOf=one.service\n";

/// Three hosts; `one.service` may run once, `kept.service` is beside it and may run on.
fn cluster() -> (Cluster, Host) {
    let cluster = Cluster::with(Lab::builder().hosts(3).config("agent_ttl=\"3s\""));
    cluster.write(&[("one.service", ONE), ("kept.service", KEPT)]);
    cluster.ok(&["start", "one.service", "kept.service"]);
    let host = cluster.host(&cluster.host_of("one.service").unwrap());
    (cluster, host)
}

fn is_active(host: &Host, unit: &str) -> bool {
    host.sh(&format!("systemctl is-active {unit}")).is_ok()
}

/// Looks at all hosts until `one.service` runs on another host than `host`; it must never run on two.
fn moves_without_doubling(cluster: &Cluster, host: &Host) {
    let others: Vec<&Host> = cluster.lab.hosts().iter().filter(|other| other.name() != host.name()).collect();
    eventually(DEADLINE, "it runs elsewhere", || {
        // The new copy is looked at first: the old one must be gone by then.
        let elsewhere = others.iter().any(|other| is_active(other, "one.service"));
        assert!(!(elsewhere && is_active(host, "one.service")), "two copies");
        Ok(elsewhere)
    })
    .unwrap();
}

#[test]
fn unit_of_a_host_that_is_cut_off_stops_before_it_starts_elsewhere() {
    let (cluster, host) = cluster();
    let onlooker = cluster.lab.hosts().iter().find(|other| other.name() != host.name()).unwrap().name().to_owned();
    host.partition().unwrap();
    // Its host is gone, and it may still run there: it is not lost from sight.
    eventually(DEADLINE, "it is shown as unknown", || {
        let list = cluster.fleetctl_on(&onlooker, &["list-units", "--no-legend"])?;
        let is_held = list.stdout.lines().any(|line| line.starts_with("one.service") && line.contains("unknown"));
        Ok(is_held && list.stderr.contains("one.service may still run on ") && list.stderr.contains("it moves at "))
    })
    .unwrap();
    moves_without_doubling(&cluster, &host);
    assert!(is_active(&host, "kept.service"), "what may run on runs on");
    host.heal().unwrap();
    eventually(DEADLINE, "the host is back, and without what was moved", || {
        let machines = cluster.fleetctl_on(&onlooker, &["list-machines", "--no-legend"])?;
        Ok(machines.stdout.lines().count() == 3 && !is_active(&host, "kept.service"))
    })
    .unwrap();
    let copies = cluster.lab.hosts().iter().filter(|host| is_active(host, "one.service")).count();
    assert_eq!(copies, 1);
}

#[test]
fn unit_comes_back_on_its_host_when_etcd_was_away_for_longer_than_the_lease() {
    let (cluster, host) = cluster();
    let kept = cluster.invocations("kept.service");
    let lines: Vec<usize> = cluster.lab.hosts().iter().map(|host| log(host).unwrap().lines().count()).collect();
    let etcd = cluster.lab.etcd(1);
    etcd.kill().unwrap();
    eventually(DEADLINE, "the unit is stopped", || Ok(!is_active(&host, "one.service"))).unwrap();
    etcd.start().unwrap();
    eventually(DEADLINE, "the unit runs again", || Ok(is_active(&host, "one.service"))).unwrap();
    cluster.lab.hosts().iter().zip(lines).for_each(|(host, before)| tells_of_one_outage(host, before));
    // Frozen: now the lease is gone, too.
    etcd.pause().unwrap();
    eventually(DEADLINE, "the unit is stopped again", || Ok(!is_active(&host, "one.service"))).unwrap();
    let frozen = Instant::now();
    eventually(DEADLINE, "the lease's time passes", || Ok(frozen.elapsed() > Duration::from_secs(4))).unwrap();
    etcd.resume().unwrap();
    eventually(DEADLINE, "the unit runs once more, where it was", || Ok(is_active(&host, "one.service"))).unwrap();
    assert_eq!(cluster.invocations("kept.service"), kept, "the others were left alone");
}

fn log(host: &Host) -> anyhow::Result<String> {
    host.sh("journalctl -u fleet -o cat --no-pager")
}

/// The log has, after its first lines, one for the beginning of an outage of etcd, one for its end, no other between, and
/// speaks plainly.
fn tells_of_one_outage(host: &Host, before: usize) {
    eventually(DEADLINE, "it is told that etcd is back", || {
        Ok(log(host)?.lines().skip(before).any(|line| line.contains("etcd is back after")))
    })
    .unwrap();
    let journal = log(host).unwrap();
    let lines: Vec<&str> = journal.lines().skip(before).collect();
    let told: Vec<&str> = lines.iter().filter(|line| line.contains("etcd is ")).copied().collect();
    assert_eq!(told.len(), 2, "{journal}");
    assert!(
        told[0].contains("etcd is out of reach (connection refused)") || told[0].contains("(the connection"),
        "{told:?}"
    );
    let during = lines.iter().skip_while(|line| **line != told[0]).take_while(|line| **line != told[1]).skip(1);
    let others: Vec<_> = during.filter(|line| line.contains("etcd") || line.contains("ERROR")).collect();
    assert!(others.is_empty(), "who waits for etcd waits in silence: {others:?}");
    for type_name in ["tonic", "hyper", "status:", "transport", "os error", "Error("] {
        assert!(!journal.contains(type_name), "{type_name}: {journal}");
    }
}

#[test]
fn unit_is_stopped_in_time_when_fleetd_is_killed_and_cannot_be_started_again() {
    let (cluster, host) = cluster();
    host.sh("cp /etc/fleet/fleet.conf /root/; echo agent_ttl=soon >> /etc/fleet/fleet.conf").unwrap();
    host.sh("kill -9 $(systemctl show -p MainPID --value fleet)").unwrap();
    moves_without_doubling(&cluster, &host);
    assert!(is_active(&host, "kept.service"), "what may run on runs on");
    host.sh("cp /root/fleet.conf /etc/fleet/").unwrap();
    eventually(
        DEADLINE,
        "the host is back",
        || Ok(host.sh("fleetctl list-machines --no-legend")?.lines().count() == 3),
    )
    .unwrap();
    let copies = cluster.lab.hosts().iter().filter(|host| is_active(host, "one.service")).count();
    assert_eq!(copies, 1);
}

#[test]
fn killed_hung_and_restarted_fleetd_does_not_stop_the_unit() {
    let cluster = Cluster::with(Lab::builder().hosts(1).config("agent_ttl=\"6s\""));
    cluster.write(&[("one.service", ONE)]);
    cluster.ok(&["start", "one.service"]);
    let host = cluster.host("h1");
    let before = cluster.invocations("one.service");
    let registered = cluster.lab.etcdctl(&["get", "--prefix", "/fleet/machine/", "-w", "json"]).unwrap();
    let pid = || host.sh("systemctl show -p MainPID --value fleet").unwrap();
    for fault in [
        "kill -9 $(systemctl show -p MainPID --value fleet)",
        "systemctl restart fleet",
        "kill -STOP $(systemctl show -p MainPID --value fleet)",
    ] {
        let old = pid();
        host.sh(fault).unwrap();
        eventually(DEADLINE, "another fleetd runs", || {
            Ok(host.sh("systemctl is-active fleet").is_ok()
                && pid() != old
                && host.sh("fleetctl list-machines --no-legend").is_ok())
        })
        .unwrap();
    }
    // Longer than the fence would have waited for any of them.
    let since = Instant::now();
    eventually(DEADLINE, "a lease's time passes", || Ok(since.elapsed() > Duration::from_secs(7))).unwrap();
    assert_eq!(cluster.invocations("one.service"), before);
    let entry = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap()["kvs"].clone();
    let now = cluster.lab.etcdctl(&["get", "--prefix", "/fleet/machine/", "-w", "json"]).unwrap();
    assert_eq!(entry(&now), entry(&registered), "the lease was never lost");
}

#[test]
fn host_that_boots_while_etcd_is_away_starts_what_it_ran_but_for_units_that_may_run_once() {
    let (cluster, host) = cluster();
    cluster.write(&[("glob.service", "[Service]\nExecStart=/bin/sleep 10003\n[X-Fleet]\nGlobal=true\n")]);
    cluster.ok(&["start", "glob.service"]);
    eventually(DEADLINE, "the global unit runs", || Ok(is_active(&host, "glob.service"))).unwrap();
    eventually(DEADLINE, "it is all on the disk", || {
        Ok(host.sh("cat /var/lib/fleet/wanted")?.contains("glob.service"))
    })
    .unwrap();
    let etcd = cluster.lab.etcd(1);
    etcd.kill().unwrap();
    host.kill().unwrap();
    host.boot().unwrap();
    eventually(DEADLINE, "it runs what it ran", || {
        Ok(is_active(&host, "kept.service") && is_active(&host, "glob.service"))
    })
    .unwrap();
    assert!(!is_active(&host, "one.service"), "it may run elsewhere by now");
    let of = |unit: &str| host.sh(&format!("systemctl show -p InvocationID --value {unit}")).unwrap();
    let before = (of("kept.service"), of("glob.service"));
    etcd.start().unwrap();
    eventually(DEADLINE, "all three run", || Ok(is_active(&host, "one.service"))).unwrap();
    assert_eq!((of("kept.service"), of("glob.service")), before, "and etcd's return restarts nothing");
}

#[test]
fn unit_is_stopped_when_fleetd_is_broken_and_started_again_by_the_next_one() {
    let cluster = Cluster::with(Lab::builder().hosts(1).config("agent_ttl=\"30s\""));
    cluster.write(&[
        ("one.service", ONE),
        ("done.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Fleet]\nOnPartition=stop\n"),
        ("kept.service", "[Service]\nExecStart=/bin/sleep 10002\n"),
    ]);
    cluster.ok(&["start", "--no-block", "one.service", "done.service", "kept.service"]);
    let host = cluster.host("h1");
    eventually(DEADLINE, "all have started", || {
        Ok(is_active(&host, "one.service") && host.sh("journalctl -u done.service --no-pager")?.contains("Finished"))
    })
    .unwrap();
    let kept = cluster.invocations("kept.service");
    host.sh("cp --remove-destination /bin/false /usr/bin/fleetd.broken; ln -sf fleetd.broken /usr/bin/fleetd").unwrap();
    host.sh("kill -9 $(systemctl show -p MainPID --value fleet)").unwrap();
    eventually(DEADLINE, "it is stopped", || Ok(!is_active(&host, "one.service"))).unwrap();
    host.sh("ln -sf /usr/lib/fleet-lab/fleetd /usr/bin/fleetd").unwrap();
    eventually(DEADLINE, "it runs again", || Ok(is_active(&host, "one.service"))).unwrap();
    assert_eq!(cluster.invocations("kept.service"), kept, "the others were left alone");
    let runs = host.sh("journalctl -u done.service --no-pager | grep -c Finished").unwrap();
    assert_eq!(runs.trim(), "1", "what has ended by itself has ended");
}

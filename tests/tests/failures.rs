//! Hosts, daemons and stores that go away, and what must not happen then.

use std::time::Duration;

use fleet_lab::{Host, Lab, LabBuilder, eventually, eventually_eq};
use fleet_tests::{Cluster, DEADLINE};

const WEB: &str = "[Service]\nExecStart=/bin/sleep 1000%i\n";
const GLOBAL: &str = "[Service]\nExecStart=/bin/sleep 9999\n[X-Fleet]\nGlobal=true\n";

/// Three hosts with a unit each, and a global one. Leases last for `ttl` seconds.
fn cluster(lab: LabBuilder, ttl: u32) -> Cluster {
    let cluster = Cluster::with(lab.config(&format!("agent_ttl=\"{ttl}s\"")));
    cluster.write(&[("web@.service", WEB), ("glob.service", GLOBAL)]);
    cluster.ok(&["start", "web@1", "web@2", "web@3", "glob.service"]);
    eventually(DEADLINE, "six units are active", || {
        Ok(cluster.rows()?.iter().filter(|row| row.active == "active").count() == 6)
    })
    .unwrap();
    cluster
}

/// The invocation IDs of all units: whatever restarted shows here.
fn invocations(cluster: &Cluster) -> Vec<(String, String, String)> {
    let units = ["web@1.service", "web@2.service", "web@3.service", "glob.service"];
    let of = |unit: &'static str| {
        cluster.invocations(unit).into_iter().map(move |(host, id)| (unit.to_owned(), host, id)).collect::<Vec<_>>()
    };
    units.into_iter().flat_map(of).collect()
}

/// Where the instances of `web@` are active.
fn active_webs(cluster: &Cluster) -> anyhow::Result<Vec<(String, String)>> {
    let rows = cluster.rows()?.into_iter().filter(|row| row.unit.starts_with("web@") && row.active == "active");
    Ok(rows.map(|row| (row.unit, row.host)).collect())
}

/// Whether the engine of a host leads.
fn leads(host: &Host) -> bool {
    let metrics = host.sh("curl -s --unix-socket /run/fleet.sock http://fleet/metrics").unwrap();
    metrics.lines().any(|line| line == "fleet_engine_leader 1")
}

/// The host whose engine leads.
fn leader(cluster: &Cluster) -> Host {
    cluster.lab.hosts().iter().find(|host| leads(host)).expect("one leads").clone()
}

#[test]
fn units_of_a_dead_host_come_back_elsewhere_and_stay_when_it_returns() {
    let cluster = cluster(Lab::builder().hosts(3), 3);
    let victim =
        cluster.rows().unwrap().iter().find(|row| row.host == "h3" && row.unit != "glob.service").unwrap().clone();
    let untouched: Vec<_> = invocations(&cluster).into_iter().filter(|(_, host, _)| host != "h3").collect();
    cluster.host("h3").kill().unwrap();
    eventually(DEADLINE, "its unit runs elsewhere", || {
        Ok(active_webs(&cluster)?.iter().any(|(unit, host)| *unit == victim.unit && host != "h3"))
    })
    .unwrap();
    assert!(cluster.rows().unwrap().iter().all(|row| row.host != "h3"), "no ghost rows");
    cluster.host("h3").boot().unwrap();
    cluster.joined(3);
    eventually(DEADLINE, "the global unit is back on h3", || {
        Ok(cluster.rows()?.iter().any(|row| row.host == "h3" && row.unit == "glob.service" && row.active == "active"))
    })
    .unwrap();
    assert_eq!(active_webs(&cluster).unwrap().len(), 3, "each once, no move back");
    assert!(cluster.host("h3").sh(&format!("systemctl is-active {}", victim.unit)).is_err(), "not on h3 again");
    let now = invocations(&cluster);
    assert!(untouched.iter().all(|before| now.contains(before)), "healthy units were left alone");
}

#[test]
fn killed_and_restarted_daemons_touch_no_unit_and_write_nothing() {
    let cluster = cluster(Lab::builder().hosts(3), 10);
    let before = invocations(&cluster);
    let puts = || cluster.lab.etcdctl(&["get", "--prefix", "/fleet/machine/", "-w", "json"]).unwrap();
    let machines = |json: String| -> Vec<(String, i64)> {
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let kvs = value["kvs"].as_array().unwrap().iter();
        kvs.map(|kv| (kv["key"].to_string(), kv["mod_revision"].as_i64().unwrap())).collect()
    };
    let registered = machines(puts());
    for host in cluster.lab.hosts() {
        host.sh("kill -9 $(systemctl show -p MainPID --value fleet)").unwrap();
    }
    for host in cluster.lab.hosts() {
        eventually(DEADLINE, "fleetd is back", || Ok(host.sh("systemctl is-active fleet").is_ok())).unwrap();
        host.sh("systemctl restart fleet").unwrap();
    }
    cluster.joined(3);
    // A new engine has waited its TTL and found everybody alive.
    eventually(DEADLINE, "a new engine leads", || {
        cluster.write(&[("probe.service", "[Service]\nExecStart=/bin/sleep 5\n")]);
        Ok(cluster.fleetctl(&["start", "probe.service"])?.code == 0)
    })
    .unwrap();
    cluster.ok(&["destroy", "probe.service"]);
    assert_eq!(invocations(&cluster), before, "no unit was touched");
    assert_eq!(machines(puts()), registered, "every host took up its own lease again");
}

#[test]
fn leading_host_that_is_told_to_stop_fleet_leaves_and_its_units_move_at_once() {
    let cluster = cluster(Lab::builder().hosts(3), 45);
    let first = leader(&cluster);
    first.sh("systemctl stop fleet").unwrap();
    let others: Vec<Host> = cluster.lab.hosts().iter().filter(|host| host.name() != first.name()).cloned().collect();
    let active = |hosts: &[Host]| -> anyhow::Result<usize> {
        let on = |host: &Host| host.sh("systemctl is-active web@1 web@2 web@3 || true");
        let all = hosts.iter().map(on).collect::<anyhow::Result<String>>()?;
        Ok(all.lines().filter(|line| *line == "active").count())
    };
    eventually_eq(DEADLINE, "units on two hosts", &3, || active(&others)).unwrap();
    assert_eq!(first.sh("ls /run/fleet/units; pgrep -fc '^/bin/sleep (1000|9999)' || true").unwrap(), "0\n");
    let list = others[0].sh("fleetctl list-machines 2>&1").unwrap();
    assert_eq!(list.lines().count(), 3, "two machines, and no word of one that is gone: {list}");
    let (second, last): (Vec<Host>, Vec<Host>) = others.into_iter().partition(leads);
    second[0].shutdown().unwrap();
    eventually_eq(DEADLINE, "units on the last host", &3, || active(&last)).unwrap();
}

#[test]
fn store_that_is_away_changes_nothing_and_answers_say_their_age() {
    let cluster = cluster(Lab::builder().hosts(3), 3);
    let before = invocations(&cluster);
    cluster.rows().unwrap();
    let etcd = cluster.lab.etcd(1);
    etcd.kill().unwrap();
    let list = || cluster.fleetctl(&["list-units"]);
    eventually(DEADLINE, "answers say their age", || {
        let list = list()?;
        Ok(list.code == 0 && list.stdout.contains("web@1.service") && list.stderr.contains("etcd is unreachable"))
    })
    .unwrap();
    let refused = cluster.fleetctl(&["destroy", "web@1.service"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("unable to communicate with etcd"), "{refused:?}");
    assert_eq!(invocations(&cluster), before);
    etcd.start().unwrap();
    eventually(DEADLINE, "answers are fresh again", || Ok(list()?.stderr.is_empty())).unwrap();
    // Frozen past every lease: they are all gone the moment it thaws.
    etcd.pause().unwrap();
    eventually_eq(Duration::from_secs(60), "age", &true, || Ok(list()?.stderr.contains("etcd is unreachable")))
        .unwrap();
    let frozen = std::time::Instant::now();
    eventually(DEADLINE, "six seconds pass", || Ok(frozen.elapsed() > Duration::from_secs(6))).unwrap();
    etcd.resume().unwrap();
    cluster.joined(3);
    cluster.write(&[("after.service", "[Service]\nExecStart=/bin/sleep 10001\n")]);
    cluster.ok(&["start", "after.service"]);
    assert_eq!(invocations(&cluster), before, "nothing was restarted or moved");
}

#[test]
fn three_members_serve_while_one_is_gone() {
    let cluster = cluster(Lab::builder().hosts(3).etcd(3), 10);
    let before = invocations(&cluster);
    cluster.lab.etcd(1).kill().unwrap();
    cluster.write(&[("after.service", "[Service]\nExecStart=/bin/sleep 10001\n")]);
    eventually(Duration::from_secs(60), "a unit starts", || {
        Ok(cluster.fleetctl(&["start", "after.service"])?.code == 0)
    })
    .unwrap();
    assert_eq!(invocations(&cluster), before);
    cluster.lab.etcd(1).start().unwrap();
    cluster.ok(&["destroy", "after.service"]);
}

#[test]
fn host_that_was_cut_off_ends_with_one_copy_where_it_is_scheduled() {
    let cluster = cluster(Lab::builder().hosts(3), 3);
    let victim =
        cluster.rows().unwrap().iter().find(|row| row.host == "h2" && row.unit != "glob.service").unwrap().clone();
    let glob = cluster.invocations("glob.service");
    cluster.host("h2").partition().unwrap();
    eventually(DEADLINE, "its unit runs elsewhere", || {
        Ok(active_webs(&cluster)?.iter().any(|(unit, host)| *unit == victim.unit && host != "h2"))
    })
    .unwrap();
    cluster.host("h2").heal().unwrap();
    cluster.joined(3);
    eventually(DEADLINE, "the copy on h2 is gone", || {
        Ok(cluster.host("h2").sh(&format!("systemctl is-active {}", victim.unit)).is_err())
    })
    .unwrap();
    assert_eq!(active_webs(&cluster).unwrap().len(), 3);
    assert_eq!(cluster.invocations("glob.service"), glob, "what belongs on h2 anyway ran on");
}

#[test]
fn host_that_reboots_gets_its_units_back_within_its_time() {
    let cluster = Cluster::with(Lab::builder().hosts(1).config("agent_ttl=\"30s\""));
    cluster.write(&[("web@.service", WEB)]);
    cluster.ok(&["start", "web@1"]);
    let h1 = cluster.host("h1");
    h1.kill().unwrap();
    h1.boot().unwrap();
    // Its old entry still lives: it is this host's own, and is taken over.
    eventually(Duration::from_secs(20), "the unit runs again", || {
        Ok(h1.sh("systemctl is-active web@1.service").is_ok())
    })
    .unwrap();
}

#[test]
fn second_host_with_the_same_machine_id_is_refused_and_both_are_named() {
    let cluster = Cluster::new(2);
    let (h1, h2) = (cluster.host("h1"), cluster.host("h2"));
    h2.sh("systemctl stop fleet").unwrap();
    cluster.joined(1);
    h2.write("/etc/machine-id", &format!("{}\n", h1.machine_id())).unwrap();
    h2.sh("systemctl start fleet.socket fleet").unwrap();
    eventually(DEADLINE, "the clone is refused", || {
        let run = cluster.fleetctl_on("h2", &["list-machines"])?;
        Ok(run.code == 1 && ["h1", "h2", "machine ID"].iter().all(|words| run.stderr.contains(words)))
    })
    .unwrap();
    assert_eq!(cluster.ok(&["list-machines", "--no-legend"]).lines().count(), 1);
    cluster.write(&[("web@.service", WEB), ("glob.service", GLOBAL)]);
    cluster.ok(&["start", "web@1", "glob.service"]);
    eventually(DEADLINE, "both units run on h1", || {
        Ok(h1.sh("systemctl is-active web@1.service glob.service").is_ok())
    })
    .unwrap();
    assert_eq!(h2.sh("ls /run/fleet/units").unwrap(), "", "the clone takes nothing that is its twin's");
}

#[test]
fn systemd_and_the_bus_may_be_replaced_under_the_agent() {
    let cluster = cluster(Lab::builder().hosts(3), 10);
    let before = invocations(&cluster);
    cluster.write(&[("after@.service", WEB)]);
    for host in cluster.lab.hosts() {
        host.sh("systemctl daemon-reexec").unwrap();
    }
    cluster.ok(&["start", "after@1", "after@2", "after@3"]);
    for host in cluster.lab.hosts() {
        host.sh("systemctl restart dbus").unwrap();
    }
    cluster.ok(&["start", "after@4", "after@5", "after@6"]);
    cluster.ok(&["destroy", "after@1", "after@2", "after@3", "after@4", "after@5", "after@6"]);
    assert_eq!(invocations(&cluster), before);
}

#[test]
fn reload_reads_the_configuration_again_and_keeps_units_and_sockets() {
    let cluster = cluster(Lab::builder().hosts(3), 3);
    let before = invocations(&cluster);
    let h2 = cluster.host("h2");
    let listening = "ss -xlH | grep fleet.sock | awk '{print $6}'; systemctl show -p MainPID fleet";
    let socket = h2.sh(listening).unwrap();
    h2.sh("sed -i '/^metadata/d' /etc/fleet/fleet.conf; echo 'metadata=\"disk=ssd\"' >> /etc/fleet/fleet.conf")
        .unwrap();
    h2.sh("systemctl reload fleet").unwrap();
    let place = format!("{}...\t{}\tdisk=ssd\n", &h2.machine_id()[..8], h2.address());
    eventually(DEADLINE, "the new metadata show", || Ok(cluster.ok(&["list-machines"]).contains(&place))).unwrap();
    assert_eq!(invocations(&cluster), before);
    assert_eq!(h2.sh(listening).unwrap(), socket, "the same process, the same socket");
    h2.sh("echo 'agent_ttl=soon' >> /etc/fleet/fleet.conf; systemctl reload fleet").unwrap();
    eventually(DEADLINE, "the fault is told", || {
        Ok(h2.sh("journalctl -u fleet --no-pager")?.contains("option agent_ttl cannot be"))
    })
    .unwrap();
    h2.sh("sed -i '/^agent_ttl=soon/d' /etc/fleet/fleet.conf; echo 'etcd_cafile=/nonexistent.pem' >> /etc/fleet/fleet.conf").unwrap();
    h2.sh("systemctl reload fleet").unwrap();
    eventually(DEADLINE, "this fault is told, too", || {
        Ok(h2.sh("journalctl -u fleet --no-pager")?.contains("cannot read /nonexistent.pem"))
    })
    .unwrap();
    assert!(cluster.fleetctl_on("h2", &["list-machines"]).unwrap().stdout.contains(&place), "and it runs on");
    assert_eq!(h2.sh(listening).unwrap(), socket);
    // A longer time to live is a new lease: the old one would run out between two keepalives.
    h2.sh("sed -i '/^etcd_cafile/d; s/^agent_ttl.*/agent_ttl=\"60s\"/' /etc/fleet/fleet.conf; systemctl reload fleet")
        .unwrap();
    let reloaded = std::time::Instant::now();
    eventually(DEADLINE, "two old leases' time passes", || Ok(reloaded.elapsed() > Duration::from_secs(7))).unwrap();
    assert_eq!(invocations(&cluster), before);
    assert!(!h2.sh("journalctl -u fleet --no-pager").unwrap().contains("lease lost"));
    h2.sh("systemctl kill --kill-whom=main -s USR1 fleet").unwrap();
    eventually(DEADLINE, "its state is printed", || {
        Ok(h2.sh("journalctl -u fleet --no-pager -o cat")?.lines().any(|line| {
            let state: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            state["id"] == h2.machine_id() && state["units"]["glob.service"]["active"] == "active"
        }))
    })
    .unwrap();
}

#[test]
fn death_of_the_leading_host_costs_one_lease_and_not_two() {
    let ttl = Duration::from_secs(8);
    let cluster = Cluster::with(Lab::builder().hosts(3).config("agent_ttl=\"8s\""));
    cluster.write(&[("web@.service", WEB)]);
    // The other candidates have waited for longer than a lease lives.
    let joined = std::time::Instant::now();
    eventually(DEADLINE, "a lease's time passes", || Ok(joined.elapsed() > ttl)).unwrap();
    cluster.ok(&["start", "web@1", "web@2", "web@3"]);
    let leader = leader(&cluster);
    let other = cluster.lab.hosts().iter().find(|host| host.name() != leader.name()).unwrap().name().to_owned();
    let killed = std::time::Instant::now();
    leader.kill().unwrap();
    eventually(DEADLINE, "three units run on two hosts", || {
        let list = cluster.fleetctl_on(&other, &["list-units", "--no-legend"])?;
        Ok(list.stdout.lines().filter(|line| line.contains("active")).count() == 3
            && !list.stdout.contains(&leader.machine_id()[..8]))
    })
    .unwrap();
    let took = killed.elapsed();
    assert!(took < ttl * 17 / 10, "{took:?}: the new leader waited for the dead host once more");
}

#[test]
fn host_that_leaves_keeps_its_units_to_itself_until_they_are_down() {
    let cluster = Cluster::with(Lab::builder().hosts(2).config("agent_ttl=\"3s\""));
    cluster.write(&[("slow.service", "[Service]\nExecStart=/bin/sleep 10001\nExecStop=/bin/sleep 9\n")]);
    cluster.ok(&["start", "slow.service"]);
    let host = cluster.host(&cluster.host_of("slow.service").unwrap());
    let other = cluster.host(if host.name() == "h1" { "h2" } else { "h1" });
    host.sh("systemctl stop --no-block fleet").unwrap();
    let is = |host: &Host| host.sh("systemctl is-active slow.service || true").unwrap().trim().to_owned();
    eventually(DEADLINE, "it is being stopped", || Ok(is(&host) == "deactivating")).unwrap();
    // Three times the lease's time, looked at all the while.
    eventually(DEADLINE, "it is down", || {
        let elsewhere = is(&other);
        let here = is(&host);
        assert!(elsewhere != "active" || here != "deactivating", "two copies");
        Ok(here == "inactive" || here == "failed")
    })
    .unwrap();
    eventually(DEADLINE, "it runs on the other host", || Ok(is(&other) == "active")).unwrap();
}

//! Hosts whose addresses change, and hosts with IPv6 alone.

use std::collections::BTreeMap;

use fleet_lab::{Host, Lab, eventually_eq};
use fleet_tests::{Cluster, DEADLINE};

const UNITS: [(&str, &str); 2] = [
    ("one.service", "[Service]\nExecStart=/bin/sleep 10001\n[X-Fleet]\nOnPartition=stop\nMachineMetadata=disk=ssd\n"),
    ("glob.service", "[Service]\nExecStart=/bin/sleep 10002\n[X-Fleet]\nGlobal=true\n"),
];

/// The addresses of all hosts in `list-machines`, by host.
fn shown(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, String>> {
    let run = cluster.fleetctl(&["list-machines", "--full", "--no-legend", "--fields=machine,ip"])?;
    let rows = run.stdout.lines().filter_map(|line| line.split_once('\t'));
    Ok(rows.map(|(machine, ip)| (cluster.name_of(machine), ip.trim().to_owned())).collect())
}

fn shows(cluster: &Cluster, host: &Host, address: &str) {
    let what = format!("{} is shown at {address}", host.name());
    let look = || Ok(shown(cluster)?.remove(host.name()));
    eventually_eq(DEADLINE, &what, &Some(address.to_owned()), look).unwrap();
}

/// What must not change: the process of fleetd, its entry's lease and birth, and the runs of the units.
fn standing(cluster: &Cluster, host: &Host) -> String {
    let key = format!("/fleet/machine/{}", host.machine_id());
    let etcd = cluster.lab.etcd(1).endpoint();
    let entry = cluster
        .host("h1")
        .sh(&format!(
            "etcdctl --endpoints={etcd} get -w json {key} | grep -o '\"\\(create_revision\\|lease\\)\":[0-9]*'"
        ))
        .unwrap();
    let fleetd = host.sh("systemctl show -p MainPID,NRestarts fleet").unwrap();
    format!("{entry}{fleetd}{:?}{:?}", cluster.invocations("one.service"), cluster.invocations("glob.service"))
}

/// Gives a host another address: for a moment it has both.
fn renumber(host: &Host, old: &str, new: &str) {
    let family = if new.contains(':') { 64 } else { 24 };
    // The kernel may take an address of the same network along with the one that was first.
    let script = format!(
        "ip address add {new}/{family} dev host0 && ip address del {old}/{family} dev host0 && \
         ip address replace {new}/{family} dev host0"
    );
    host.sh(&script).unwrap();
}

#[test]
fn new_address_of_a_host_is_known_by_itself_and_no_unit_is_touched() {
    let builder = Lab::builder().hosts(2).ssh(true).metadata("h2", "disk=ssd").config("public_ip=\"\"");
    let cluster = Cluster::with(builder);
    let (h2, subnet) = (cluster.host("h2"), cluster.lab.subnet());
    cluster.write(&UNITS);
    cluster.ok(&["start", "one.service", "glob.service"]);
    cluster.active(&[("glob.service", "h1"), ("glob.service", "h2"), ("one.service", "h2")]);
    shows(&cluster, &h2, &h2.address().to_string());
    let before = standing(&cluster, &h2);

    let new = format!("10.82.{subnet}.212");
    renumber(&h2, &h2.address().to_string(), &new);
    shows(&cluster, &h2, &new);
    assert_eq!(cluster.ok(&["ssh", "one.service", "hostname"]).trim(), "h2", "ssh goes to the new address");
    assert!(cluster.ok(&["list-units", "--no-legend"]).contains(&format!("/{new}")));
    assert_eq!(standing(&cluster, &h2), before);

    // An address that is gone for a moment and comes back, as with DHCP; a later change shows that this one was seen.
    h2.sh(&format!("ip address flush dev host0 && ip address add {new}/24 dev host0")).unwrap();
    let last = format!("10.82.{subnet}.213");
    renumber(&h2, &new, &last);
    shows(&cluster, &h2, &last);
    assert_eq!(standing(&cluster, &h2), before);
    let log = h2.sh("journalctl -u fleet --no-pager | grep 'reached by another address'").unwrap();
    let addresses: Vec<&str> = log.lines().filter_map(|line| line.split_once(" address=")).map(|(_, it)| it).collect();
    assert!(addresses.iter().all(|it| it.contains(&new) || it.contains(&last)), "no other was ever shown: {log}");

    // A reload with a wrong file keeps what there is, and says so; each fault has its line.
    h2.sh("cp /etc/fleet/fleet.conf /root/; echo 'public_ip=10.0.0.1:22' >> /etc/fleet/fleet.conf").unwrap();
    let line = h2.sh("grep -c '' /etc/fleet/fleet.conf").unwrap().trim().to_owned();
    h2.sh("systemctl reload fleet").unwrap();
    let told = || h2.sh("journalctl -u fleet --no-pager | grep -c 'configuration not taken' || true");
    eventually_eq(DEADLINE, "it is told", &"1\n".to_owned(), told).unwrap();
    let log = h2.sh("journalctl -u fleet --no-pager | grep 'configuration not taken'").unwrap();
    let expected = format!("the old one stays: /etc/fleet/fleet.conf:{line}: option public_ip cannot be");
    assert!(log.contains(&expected) && log.contains("did you mean 10.0.0.1?"), "{log}");
    let started = h2.exec(&["/usr/bin/fleetd"]).unwrap();
    let error = String::from_utf8(started.stderr).unwrap();
    assert!(!started.status.success() && error.contains("error: /etc/fleet/fleet.conf"), "{error}");
    h2.sh("cat /root/fleet.conf > /etc/fleet/fleet.conf; systemctl reload fleet").unwrap();
    cluster.joined(2);
    shows(&cluster, &h2, &last);
    assert_eq!(standing(&cluster, &h2).split_once("MainPID"), before.split_once("MainPID"), "units and fleetd stay");
}

#[test]
fn hosts_with_ipv6_alone_are_a_cluster_as_any_other() {
    let builder = Lab::builder().hosts(2).ipv6(true).ssh(true).metadata("h2", "disk=ssd").config("public_ip=\"\"");
    let cluster = Cluster::with(builder);
    let h2 = cluster.host("h2");
    let (address, short) = (h2.address().to_string(), &h2.machine_id()[..8]);
    assert_eq!(h2.sh("ip -4 address show dev host0").unwrap(), "", "there is no other address");
    shows(&cluster, &h2, &address);
    cluster.write(&UNITS);
    cluster.ok(&["submit", "one.service"]);
    assert_eq!(cluster.ok(&["start", "one.service"]), format!("Unit one.service launched on {short}.../{address}\n"));
    assert!(cluster.ok(&["list-units", "--no-legend"]).contains(&format!("{short}.../{address}")));
    assert!(cluster.ok(&["status", "one.service"]).contains("Active: active (running)"));
    for way in ["one.service", short, &address] {
        assert_eq!(cluster.ok(&["ssh", way, "hostname"]).trim(), "h2", "{way}");
    }
    for tunnel in [address.clone(), format!("[{address}]:22")] {
        assert!(cluster.ok(&[&format!("--tunnel={tunnel}"), "list-unit-files"]).contains("one.service"), "{tunnel}");
    }

    // A name that has such an address only.
    let endpoint = cluster.lab.etcd(1).endpoint();
    let member = endpoint.strip_prefix("http://[").and_then(|rest| rest.strip_suffix("]:2379")).unwrap();
    h2.sh(&format!("echo '{member} etcd.example' >> /etc/hosts")).unwrap();
    h2.sh("echo 'etcd_servers=http://etcd.example:2379' >> /etc/fleet/fleet.conf").unwrap();
    let pid = h2.sh("systemctl show -p MainPID fleet").unwrap();
    let one = cluster.invocations("one.service");
    let registered = || h2.sh("journalctl -u fleet --no-pager | grep -c ' registered ' || true");
    let count: u32 = registered().unwrap().trim().parse().unwrap();
    h2.sh("systemctl reload fleet").unwrap();
    eventually_eq(DEADLINE, "it is a member by a name", &format!("{}\n", count + 1), registered).unwrap();
    shows(&cluster, &h2, &address);

    // Renumbered, as IPv4.
    let new = format!("{}212", address.strip_suffix('c').unwrap());
    renumber(&h2, &address, &new);
    shows(&cluster, &h2, &new);
    assert_eq!(h2.sh("systemctl show -p MainPID fleet").unwrap(), pid);
    assert_eq!(cluster.invocations("one.service"), one, "no unit was touched");
}

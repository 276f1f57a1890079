//! `fleetctl` from elsewhere, through the user's own ssh.

use fleet_lab::Lab;
use fleet_tests::Cluster;

#[test]
fn status_journal_ssh_and_tunnel_reach_other_hosts() {
    let cluster = Cluster::with(Lab::builder().hosts(2).ssh(true));
    let h2 = cluster.host("h2");
    let id = h2.machine_id().to_owned();
    cluster.write(&[(
        "far.service",
        &*format!("[Service]\nExecStart=/bin/sh -c 'echo far away; exec sleep 10001'\n[X-Fleet]\nMachineID={id}\n"),
    )]);
    cluster.ok(&["start", "far.service"]);
    let status = cluster.ok(&["status", "far.service"]);
    assert!(status.contains("Active: active (running)"), "{status}");
    assert!(cluster.ok(&["journal", "far.service"]).contains("far away"));
    assert_eq!(cluster.ok(&["ssh", &id[..8], "hostname"]).trim(), "h2");
    assert_eq!(cluster.ok(&["ssh", "far.service", "hostname"]).trim(), "h2");
    assert_eq!(cluster.fleetctl(&["ssh", "--machine", &id, "exit 42"]).unwrap().code, 42);
    let loaded = cluster.fleetctl(&["load", "far.service"]).unwrap();
    assert_eq!(loaded.code, 0);
    assert_eq!(
        cluster.fleetctl(&["status", "far.service"]).unwrap().code,
        3,
        "systemctl's own code for a unit that is down"
    );

    let address = h2.address().to_string();
    cluster.host("h1").sh("systemctl stop fleet.socket fleet.service; rm -f /run/fleet.sock").unwrap();
    assert_eq!(cluster.fleetctl(&["list-machines"]).unwrap().code, 1);
    let tunnel = format!("--tunnel={address}");
    assert!(cluster.ok(&[&tunnel, "list-unit-files"]).contains("far.service"));
    cluster.ok(&[&tunnel, "start", "far.service"]);
    // The unit is on the host that the tunnel ends on, whatever name that has here.
    cluster.host("h1").sh(&format!("printf 'Host far-end\\n HostName {address}\\n' >> /root/.ssh/config")).unwrap();
    for tunnel in [&*tunnel, &format!("--tunnel={address}:22"), "--tunnel=far-end"] {
        assert_eq!(cluster.ok(&[tunnel, "ssh", "far.service", "hostname"]).trim(), "h2", "{tunnel}");
        assert_eq!(cluster.ok(&[tunnel, "ssh", "--machine", &id, "hostname"]).trim(), "h2", "{tunnel}");
        assert!(cluster.ok(&[tunnel, "status", "far.service"]).contains("Active: active (running)"), "{tunnel}");
        assert!(cluster.ok(&[tunnel, "journal", "far.service"]).contains("far away"), "{tunnel}");
    }
    cluster.ok(&[&tunnel, "destroy", "far.service"]);
}

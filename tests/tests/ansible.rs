//! The Ansible role, from this machine over ssh to two hosts that have no fleet.

use std::{fs, process::Command};

use fleet_lab::Lab;
use fleet_tests::{
    docs::typed,
    fresh::{self, repository},
};

/// What the example has where each site puts its own.
const MEMBERS: &str = r#"["http://10.0.0.10:2379"]"#;
const HOSTS: [&str; 2] = ["10.0.0.21", "10.0.0.22"];

#[test]
fn role_joins_hosts_and_a_second_run_changes_nothing() {
    let lab = fresh::hosts(Lab::builder().hosts(2).ssh(true)).unwrap();
    let site = tempfile::tempdir().unwrap();
    let role = repository().join("cloud-init/ansible");
    let copied = Command::new("cp").arg("-r").arg(role.join(".")).arg(site.path()).status().unwrap();
    assert!(copied.success());
    fs::write(site.path().join("fleet.tar.gz"), fresh::tarball().unwrap()).unwrap();
    let mut inventory = fs::read_to_string(role.join("inventory.ini")).unwrap();
    let members = format!("{:?}", lab.etcd_endpoints());
    let addresses = ["h1", "h2"].map(|name| lab.host(name).address().to_string());
    for (from, to) in [(MEMBERS, &members), (HOSTS[0], &addresses[0]), (HOSTS[1], &addresses[1])] {
        assert_eq!(inventory.matches(from).count(), 1, "the example has no {from}");
        inventory = inventory.replace(from, to);
    }
    fs::write(site.path().join("inventory.ini"), inventory).unwrap();

    let run = |command: &str| {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(site.path())
            .env("ANSIBLE_HOME", site.path().join("home"))
            .env("ANSIBLE_PRIVATE_KEY_FILE", lab.dir().join("ssh/key"))
            // The hosts come and go under the same few addresses.
            .env("ANSIBLE_HOST_KEY_CHECKING", "false")
            .env("ANSIBLE_SSH_ARGS", "-o ControlMaster=auto -o ControlPersist=5s -o UserKnownHostsFile=/dev/null")
            .env("ANSIBLE_NOCOLOR", "true")
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{command}: {said}");
        said
    };
    let commands = typed("joining.md", "With Ansible");
    let (join, with_options) = commands.trim_end().split_once('\n').expect("the document has two commands");

    let first = run(join);
    assert_eq!(first.matches(" changed=5 ").count(), 2, "{first}");
    let machines = lab.host("h1").sh("fleetctl list-machines --full --no-legend").unwrap();
    let row = |name: &str, metadata: &str| {
        let host = lab.host(name);
        format!("{}\t{}\t{metadata}\n", host.machine_id(), host.address())
    };
    for row in [row("h1", "disk=ssd,region=eu"), row("h2", "region=us")] {
        assert!(machines.contains(&row), "{machines}");
    }

    lab.host("h1").write("/root/hello.service", "[Service]\nExecStart=/bin/sleep 10001\n").unwrap();
    lab.host("h1").sh("fleetctl start /root/hello.service").unwrap();
    let runs = |unit: &str| {
        let show = format!("systemctl show -p InvocationID --value {unit}");
        ["h1", "h2"].map(|name| lab.host(name).sh(&show).unwrap())
    };
    let (fleetd, hello) = (runs("fleet.service"), runs("hello.service"));
    let second = run(join);
    assert_eq!(second.matches(" changed=0 ").count(), 2, "{second}");
    assert_eq!(runs("fleet.service"), fleetd, "fleetd was not restarted");

    // The file, and the restart that makes it count.
    let third = run(with_options);
    assert_eq!(third.matches(" changed=2 ").count(), 2, "{third}");
    assert_ne!(runs("fleet.service"), fleetd);
    assert_eq!(runs("hello.service"), hello, "and no unit was touched");
    assert!(lab.host("h2").sh("cat /etc/fleet/fleet.conf").unwrap().contains("agent_ttl = \"20s\"\n"));
}

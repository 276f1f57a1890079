//! Hosts that join by themselves on their first boot: stock cloud-init with `cloud-init/user-data.yaml`, and Ignition
//! with `cloud-init/ignition`, both as Debian packages them.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use fleet_lab::{Host, Lab, eventually};
use fleet_tests::{
    DEADLINE, butane,
    docs::typed,
    fresh::{self, Downloads, repository},
};

/// What the examples have where each site puts its own.
const MEMBERS: &str = r#"["http://10.0.0.10:2379", "http://10.0.0.11:2379", "http://10.0.0.12:2379"]"#;
const SERVER: &str = "http://10.0.0.10:8000";
const CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const METADATA: &str = "disk=ssd,region=eu";

/// Settings of the image, not of the site: making keys takes seconds, the machine may have no locales, and the network
/// is the lab's.
const IMAGE: &str = "ssh_genkeytypes: [ed25519]\nlocale: false\nnetwork: {config: disabled}\n";

/// Where Debian puts Ignition, which else only runs before a host's real boot.
const IGNITION: &str = "/usr/lib/dracut/modules.d/30ignition/ignition --platform file --root / --log-to-stdout";

fn example(name: &str) -> PathBuf {
    repository().join("cloud-init").join(name)
}

/// An example with what is so at this site. Checksums stand in the order of `sums`.
fn adapted(name: &str, lab: &Lab, downloads: &Downloads, sums: &[&str]) -> String {
    let text = fs::read_to_string(example(name)).unwrap();
    assert!(text.contains(MEMBERS) && text.contains(SERVER), "{name} is not as this test knows it");
    let text = text.replace(MEMBERS, &format!("{:?}", lab.etcd_endpoints())).replace(SERVER, &downloads.url());
    assert_eq!(text.matches(CHECKSUM).count(), sums.len());
    sums.iter().fold(text, |text, sum| text.replacen(CHECKSUM, sum, 1))
}

/// What `make install PREFIX=/opt` lays out.
fn installed(path: &str) -> anyhow::Result<String> {
    fresh::unit(path.trim_start_matches("opt/lib/systemd/system/"), "/opt")
}

fn joined(host: &Host, fleetctl: &str) {
    let line = format!("{fleetctl} list-machines --full --no-legend");
    eventually(DEADLINE, &format!("{} is a member", host.name()), || {
        let machines = host.sh(&line)?;
        Ok(machines.lines().any(|line| line.starts_with(host.machine_id()) && line.ends_with(METADATA)))
    })
    .unwrap();
}

#[test]
fn fresh_hosts_join_on_their_first_boot_with_cloud_init_and_with_ignition() {
    let lab = fresh::hosts(Lab::builder().hosts(2)).unwrap();
    let tarball = fresh::tarball().unwrap();
    let (fleetd, fleetctl) = (fresh::starter("fleetd"), fresh::starter("fleetctl"));
    let [of_tarball, of_fleetd, of_fleetctl] = [&tarball, &fleetd, &fleetctl].map(|file| fresh::sha256(file).unwrap());
    let files: BTreeMap<_, _> = [("fleet.tar.gz", tarball), ("fleetd", fleetd), ("fleetctl", fleetctl)].into();
    let downloads = Downloads::serve(&lab, files).unwrap();

    let first = lab.host("h1");
    let user_data = adapted("user-data.yaml", &lab, &downloads, &[&of_tarball]);
    first.write("/var/lib/cloud/seed/nocloud/meta-data", "").unwrap();
    first.write("/var/lib/cloud/seed/nocloud/user-data", &user_data).unwrap();
    first.write("/etc/cloud/cloud.cfg.d/99_image.cfg", IMAGE).unwrap();
    first.write("/root/user-data.yaml", &user_data).unwrap();
    let services = "cloud-init-local cloud-init cloud-config cloud-final";
    first.sh(&format!("rm /etc/cloud/cloud-init.disabled && systemctl enable --quiet {services}")).unwrap();
    first.reboot().unwrap();
    // What the document says to type, where the file is and then on the host.
    for command in typed("joining.md", "With cloud-init").lines() {
        let said = first.exec(&["sh", "-c", &format!("cd /root && {}", command.replace("sudo ", ""))]).unwrap();
        assert!(said.status.success(), "{command}: {said:?}; {:?}", first.sh("journalctl -q -u cloud-final -o cat"));
    }
    joined(&first, "fleetctl");
    assert_eq!(first.sh("systemctl is-enabled fleet.service fleet.socket").unwrap(), "enabled\nenabled\n");
    assert_eq!(first.sh("stat -c %G /run/fleet.sock").unwrap(), "fleet\n");
    // Later boots leave alone what is there, and the host comes back by itself.
    first.sh("echo '# edited' >> /etc/fleet/fleet.conf").unwrap();
    first.reboot().unwrap();
    joined(&first, "fleetctl");
    assert!(first.sh("cat /etc/fleet/fleet.conf").unwrap().ends_with("# edited\n"));

    let second = lab.host("h2");
    assert_eq!(
        second.sh("cloud-init status").unwrap(),
        "status: disabled\n",
        "hosts of the lab are no machines of a cloud"
    );
    let bu = adapted("ignition/fleet.bu", &lab, &downloads, &[&of_fleetd, &of_fleetctl]);
    let ign = butane::translate(&bu, installed).unwrap();
    second.write("/root/config.ign", &ign.to_string()).unwrap();
    // Ignition labels for SELinux what it wrote, whether the host has that or not; this one has not.
    second.write("/etc/selinux/config", "SELINUX=disabled\nSELINUXTYPE=none\n").unwrap();
    second.sh("ln -s /bin/true /usr/local/bin/setfiles").unwrap();
    for stage in ["fetch", "files"] {
        second.sh(&format!("IGNITION_CONFIG_FILE=/root/config.ign {IGNITION} --stage {stage}")).unwrap();
    }
    // What a first boot does with what Ignition wishes enabled.
    second.sh("systemctl daemon-reload && systemctl preset --quiet fleet.service fleet.socket").unwrap();
    assert_eq!(second.sh("systemctl is-enabled fleet.service fleet.socket").unwrap(), "enabled\nenabled\n");
    second.sh("systemctl start fleet.service").unwrap();
    joined(&second, "/opt/bin/fleetctl");
    assert_eq!(second.sh("/opt/bin/fleetctl list-machines --no-legend").unwrap().lines().count(), 2, "one cluster");
}

/// `UPDATE_IGNITION=1` writes it anew.
#[test]
fn ignition_example_says_what_its_butane_says_and_ignition_takes_it() {
    let bu = fs::read_to_string(example("ignition/fleet.bu")).unwrap();
    let expected = serde_json::to_string_pretty(&butane::translate(&bu, installed).unwrap()).unwrap() + "\n";
    let path = example("ignition/fleet.ign");
    if std::env::var_os("UPDATE_IGNITION").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let ign = fs::read_to_string(&path).unwrap_or_default();
    assert!(ign == expected, "{} is not what fleet.bu and the units say: UPDATE_IGNITION=1 writes it", path.display());

    let validate = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let output = Command::new("ignition-validate").arg(file.path()).output().expect("ignition-validate runs");
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    // A warning is a key that it does not know.
    assert_eq!(validate(&ign), (true, String::new()));
    assert!(validate(&ign.replace("\"system\"", "\"sistem\"")).1.contains("sistem"), "it looks at keys");
    assert!(!validate(&ign.replace("sha256-0000", "sha256-")).0, "and at values");
}

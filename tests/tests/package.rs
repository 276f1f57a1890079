//! The Debian package, on hosts that have never seen fleet: installed, upgraded, removed, purged; and fleetd as a user.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use fleet_lab::{Host, Lab, OUTSIDE, eventually, eventually_eq};
use fleet_tests::{Cluster, DEADLINE};

/// The highest exposure that `systemd-analyze security` may find, in tenths. It is 2.0 with systemd 252; others look at
/// more.
const EXPOSURE: u32 = 25;

const WEB: &str = "[Service]\nExecStart=/bin/sleep 10001\n[Install]\nWantedBy=multi-user.target\n";
const ONE: &str = "[Service]\nExecStart=/bin/sleep 10002\n[X-Fleet]\nOnPartition=stop\n";
const MANY: &str = "[Service]\nExecStart=/bin/sleep 1000%i\n";

/// All that is called after fleet, or leads to what is.
const TRACES: &str = "find /etc /run /usr/bin /usr/lib/systemd /var -xdev -path /var/lib/fleet-lab -prune -o \
                      \\( -name '*fleet*' -o -lname '*fleet*' \\) -print | sort";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn run(command: &mut Command) -> String {
    // Compressing takes longer than all the rest.
    let output = command.env("DPKG_DEB_COMPRESSOR_TYPE", "none").output().expect("it can be run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a package out of the binaries that were built beside this test. Returns where hosts find it.
fn package(lab: &Lab) -> String {
    let exe = std::env::current_exe().unwrap();
    let binaries = exe.ancestors().skip(1).find(|directory| directory.join("fleetd").is_file()).unwrap();
    let built = run(Command::new(repository().join("packaging/deb.sh")).arg(binaries).arg(lab.outside()));
    on_host(Path::new(built.trim()))
}

/// Makes a package of a later version out of one, with another configuration in it.
fn newer(lab: &Lab, package: &str) -> String {
    let outside = lab.outside();
    let (package, tree) = (outside.join(Path::new(package).file_name().unwrap()), outside.join("tree"));
    run(Command::new("dpkg-deb").arg("--raw-extract").args([&package, &tree]));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let version = text.lines().find(|line| line.starts_with("Version: ")).unwrap();
    fs::write(&control, text.replace(version, "Version: 99-1")).unwrap();
    let conf = tree.join("etc/fleet/fleet.conf");
    fs::write(&conf, fs::read_to_string(&conf).unwrap() + "\n# New in 99.\n").unwrap();
    let newer = outside.join("fleet_99-1.deb");
    run(Command::new("dpkg-deb").arg("--build").args([&tree, &newer]));
    on_host(&newer)
}

fn on_host(package: &Path) -> String {
    PathBuf::from(OUTSIDE).join(package.file_name().unwrap()).display().to_string()
}

/// Takes away what the lab and the machine have put into a host that is to be fresh. Machines that are containers may be
/// told to start no service and to install no documents.
fn make_fresh(host: &Host) {
    host.sh("rmdir /etc/fleet /var/lib/fleet; groupdel fleet; rm -f /usr/sbin/policy-rc.d /etc/dpkg/dpkg.cfg.d/*")
        .unwrap();
}

fn install(host: &Host, package: &str) -> Result<String> {
    // As apt does when nobody is there to be asked.
    host.sh(&format!("DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --install {package} 2>&1"))
}

/// Configures fleetd as an administrator does.
fn configure(lab: &Lab, host: &Host) {
    let line = format!("etcd_servers = [\"{}\"]\nagent_ttl = \"8s\"", lab.etcd(1).endpoint());
    host.sh(&format!("echo '{line}' >> /etc/fleet/fleet.conf && systemctl reload fleet")).unwrap();
}

fn pid(host: &Host, unit: &str) -> String {
    host.sh(&format!("systemctl show --property=MainPID --value {unit}")).unwrap()
}

fn is_active(host: &Host, unit: &str) -> bool {
    host.sh(&format!("systemctl is-active {unit}")).is_ok()
}

#[test]
fn package_comes_is_upgraded_and_goes_and_units_notice_only_that_their_host_leaves() {
    let cluster = Cluster { lab: Lab::builder().hosts(2).fleet(false).up().unwrap() };
    let (h1, h2) = (cluster.host("h1"), cluster.host("h2"));
    let old = package(&cluster.lab);
    let new = newer(&cluster.lab, &old);
    let mut before = Vec::new();
    for host in [&h1, &h2] {
        make_fresh(host);
        before.push(host.sh(TRACES).unwrap());
        install(host, &old).unwrap();
        host.sh("systemctl is-active fleet.service fleet.socket && systemctl is-enabled fleet.service fleet.socket")
            .unwrap();
        assert_eq!(host.sh("stat -c '%U:%G %a' /etc/fleet/fleet.conf").unwrap(), "root:fleet 640\n");
        configure(&cluster.lab, host);
    }
    cluster.joined(2);
    for unit in ["fleet.service", "fleet-fence.service"] {
        h1.sh(&format!("systemd-analyze security --no-pager --threshold={EXPOSURE} {unit}")).expect("it is hardened");
    }
    let sandboxed = "grep -Pc '^(CapEff:\\t0+|NoNewPrivs:\\t1|Seccomp:\\t2)$' /proc/$(systemctl show -p MainPID --value fleet)/status";
    assert_eq!(h1.sh(sandboxed).unwrap(), "3\n");
    let write =
        "! nsenter --mount --target $(systemctl show -p MainPID --value fleet) touch /etc/x /usr/x /var/lib/x 2>&1";
    let refused = h1.sh(write).unwrap();
    assert_eq!(refused.matches("Read-only file system").count(), 3, "{refused}");
    h1.sh("cd /usr/share/man && ls man8/fleetd.8.gz man5/fleet.conf.5.gz man1/fleetctl.1.gz man1/fleetctl-start.1.gz")
        .unwrap();
    h1.sh("bash -n /usr/share/bash-completion/completions/fleetctl").unwrap();
    h1.sh("setpriv --reuid=nobody --regid=fleet --clear-groups fleetctl list-machines").expect("the group may ask");
    h1.sh("! setpriv --reuid=nobody --regid=nogroup --clear-groups fleetctl list-machines 2>&1").unwrap();

    cluster.write(&[("web.service", WEB), ("one.service", ONE)]);
    cluster.ok(&["start", "web.service", "one.service"]);
    let invocations = || (cluster.invocations("web.service"), cluster.invocations("one.service"));
    let (running, daemon) = (invocations(), pid(&h1, "fleet"));
    let members = || cluster.lab.etcdctl(&["get", "--prefix", "/fleet/machine/"]).unwrap();
    let registered = members();
    for host in [&h1, &h2] {
        install(host, &new).unwrap();
        let conf = host.sh("cat /etc/fleet/fleet.conf").unwrap();
        assert!(conf.contains("agent_ttl = \"8s\"") && !conf.contains("New in 99"), "edits survive: {conf}");
    }
    assert_ne!(pid(&h1, "fleet"), daemon, "the new fleetd runs");
    cluster.joined(2);
    assert_eq!(invocations(), running, "and no unit was restarted");
    assert_eq!(members(), registered, "nor was a lease lost");
    for host in [&h1, &h2] {
        assert!(!is_active(host, "fleet-fence"));
        let fence = host.sh("journalctl --unit=fleet-fence --no-pager").unwrap();
        assert!(!fence.contains("stopping these units"), "{fence}");
    }

    // A host that has left stays away, whatever is installed on it.
    h2.sh("systemctl stop fleet").unwrap();
    cluster.active(&[("one.service", "h1"), ("web.service", "h1")]);
    install(&h2, &new).unwrap();
    assert!(!is_active(&h2, "fleet.service") && !is_active(&h2, "fleet.socket"));
    h2.sh("systemctl start fleet").unwrap();
    cluster.joined(2);

    // Removal is leaving.
    cluster.write(&[("two.service", "[Service]\nExecStart=/bin/sleep 10003\n")]);
    cluster.ok(&["start", "two.service"]);
    cluster.active(&[("one.service", "h1"), ("two.service", "h2"), ("web.service", "h1")]);
    h2.sh("dpkg --remove fleet").unwrap();
    assert!(!is_active(&h2, "two.service") && !is_active(&h2, "fleet.service"));
    cluster.active(&[("one.service", "h1"), ("two.service", "h1"), ("web.service", "h1")]);
    h2.sh("test -e /etc/fleet/fleet.conf").expect("removed is not purged");
    h2.sh("dpkg --purge fleet").unwrap();
    assert_eq!(h2.sh(TRACES).unwrap(), before[1]);

    // So is that of a fleetd which cannot run, and so cannot stop its units.
    h1.sh("echo agent_ttl=soon >> /etc/fleet/fleet.conf; kill -9 $(systemctl show -p MainPID --value fleet)").unwrap();
    h1.sh("dpkg --purge fleet").unwrap();
    for unit in ["web.service", "one.service", "two.service", "fleet.service", "fleet-fence.service"] {
        assert!(!is_active(&h1, unit), "{unit}");
    }
    assert_eq!(h1.sh(TRACES).unwrap(), before[0]);
}

#[test]
fn fleetd_that_runs_as_a_user_does_all_that_root_does() {
    let cluster = Cluster { lab: Lab::builder().fleet(false).up().unwrap() };
    let h1 = cluster.host("h1");
    make_fresh(&h1);
    install(&h1, &package(&cluster.lab)).unwrap();
    configure(&cluster.lab, &h1);
    cluster.joined(1);
    cluster.write(&[("one.service", ONE), ("many@.service", MANY)]);
    cluster.ok(&["start", "one.service"]);
    let one = cluster.invocations("one.service");

    // As docs/security.md says.
    h1.sh("cp -r /usr/share/doc/fleet/examples/run-as-user/etc /").unwrap();
    h1.sh("systemd-tmpfiles --create fleet-user.conf && systemctl daemon-reload && systemctl restart fleet").unwrap();
    let user = || h1.sh("ps -o user= -p $(systemctl show -p MainPID --value fleet)");
    assert_eq!(user().unwrap(), "fleet\n");
    cluster.joined(1);
    let names: Vec<String> = (1..=5).map(|number| format!("many@{number}.service")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.ok(&[&["start"], &names[..]].concat());
    cluster.ok(&["restart", names[0]]);
    cluster.ok(&["stop", names[1]]);
    cluster.ok(&[&["destroy"], &names[2..]].concat());
    cluster.active(&[("many@1.service", "h1"), ("one.service", "h1")]);
    let log = h1.sh("journalctl --unit=fleet --no-pager").unwrap();
    assert!(log.contains("batch queued") && !log.contains("cannot write"), "{log}");
    h1.sh("systemctl reload fleet && systemctl restart fleet").unwrap();
    cluster.joined(1);
    // The kernel tells it of another address of the host, too.
    let (old, new) = (h1.address(), format!("10.82.{}.212", cluster.lab.subnet()));
    h1.sh(&format!("ip address del {old}/24 dev host0; ip address add {new}/24 dev host0")).unwrap();
    eventually(DEADLINE, "it is shown at the new address", || Ok(cluster.ok(&["list-machines"]).contains(&new)))
        .unwrap();
    assert_eq!(cluster.invocations("one.service"), one, "it ran through all of this");

    // The fence is root still, and minds what belongs to the user.
    h1.sh("cp /etc/fleet/fleet.conf /root/; echo agent_ttl=soon >> /etc/fleet/fleet.conf").unwrap();
    h1.sh("kill -9 $(systemctl show -p MainPID --value fleet)").unwrap();
    eventually(DEADLINE, "the fence stops it", || Ok(!is_active(&h1, "one.service"))).unwrap();
    h1.sh("cat /root/fleet.conf > /etc/fleet/fleet.conf").unwrap();
    eventually(DEADLINE, "and the next fleetd starts it again", || Ok(is_active(&h1, "one.service"))).unwrap();

    // And back to root.
    let many = cluster.invocations("many@1.service");
    h1.sh("rm /etc/systemd/system/fleet.service.d/user.conf && systemctl daemon-reload && systemctl restart fleet")
        .unwrap();
    assert_eq!(user().unwrap(), "root\n");
    cluster.joined(1);
    cluster.ok(&["destroy", "one.service"]);
    assert_eq!(cluster.invocations("many@1.service"), many);
    h1.sh("systemctl stop fleet").expect("it can leave");
    eventually_eq(DEADLINE, "nothing is left", &String::new(), || h1.sh("ls /run/fleet/units")).unwrap();
}

#[test]
fn every_option_is_in_the_table_the_manual_page_and_the_default_configuration() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let names = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let table = read("docs/configuration.md");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> = rows.flat_map(|row| names(row.split('|').nth(1).unwrap())).collect();
    let manual = read("packaging/man/fleet.conf.5");
    let items = manual.lines().filter_map(|line| line.strip_prefix(".It Cm "));
    let explained: BTreeSet<String> = items.flat_map(names).collect();
    let conf = read("cloud-init/fleet.conf");
    let lines = conf.lines().filter_map(|line| line.strip_prefix('#')?.split_once(" = "));
    let shown: BTreeSet<String> = lines.flat_map(|(option, _)| names(option)).collect();
    assert!(!documented.is_empty());
    assert_eq!(explained, documented);
    assert_eq!(shown, documented);
}

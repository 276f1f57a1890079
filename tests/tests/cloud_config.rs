//! `fleetd cloud-config` on real hosts. What the documentation shows is what is run here.

use fleet_lab::{Host, Lab, eventually, eventually_eq};
use fleet_tests::{Cluster, DEADLINE, Run};

const DOCUMENTATION: &str = include_str!("../../docs/cloud-config.md");
const DECK: &str = include_str!("../../cloud-init/examples/elasticsearch.yaml");
const SERVICES: [(&str, &str); 2] = [
    ("fleet-cloud-config.service", include_str!("../../cloud-init/fleet-cloud-config.service")),
    ("fleet-cloud-config-units.service", include_str!("../../cloud-init/fleet-cloud-config-units.service")),
];

/// The blocks of a language in the documentation.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = DOCUMENTATION.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

/// Runs a shell script in `/root`.
fn run(host: &Host, script: &str) -> Run {
    let script = format!("cd /root && {script}");
    let output = host.exec(&["timeout", "120", "/bin/sh", "-c", &script]).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// What a script prints, one that must not fail.
fn told(host: &Host, script: &str) -> String {
    let run = run(host, script);
    assert_eq!(run.code, 0, "{script}: {run:?}");
    run.stdout.trim_end().to_owned()
}

/// Files of a lab have other lengths than those of the documentation.
fn without_lengths(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for at in 1..words.len() {
        if words[at] == "bytes," {
            words[at - 1] = "(N";
        }
    }
    words.join(" ")
}

/// Runs what a console block shows, and compares what is said.
fn follow(host: &Host, block: &str) {
    for part in format!("\n{block}").split("\n$ ").skip(1) {
        let (command, expected) = part.split_once('\n').unwrap_or((part, ""));
        let run = run(host, &format!("{{ {command}; }} 2>&1"));
        assert_eq!(
            without_lengths(run.stdout.trim_end()),
            without_lengths(expected.trim_end()),
            "what `{command}` says; it ended with {}",
            run.code
        );
    }
}

#[test]
fn a_host_becomes_what_the_documented_cloud_config_says_and_its_units_run_in_the_cluster() {
    let cluster = Cluster::new(2);
    let (h1, h2) = (cluster.host("h1"), cluster.host("h2"));
    let document = blocks("yaml")[0];
    h1.write("/root/user-data", document).unwrap();
    for (name, text) in SERVICES {
        h1.write(&format!("/etc/systemd/system/{name}"), text).unwrap();
    }
    let before = told(&h1, "cat /etc/passwd /etc/fleet/fleet.conf");
    told(&h1, "fleetd cloud-config --dry-run user-data");
    assert_eq!(told(&h1, "cat /etc/passwd /etc/fleet/fleet.conf"), before, "a dry run changes nothing");
    for block in blocks("console") {
        follow(&h1, block);
    }

    // Each effect, as the host shows it.
    for (script, expected) in [
        ("hostname; cat /etc/hostname", "core1\ncore1"),
        ("getent hosts 127.0.0.1 | grep -ow core1", "core1"),
        ("getent passwd elroy | cut -d: -f5-", "Elroy:/home/elroy:/bin/bash"),
        ("id -nG elroy", "elroy sudo"),
        ("stat -c '%a %U:%G' /home/elroy/.ssh /home/elroy/.ssh/authorized_keys", "700 elroy:elroy\n600 elroy:elroy"),
        ("grep -c elroy@example /home/elroy/.ssh/authorized_keys", "1"),
        ("grep -c me@example /home/core/.ssh/authorized_keys", "1"),
        ("stat -c '%a %U:%G' /etc/motd /usr/local/bin/greet", "644 root:root\n755 elroy:root"),
        ("cat /run/greeting", "hello from core1"),
        ("systemctl is-enabled greeting.service", "enabled"),
        ("systemctl is-active scratch.service", "active"),
        ("readlink /etc/systemd/system/systemd-tmpfiles-clean.service", "/dev/null"),
        ("systemctl show -p Nice --value fleet.service", "-5"),
        ("grep metadata /etc/fleet/fleet.conf", "metadata = \"role=core\""),
    ] {
        assert_eq!(told(&h1, script), expected, "{script}");
    }
    let shadow = told(&h1, "getent shadow elroy core | cut -d: -f2");
    assert!(shadow.starts_with("$6$fleet$CuBCfGDc") && shadow.ends_with("\n*"), "{shadow}");
    let address = h1.address();
    assert_eq!(told(&h1, "cat /etc/motd"), format!("This is core1, at {address}."));
    // Debian's own unit of etcd has a name for it, too: the document's wins.
    let variables = told(&h1, "systemctl show -p Environment --value etcd.service");
    for variable in ["ETCD_NAME=core1".into(), format!("ETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379")] {
        assert!(variables.split(' ').any(|known| known == variable), "{variables}");
    }

    // `front` asks for the metadata that the document gave this host.
    let running = |expected: &[&str]| {
        let look = || {
            let rows = cluster.rows()?.into_iter().filter(|row| row.active == "active");
            let mut units: Vec<String> = rows.map(|row| row.unit).collect();
            units.sort();
            Ok(units)
        };
        let expected: Vec<String> = expected.iter().map(|unit| (*unit).to_owned()).collect();
        eventually_eq(DEADLINE, "units of the cluster", &expected, look).unwrap();
    };
    running(&["front.service", "worker@1.service", "worker@2.service"]);
    assert_eq!(cluster.host_of("front.service").as_deref(), Some("h1"));

    // A second host with the same units: they were submitted, whatever has become of them.
    cluster.ok(&["destroy", "worker@2.service"]);
    cluster.ok(&["stop", "worker@1.service"]);
    h2.write("/root/user-data", document).unwrap();
    assert_eq!(told(&h2, "fleetd cloud-config --only cluster user-data"), "Nothing to do");
    running(&["front.service"]);

    // Other contents.
    let changed = document
        .replace("[X-Fleet]\n        MachineMetadata=role=core", "[X-Fleet]\n        MachineMetadata=role=edge");
    assert_ne!(changed, document);
    h2.write("/root/user-data", &changed).unwrap();
    let left = run(&h2, "fleetd cloud-config --only cluster user-data");
    assert_eq!(
        (left.code, &*left.stdout, &*left.stderr),
        (
            0,
            "Nothing to do\n",
            "warning: front.service is in the cluster with other contents and stays as it is; `replace: true` replaces \
             it\n"
        )
    );
    h2.write("/root/user-data", &changed.replace("name: front.service", "name: front.service\n      replace: true"))
        .unwrap();
    assert_eq!(told(&h2, "fleetd cloud-config --only cluster user-data"), "replace front.service in the cluster");
    running(&[]);

    // A boot while etcd is away, with one more unit in the document. The documentation has had the services enabled.
    let more = format!(
        "{document}    - name: late.service\n      content: |\n        [Service]\n        ExecStart=/bin/sleep infinity\n"
    );
    h1.write("/etc/fleet/cloud-config.yaml", &more.replace("This is core1", "Now this is core1")).unwrap();
    cluster.lab.etcd(1).stop().unwrap();
    h1.reboot().unwrap();
    assert_eq!(told(&h1, "cat /etc/motd; hostname"), format!("Now this is core1, at {address}.\ncore1"));
    assert_eq!(told(&h1, "systemctl is-active fleet-cloud-config.service"), "active");
    eventually(DEADLINE, "it waits for the cluster", || {
        let log = "journalctl -u fleet-cloud-config-units.service -o cat | grep -c 'waiting for the cluster'";
        Ok(run(&h1, log).code == 0)
    })
    .unwrap();
    // What is wanted of the host for each boot was done, and nothing of that by the part that waits.
    assert_eq!(told(&h1, "systemctl is-active scratch.service fleet-cloud-config-units.service"), "active\nactive");
    cluster.lab.etcd(1).start().unwrap();
    running(&["late.service"]);
    eventually_eq(DEADLINE, "it has ended", &"inactive success".to_owned(), || {
        let show = "systemctl show -p ActiveState -p Result --value fleet-cloud-config-units.service | sort | xargs";
        Ok(told(&h1, show))
    })
    .unwrap();
}

#[test]
fn hosts_that_cannot_be_set_up_are_left_alone_and_say_why() {
    let cluster = Cluster::new(1);
    let host = cluster.host("h1");
    // All that can be done is done, and what cannot is named.
    let text = "#cloud-config\nwrite_files:\n  - {path: /etc, content: x}\n  - {path: /etc/one, owner: nobody-there}\n  \
                - {path: /etc/two, content: two}\ncoreos:\n  units:\n    - {name: missing.service, command: start}\n";
    host.write("/root/user-data", text).unwrap();
    let partly = run(&host, "fleetd cloud-config user-data");
    assert_eq!((partly.code, &*partly.stdout), (1, "write /etc/two (3 bytes, 0644 root:root)\n"));
    for part in [
        "error: cannot write /etc (1 bytes, 0644 root:root): ",
        "this host has no user nobody-there",
        "cannot start missing.service: systemctl start -- missing.service: ",
    ] {
        assert!(partly.stderr.contains(part), "{part}: {}", partly.stderr);
    }
    // A document with a fault changes nothing.
    host.write("/root/user-data", "#cloud-config\nhostname: changed\nusers: x\n").unwrap();
    assert_eq!(run(&host, "fleetd cloud-config user-data").code, 2);
    assert_eq!(told(&host, "hostname"), "h1");
    // A cluster that is not there in time.
    let unit = "#cloud-config\nfleet:\n  units:\n    - name: a.service\n      content: |\n        [Service]\n        \
                ExecStart=/bin/sleep 9\n";
    host.write("/root/user-data", unit).unwrap();
    told(&host, "systemctl stop fleet.service");
    let late = run(&host, "fleetd cloud-config --wait 1s user-data");
    assert_eq!(late.code, 4, "{late:?}");
    assert!(late.stderr.contains("this host has not joined the cluster: is fleet.service running?"), "{late:?}");
    // On the first boot the document alone knows where etcd is, and so the host's address.
    host.write("/etc/fleet/fleet.conf", "# as the package has it\n").unwrap();
    let text = "#cloud-config\nwrite_files: [{path: /etc/three, content: $private_ipv4}]\n";
    host.write("/root/user-data", text).unwrap();
    // Of two addresses nobody can say which one others reach.
    told(&host, "ip link add spare type bridge && ip address add 10.81.0.1/24 dev spare && ip link set spare up");
    let unknown = run(&host, "fleetd cloud-config user-data");
    assert!(unknown.code == 2 && unknown.stderr.contains("set COREOS_PRIVATE_IPV4 or --private-ipv4"), "{unknown:?}");
    let etcd = cluster.lab.etcd_endpoints().join(",");
    host.write("/root/user-data", &format!("{text}coreos: {{fleet: {{etcd-servers: '{etcd}'}}}}\n")).unwrap();
    told(&host, "fleetd cloud-config user-data");
    assert_eq!(told(&host, "cat /etc/three"), host.address().to_string());
    assert_eq!(told(&host, "grep etcd /etc/fleet/fleet.conf"), format!("etcd_servers = \"{etcd}\""));
    let stranger =
        run(&host, "setpriv --reuid 65534 --regid 65534 --clear-groups fleetd cloud-config - 2>&1 <user-data");
    assert!(stranger.stdout.contains("error: a host is set up by root"), "{stranger:?}");
}

#[test]
fn the_document_of_the_slides_starts_docker_and_its_container() {
    assert!(blocks("yaml").contains(&DECK), "the documentation shows the document");
    let cluster = Cluster::with(Lab::builder().docker(true));
    let host = cluster.host("h1");
    // Another image, which is there: no registry is.
    let document = DECK
        .replace("docker pull dockerfile/elasticsearch", "docker image inspect fleet/busybox")
        .replace(" dockerfile/elasticsearch\n", " fleet/busybox httpd -f -p 9200 -h /www\n");
    assert!(!document.contains("elasticsearch"), "{document}");
    eventually(DEADLINE, "the image is there", || {
        Ok(run(&host, "/usr/bin/docker image inspect fleet/busybox && systemctl is-active fleet-lab-image.service")
            .code
            == 0)
    })
    .unwrap();
    told(&host, "systemctl stop docker.service docker.socket");
    for (name, text) in SERVICES {
        host.write(&format!("/etc/systemd/system/{name}"), text).unwrap();
    }
    host.write("/etc/fleet/cloud-config.yaml", &document).unwrap();
    let first = told(
        &host,
        "fleetd cloud-config /etc/fleet/cloud-config.yaml || { journalctl -u es.service -u docker.service -o cat >&2; exit 1; }",
    );
    assert_eq!(
        without_lengths(&first),
        "write /etc/systemd/system/es.service (N bytes, 0644 root:root)\nreload systemd's units\nstart \
         docker.service\nstart es.service"
    );
    let served = || {
        eventually(DEADLINE, "the container serves", || {
            Ok(run(&host, "curl -sf --max-time 5 http://127.0.0.1:9200/ | grep -q fleet/busybox").code == 0)
        })
        .unwrap();
        told(&host, "/usr/bin/docker ps -q")
    };
    let container = served();
    // The unit has ended, its container has not: a second run must not start another.
    assert_eq!(told(&host, "fleetd cloud-config /etc/fleet/cloud-config.yaml"), "Nothing to do");
    assert_eq!(served(), container);
    // The next boot starts it anew, as CoreOS did.
    told(
        &host,
        "systemctl enable --quiet fleet-cloud-config.service && systemctl disable --quiet docker.service docker.socket",
    );
    host.reboot().unwrap();
    assert_ne!(served(), container);
}

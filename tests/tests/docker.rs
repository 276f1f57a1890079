//! A service in a container, reached from another host.

use fleet_lab::{Lab, eventually};
use fleet_tests::{Cluster, DEADLINE};

#[test]
fn containers_serve_across_hosts_and_move_with_their_units() {
    let cluster = Cluster::with(Lab::builder().hosts(3).docker(true).config("agent_ttl=\"3s\""));
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../units/web@.service")).unwrap();
    cluster.write(&[("web@.service", &template)]);
    cluster.ok(&["start", "web@1", "web@2"]);
    let fetch = |from: &str, unit: &str| {
        let host = cluster.host_of(unit).ok_or_else(|| anyhow::anyhow!("{unit} is nowhere"))?;
        cluster.host(from).sh(&format!("curl -sf --max-time 5 http://{}:8080/", cluster.host(&host).address()))
    };
    for unit in ["web@1.service", "web@2.service"] {
        for from in ["h1", "h2", "h3"] {
            eventually(DEADLINE, "the page is served", || Ok(fetch(from, unit).is_ok_and(|page| !page.is_empty())))
                .unwrap();
        }
    }
    let (one, two) = (cluster.host_of("web@1.service").unwrap(), cluster.host_of("web@2.service").unwrap());
    assert_ne!(one, two, "instances keep apart");
    // h1 is where fleetctl runs.
    let (unit, victim) = if one == "h1" { ("web@2.service", two) } else { ("web@1.service", one) };
    cluster.host(&victim).kill().unwrap();
    eventually(DEADLINE, "the page is served from elsewhere", || {
        let host = cluster.host_of(unit);
        Ok(host.is_some_and(|host| host != victim) && fetch("h1", unit).is_ok())
    })
    .unwrap();
    cluster.ok(&["destroy", "web@1", "web@2"]);
    assert_eq!(cluster.host("h1").sh("/usr/bin/docker ps -aq").unwrap(), "", "no container is left");
}

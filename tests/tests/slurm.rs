//! SLURM out of two units: a controller on any host, a daemon on all, and jobs that run on them.

use std::time::Duration;

use fleet_lab::{Lab, eventually, eventually_eq};
use fleet_tests::{Cluster, DEADLINE, docs::typed};

/// A host's loss, a new controller, and nodes that register with it.
const MOVED: Duration = Duration::from_secs(60);

/// The names of nodes that SLURM calls idle, as a host sees them.
fn idle(cluster: &Cluster, host: &str) -> anyhow::Result<Vec<String>> {
    let nodes = cluster.host(host).sh("sinfo --noheader --Node --states=idle --format=%N")?;
    let mut nodes: Vec<String> = nodes.lines().map(str::to_owned).collect();
    nodes.sort();
    Ok(nodes)
}

/// What `srun hostname` prints on so many nodes.
fn names(printed: &str) -> Vec<&str> {
    let mut names: Vec<&str> = printed.lines().collect();
    names.sort_unstable();
    names
}

#[test]
fn jobs_run_on_all_hosts_and_nodes_follow_the_controller_to_another_host() {
    let cluster = Cluster::with(Lab::builder().hosts(3).config("agent_ttl=\"3s\""));
    for host in cluster.lab.hosts() {
        // The package's own, which the lab leaves out with all of the machine's logs.
        host.sh("install -d -o munge -g munge -m 700 /var/log/munge").unwrap();
    }
    cluster.host("h1").sh("mkdir /root/units").unwrap();
    for name in ["slurm-controller.service", "slurm-node.service"] {
        let path = format!("{}/../units/{name}", env!("CARGO_MANIFEST_DIR"));
        cluster.write(&[(&format!("units/{name}"), &std::fs::read_to_string(path).unwrap())]);
    }
    let script = typed("../units/README.md", "SLURM");
    let [start, sinfo, srun] = script.lines().collect::<Vec<_>>()[..] else { panic!("{script}") };
    let run = |host: &str, command: &str| cluster.host(host).sh(&format!("cd /root && timeout 60 {command}"));
    run("h1", start).unwrap();
    eventually_eq(DEADLINE, "idle nodes", &["h1", "h2", "h3"].map(String::from).to_vec(), || idle(&cluster, "h1"))
        .unwrap();
    let table = run("h1", sinfo).unwrap();
    assert!(
        table.lines().any(|line| line.starts_with("all*") && line.contains(" 3 ") && line.contains("idle")),
        "{table}"
    );
    assert_eq!(names(&run("h1", srun).unwrap()), ["h1", "h2", "h3"]);

    let controller = cluster.host_of("slurm-controller.service").unwrap();
    let rest: Vec<String> = cluster.names().into_iter().filter(|name| *name != controller).collect();
    cluster.host(&controller).kill().unwrap();
    eventually_eq(MOVED, "idle nodes", &rest, || idle(&cluster, &rest[0])).unwrap();
    eventually(DEADLINE, "a job runs on both", || {
        let printed = run(&rest[0], "srun --immediate=10 -N2 hostname");
        Ok(printed.is_ok_and(|printed| names(&printed) == rest))
    })
    .unwrap();
}

//! `fleetctl start --trace`, on real hosts: where the time of a start goes.

use fleet_tests::Cluster;

const UNIT: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
/// The stages of the start of one unit that has to be put in place.
const STAGES: [&str; 11] = [
    "fleetctl looks",
    "API request",
    "etcd write",
    "engine decision and write",
    "agent notices",
    "files in place",
    "systemd job",
    "active",
    "stayed active",
    "state written",
    "client told",
];

/// Stage and milliseconds, line by line.
fn rows(out: &str) -> Vec<(String, Vec<f64>)> {
    let lines = out.lines().skip_while(|line| !line.starts_with("STAGE")).skip(1);
    let row = |line: &str| {
        let (stage, cells) = line.split_at(26);
        let cells = cells.split_whitespace().map(|cell| cell.parse().expect("a number")).collect();
        (stage.trim().to_owned(), cells)
    };
    lines.map(row).collect()
}

#[test]
fn stages_come_in_order_and_cover_the_whole_start() {
    let cluster = Cluster::new(2);
    cluster.write(&[("one.service", UNIT), ("web@.service", UNIT)]);
    let out = cluster.ok(&["start", "--trace", "one.service"]);
    let rows_of_one = rows(&out);
    let names: Vec<&str> = rows_of_one.iter().map(|(stage, _)| &**stage).collect();
    assert_eq!(names, [&STAGES[..], &["total"]].concat(), "{out}");
    let times: Vec<f64> = rows_of_one.iter().map(|(_, cells)| cells[0]).collect();
    let (total, stages) = times.split_last().expect("there are rows");
    let sum: f64 = stages.iter().sum();
    assert!((sum - total).abs() < 0.01, "the stages are the whole: {out}");
    assert!(stages.iter().all(|took| *took >= 0.0), "no stage ends before it begins: {out}");
    // A simple unit counts as started once it has stayed active for a while.
    let stayed = stages[STAGES.iter().position(|stage| *stage == "stayed active").expect("it is a stage")];
    assert!(stayed >= 39.0 && *total > stayed, "{out}");

    // The file is in place by then.
    cluster.ok(&["stop", "one.service"]);
    let out = cluster.ok(&["start", "--trace", "one.service"]);
    assert!(!out.contains("files in place") && out.contains("systemd job"), "{out}");

    let out = cluster.ok(&["start", "--trace", "web@1.service", "web@2.service", "web@3.service"]);
    let rows = rows(&out);
    assert_eq!(rows.len(), STAGES.len() + 1, "{out}");
    assert!(rows.iter().all(|(_, cells)| cells.len() == 2 && cells[0] <= cells[1]), "median and most: {out}");
}

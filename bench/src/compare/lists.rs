//! The lists, with many units in them.

use anyhow::{Result, ensure};

use super::{
    Sizes, gate,
    row::Row,
    series::Series,
    stage::{Stage, UNITS},
    units::{Set, command},
};

/// Asks for both lists, and has etcdctl read the keys that are in them.
///
/// # Errors
/// When a list is not whole.
pub fn measure(stage: &mut Stage, sizes: &Sizes) -> Result<Vec<Row>> {
    stage.populate(sizes.large)?;
    let set = Set { name: UNITS, count: sizes.large };
    // The second list shows of each unit what is wanted, where, and how it is there. These keys lie one after the other.
    let lists: [(&str, &[&str]); 2] =
        [("list-units", &["--prefix", "/fleet/state/"]), ("list-unit-files", &["/fleet/sched/", "/fleet/unit0"])];
    let mut rows = Vec::new();
    for (list, keys) in lists {
        let keys = keys.join(" ");
        let [mut floor, mut ours] = [const { Series::new() }; 2];
        for _ in 0..sizes.quick_rounds() {
            stage.rest()?;
            let endpoint = stage.cluster.lab.etcd(1).endpoint();
            let etcdctl: Vec<&str> = ["--endpoints", &endpoint, "get"].into_iter().chain(keys.split(' ')).collect();
            floor.push_time(asked(stage, &command("etcdctl", &etcdctl, &[]), set)?);
            stage.rest()?;
            ours.push_time(asked(stage, &command("fleetctl", &[list, "--no-legend"], &[]), set)?);
        }
        let what = format!("`{list}` with {} units, against `etcdctl get {keys}`", sizes.large);
        rows.push(Row::against(what, floor, ours, Some(2.0)));
    }
    Ok(rows)
}

/// How long a command takes that is to print a line for each unit.
fn asked(stage: &Stage, command: &[String], set: Set) -> Result<std::time::Duration> {
    let finish = gate::run(&[(stage.seat().clone(), command.to_vec())])?;
    let printed = &finish.output[0];
    for name in set.names() {
        ensure!(printed.contains(&name), "{name} is not in what `{}` printed", command.join(" "));
    }
    Ok(finish.returned - finish.begun)
}

//! The table of what global units cost.

use std::time::Duration;

use super::{BATCH, CONNECTIONS, Outcome};

/// All of it, as Markdown.
#[must_use]
pub fn section(outcome: &Outcome) -> String {
    let Outcome { options, plain, watched, leader: [scheduled, reported] } = outcome;
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let ratio = |watched: Duration, plain: Duration| {
        format!("{:.2}", watched.as_secs_f64() / plain.as_secs_f64().max(f64::EPSILON))
    };
    let mut text = format!(
        "`fleet-lab sim --machines {} --globals {}`: {} entries without text in transactions of {BATCH}, one after the \
         other; a watch for each machine on its own range, over {CONNECTIONS} connections.\n\n",
        options.machines,
        options.globals,
        options.machines * options.globals
    );
    text += "| | Plain etcd, until written | Until each machine has heard | Ratio |\n|---|---:|---:|---:|\n";
    for (name, plain, watched) in [
        ("all machines get all units", plain.place, watched.place),
        ("one unit is changed on all machines", plain.change, watched.change),
        ("machines join at once", plain.join, watched.join),
    ] {
        let (floor, ours) = (plain.written, watched.heard);
        text += &format!(
            "| {name}: {} entries | {} | {} | {} |\n",
            watched.entries,
            seconds(floor),
            seconds(ours),
            ratio(ours, floor)
        );
    }
    text += &format!(
        "| {} machines come back after they vanished: nothing is written, each reads its entries | {} | {} | {} |\n\n",
        options.joining,
        seconds(plain.back),
        seconds(watched.back),
        ratio(watched.back, plain.back)
    );
    text += &format!(
        "* etcd: a database of {} MiB, {} MiB of memory without watches and {} MiB with them.\n",
        watched.database, plain.etcd, watched.etcd
    );
    text += &format!(
        "* A leader's picture of machines and schedule: {} MiB, read in {}. With the states of all units, which are \
         there today too: {} MiB, read in {}.\n",
        scheduled.memory,
        seconds(scheduled.reads),
        reported.memory,
        seconds(reported.reads)
    );
    text
}

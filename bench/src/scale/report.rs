//! The table of a campaign.

use std::{fmt::Write as _, time::Duration};

use super::{
    campaign::{Outcome, Phase, median},
    counted::Topic,
    figures::REQUESTS,
};

/// All of it, as Markdown.
#[must_use]
pub fn section(outcome: &Outcome) -> String {
    let options = &outcome.options;
    let mut text = format!(
        "`fleet-lab sim --machines {} --units {} --ttl {}`: machines whose fleetd is the real one and whose systemd and \
         disk are in memory, all in one process, with one etcd on the same processors.\n\n",
        options.machines,
        options.units,
        options.ttl.as_secs()
    );
    text += &ratio(outcome);
    text += "\n";
    text += &table(&outcome.phases);
    text += &remarks(outcome);
    text
}

fn ratio(outcome: &Outcome) -> String {
    let (took, floor) = (outcome.submission(), outcome.floor_median());
    let range = |times: &[Duration]| {
        let (least, most) = (times.iter().min(), times.iter().max());
        format!("{} to {}", seconds(least.copied().unwrap_or_default()), seconds(most.copied().unwrap_or_default()))
    };
    let [wanted, scheduled, reported] = outcome.written.map(|(keys, transactions)| {
        format!("{keys} in {transactions} ({:.1} each)", keys as f64 / transactions.max(1) as f64)
    });
    let mut text = String::from("| From the first submit to every state reported | |\n|---|---|\n");
    let mut row = |name: &str, value: &str| text += &format!("| {name} | {value} |\n");
    row("fleet", &seconds(took));
    let median = format!("{} (of {}: {})", seconds(floor), outcome.floor.len(), range(&outcome.floor));
    row("plain etcd, the same keys and bytes in batches of the same size", &median);
    row("ratio", &format!("{:.2}", took.as_secs_f64() / floor.as_secs_f64().max(f64::EPSILON)));
    row("keys of files and units in transactions", &wanted);
    row("keys of the schedule", &scheduled);
    row("keys of states", &reported);
    text
}

/// A column for each thing that was done.
fn table(phases: &[Phase]) -> String {
    let mut text = String::from("| |");
    phases.iter().for_each(|phase| text += &format!(" {} |", phase.name));
    text += "\n|---|";
    phases.iter().for_each(|_| text += "---:|");
    text += "\n";
    let mut row = |name: &str, value: &dyn Fn(&Phase) -> String| {
        let _ = write!(text, "| {name} |");
        phases.iter().for_each(|phase| {
            let _ = write!(text, " {} |", value(phase));
        });
        text += "\n";
    };
    row("until all is as it should be", &|phase| seconds(phase.took));
    for (name, method) in REQUESTS {
        row(&format!("etcd: {name}"), &|phase| phase.figures.count(method).to_string());
    }
    row("etcd: keepalives", &|phase| phase.figures.keepalives.to_string());
    row("etcd: watch messages", &|phase| phase.figures.watch_messages.to_string());
    row("to etcd, MB", &|phase| megabytes(phase.figures.bytes_in));
    row("from etcd, MB", &|phase| megabytes(phase.figures.bytes_out));
    row("CPU of etcd", &|phase| seconds(phase.figures.etcd_cpu));
    row("CPU of all machines, API and client", &|phase| seconds(phase.figures.own_cpu));
    row("placements due", &|phase| phase.placements.to_string());
    row("entries of the schedule put or deleted, refused ones too", &|phase| {
        phase.tally.written(Topic::Scheduled).1.to_string()
    });
    row("states written", &|phase| phase.tally.written(Topic::Reported).1.to_string());
    row("unit files read, and requests for that", &|phase| {
        let (requests, files) = phase.tally.files();
        format!("{files} in {requests}")
    });
    row("requests for other single keys", &|phase| phase.tally.keys().to_string());
    row("agents woken", &|phase| phase.woken.to_string());
    row("wake-ups of agents by etcd", &|phase| phase.tally.agent().0.to_string());
    row("changes that agents were told of", &|phase| phase.tally.agent().1.to_string());
    text
}

fn remarks(outcome: &Outcome) -> String {
    let options = &outcome.options;
    let single = median(&outcome.single);
    let mut text = String::from("\n");
    let mut line = |value: &str| text += &format!("* {value}\n");
    let (own, etcd) = outcome.memory;
    line(&format!(
        "Memory with all units running: {own} MiB for all machines with the API and the engine ({} KiB a machine), \
         {etcd} MiB for etcd.",
        own * 1024 / options.machines as u64
    ));
    line(&format!(
        "One unit more, from submit to its state reported: {} (median of {}).",
        seconds(single),
        outcome.single.len()
    ));
    let [why, drain] = &outcome.asked;
    let first = why.first().copied().unwrap_or_default();
    line(&format!(
        "Why a unit is where it is: answered in {} (median of {}); the first answer, for which all unit files are read, \
         took {}. Which units could leave a machine: {}.",
        milliseconds(median(why)),
        why.len(),
        seconds(first),
        milliseconds(median(drain)),
    ));
    if let Some(lost) = outcome.phases.iter().find(|phase| phase.name.starts_with("take the power")) {
        line(&format!(
            "Lost machines: the last unit runs elsewhere {} after the TTL of {} s is over.",
            seconds(lost.took.saturating_sub(options.ttl)),
            options.ttl.as_secs()
        ));
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

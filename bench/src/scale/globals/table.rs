//! The table of what global units cost.

use std::time::Duration;

use super::{BATCH, CONNECTIONS, Leader, Outcome};

/// All of it, as Markdown.
#[must_use]
pub fn section(outcome: &Outcome) -> String {
    let Outcome { options, plain, watched, led, leaders } = outcome;
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let row = |what: String, plain: Duration, others: [Duration; 2]| {
        let ratio = |time: Duration| time.as_secs_f64() / plain.as_secs_f64().max(f64::EPSILON);
        let others = others.map(|time| format!("{} ({:.1})", seconds(time), ratio(time)));
        format!("| {what} | {} | {} |\n", seconds(plain), others.join(" | "))
    };
    let mut text = format!(
        "`fleet-lab sim --machines {} --globals {}`: a watch for each machine on its own range, over {CONNECTIONS} \
         connections; in parentheses how much longer it took than plain etcd, to which the entries are written in \
         transactions of {BATCH}, one after the other.\n\n",
        options.machines, options.globals,
    );
    text += "| | Plain etcd, until written | Until each machine has heard | The same, written by an engine |\n";
    text += "|---|---:|---:|---:|\n";
    for (name, plain, watched, led) in [
        (
            format!("{} machines get all units", options.machines - options.joining),
            plain.place,
            watched.place,
            led.place,
        ),
        (format!("{} join at once", options.joining), plain.join, watched.join, led.join),
        (format!("one unit is changed on all {}", options.machines), plain.change, watched.change, led.change),
    ] {
        text += &row(format!("{name}: {} entries", plain.entries), plain.written, [watched.heard, led.heard]);
    }
    let (floor, others) = (plain.vanish, [watched.vanish, led.vanish]);
    text += &row(format!("{} lose their leases at once", options.joining), floor.gone, others.map(|side| side.gone));
    text += &row("they come back, and each reads its entries".into(), floor.back, others.map(|side| side.back));
    let vanish = led.vanish;
    text += &format!(
        "\n* When they vanished and came back, {} of {} transactions were their own. The engine wrote {} entries, and {} \
         times something else. Etcd's revision grew by {}, of these {} for leases that ended. The machines were told of \
         {} changes of their entries.\n",
        vanish.own, vanish.transactions, vanish.scheduled, vanish.others, vanish.revisions, vanish.leases, vanish.heard
    );
    text += &format!(
        "* etcd: a database of {} MiB, {} MiB of memory without watches and {} MiB with them.\n\n",
        led.database, plain.etcd, led.etcd
    );
    text +=
        "| A leader knows | Its picture | With planner and input | At most, meanwhile | Read in | Planner told in |\n";
    text += "|---|---:|---:|---:|---:|---:|\n";
    let all = options.machines * options.globals;
    for (what, leader) in [
        (format!("{} machines", options.machines), leaders.machines),
        (format!("these, and {all} entries"), leaders.entries),
        (format!("machines, and {all} states: where each machine decides for itself"), leaders.states),
        (format!("machines, {all} entries, and {all} states"), leaders.all),
    ] {
        let Leader { reads, plans, picture, memory, peak, .. } = leader;
        text += &format!(
            "| {what} | {picture} MiB | {memory} MiB | {peak} MiB | {} | {} |\n",
            seconds(reads),
            seconds(plans)
        );
    }
    let more = |of: fn(&Leader) -> u64| of(&leaders.all).saturating_sub(of(&leaders.states));
    text += &format!(
        "\nSo the entries cost a leader {} MiB, and {} MiB while it learns of them.\n",
        more(|leader| leader.memory),
        more(|leader| leader.peak)
    );
    text
}

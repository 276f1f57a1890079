//! Where the time of a start went: `fleetctl start --trace`.
//!
//! Three clocks take part and are never compared. Our own tells the beginning, the request and the end; that of the
//! fleetd that was asked tells when the request came to it and when it saw each step in etcd; that of the machine tells
//! what happened there since it saw the schedule. Of each only differences are used, and what is left of the whole is the
//! way of the request and of the news between fleetd and here.

use std::collections::BTreeMap;

use fleet_api::Trace;
use tokio::time::Instant;

use crate::{client::Taken, command::Context, error::Failure, output, watch::Reached};

/// The stages of a start, in their order.
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

/// Microseconds that a stage took; `None` of one that there was none of.
type Stages = [Option<i64>; STAGES.len()];

/// Says where the time went of the starts that began at one moment and were heard of at others.
///
/// # Errors
/// Standard output cannot be written to, or fleetd does not answer.
pub async fn show(context: &Context, began: Instant, reached: &Reached) -> Result<(), Failure> {
    let mut starts = Vec::new();
    let named = reached.iter().filter_map(|(name, told)| Some((name.clone(), *told, context.client.taken(name)?)));
    let traces = context.client.each(named, |client, (name, told, taken)| async move {
        let trace = client.trace(&name).await?;
        Ok(trace.map(|trace| (told, taken, trace)))
    });
    let traces = traces.await.map_err(|error: crate::error::ClientError| error.during("Error tracing units"))?;
    for (told, taken, trace) in traces.into_iter().flatten() {
        starts.push(stages(began, taken, &trace, told));
    }
    if reached.is_empty() {
        output::note("No unit was started, there is nothing to trace.");
    } else if starts.len() < reached.len() {
        let unknown = reached.len() - starts.len();
        output::note(&format!("Of {unknown} of {} starts it is not known how they went.", reached.len()));
    }
    table(&starts).into_iter().try_for_each(|line| output::result(&line))
}

/// How long each stage of one start took. They add up to the whole.
fn stages(began: Instant, taken: Taken, trace: &Trace, told: Instant) -> Stages {
    let micros =
        |from: Instant, to: Instant| i64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(i64::MAX);
    let start = &trace.start;
    let mut at = 0;
    let mut step = |since: Option<u64>| {
        let now = i64::try_from(since?).unwrap_or(i64::MAX);
        Some(now - std::mem::replace(&mut at, now))
    };
    let mut stages = [
        Some(micros(began, taken.sent)),
        Some(taken.checked - taken.received),
        Some(trace.wanted - taken.checked),
        Some(trace.scheduled - trace.wanted),
        step(Some(start.noticed)),
        step(start.installed),
        step(start.queued),
        step(start.active),
        step(start.settled),
        None,
        None,
    ];
    let written = trace.reported - trace.scheduled - at;
    // The machine cannot have done all that before it saw the schedule: then the fleetd that was asked saw that late, and
    // the engine was faster than it seemed from there.
    stages[3] = stages[3].map(|engine| engine + written.min(0));
    stages[9] = Some(written.max(0));
    stages[10] = Some(micros(began, told) - stages.iter().flatten().sum::<i64>());
    stages
}

/// The lines of the table: of one start as it was, of several the median and the most of each stage.
fn table(starts: &[Stages]) -> Vec<String> {
    if starts.is_empty() {
        return Vec::new();
    }
    let mut rows: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    for stages in starts {
        for (row, took) in stages.iter().enumerate().filter_map(|(row, took)| Some((row, (*took)?))) {
            rows.entry(row).or_default().push(took);
        }
        rows.entry(STAGES.len()).or_default().push(stages.iter().flatten().sum());
    }
    let line = |stage: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        format!("{stage:<26}{cells}")
    };
    let heads = if starts.len() == 1 { vec!["MS".to_owned()] } else { vec!["MEDIAN MS".into(), "MOST MS".into()] };
    let mut lines = vec![line("STAGE", &heads)];
    for (row, mut took) in rows {
        took.sort_unstable();
        let cell = |took: i64| format!("{}.{:03}", took / 1000, (took % 1000).abs());
        let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
        let cells = if starts.len() == 1 { vec![cell(most)] } else { vec![cell(median), cell(most)] };
        lines.push(line(STAGES.get(row).copied().unwrap_or("total"), &cells));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet_core::model::StartSteps;

    use super::*;

    #[test]
    fn stages_add_up_to_the_whole_whatever_the_clocks_show() {
        let began = Instant::now();
        let after = |micros| began + Duration::from_micros(micros);
        let taken = Taken { sent: after(1_000), received: -50_000, checked: -49_500 };
        let start = StartSteps {
            revision: 7,
            noticed: 200,
            installed: None,
            queued: Some(900),
            active: Some(5_900),
            settled: Some(46_000),
        };
        let (wanted, scheduled, reported) = (-48_000, -45_000, 3_000);
        let trace = Trace { wanted, scheduled, reported, start, ..Trace::default() };
        let got = stages(began, taken, &trace, after(55_000));
        let expected = [1_000, 500, 1_500, 3_000, 200, -1, 700, 5_000, 40_100, 2_000, 1_000];
        assert_eq!(got, expected.map(|micros| Some(micros).filter(|micros| *micros >= 0)));
        assert_eq!(got.iter().flatten().sum::<i64>(), 55_000);
        let late = Trace { scheduled: scheduled + 2_500, ..trace };
        let expected = [1_000, 500, 1_500, 5_000, 200, -1, 700, 5_000, 40_100, 0, 1_000];
        let late = stages(began, taken, &late, after(55_000)).map(|micros| micros.unwrap_or(-1));
        assert_eq!(late, expected, "news that came late are no time of the machine");
        let lines = table(&[got]);
        assert_eq!(lines[0], "STAGE                             MS");
        assert_eq!(lines[1], "fleetctl looks                 1.000");
        assert_eq!(lines.last().unwrap(), "total                         55.000");
        assert_eq!(lines.len(), STAGES.len() + 1, "a header and the total, and one stage there was none of");
        let lines = table(&[got, got, got]);
        assert_eq!(lines[0], "STAGE                      MEDIAN MS   MOST MS");
        assert_eq!(lines.last().unwrap(), "total                         55.000    55.000");
    }
}

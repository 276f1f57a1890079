//! Where the time of a start went: `fleetctl start --trace`.
//!
//! The stages and how they are told from three clocks are in [`fleet_api::Trace`]; here they are shown.

use std::collections::BTreeMap;

use fleet_api::{Asked, STAGES, Stages};
use fleet_client::{ClientError, Taken};
use tokio::time::Instant;

use crate::{
    context::Context,
    error::{Ending, Failure},
    output,
    wait::Reached,
};

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
    let traces = traces.await.map_err(|error: ClientError| error.during("Error tracing units"))?;
    for (told, taken, trace) in traces.into_iter().flatten() {
        starts.push(trace.stages(&asked(began, taken, told)));
    }
    if reached.is_empty() {
        output::note("No unit was started, there is nothing to trace.");
    } else if starts.len() < reached.len() {
        let unknown = reached.len() - starts.len();
        output::note(&format!("Of {unknown} of {} starts it is not known how they went.", reached.len()));
    }
    table(&starts).into_iter().try_for_each(|line| output::result(&line))
}

/// What is known here of one start.
fn asked(began: Instant, taken: Taken, told: Instant) -> Asked {
    let micros = |to: Instant| i64::try_from(to.saturating_duration_since(began).as_micros()).unwrap_or(i64::MAX);
    Asked { sent: micros(taken.sent), received: taken.received, checked: taken.checked, told: micros(told) }
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
    use super::*;

    #[test]
    fn one_start_has_a_column_and_several_have_their_median_and_most() {
        let mut stages = [Some(1_000); STAGES.len()];
        stages[5] = None;
        let lines = table(&[stages]);
        assert_eq!(lines[0], "STAGE                             MS");
        assert_eq!(lines[1], "fleetctl looks                 1.000");
        assert_eq!(lines.last().unwrap(), "total                         10.000");
        assert_eq!(lines.len(), STAGES.len() + 1, "a header and the total, and one stage there was none of");
        let slow = stages.map(|took| took.map(|took| 10 * took));
        let lines = table(&[stages, slow, stages]);
        assert_eq!(lines[0], "STAGE                      MEDIAN MS   MOST MS");
        assert_eq!(lines.last().unwrap(), "total                         10.000   100.000");
    }
}

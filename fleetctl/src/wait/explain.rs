//! Why units have no machine, said on stderr while a command waits for one.

use std::{collections::HashMap, time::Duration};

use fleet_api::Why;
use tokio::time::Instant;

use super::spinner::Spinner;
use crate::{context::Context, machines::legend, output};

/// A unit that has no machine by then, and fits on none, gets none soon.
const AFTER: Duration = Duration::from_millis(700);
/// Between two explanations. By the second an engine that is only busy has decided.
const EVERY: Duration = Duration::from_secs(5);
/// Units whose lack of a machine is explained, and machines named for each. The others are counted.
const UNITS: usize = 3;
const MACHINES: usize = 8;

/// Explains again and again, and says nothing twice.
pub struct Explainer {
    next: Instant,
    /// Whether the engine has had its time.
    is_late: bool,
    /// The last explanation of each unit.
    said: HashMap<String, String>,
}

impl Explainer {
    /// Begins to count.
    pub fn new() -> Self {
        Self { next: Instant::now() + AFTER, is_late: false, said: HashMap::new() }
    }

    /// When something may have to be explained.
    pub fn wakes_at(&self) -> Instant {
        self.next
    }

    /// Says what keeps units from getting a machine, unless that has been said before.
    pub async fn explain(&mut self, context: &Context, spinner: &Spinner, unplaced: &[&String]) {
        let mut said = false;
        for name in unplaced.iter().take(UNITS) {
            // Explanations are a courtesy: without them (an old fleetd, or none at all now), waiting goes on.
            let Ok(Some(why)) = context.client.why(name).await else { continue };
            // It has got one meanwhile, or is about to.
            let is_near = why.machines.iter().any(|verdict| verdict.fits) && !self.is_late;
            if is_near || !why.machine_id.is_empty() {
                continue;
            }
            if self.said.get(*name) != Some(&why.summary) {
                spinner.aside(|| output::note(&explanation(name, &why)));
                self.said.insert((*name).clone(), why.summary);
                said = true;
            }
        }
        let others = unplaced.len().saturating_sub(UNITS);
        if said && others > 0 {
            spinner.aside(|| output::note(&format!("{others} more units wait for a machine")));
        }
        self.next = Instant::now() + EVERY;
        self.is_late = true;
    }
}

fn explanation(name: &str, why: &Why) -> String {
    let mut text = format!("Unit {name}: {}", why.summary);
    for verdict in why.machines.iter().take(MACHINES) {
        text.push_str(&format!("\n  {}: {}", legend(&verdict.id, &verdict.primary_ip, false), verdict.reason));
    }
    if let Some(more) = why.machines.len().checked_sub(MACHINES).filter(|more| *more > 0) {
        text.push_str(&format!("\n  and {more} more machines, see `fleetctl why {name}`"));
    }
    text
}

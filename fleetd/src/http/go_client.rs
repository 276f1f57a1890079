//! CoreOS fleet's own `fleetctl`, whose `restart` waits for what is over here before it looks.
//!
//! Of each unit it asks for `loaded`, waits until the unit is `launched` (sic), asks for `launched`, and waits for that
//! once more. It looks at once and then every half second, without end. With CoreOS fleet, whose agents looked every few
//! seconds, the first look still found the unit as it was, and often nothing was restarted. Here an agent has stopped the
//! unit by then, and the client would wait for ever.
//!
//! So this client, which is known by the library that it is made with, is shown for a moment that a unit is launched
//! which it has just had stopped. When it then asks for `launched`, that is a restart, whether the agent has seen the stop
//! or not, and the unit is shown launched when the restart is done: the next unit has to wait for that. Who asks for
//! `loaded` for its own sake, a `stop`, looks once more. Others see the truth at all times.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use fleet_api::UnitStatus;
use fleet_core::{model::Desired, unit::UnitName};
use tokio::time::Instant;

/// The library with which CoreOS fleet's `fleetctl` is made.
const LIBRARY: &str = "google-api-go-client/";
/// How long the client may take for its next request; a tunnel, or a host with much to do, may lie between.
const ON_THE_WAY: Duration = Duration::from_secs(10);
/// How long the old state is shown once it has been looked at: less than the half second until the client looks again.
const MOMENT: Duration = Duration::from_millis(400);
/// How long a restart may take: systemd gives 90 s to a stop and as much to a start, unless a unit says otherwise.
const RESTART: Duration = Duration::from_secs(180);
/// Most restarts that are remembered. A client has one under way at a time.
const MOST: usize = 1024;

/// The restarts of such clients that are under way.
#[derive(Debug, Default)]
pub struct GoClients(Mutex<Restarts>);

/// By unit, how far the restart is.
type Restarts = HashMap<UnitName, Restart>;

/// How far a restart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restart {
    /// `loaded` was asked for, of a unit that was launched. Next, [`Restart::Starting`], or it was only a stop.
    Stopping {
        asked: Instant,
        /// When it was first looked at after that.
        seen: Option<Instant>,
    },
    /// `launched` was asked for again. It ends when an agent reports the restart as done.
    Starting { asked: Instant },
}

impl Restart {
    /// Whether it still counts.
    fn lasts(self, now: Instant) -> bool {
        match self {
            Self::Stopping { asked, .. } => now.duration_since(asked) < ON_THE_WAY,
            Self::Starting { asked } => now.duration_since(asked) < RESTART,
        }
    }

    /// What the client is shown of the unit, when that is not the truth.
    fn shown(self, status: &UnitStatus, now: Instant) -> Option<Desired> {
        let is_desired = |desired: Desired| status.desired_state == desired.as_str();
        match self {
            Self::Stopping { seen, .. } => {
                let is_new = seen.is_none_or(|seen| now.duration_since(seen) < MOMENT);
                (is_new && is_desired(Desired::Loaded)).then_some(Desired::Launched)
            }
            Self::Starting { .. } => {
                let report = status.reports.iter().find(|report| report.machine_id == status.machine_id);
                let is_done = report.is_some_and(|report| report.generation == status.generation && !report.job);
                (!is_done && is_desired(Desired::Launched)).then_some(Desired::Loaded)
            }
        }
    }
}

/// Whether a request is from such a client.
pub fn is(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with(LIBRARY))
}

impl GoClients {
    /// Whether a start that is asked for is the second half of a restart.
    pub fn is_restart(&self, unit: &UnitName, desired: Option<Desired>, now: Instant) -> bool {
        let under_way = self.restarts(now).get(unit).copied();
        desired == Some(Desired::Launched) && matches!(under_way, Some(Restart::Stopping { .. }))
    }

    /// Takes note of what such a client has just had set, of a unit that stood like this before.
    pub fn take_note(&self, unit: &UnitName, desired: Option<Desired>, before: &UnitStatus, now: Instant) {
        let mut restarts = self.restarts(now);
        let under_way = restarts.get(unit).copied();
        let launched = Desired::Launched.as_str();
        let was_launched = before.current_state == launched || before.global && before.desired_state == launched;
        let next = match (desired, under_way) {
            (Some(Desired::Loaded), Some(_)) => Some(Restart::Stopping { asked: now, seen: None }),
            (Some(Desired::Loaded), None) if was_launched => Some(Restart::Stopping { asked: now, seen: None }),
            (Some(Desired::Launched), Some(_)) => Some(Restart::Starting { asked: now }),
            _ => None,
        };
        match next {
            Some(next) if under_way.is_some() || restarts.len() < MOST => drop(restarts.insert(unit.clone(), next)),
            _ => drop(restarts.remove(unit)),
        }
    }

    /// What such a client is shown of how far the cluster brought a unit.
    pub fn shown(&self, unit: &UnitName, status: &UnitStatus, now: Instant) -> String {
        let mut restarts = self.restarts(now);
        let shown = restarts.get(unit).and_then(|restart| restart.shown(status, now));
        match (shown, restarts.get_mut(unit)) {
            (None, _) => drop(restarts.remove(unit)),
            (Some(_), Some(Restart::Stopping { seen, .. })) => *seen = Some(seen.unwrap_or(now)),
            _ => {}
        }
        // A global unit has none.
        shown.filter(|_| !status.global).map_or_else(|| status.current_state.clone(), |shown| shown.to_string())
    }

    /// Those that still count.
    fn restarts(&self, now: Instant) -> MutexGuard<'_, Restarts> {
        let mut restarts = self.0.lock().expect("nothing panics while it holds this lock");
        restarts.retain(|_, restart| restart.lasts(now));
        restarts
    }
}

#[cfg(test)]
mod tests {
    use fleet_api::UnitReport;
    use tokio::time::sleep;

    use super::*;

    const HALF_A_SECOND: Duration = Duration::from_millis(500);

    fn unit() -> UnitName {
        UnitName::new("a.service").unwrap()
    }

    /// How the unit stands: what is wanted, the restart that is, what an agent reports, and the restart it carried out.
    fn stands(desired: Desired, generation: u64, current: Desired, carried_out: u64) -> UnitStatus {
        let report = UnitReport { machine_id: "m".into(), generation: carried_out, ..UnitReport::default() };
        UnitStatus {
            name: unit().to_string(),
            exists: true,
            desired_state: desired.to_string(),
            current_state: current.to_string(),
            machine_id: "m".into(),
            generation,
            reports: vec![report],
            ..UnitStatus::default()
        }
    }

    use Desired::{Launched, Loaded};

    /// Polls as the client does, and tells how often until it has seen `wanted`; `None` when a minute is not enough.
    async fn looks_until(clients: &GoClients, wanted: Desired, status: &UnitStatus) -> Option<u32> {
        for look in 1..120 {
            if clients.shown(&unit(), status, Instant::now()) == wanted.as_str() {
                return Some(look);
            }
            sleep(HALF_A_SECOND).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn restart_sees_launched_then_restarts_and_ends_when_that_is_done() {
        for stopped_at_once in [true, false] {
            let clients = GoClients::default();
            let running = stands(Launched, 7, Launched, 7);
            assert!(!clients.is_restart(&unit(), Some(Loaded), Instant::now()));
            clients.take_note(&unit(), Some(Loaded), &running, Instant::now());
            let current = if stopped_at_once { Loaded } else { Launched };
            assert_eq!(looks_until(&clients, Launched, &stands(Loaded, 7, current, 7)).await, Some(1));
            assert!(clients.is_restart(&unit(), Some(Launched), Instant::now()), "the result is a restart");
            clients.take_note(&unit(), Some(Launched), &stands(Loaded, 7, current, 7), Instant::now());
            // The agent's last word is still of the run before.
            let early = stands(Launched, 8, Launched, 7);
            assert_eq!(clients.shown(&unit(), &early, Instant::now()), "loaded");
            sleep(HALF_A_SECOND).await;
            assert_eq!(looks_until(&clients, Launched, &stands(Launched, 8, Launched, 8)).await, Some(1));
            assert!(clients.restarts(Instant::now()).is_empty(), "nothing is kept");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stop_looks_once_more_and_is_no_restart_when_a_start_follows() {
        let clients = GoClients::default();
        clients.take_note(&unit(), Some(Loaded), &stands(Launched, 7, Launched, 7), Instant::now());
        assert_eq!(looks_until(&clients, Loaded, &stands(Loaded, 7, Loaded, 7)).await, Some(2));
        assert!(!clients.is_restart(&unit(), Some(Launched), Instant::now()));
        clients.take_note(&unit(), Some(Launched), &stands(Loaded, 7, Loaded, 7), Instant::now());
        assert_eq!(looks_until(&clients, Launched, &stands(Launched, 7, Launched, 7)).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_without_end_for_a_restart_that_does_not_come() {
        let clients = GoClients::default();
        clients.take_note(&unit(), Some(Loaded), &stands(Launched, 7, Launched, 7), Instant::now());
        clients.take_note(&unit(), Some(Launched), &stands(Loaded, 7, Launched, 7), Instant::now());
        let stuck = stands(Launched, 8, Launched, 7);
        assert_eq!(looks_until(&clients, Launched, &stuck).await, None, "three minutes are for the restart");
        sleep(RESTART).await;
        assert_eq!(looks_until(&clients, Launched, &stuck).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_want_meanwhile_is_shown_as_it_is() {
        let clients = GoClients::default();
        clients.take_note(&unit(), Some(Loaded), &stands(Launched, 7, Launched, 7), Instant::now());
        let unloaded = stands(Desired::Inactive, 7, Loaded, 7);
        assert_eq!(clients.shown(&unit(), &unloaded, Instant::now()), "loaded");
        for (desired, before) in [
            (Some(Desired::Inactive), stands(Launched, 7, Launched, 7)),
            (Some(Loaded), stands(Loaded, 7, Loaded, 7)),
            (Some(Launched), stands(Loaded, 7, Loaded, 7)),
            (None, stands(Launched, 7, Launched, 7)),
        ] {
            clients.take_note(&unit(), desired, &before, Instant::now());
            assert!(clients.restarts(Instant::now()).is_empty(), "{desired:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_in_number_and_time() {
        let clients = GoClients::default();
        let running = stands(Launched, 7, Launched, 7);
        for number in 0..2 * MOST {
            let unit = UnitName::new(&format!("a{number}.service")).unwrap();
            clients.take_note(&unit, Some(Loaded), &running, Instant::now());
        }
        assert_eq!(clients.restarts(Instant::now()).len(), MOST);
        sleep(ON_THE_WAY).await;
        assert!(clients.restarts(Instant::now()).is_empty());
    }

    #[test]
    fn the_client_is_known_by_its_library() {
        let from = |agent: &'static str| is(&[(header::USER_AGENT, agent.parse().unwrap())].into_iter().collect());
        assert!(from("google-api-go-client/0.5"));
        for other in ["curl/7.88.1", "fleetctl/0.1.0", "Go 1.1 package http"] {
            assert!(!from(other), "{other}");
        }
        assert!(!is(&HeaderMap::new()));
    }
}

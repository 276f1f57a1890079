//! The statuses of some units, as they change, from fleetd's watch.
//!
//! One task follows one stream of up to [`STREAM`] units and begins anew, with backoff, when it breaks: fleetd may
//! be restarted while a command waits. Only what goes wrong before the first stream stands ends the command, and a
//! socket that nobody listens on only after [`RETURN`].
//! CoreOS fleet's fleetd has no watch; its units are asked about every [`POLL`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use fleet_api::{UnitReport, UnitState, UnitStatus};
use fleet_client::{Client, ClientError, STREAM, StatusLines};
use tokio::{sync::mpsc, task::JoinSet, time};

use crate::units;

/// Between two looks at an old fleetd.
const POLL: Duration = Duration::from_millis(500);
/// Before the first try to open a broken stream again. Doubles with each.
const BACKOFF: Duration = Duration::from_millis(100);
/// How long a fleetd that is being restarted may be away.
const RETURN: Duration = Duration::from_secs(3);
/// The longest wait between tries.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// Statuses that may wait to be read; streams stand still beyond.
const BUFFER: usize = 256;

type Update = Result<UnitStatus, ClientError>;

/// Follows units until dropped.
pub struct Feed {
    updates: mpsc::Receiver<Update>,
    _followers: JoinSet<()>,
}

impl Feed {
    /// Begins to follow `names`.
    pub fn open(client: &Arc<Client>, names: &[String]) -> Self {
        let (sender, updates) = mpsc::channel(BUFFER);
        let mut followers = JoinSet::new();
        for names in names.chunks(STREAM) {
            followers.spawn(follow(Arc::clone(client), names.to_vec(), sender.clone()));
        }
        Self { updates, _followers: followers }
    }

    /// The next status: of every unit at once, then of those that change. Safe to cancel.
    ///
    /// # Errors
    /// The units cannot be followed at all.
    pub async fn next(&mut self) -> Update {
        match self.updates.recv().await {
            Some(update) => update,
            // Followers only end with an error, which has been read: nobody asks on after that.
            None => std::future::pending().await,
        }
    }
}

async fn follow(client: Arc<Client>, names: Vec<String>, updates: mpsc::Sender<Update>) {
    let began = time::Instant::now();
    let mut stood = false;
    let mut backoff = BACKOFF;
    loop {
        match client.watch(&names).await {
            Ok(Some(lines)) => {
                stood = true;
                match forward(lines, &updates).await {
                    Ok(None) => {}
                    Ok(Some(())) => backoff = BACKOFF,
                    Err(error) => {
                        let _ = updates.send(Err(error)).await;
                        return;
                    }
                }
            }
            Ok(None) => return poll(&client, &names, &updates).await,
            Err(error) if error.is_nobody_there() && began.elapsed() < RETURN => {}
            Err(error) if !stood || !error.is_passing() => {
                let _ = updates.send(Err(error)).await;
                return;
            }
            Err(_) => {}
        }
        if updates.is_closed() {
            return;
        }
        time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Passes statuses on until the stream ends. `None` when not one came.
///
/// # Errors
/// What comes is nothing of fleet's, and would not be the next time.
async fn forward(mut lines: StatusLines, updates: &mpsc::Sender<Update>) -> Result<Option<()>, ClientError> {
    let mut any = None;
    loop {
        match lines.next().await {
            Ok(Some(status)) => any = updates.send(Ok(status)).await.ok().or(any),
            Err(error) if !error.is_passing() => return Err(error),
            // How else a stream ends does not matter: it is opened again, and that tells more.
            _ => return Ok(any),
        }
        if updates.is_closed() {
            return Ok(any);
        }
    }
}

/// The watch of a fleetd that has none.
async fn poll(client: &Client, names: &[String], updates: &mpsc::Sender<Update>) {
    let mut known: HashMap<&str, UnitStatus> = HashMap::new();
    loop {
        for name in names {
            let status = match look(client, name).await {
                Ok(status) => status,
                Err(error) if error.is_passing() => continue,
                Err(error) => {
                    let _ = updates.send(Err(error)).await;
                    return;
                }
            };
            if known.get(&**name) != Some(&status) {
                known.insert(name, status.clone());
                if updates.send(Ok(status)).await.is_err() {
                    return;
                }
            }
        }
        time::sleep(POLL).await;
    }
}

/// A status put together from what CoreOS fleet tells of a unit.
async fn look(client: &Client, name: &str) -> Result<UnitStatus, ClientError> {
    let states = client.states_of(name).await?;
    let Some(unit) = client.unit(name).await? else {
        let reports = states.into_iter().map(|state| report(state, "")).collect();
        return Ok(UnitStatus { name: name.into(), reports, ..UnitStatus::default() });
    };
    Ok(UnitStatus {
        name: name.into(),
        exists: true,
        global: units::is_global(&unit),
        hash: units::file_of(&unit).map(|file| file.hash().to_string()).unwrap_or_default(),
        reports: states.into_iter().map(|state| report(state, &unit.current_state)).collect(),
        desired_state: unit.desired_state,
        current_state: unit.current_state,
        machine_id: unit.machine_id,
        generation: 0,
        request: 0,
    })
}

fn report(state: UnitState, current_state: &str) -> UnitReport {
    UnitReport {
        // A unit between two states is all that is known of jobs.
        job: state.systemd_active_state == "deactivating",
        machine_id: state.machine_id,
        hash: state.hash,
        current_state: current_state.into(),
        load: state.systemd_load_state,
        active: state.systemd_active_state,
        sub: state.systemd_sub_state,
        ..UnitReport::default()
    }
}

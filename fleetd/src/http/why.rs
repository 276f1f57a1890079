//! `/units/{name}/why` and `/failed`: where a unit is or could be, how it is there, and what is in the way.

use axum::{extract::State, response::Response};
use fleet_api::{Failed, FailedUnit, FileWarning, MachineVerdict, Why};
use fleet_core::{
    model::{ActiveState, Desired, HeldRecord, MachineId, Snapshot, Standing, UnitRecord},
    ops::Refusal,
    unit::{UnitName, doubts},
};

use super::{Api, ApiError, Shared, aged, evict::held, request::Name, status::Index};
use crate::registry::{Store, view::Reading};

/// `GET /units/{name}/why`
pub(super) async fn why<S: Store>(State(api): Shared<S>, Name(name): Name) -> Result<Response, ApiError> {
    let unit = UnitName::new(&name).map_err(|_| Refusal::UnitMissing)?;
    let reading = api.view.read().await?;
    let cluster = &reading.cluster;
    if !cluster.units.contains_key(&unit) && !cluster.globals.contains_key(&unit) {
        return Err(Refusal::UnitMissing.into());
    }
    let held = known_held(&api, &reading).await;
    let explanation = api.explainer.at(cluster, &held).await?.explain(&unit);
    let address = |machine: &MachineId| {
        cluster.machines.get(machine).map(|entry| entry.record.address.clone()).unwrap_or_default()
    };
    let state = |machine: &MachineId| cluster.states.get(&(machine.clone(), unit.clone())).map(|state| &*state.record);
    let machines = explanation.verdicts.iter().map(|verdict| MachineVerdict {
        id: verdict.machine.to_string(),
        primary_ip: address(&verdict.machine),
        fits: verdict.fits,
        reason: match state(&verdict.machine) {
            Some(state) => format!("{}; {}", verdict.reason, state.words()),
            None => verdict.reason.to_string(),
        },
    });
    let desired = wanted(cluster, &unit).map_or(Desired::Inactive, |record| record.desired);
    let placed = explanation.placed.as_ref().and_then(state);
    let off: Vec<&str> = cluster
        .machines
        .keys()
        .filter(|machine| {
            cluster.globals.contains_key(&unit)
                && state(machine).is_some_and(|state| Standing::of(desired, state) == Standing::Off)
        })
        .map(MachineId::short)
        .collect();
    let standing = match placed {
        Some(state) if Standing::of(desired, state) == Standing::Off => {
            format!("; it does not run there: {}", state.words())
        }
        Some(state) if desired == Desired::Launched || state.active != ActiveState::Inactive => {
            format!("; {}", state.words())
        }
        None if !off.is_empty() => format!("; it does not run on {}", off.join(", ")),
        _ => String::new(),
    };
    let body = Why {
        name: unit.to_string(),
        machine_id: explanation.placed.as_ref().map(ToString::to_string).unwrap_or_default(),
        machines: machines.collect(),
        summary: format!(
            "{}{standing}{}",
            explanation.summary,
            outlook(&unit, explanation.placed.as_ref(), &held, &reading)
        ),
        warnings: warnings(&api, cluster, &unit).await?,
    };
    Ok(aged(body, reading.age))
}

/// What is wanted of a unit.
fn wanted<'c>(cluster: &'c Snapshot, unit: &UnitName) -> Option<&'c UnitRecord> {
    cluster.units.get(unit).or_else(|| cluster.globals.get(unit)).map(|value| &*value.record)
}

/// `GET /failed`: the units that are wanted and do not run.
pub(super) async fn failed<S: Store>(State(api): Shared<S>) -> Result<Response, ApiError> {
    let reading = api.view.read().await?;
    let cluster = &reading.cluster;
    let held = known_held(&api, &reading).await;
    let index = Index::new(cluster, None);
    let mut units = Vec::new();
    let mut unplaced = Vec::new();
    let mut add = |unit: &UnitName, machine: &MachineId, reason: String| {
        units.push(FailedUnit { name: unit.to_string(), machine_id: machine.to_string(), reason });
    };
    let is_wanted = |record: &UnitRecord| record.desired != Desired::Inactive;
    for (unit, value) in cluster.units.iter().filter(|(unit, value)| !unit.is_template() && is_wanted(&value.record)) {
        let Some(machine) = index.machine(unit) else {
            unplaced.push(unit);
            continue;
        };
        let report = index.reports(unit).iter().find(|(reporter, _)| *reporter == machine);
        match report {
            Some((_, state)) if Standing::of(value.record.desired, state) == Standing::Off => {
                add(unit, machine, state.words());
            }
            None if !cluster.machines.contains_key(machine) => {
                add(unit, machine, format!("its machine is gone{}", held_until(unit, Some(machine), &held)));
            }
            _ => {}
        }
    }
    for (unit, value) in cluster.globals.iter().filter(|(_, value)| is_wanted(&value.record)) {
        for (machine, state) in index.reports(unit) {
            if Standing::of(value.record.desired, state) == Standing::Off {
                add(unit, machine, state.words());
            }
        }
    }
    if !unplaced.is_empty() {
        let mut input = api.explainer.at(cluster, &held).await?;
        for unit in unplaced {
            let explanation = input.explain(unit);
            let reason = format!("{}{}", explanation.summary, outlook(unit, None, &held, &reading));
            units.push(FailedUnit { name: unit.to_string(), machine_id: String::new(), reason });
        }
    }
    units.sort_by(|one, other| (&one.name, &one.machine_id).cmp(&(&other.name, &other.machine_id)));
    Ok(aged(Failed { units }, reading.age))
}

/// What the unit's file says and cannot mean.
async fn warnings<S: Store>(api: &Api<S>, cluster: &Snapshot, unit: &UnitName) -> Result<Vec<FileWarning>, ApiError> {
    let Some(record) = wanted(cluster, unit) else { return Ok(Vec::new()) };
    let file = api.files.one(record.hash).await?;
    Ok(file.map(|file| doubts(&file, unit)).unwrap_or_default().into_iter().map(Into::into).collect())
}

/// What is to be said of when something will change.
fn outlook(unit: &UnitName, placed: Option<&MachineId>, held: &HeldRecord, reading: &Reading) -> String {
    // Who does not hear from etcd knows nothing of leaders.
    let leaderless = !reading.cluster.has_leader() && reading.age.is_none();
    let leader = if leaderless { "; no engine leads, so nothing is decided" } else { "" };
    format!("{}{leader}", held_until(unit, placed, held))
}

/// What is to be said of a unit that stays where it is although its machine is gone.
fn held_until(unit: &UnitName, placed: Option<&MachineId>, held: &HeldRecord) -> String {
    // A unit that has to be down for certain is so later than its machine counts as dead.
    let machine = held.machines.iter().find(|held| placed == Some(&held.id)).map(|held| (&held.id, &held.until));
    let waits = held.units.iter().find(|held| held.name == *unit).map(|held| (&held.machine, &held.until));
    let Some((machine, until)) = waits.or(machine) else { return String::new() };
    let moves = until.as_ref().map_or_else(|| "nobody can tell when it moves".into(), |at| format!("it moves at {at}"));
    format!("; {moves}, `fleetctl evict {}` moves it now", machine.short())
}

/// What the engine holds back; nothing when the store does not answer, or did not a moment ago.
pub(super) async fn known_held<S: Store>(api: &Api<S>, reading: &Reading) -> HeldRecord {
    if reading.age.is_some() {
        return HeldRecord::default();
    }
    held(api).await.unwrap_or_default()
}

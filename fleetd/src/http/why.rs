//! `/units/{name}/why` and `/failed`: where a unit is or could be, how it is there, and what is in the way.

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, http::Method, response::Response};
use fleet_api::{Failed, FailedUnit, FileWarning, MachineVerdict, Why};
use fleet_core::{
    model::{Desired, HeldRecord, MachineId, Snapshot, Standing, UnitRecord, apply_edits},
    sched::{Decision, Planner},
    unit::{Requirements, UnitHash, UnitName, doubts},
};

use super::{Api, ApiError, Shared, aged, evict::held, only, request::Name, status::Index};
use crate::registry::{Store, files::Files, view::Reading};

/// `GET /units/{name}/why`
pub(super) async fn why<S: Store>(
    State(api): Shared<S>,
    method: Method,
    Name(name): Name,
) -> Result<Response, ApiError> {
    only(&method, &[Method::GET], "GET")?;
    let unit = UnitName::new(&name).map_err(|_| ApiError::not_found("unit does not exist"))?;
    let reading = api.view.read().await?;
    let cluster = &reading.cluster;
    if !cluster.units.contains_key(&unit) && !cluster.globals.contains_key(&unit) {
        return Err(ApiError::not_found("unit does not exist"));
    }
    let held = known_held(&api, &reading).await;
    let (mut planner, undecided) = plan(&api, cluster, &held).await?;
    if undecided.iter().any(|decision| decision.unit == unit) {
        // It is where the schedule has it until the engine has written something else.
        planner.refused(&unit);
    }
    let explanation = planner.explain(&unit);
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
        Some(state) if desired == Desired::Launched || state.active != "inactive" => format!("; {}", state.words()),
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
pub(super) async fn failed<S: Store>(State(api): Shared<S>, method: Method) -> Result<Response, ApiError> {
    only(&method, &[Method::GET], "GET")?;
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
        let (planner, _) = plan(&api, cluster, &held).await?;
        for unit in unplaced {
            let explanation = planner.explain(unit);
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
    let leaderless = reading.cluster.leader.is_none() && reading.age.is_none();
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
async fn known_held<S: Store>(api: &Api<S>, reading: &Reading) -> HeldRecord {
    if reading.age.is_some() {
        return HeldRecord::default();
    }
    held(api).await.unwrap_or_default()
}

/// A planner that knows what the engine's knows.
pub(super) async fn planner<S: Store>(api: &Api<S>, reading: &Reading) -> Result<Planner, ApiError> {
    let held = known_held(api, reading).await;
    let (planner, _) = plan(api, &reading.cluster, &held).await?;
    Ok(planner)
}

/// A planner that has planned, and what the engine has still to decide: nothing, but while it is at it or away.
async fn plan<S: Store>(
    api: &Api<S>,
    cluster: &Snapshot,
    held: &HeldRecord,
) -> Result<(Planner, Vec<Decision>), ApiError> {
    let mut planner = Planner::new();
    for (id, machine) in &cluster.machines {
        let edits = cluster.metadata.get(id).map(|edits| &*edits.record);
        let metadata = apply_edits(machine.record.metadata.clone(), edits);
        if edits.is_some_and(|edits| edits.drain) {
            planner.drain_machine(id.clone(), metadata);
        } else {
            planner.set_machine(id.clone(), metadata);
        }
    }
    let is_gone = |machine: &MachineId| !cluster.machines.contains_key(machine);
    for machine in held.machines.iter().filter(|held| is_gone(&held.id)) {
        planner.hold_machine(machine.id.clone());
    }
    for unit in held.units.iter().filter(|held| is_gone(&held.machine)) {
        planner.hold_unit(&unit.name, &unit.machine);
    }
    let units = cluster.units.iter().map(|(unit, value)| (unit, &value.record, false));
    let globals = cluster.globals.iter().map(|(unit, value)| (unit, &value.record, true));
    let units: Vec<(&UnitName, &Arc<UnitRecord>, bool)> =
        units.chain(globals).filter(|(unit, _, _)| !unit.is_template()).collect();
    let files = requirements(&api.files, units.iter().map(|(unit, record, _)| (*unit, record.hash))).await?;
    for (unit, record, global) in units {
        let Some(requirements) = files.get(unit) else { continue };
        let wanted = record.desired != Desired::Inactive;
        if global {
            planner.set_global(unit.clone(), Arc::clone(requirements), wanted);
        } else {
            planner.set_unit(unit.clone(), Arc::clone(requirements), wanted);
        }
    }
    for ((machine, unit), scheduled) in &cluster.scheduled {
        if scheduled.record.desired == Desired::Inactive {
            planner.recalled(unit.clone(), machine.clone());
        } else {
            planner.placed(unit.clone(), machine.clone());
        }
    }
    // The decisions are the engine's to make; here they only settle what is to be explained.
    let decisions = planner.plan();
    Ok((planner, decisions))
}

async fn requirements<S: Store>(
    files: &Files<S>,
    units: impl Iterator<Item = (&UnitName, UnitHash)> + Clone,
) -> Result<BTreeMap<UnitName, Arc<Requirements>>, ApiError> {
    let read = files.get(units.clone().map(|(_, hash)| hash)).await?;
    let requirements = units.filter_map(|(unit, hash)| {
        let (requirements, _) = Requirements::read(read.get(&hash)?, unit).ok()?;
        Some((unit.clone(), Arc::new(requirements)))
    });
    Ok(requirements.collect())
}

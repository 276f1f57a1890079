//! New contents for one unit that runs, among many others.

use anyhow::{Context, Result, ensure};

use super::{
    Sizes, gate,
    row::Row,
    series::Series,
    stage::{PATIENCE, Set, Stage, between, command, file},
    systemd::property,
};
use fleet_lab::{Host, eventually};

const OURS: Set = Set { name: "one", count: 1 };
const BY_HAND: Set = Set { name: "hand", count: 1 };

/// Replaces the file of a running unit with fleet, and restarts one on the same host by hand.
///
/// # Errors
/// When a round does not end as it should.
pub fn measure(stage: &mut Stage, sizes: &Sizes) -> Result<Vec<Row>> {
    stage.populate(sizes.large)?;
    stage.hand_over(&OURS.files(""))?;
    stage.fleetctl(&["start"], &OURS.names())?;
    let placed = stage.each_runs_once(OURS)?;
    let host = placed.into_iter().find(|(_, units)| !units.is_empty()).context("it runs nowhere")?.0;
    let hands = vec![(host.clone(), BY_HAND.files(""))];
    stage.lay_out(&hands)?;
    gate::run(&[(host.clone(), command("systemctl", &["start"], &BY_HAND.names()))])?;
    let [mut floor, mut ours, mut floor_returned, mut ours_returned] = [const { Series::new() }; 4];
    for round in 1..=sizes.quick_rounds() {
        stage.rest()?;
        let before = run_of(&host, BY_HAND)?;
        let finish = gate::run(&[(host.clone(), command("systemctl", &["restart"], &BY_HAND.names()))])?;
        let again = stage.each_runs_once(BY_HAND)?;
        ensure!(run_of(&host, BY_HAND)? != before, "systemctl did not restart it");
        floor.push_time(between(finish.begun, stage.last_active(&again)?)?);
        floor_returned.push_time(finish.returned - finish.begun);

        let seconds = (10_000 + round).to_string();
        let names = OURS.names();
        stage.hand_over(&[(names[0].clone(), file(&names[0], &seconds, ""))])?;
        stage.rest()?;
        let before = run_of(&host, OURS)?;
        let finish = stage.fleetctl(&["start", "--replace"], &names)?;
        let exec = format!("/bin/sleep {seconds} ");
        eventually(PATIENCE, "it runs what it was given", || {
            Ok(run_of(&host, OURS)? != before && property(&host, &names[0], "ExecStart")?.contains(&exec))
        })?;
        let again = stage.each_runs_once(OURS)?;
        ours.push_time(between(finish.begun, stage.last_active(&again)?)?);
        ours_returned.push_time(finish.returned - finish.begun);
    }
    gate::run(&[(host.clone(), command("systemctl", &["stop"], &BY_HAND.names()))])?;
    stage.clear_away(&hands)?;
    stage.fleetctl(&["destroy"], &OURS.names())?;
    stage.gone(OURS)?;
    stage.gone(BY_HAND)?;
    let what = format!("File of one running unit replaced beside {} others", sizes.large);
    Ok(vec![
        Row::against(format!("{what}, until it is active again"), floor, ours, Some(4.0)),
        Row::against(format!("{what}, until the command has returned"), floor_returned, ours_returned, None),
    ])
}

/// Systemd's name for this run of a unit.
fn run_of(host: &Host, set: Set) -> Result<String> {
    property(host, &set.names()[0], "InvocationID")
}

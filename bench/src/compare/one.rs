//! One unit, until it is active.

use anyhow::{Context, Result};

use super::{
    Sizes, gate,
    row::Row,
    series::Series,
    stage::{Stage, between},
    units::{Set, dealt, systemctl},
};

const UNIT: Set = Set { name: "one", count: 1 };

/// Starts one unit by hand and with fleet, again and again, on the host that fleet picks for it.
///
/// # Errors
/// When a round does not end as it should.
pub fn measure(stage: &mut Stage, sizes: &Sizes) -> Result<Vec<Row>> {
    stage.populate(0)?;
    stage.hand_over(&UNIT.files(""))?;
    // A first time tells where fleet puts it: always there, by its name.
    stage.fleetctl(&["start"], &UNIT.names())?;
    let placed = stage.each_runs_once(UNIT)?;
    let host = placed.into_iter().find(|(_, units)| !units.is_empty()).context("it runs nowhere")?.0;
    stage.fleetctl(&["destroy"], &UNIT.names())?;
    stage.gone(UNIT)?;
    let [mut floor, mut ours, mut floor_returned, mut ours_returned] = [const { Series::new() }; 4];
    for _ in 0..sizes.quick_rounds() {
        stage.rest()?;
        let hands = dealt(std::slice::from_ref(&host), UNIT.files(""));
        stage.lay_out(&hands)?;
        let finish = gate::run(&systemctl("start", &hands))?;
        floor.push_time(between(finish.begun, stage.last_active(&stage.each_runs_once(UNIT)?)?)?);
        floor_returned.push_time(finish.returned - finish.begun);
        gate::run(&systemctl("stop", &hands))?;
        stage.clear_away(&hands)?;
        stage.gone(UNIT)?;

        stage.hand_over(&UNIT.files(""))?;
        stage.rest()?;
        let finish = stage.fleetctl(&["start"], &UNIT.names())?;
        ours.push_time(between(finish.begun, stage.last_active(&stage.each_runs_once(UNIT)?)?)?);
        ours_returned.push_time(finish.returned - finish.begun);
        stage.fleetctl(&["destroy"], &UNIT.names())?;
        stage.gone(UNIT)?;
    }
    Ok(vec![
        Row::against("One unit started, until it is active", floor, ours, Some(4.0)),
        Row::against("One unit started, until the command has returned", floor_returned, ours_returned, None),
    ])
}

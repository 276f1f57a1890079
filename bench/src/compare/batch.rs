//! Many units at once: started, stopped, destroyed.

use anyhow::Result;

use super::{
    Sizes, gate,
    gate::Finish,
    row::Row,
    series::Series,
    slice::{self, Slice},
    spent::{Account, Side, Spent},
    stage::{PATIENCE, Stage, UNITS, between},
    units::{Set, command, dealt, systemctl},
};

/// Both sides of one thing that is done to all units.
struct Sides {
    floor: Series,
    ours: Series,
    floor_returned: Series,
    ours_returned: Series,
}

impl Sides {
    const fn new() -> Self {
        const NONE: Series = Series::new();
        Self { floor: NONE, ours: NONE, floor_returned: NONE, ours_returned: NONE }
    }

    fn rows(self, what: &str, until: &str, most: f64) -> [Row; 2] {
        let returned = format!("{what}, until the commands have returned");
        [
            Row::against(format!("{what}, until {until}"), self.floor, self.ours, Some(most)),
            Row::against(returned, self.floor_returned, self.ours_returned, None),
        ]
    }
}

/// Starts, stops and destroys `count` units, by hand and with fleet in turn.
///
/// # Errors
/// When a round does not end as it should.
pub fn measure(stage: &mut Stage, sizes: &Sizes, count: usize) -> Result<Vec<Row>> {
    stage.populate(0)?;
    let set = Set { name: UNITS, count };
    let [mut start, mut stop, mut destroy] = [const { Sides::new() }; 3];
    let [mut starting, mut stopping] = [const { Account::new() }; 2];
    let mut alone = Series::new();
    for _ in 0..sizes.rounds {
        let hands = dealt(stage.hosts(), set.files(""));
        stage.lay_out(&hands)?;
        // How much of the floor is fleetd itself, which hears of every unit on its host.
        stage.leave()?;
        stage.rest()?;
        let finish = gate::run(&systemctl("start", &hands))?;
        alone.push_time(between(finish.begun, stage.last_active(&stage.each_runs_once(set)?)?)?);
        gate::run(&systemctl("stop", &hands))?;
        stage.come_back()?;
        stage.rest()?;
        let before = Spent::until_now(stage)?;
        let finish = gate::run(&systemctl("start", &hands))?;
        stage.rest()?;
        starting.add(Side::ByHand, &before, &Spent::until_now(stage)?, finish.processor);
        let placed = stage.each_runs_once(set)?;
        start.floor.push_time(between(finish.begun, stage.last_active(&placed)?)?);
        start.floor_returned.push_time(finish.returned - finish.begun);
        stage.rest()?;
        let before = Spent::until_now(stage)?;
        let (ended, finish) = end(stage, set, &systemctl("stop", &hands))?;
        stage.rest()?;
        stopping.add(Side::ByHand, &before, &Spent::until_now(stage)?, finish.processor);
        stage.none_runs(set)?;
        // One floor for both: by hand, nobody does more to be rid of units.
        for sides in [&mut stop, &mut destroy] {
            sides.floor.push_time(ended);
            sides.floor_returned.push_time(finish.returned - finish.begun);
        }
        stage.clear_away(&hands)?;
        stage.gone(set)?;

        stage.hand_over(&set.files(""))?;
        stage.rest()?;
        let before = Spent::until_now(stage)?;
        let finish = stage.fleetctl(&["start"], &set.names())?;
        stage.rest()?;
        starting.add(Side::Fleet, &before, &Spent::until_now(stage)?, finish.processor);
        let placed = stage.each_runs_once(set)?;
        start.ours.push_time(between(finish.begun, stage.last_active(&placed)?)?);
        start.ours_returned.push_time(finish.returned - finish.begun);
        stage.rest()?;
        let fleetctl = |verb| [(stage.seat().clone(), command("fleetctl", &[verb], &set.names()))];
        let before = Spent::until_now(stage)?;
        let (ended, finish) = end(stage, set, &fleetctl("stop"))?;
        stage.rest()?;
        stopping.add(Side::Fleet, &before, &Spent::until_now(stage)?, finish.processor);
        stop.ours.push_time(ended);
        stop.ours_returned.push_time(finish.returned - finish.begun);
        stage.none_runs(set)?;
        stage.fleetctl(&["start"], &set.names())?;
        stage.each_runs_once(set)?;
        stage.rest()?;
        let (ended, finish) = end(stage, set, &fleetctl("destroy"))?;
        destroy.ours.push_time(ended);
        destroy.ours_returned.push_time(finish.returned - finish.begun);
        stage.gone(set)?;
    }
    let what = format!("{count} units started by hand, with no fleetd there (by hand) and with one (fleet)");
    let alone = Row::against(what, alone, start.floor.clone(), None);
    let rows = [
        start.rows(&format!("{count} units started on 3 hosts"), "all are active", 1.0),
        stop.rows(&format!("{count} units stopped"), "none runs", 1.5),
        destroy.rows(&format!("{count} units destroyed"), "none runs", 1.5),
    ];
    let accounts = [starting.rows(&format!("{count} units started")), stopping.rows(&format!("{count} units stopped"))];
    Ok(rows.into_iter().flatten().chain([alone]).chain(accounts.into_iter().flatten()).collect())
}

/// Runs commands that end all units, and says how long it took until none of them had a process.
fn end(stage: &Stage, set: Set, commands: &[(fleet_lab::Host, Vec<String>)]) -> Result<(std::time::Duration, Finish)> {
    let slices = stage.hosts().iter().map(|host| Slice::of(host, &set.prefix())).collect::<Result<Vec<_>>>()?;
    let race = gate::start(commands)?;
    let begun = race.begun;
    let ended = slice::ended(&slices, PATIENCE)?;
    Ok((between(begun, ended)?, race.finish()?))
}

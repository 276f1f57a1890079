//! New contents for one unit that runs, among many others.
//!
//! Each round has a unit of its own: one that comes and goes twenty times in a minute counts as flapping, and fleet
//! tells of it less often.

use anyhow::{Context, Result, ensure};
use fleet_lab::{Host, eventually};

use super::{
    Sizes, gate,
    row::Row,
    series::Series,
    stage::{PATIENCE, Stage, between},
    systemd::{active_since, property},
    units::{Hand, Set, command},
};

/// Replaces the file of a running unit with fleet, and restarts one on the same host by hand.
///
/// # Errors
/// When a round does not end as it should.
pub fn measure(stage: &mut Stage, sizes: &Sizes) -> Result<Vec<Row>> {
    stage.populate(sizes.large)?;
    let ours = Set { name: "one", count: sizes.quick_rounds() };
    let by_hand = Set { name: "hand", ..ours };
    stage.hand_over(&ours.files(""))?;
    stage.fleetctl(&["start"], &ours.names())?;
    let placed = stage.each_runs_once(ours)?;
    let hands = beside(&placed, &ours.names(), by_hand.files(""))?;
    stage.lay_out(&hands)?;
    for (host, files) in &hands {
        gate::run(&[(host.clone(), command("systemctl", &["start"], &[files[0].0.clone()]))])?;
    }
    let sides = [const { [const { Series::new() }; 2] }; 2];
    let [[mut active_by_hand, mut returned_by_hand], [mut active, mut returned]] = sides;
    for ((host, files), name) in hands.iter().zip(ours.names()) {
        stage.rest()?;
        let unit = Unit::of(host, &files[0].0)?;
        let finish =
            gate::run(&[(host.clone(), command("systemctl", &["restart"], std::slice::from_ref(&unit.name)))])?;
        active_by_hand.push_time(between(finish.begun, unit.active_again(None)?)?);
        returned_by_hand.push_time(finish.returned - finish.begun);

        let unit = Unit::of(host, &name)?;
        let new = Set { name: "one", ..ours }.files("");
        let new = new.into_iter().find(|(known, _)| *known == name).context("it has no file")?;
        stage.hand_over(std::slice::from_ref(&new))?;
        stage.rest()?;
        let finish = stage.fleetctl(&["start", "--replace"], &[name])?;
        active.push_time(between(finish.begun, unit.active_again(Some(&new.1))?)?);
        returned.push_time(finish.returned - finish.begun);
    }
    stage.each_runs_once(ours)?;
    for (host, files) in &hands {
        gate::run(&[(host.clone(), command("systemctl", &["stop"], &[files[0].0.clone()]))])?;
    }
    stage.clear_away(&hands)?;
    stage.fleetctl(&["destroy"], &ours.names())?;
    stage.gone(ours)?;
    stage.gone(by_hand)?;
    let what = format!("File of one running unit replaced beside {} others", sizes.large);
    Ok(vec![
        Row::against(format!("{what}, until it is active again"), active_by_hand, active, Some(4.0)),
        Row::against(format!("{what}, until the command has returned"), returned_by_hand, returned, None),
    ])
}

/// One file for each unit, to go to the host where that unit is.
fn beside(placed: &[(Host, Vec<String>)], units: &[String], files: Vec<(String, String)>) -> Result<Vec<Hand>> {
    let host_of = |unit: &String| placed.iter().find(|(_, here)| here.contains(unit)).map(|(host, _)| host.clone());
    let hosts = units.iter().map(|unit| host_of(unit).with_context(|| format!("{unit} runs nowhere")));
    hosts.zip(files).map(|(host, file)| Ok((host?, vec![file]))).collect()
}

/// A unit before something is done to it.
struct Unit {
    host: Host,
    name: String,
    run: String,
}

impl Unit {
    fn of(host: &Host, name: &str) -> Result<Self> {
        let run = property(host, name, "InvocationID")?;
        ensure!(!run.is_empty(), "{name} does not run on {}", host.name());
        Ok(Self { host: host.clone(), name: name.to_owned(), run })
    }

    /// When another run of it became active; one of these contents, if any are given.
    fn active_again(&self, contents: Option<&str>) -> Result<std::time::Duration> {
        let described = contents.and_then(|text| text.lines().find_map(|line| line.strip_prefix("Description=")));
        eventually(PATIENCE, &format!("{} runs anew", self.name), || {
            let description = property(&self.host, &self.name, "Description")?;
            let is_new = described.is_none_or(|described| description == described);
            let run = property(&self.host, &self.name, "InvocationID")?;
            Ok(is_new && run != self.run && property(&self.host, &self.name, "ActiveState")? == "active")
        })?;
        let since = active_since(&self.host, std::slice::from_ref(&self.name))?;
        since.get(&self.name).copied().context("systemd does not tell when")
    }
}

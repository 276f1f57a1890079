//! The units of a simulated cluster.

use std::{collections::BTreeMap, sync::Arc};

use fleet_core::unit::{Requirements, UnitFile, UnitHash, UnitName};

/// A unit as it is submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: UnitName,
    /// Its contents.
    pub text: String,
}

/// What is known of contents by their hash.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The file.
    pub file: UnitFile,
    /// What it asks of a machine.
    pub requirements: Arc<Requirements>,
}

/// A service that runs until it is stopped.
const LASTING: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

/// Draws the units of a cluster.
#[must_use]
pub fn draw(rng: &mut fastrand::Rng) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut add = |name: String, text: String| {
        let name = UnitName::new(&name).expect("a unit's name");
        units.push(Unit { name, text });
    };
    for n in 0..rng.usize(3..10) {
        let text = match rng.u8(..8) {
            0 => format!("{LASTING}ExecStop=/bin/sleep 2\n"),
            1 => format!("{LASTING}ExecStartPre=/bin/sleep 1\n"),
            2 => format!("{LASTING}[X-Fleet]\nMachineMetadata=zone={}\n", rng.choice(["a", "b"]).unwrap_or("a")),
            _ => LASTING.into(),
        };
        add(format!("u{n}.service"), text);
    }
    for n in 0..rng.usize(..4) {
        let stop = if rng.bool() { "ExecStop=/bin/sleep 1\n" } else { "" };
        add(format!("strict{n}.service"), format!("{LASTING}{stop}TimeoutStopSec=3\n[X-Fleet]\nOnPartition=stop\n"));
    }
    for n in 0..rng.usize(..3) {
        let zone = if rng.bool() { "MachineMetadata=zone=a\n" } else { "" };
        add(format!("global{n}.service"), format!("{LASTING}[X-Fleet]\nGlobal=true\n{zone}"));
    }
    if rng.bool() {
        for n in 0..rng.usize(2..4) {
            add(format!("apart{n}.service"), format!("{LASTING}[X-Fleet]\nConflicts=apart*.service\n"));
        }
    }
    if rng.bool() {
        add("follower.service".into(), format!("{LASTING}[X-Fleet]\nMachineOf=u0.service\n"));
    }
    if rng.bool() {
        // Drawn apart, so that what else a seed means stays.
        let text = match rng.clone().u8(..3) {
            0 => "[Unit]\nRequires=missing.service\n[Service]\nExecStart=/bin/sleep 9999\n",
            1 => "[Unit]\nAssertPathExists=/nonexistent\n[Service]\nExecStart=/bin/sleep 9999\n",
            _ => "[Service]\nExecStart=/bin/false\n",
        };
        add("failing.service".into(), text.into());
    }
    if rng.bool() {
        add("once.service".into(), "[Service]\nType=oneshot\nExecStart=/bin/sleep 1\n".into());
    }
    if rng.bool() {
        add("flapping.service".into(), "[Service]\nExecStart=/bin/sleep 7\nRestart=always\nRestartSec=1\n".into());
    }
    units
}

/// Global units of which one gives way to `u0.service`, and the other comes where that one is not.
#[must_use]
pub fn contentious() -> Vec<Unit> {
    let unit = |name: &str, other: &str| Unit {
        name: UnitName::new(name).expect("a unit's name"),
        text: format!("{LASTING}[X-Fleet]\nGlobal=true\nConflicts={other}\n"),
    };
    vec![unit("global8.service", "u0.service"), unit("global9.service", "global8.service")]
}

/// Other contents for a unit, with the same requirements.
#[must_use]
pub fn edited(text: &str, count: u32) -> String {
    format!("[Unit]\nDescription=version {count}\n{text}")
}

/// Reads contents for the judges.
///
/// # Panics
/// When the simulation has written something that is no unit file.
#[must_use]
pub fn read(name: &UnitName, text: &str) -> (UnitHash, Contents) {
    let file = UnitFile::parse(text).expect("a unit file");
    let (requirements, _) = Requirements::read(&file, name).expect("requirements that go together");
    (file.hash(), Contents { file, requirements: Arc::new(requirements) })
}

/// Whether the contents make a service that ends only when it is stopped.
#[must_use]
pub fn is_lasting(contents: &Contents) -> bool {
    contents.file.values("Service", "ExecStart").iter().any(|command| command.contains("infinity"))
}

/// All contents that were ever submitted.
pub type Library = BTreeMap<UnitHash, Contents>;

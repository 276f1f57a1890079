//! Somebody who goes on working with the cluster while faults are done to it.
//!
//! What was asked for, and answered with success, must be so in the end.

use std::{collections::BTreeMap, time::Duration};

use fleet_tests::Cluster;

use super::{
    copies::Copy,
    units::{Kind, Unit},
};

/// How long a command is tried again. The longest fault lasts 90 s.
const PATIENCE: Duration = Duration::from_secs(180);

/// What is wanted of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That it runs.
    Started,
    /// That it does not.
    Stopped,
    /// That there is no such unit.
    Destroyed,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    unit: String,
    wish: Wish,
    /// How long after the faults have begun.
    pub after: Duration,
}

/// The operator: what is wanted of the units that are theirs.
#[derive(Clone, Debug)]
pub struct Operator(BTreeMap<String, Wish>);

impl Operator {
    /// One who has done nothing yet to these units.
    #[must_use]
    pub fn new(units: &[Unit]) -> Self {
        let scratch = units.iter().filter(|unit| unit.kind == Kind::Scratch);
        Self(scratch.map(|unit| (unit.name.clone(), Wish::Destroyed)).collect())
    }

    /// What to do next, each to another unit.
    pub fn draw(&self, ttl: Duration, rng: &mut fastrand::Rng) -> Vec<Command> {
        let mut units: Vec<(&String, &Wish)> = self.0.iter().collect();
        rng.shuffle(&mut units);
        // Mostly nothing: the time to recover is taken where nothing else was asked.
        units.truncate([0, 0, 1, 2][rng.usize(0..4)]);
        let mut command = |(unit, wish): (&String, &Wish)| {
            let wish = match wish {
                Wish::Started => [Wish::Stopped, Wish::Destroyed][rng.usize(0..2)],
                Wish::Stopped => [Wish::Started, Wish::Destroyed][rng.usize(0..2)],
                Wish::Destroyed => Wish::Started,
            };
            Command { unit: unit.clone(), wish, after: ttl.mul_f64(rng.f64() * 2.0) }
        };
        units.into_iter().map(&mut command).collect()
    }

    /// Remembers what was commanded.
    pub fn commanded(&mut self, commands: &[Command]) {
        self.0.extend(commands.iter().map(|command| (command.unit.clone(), command.wish)));
    }

    /// What is not as it is wanted.
    #[must_use]
    pub fn missing(&self, copies: &[Copy], now: Duration) -> Vec<String> {
        let not_as_wanted = |(unit, wish): (&String, &Wish)| {
            let running = copies.iter().filter(|copy| copy.birth.unit == *unit && copy.is_running(now)).count();
            let wanted = usize::from(*wish == Wish::Started);
            (running != wanted).then(|| format!("{unit} is wanted {wish:?}, and {running} copies of it run"))
        };
        self.0.iter().filter_map(not_as_wanted).collect()
    }
}

impl Command {
    /// Has fleet do it, on whichever host takes the command; tries again while none does. Returns whether one did.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "there is no runtime here to block")]
    pub fn carry_out(&self, cluster: &Cluster) -> bool {
        let verb = match self.wish {
            Wish::Started => "start",
            Wish::Stopped => "stop",
            Wish::Destroyed => "destroy",
        };
        let begun = std::time::Instant::now();
        while begun.elapsed() < PATIENCE {
            for host in cluster.lab.hosts().iter().filter(|host| host.is_up()) {
                let arguments = ["timeout", "10", "fleetctl", verb, "--no-block", &self.unit];
                if host.exec(&arguments).is_ok_and(|output| output.status.success()) {
                    return true;
                }
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        false
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to be {:?}", self.unit, self.wish)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::copies::Birth, *};

    #[test]
    fn what_was_commanded_is_missed_until_it_is_so() {
        let scratch = Unit { name: "a".into(), kind: Kind::Scratch, with: None };
        let mut operator = Operator::new(&[scratch]);
        let now = Duration::from_secs(5);
        let birth = Birth { unit: "a".into(), host: "h1".into(), invocation: String::new(), start: now };
        let runs = [Copy { birth, alive: now, ended: false }];
        assert!(operator.missing(&[], now).is_empty());
        assert_eq!(operator.missing(&runs, now), ["a is wanted Destroyed, and 1 copies of it run"]);
        operator.commanded(&[Command { unit: "a".into(), wish: Wish::Started, after: Duration::ZERO }]);
        assert!(operator.missing(&runs, now).is_empty());
        assert_eq!(operator.missing(&[], now), ["a is wanted Started, and 0 copies of it run"]);
    }
}

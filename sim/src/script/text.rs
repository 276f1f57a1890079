//! Scripts as text: some lines of what it is played with, the units, and a line for each event with its time in seconds.
//!
//! ```text
//! # What it found.
//! scenario faults
//! seed 374
//! twins 8187334129834011
//! hosts 4
//! ttl 6
//!
//! unit u0.service
//! | [Service]
//! | ExecStart=/bin/sleep infinity
//!
//!     1.250 want launched u0.service
//!    31.007 cut h3 for 12.500
//!    40.000 systemd-faults leader latency=0..120 silent=0.1 lose-signal=0 leave-out=0.05 for 9.000
//! ```

use std::{
    fmt::{self, Display},
    ops::RangeInclusive,
    str::{FromStr, SplitWhitespace},
    time::Duration,
};

use anyhow::{Context, Error, Result, bail, ensure};
use fleet_core::{model::Desired, unit::UnitName};
use fleetd::{
    registry::memory::{Condition, Faults as StoreFaults, Health, Link, MEMBERS},
    systemd::memory::Faults as SystemdFaults,
};

use super::{Event, Scenario, Script, Whom};
use crate::units::Unit;

impl Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = match self.scenario {
            Scenario::Faults => "faults",
            Scenario::Elections => "elections",
        };
        writeln!(f, "scenario {scenario}\nseed {}\ntwins {}", self.seed, self.twins)?;
        writeln!(f, "hosts {}\nttl {}", self.hosts, self.ttl.as_secs())?;
        for unit in &self.units {
            writeln!(f, "\nunit {}", unit.name)?;
            for line in unit.text.lines() {
                writeln!(f, "{}", format_args!("| {line}").to_string().trim_end())?;
            }
        }
        writeln!(f)?;
        for (at, event) in &self.events {
            writeln!(f, "{:>9} {}", seconds(*at), Line { script: self, event })?;
        }
        Ok(())
    }
}

/// An event of a script.
struct Line<'s> {
    script: &'s Script,
    event: &'s Event,
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |number: usize| self.script.units[number].name.as_str();
        match self.event {
            Event::Want(number, desired) => write!(f, "want {desired} {}", unit(*number))?,
            Event::Restart(number) => write!(f, "restart {}", unit(*number))?,
            Event::Edit(number) => write!(f, "edit {}", unit(*number))?,
            Event::Destroy(number) => write!(f, "destroy {}", unit(*number))?,
            Event::Drain(whom, _) => write!(f, "drain {whom}")?,
            Event::Link(whom, link, _) => write!(f, "{} {whom}", word(&LINKS, link))?,
            Event::Store(condition, _) => write!(f, "store {}", word(&CONDITIONS, condition))?,
            Event::Member(member, health, _) => write!(f, "member {} {}", member + 1, word(&HEALTHS, health))?,
            Event::Disconnect(whom) => write!(f, "disconnect {whom}")?,
            Event::Compact(share) => write!(f, "compact {share}")?,
            Event::Kill(whom, _) => write!(f, "kill {whom}")?,
            Event::RestartDaemon(whom, _) => write!(f, "restart-daemon {whom}")?,
            Event::Upgrade(number, _) => write!(f, "upgrade {}", Whom::Host(*number))?,
            Event::Leave(whom, _) => write!(f, "leave {whom}")?,
            Event::PowerLoss(whom, _) => write!(f, "lose-power {whom}")?,
            Event::Reexecute(whom, _) => write!(f, "reexecute {whom}")?,
            Event::SystemdFaults(whom, faults, _) => {
                let SystemdFaults { latency, silent, lose_signal, leave_out, refuse: _ } = faults;
                write!(f, "systemd-faults {whom} latency={}..{}", latency.start(), latency.end())?;
                write!(f, " silent={silent} lose-signal={lose_signal} leave-out={leave_out}")?;
            }
            Event::NetworkFaults(faults, _) => {
                let StoreFaults { latency, refuse, lose_answer, break_watch, behind } = faults;
                write!(f, "network-faults latency={}..{} refuse={refuse}", latency.start(), latency.end())?;
                write!(f, " lose-answer={lose_answer} break-watch={break_watch} behind={behind}")?;
            }
            Event::Slow(whom, most, _) => write!(f, "slow {whom} {most}")?,
            Event::CutMany(first, count, _) => write!(f, "cut-many {} {count}", Whom::Host(*first))?,
            Event::FullDisk(whom, _) => write!(f, "fill-disk {whom}")?,
        }
        match self.event.lasts() {
            Duration::ZERO => Ok(()),
            lasts => write!(f, " for {}", seconds(lasts)),
        }
    }
}

impl Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(number) => write!(f, "h{}", number + 1),
            Self::Leader => f.write_str("leader"),
        }
    }
}

const LINKS: [(&str, Link); 3] = [("cut", Link::Cut), ("deafen", Link::Deaf), ("heal", Link::Up)];
const CONDITIONS: [(&str, Condition); 4] = [
    ("frozen", Condition::Frozen),
    ("down", Condition::Down),
    ("leaderless", Condition::Leaderless),
    ("up", Condition::Up),
];
const HEALTHS: [(&str, Health); 3] = [("hung", Health::Hung), ("down", Health::Down), ("up", Health::Up)];

fn word<T: PartialEq>(words: &[(&'static str, T)], meant: &T) -> &'static str {
    words.iter().find(|(_, meaning)| meaning == meant).map_or("", |(word, _)| word)
}

fn seconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

impl FromStr for Script {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let empty = Self {
            scenario: Scenario::Faults,
            seed: 0,
            twins: 0,
            hosts: 0,
            ttl: Duration::ZERO,
            units: Vec::new(),
            events: Vec::new(),
        };
        let mut script = empty;
        for (number, line) in text.lines().enumerate() {
            script.add(line).with_context(|| format!("line {}, {line:?}", number + 1))?;
        }
        ensure!(script.hosts > 0 && script.ttl >= Duration::from_secs(1), "`hosts` and `ttl` are missing");
        // What no host or unit is, nothing can be done to.
        for (at, event) in &script.events {
            let whom = match event {
                Event::CutMany(first, ..) => Some(Whom::Host(*first)),
                event => event.whom(),
            };
            if let Some(Whom::Host(number)) = whom {
                ensure!(number < script.hosts, "at {}: there is no host h{}", seconds(*at), number + 1);
            }
        }
        ensure!(script.events.is_sorted_by_key(|(at, _)| *at), "its events are not in order of time");
        Ok(script)
    }
}

impl Script {
    /// Takes the next line of its text.
    fn add(&mut self, line: &str) -> Result<()> {
        if let Some(text) = line.strip_prefix('|') {
            let unit = self.units.last_mut().context("contents of no unit")?;
            unit.text += text.strip_prefix(' ').unwrap_or(text);
            unit.text.push('\n');
            return Ok(());
        }
        let mut words = line.split_whitespace();
        match words.next() {
            None => return Ok(()),
            Some(comment) if comment.starts_with('#') => return Ok(()),
            Some("scenario") => {
                self.scenario = match words.next() {
                    Some("faults") => Scenario::Faults,
                    Some("elections") => Scenario::Elections,
                    _ => bail!("scenarios are `faults` and `elections`"),
                }
            }
            Some("seed") => self.seed = next(&mut words)?,
            Some("twins") => self.twins = next(&mut words)?,
            Some("hosts") => self.hosts = next(&mut words)?,
            Some("ttl") => self.ttl = Duration::from_secs(next(&mut words)?),
            Some("unit") => {
                let name = UnitName::new(words.next().context("which unit?")?)?;
                self.units.push(Unit { name, text: String::new() });
            }
            Some(at) => {
                let at = time(at)?;
                let event = self.event(&mut words)?;
                self.events.push((at, event));
            }
        }
        ensure!(words.next().is_none(), "it goes on after its end");
        Ok(())
    }

    fn event(&self, words: &mut SplitWhitespace<'_>) -> Result<Event> {
        let unit = |words: &mut SplitWhitespace<'_>| {
            let name = words.next().context("which unit?")?;
            let position = self.units.iter().position(|unit| unit.name.as_str() == name);
            position.with_context(|| format!("there is no unit {name}"))
        };
        let what = words.next().context("what happens?")?;
        if let Some((_, link)) = LINKS.iter().find(|(word, _)| *word == what) {
            return Ok(Event::Link(next(words)?, *link, lasts(words)?));
        }
        Ok(match what {
            "want" => {
                let desired: Desired = words.next().context("what is wanted?")?.parse().map_err(Error::msg)?;
                Event::Want(unit(words)?, desired)
            }
            "restart" => Event::Restart(unit(words)?),
            "edit" => Event::Edit(unit(words)?),
            "destroy" => Event::Destroy(unit(words)?),
            "drain" => Event::Drain(next(words)?, lasts(words)?),
            "store" => Event::Store(meaning(&CONDITIONS, words)?, lasts(words)?),
            "member" => {
                let member: usize = next(words)?;
                ensure!((1..=MEMBERS).contains(&member), "members are 1 to {MEMBERS}");
                Event::Member(member - 1, meaning(&HEALTHS, words)?, lasts(words)?)
            }
            "disconnect" => Event::Disconnect(next(words)?),
            "compact" => Event::Compact(share(words.next().context("how much of it?")?)?),
            "kill" => Event::Kill(next(words)?, lasts(words)?),
            "restart-daemon" => Event::RestartDaemon(next(words)?, lasts(words)?),
            "upgrade" => match next(words)? {
                Whom::Host(number) => Event::Upgrade(number, lasts(words)?),
                Whom::Leader => bail!("who is upgraded is old from the beginning"),
            },
            "leave" => Event::Leave(next(words)?, lasts(words)?),
            "lose-power" => Event::PowerLoss(next(words)?, lasts(words)?),
            "reexecute" => Event::Reexecute(next(words)?, lasts(words)?),
            "systemd-faults" => {
                let whom = next(words)?;
                let faults = SystemdFaults {
                    latency: range(member(words, "latency")?)?,
                    silent: share(member(words, "silent")?)?,
                    lose_signal: share(member(words, "lose-signal")?)?,
                    leave_out: share(member(words, "leave-out")?)?,
                    ..SystemdFaults::default()
                };
                Event::SystemdFaults(whom, faults, lasts(words)?)
            }
            "network-faults" => {
                let faults = StoreFaults {
                    latency: range(member(words, "latency")?)?,
                    refuse: share(member(words, "refuse")?)?,
                    lose_answer: share(member(words, "lose-answer")?)?,
                    break_watch: share(member(words, "break-watch")?)?,
                    behind: share(member(words, "behind")?)?,
                };
                Event::NetworkFaults(faults, lasts(words)?)
            }
            "slow" => Event::Slow(next(words)?, next(words)?, lasts(words)?),
            "cut-many" => match next(words)? {
                Whom::Host(first) => Event::CutMany(first, next(words)?, lasts(words)?),
                Whom::Leader => bail!("several are cut off from a host on"),
            },
            "fill-disk" => Event::FullDisk(next(words)?, lasts(words)?),
            _ => bail!("no such event"),
        })
    }
}

impl FromStr for Whom {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        if word == "leader" {
            return Ok(Self::Leader);
        }
        let number: Option<usize> = word.strip_prefix('h').and_then(|number| number.parse().ok());
        let number = number.filter(|number| *number > 0).context("hosts are h1, h2, ... and `leader`")?;
        Ok(Self::Host(number - 1))
    }
}

fn next<T: FromStr<Err: Into<Error>>>(words: &mut SplitWhitespace<'_>) -> Result<T> {
    words.next().context("it ends too early")?.parse().map_err(Into::into)
}

fn meaning<T: Copy>(meanings: &[(&str, T)], words: &mut SplitWhitespace<'_>) -> Result<T> {
    let word = words.next().context("it ends too early")?;
    let known = meanings.iter().find(|(known, _)| *known == word);
    known.map(|(_, meaning)| *meaning).with_context(|| format!("{word:?} is nothing here"))
}

/// `NAME=VALUE`.
fn member<'l>(words: &mut SplitWhitespace<'l>, name: &str) -> Result<&'l str> {
    let value = words.next().and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.with_context(|| format!("{name}= is missing"))
}

fn share(word: &str) -> Result<f64> {
    let share: f64 = word.parse()?;
    ensure!((0.0..=1.0).contains(&share), "{share} is not from 0 to 1");
    Ok(share)
}

fn range(word: &str) -> Result<RangeInclusive<u64>> {
    let (least, most) = word.split_once("..").context("a range is LEAST..MOST")?;
    Ok(least.parse()?..=most.parse()?)
}

/// `for SECONDS`.
fn lasts(words: &mut SplitWhitespace<'_>) -> Result<Duration> {
    ensure!(words.next() == Some("for"), "for how long?");
    let lasts = time(words.next().context("for how long?")?)?;
    ensure!(lasts > Duration::ZERO, "for no time at all");
    Ok(lasts)
}

/// Seconds with up to three digits behind the point.
fn time(word: &str) -> Result<Duration> {
    let (seconds, behind) = word.split_once('.').unwrap_or((word, ""));
    let described = || format!("{word:?} is no time in seconds");
    ensure!(behind.len() <= 3 && behind.bytes().all(|byte| byte.is_ascii_digit()), described());
    let millis: u64 = format!("{behind:0<3}").parse().with_context(described)?;
    let seconds: u64 = seconds.parse().with_context(described)?;
    let seconds = seconds.checked_mul(1000).and_then(|time| time.checked_add(millis)).with_context(described)?;
    Ok(Duration::from_millis(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        for seed in 0..2_000 {
            for scenario in [Scenario::Faults, Scenario::Elections] {
                let script = Script::draw(scenario, seed);
                let text = script.to_string();
                let read: Script = text.parse().unwrap_or_else(|error| panic!("seed {seed}: {error:#}\n{text}"));
                assert_eq!(read, script, "{text}");
            }
        }
    }

    #[test]
    fn what_cannot_be_played_is_refused_with_its_line() {
        let good = "# found\nscenario faults\nseed 1\ntwins 2\nhosts 3\nttl 4\n\nunit a.service\n| [Service]\n|\n";
        let script: Script = good.parse().unwrap();
        assert_eq!(script.units[0].text, "[Service]\n\n");
        for (line, complaint) in [
            ("1.0 cut h4 for 1", "no host h4"),
            ("1.0 cut h0 for 1", "hosts are"),
            ("1.0 cut h1", "for how long?"),
            ("1.0 cut h1 for 0", "no time at all"),
            ("1.0001 compact 0.5", "no time"),
            ("1.0 compact 1.5", "not from 0 to 1"),
            ("1.0 restart b.service", "no unit b.service"),
            ("1.0 explode h1", "no such event"),
            ("1.0 upgrade leader for 1", "old from the beginning"),
            ("1.0 disconnect h1 for 1", "goes on"),
            ("1.0 member 4 down for 1", "members are"),
            ("2.0 compact 0\n1.0 compact 0", "in order"),
            ("| text\nseed x", "line 12"),
        ] {
            let error = format!("{:#}", format!("{good}{line}\n").parse::<Script>().unwrap_err());
            assert!(error.contains(complaint), "{line}: {error}");
        }
        assert!("| [Service]".parse::<Script>().is_err() && "seed 1".parse::<Script>().is_err());
    }
}

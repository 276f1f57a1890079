//! What a simulated systemd reads from a unit file.
//!
//! How a service behaves is read from its commands, as far as they are ones whose behaviour is known: `/bin/sleep`,
//! `/bin/true`, `/bin/false`, and anything under `/nonexistent`. Any other program of `ExecStart=` runs for ever, and
//! any other helper command is done at once. So one file means the same to this and to a real systemd.

use std::{path::PathBuf, time::Duration};

use fleet_core::unit::UnitFile;

/// What the commands before and after the main ones take when they are not known.
const MOMENT: Duration = Duration::from_millis(2);

/// A unit's definition, as it was when it was loaded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Definition {
    /// Where it was found, and what stood there.
    pub source: Option<(PathBuf, String)>,
    /// `loaded`, `not-found`, `bad-setting`.
    pub load: &'static str,
    pub kind: Kind,
    pub wants: Vec<String>,
    /// Units without which it is not started.
    pub requires: Vec<String>,
    /// Conditions that are not met, and assertions. Those about a path under `/nonexistent` are not.
    pub unmet: (Vec<String>, Vec<String>),
    pub conflicts: Vec<String>,
    pub wanted_by: Vec<String>,
    pub pre: Vec<Command>,
    pub main: Vec<Command>,
    pub stop: Vec<Command>,
    pub stop_post: Vec<Command>,
    pub stop_timeout: Option<Duration>,
    pub remains: bool,
    pub restart: Restart,
    pub restart_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A service that counts as started once it is forked.
    Simple,
    /// A service that counts as started once it has ended.
    Oneshot,
    /// A unit of another type, and the sub state that it is active in.
    Other(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    No,
    OnFailure,
    Always,
}

/// One command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// How long it runs; `None` for ever.
    pub takes: Option<Duration>,
    /// Whether it ends well.
    pub succeeds: bool,
}

impl Definition {
    /// A unit without a file.
    pub fn not_found(name: &str) -> Self {
        Self::blank(name, "not-found", None)
    }

    /// Reads the file of a unit.
    pub fn read(name: &str, path: PathBuf, text: String) -> Self {
        let file = UnitFile::parse(&text);
        let mut read = Self::blank(name, "loaded", Some((path, text)));
        // Systemd passes over lines that it cannot read; one that is no unit file at all has no commands.
        let Ok(file) = file else {
            read.load = "bad-setting";
            return read;
        };
        let value = |section: &str, key: &str| file.values(section, key).last().map(|value| value.trim().to_owned());
        let words = |section: &str, key: &str| -> Vec<String> {
            let values = file.values(section, key);
            values.iter().flat_map(|value| value.split_whitespace()).map(str::to_owned).collect()
        };
        let commands = |key: &str, unknown: Option<Duration>| -> Vec<Command> {
            file.values("Service", key).iter().map(|line| Command::read(line, unknown)).collect()
        };
        read.wants = words("Unit", "Wants");
        read.requires = words("Unit", "Requires");
        let unmet = |kind: &str| -> Vec<String> {
            let options = file.options().iter().filter(|option| option.section == "Unit");
            let unmet =
                options.filter(|option| option.name.starts_with(kind) && option.value.starts_with("/nonexistent"));
            unmet.map(|option| format!("{}={}", option.name, option.value)).collect()
        };
        read.unmet = (unmet("Condition"), unmet("Assert"));
        read.conflicts = words("Unit", "Conflicts");
        read.wanted_by = words("Install", "WantedBy");
        if matches!(read.kind, Kind::Other(_)) {
            return read;
        }
        if value("Service", "Type").as_deref() == Some("oneshot") {
            read.kind = Kind::Oneshot;
        }
        read.pre = commands("ExecStartPre", Some(MOMENT));
        read.main = commands("ExecStart", None);
        read.stop = commands("ExecStop", Some(MOMENT));
        read.stop_post = commands("ExecStopPost", Some(MOMENT));
        read.remains = value("Service", "RemainAfterExit").is_some_and(|value| matches!(&*value, "yes" | "true" | "1"));
        let seconds = |key: &str| value("Service", key).and_then(|value| seconds(&value));
        read.stop_timeout = seconds("TimeoutStopSec").map_or(read.stop_timeout, |timeout| timeout);
        if let Some(Some(after)) = seconds("RestartSec") {
            read.restart_after = after;
        }
        read.restart = match value("Service", "Restart").as_deref() {
            Some("always") => Restart::Always,
            Some("on-failure") => Restart::OnFailure,
            _ => Restart::No,
        };
        let is_complete = match read.kind {
            Kind::Simple => read.main.len() == 1,
            _ => !read.main.is_empty() || !read.stop.is_empty(),
        };
        if !is_complete {
            read.load = "bad-setting";
        }
        read
    }

    /// The units that stay loaded because of it.
    pub fn refers_to(&self) -> impl Iterator<Item = &String> {
        self.wants.iter().chain(&self.conflicts).chain(&self.requires)
    }

    fn blank(name: &str, load: &'static str, source: Option<(PathBuf, String)>) -> Self {
        let kind = match name.rsplit('.').next() {
            Some("service") => Kind::Simple,
            Some("socket") => Kind::Other("listening"),
            Some("timer" | "path") => Kind::Other("waiting"),
            Some("mount") => Kind::Other("mounted"),
            _ => Kind::Other("active"),
        };
        Self {
            source,
            load,
            kind,
            wants: Vec::new(),
            requires: Vec::new(),
            unmet: (Vec::new(), Vec::new()),
            conflicts: Vec::new(),
            wanted_by: Vec::new(),
            pre: Vec::new(),
            main: Vec::new(),
            stop: Vec::new(),
            stop_post: Vec::new(),
            stop_timeout: Some(Duration::from_secs(90)),
            remains: false,
            restart: Restart::No,
            restart_after: Duration::from_millis(100),
        }
    }
}

impl Command {
    fn read(line: &str, unknown: Option<Duration>) -> Self {
        let ignored = line.trim_start().starts_with('-');
        let mut words = line.trim_start_matches(['-', '@', ':', '+', '!', ' ']).split_whitespace();
        let program = words.next().unwrap_or_default();
        let (takes, succeeds) = match program.rsplit('/').next() {
            _ if program.starts_with("/nonexistent") => (Some(MOMENT), false),
            Some("sleep") => (words.next().and_then(seconds).flatten(), true),
            Some("true") => (Some(MOMENT), true),
            Some("false") => (Some(MOMENT), false),
            _ => (unknown, true),
        };
        Self { takes, succeeds: succeeds || ignored }
    }

    /// How long commands run one after the other, up to the first that fails, and whether none does.
    pub fn run(commands: &[Self]) -> (Option<Duration>, bool) {
        let mut total = Duration::ZERO;
        for command in commands {
            match command.takes {
                Some(takes) => total += takes,
                None => return (None, true),
            }
            if !command.succeeds {
                return (Some(total), false);
            }
        }
        (Some(total), true)
    }
}

/// Reads a time span in seconds; `Some(None)` is `infinity`.
#[allow(clippy::option_option)] // Not there, for ever, or so long: three things.
fn seconds(text: &str) -> Option<Option<Duration>> {
    match text.trim() {
        "infinity" => Some(None),
        text => {
            let (number, unit) = match text.strip_suffix("ms") {
                Some(number) => (number, 0.001),
                None => (text.trim_end_matches('s'), 1.0),
            };
            let number: f64 = number.trim().parse().ok()?;
            Some(Some(Duration::try_from_secs_f64(number * unit).ok()?))
        }
    }
}

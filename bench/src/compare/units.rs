//! The units that both sides run, and the commands that start and stop them.

use std::sync::atomic::{AtomicU32, Ordering};

use fleet_lab::Host;

/// Units that are all alike, and each another: no two have the same contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// What their names begin with.
    pub name: &'static str,
    /// How many there are.
    pub count: usize,
}

/// Files by hand: a host, and those it gets, by name.
pub type Hand = (Host, Vec<(String, String)>);

impl Set {
    /// The names.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        (1..=self.count).map(|number| format!("{}-{number:04}.service", self.name)).collect()
    }

    /// Names and files, whose contents were never there before: fleet keeps by its contents what it has seen.
    /// `options` goes into `[X-Fleet]`.
    #[must_use]
    pub fn files(self, options: &str) -> Vec<(String, String)> {
        static EDITION: AtomicU32 = AtomicU32::new(1);
        let edition = EDITION.fetch_add(1, Ordering::Relaxed);
        self.names().into_iter().map(|name| (name.clone(), file(&name, edition, options))).collect()
    }

    /// What fits them all.
    #[must_use]
    pub fn pattern(self) -> String {
        format!("{}-*", self.name)
    }

    /// What their names begin with, and no others.
    #[must_use]
    pub fn prefix(self) -> String {
        format!("{}-", self.name)
    }
}

/// A unit that sleeps.
fn file(name: &str, edition: u32, options: &str) -> String {
    let section = if options.is_empty() { String::new() } else { format!("\n[X-Fleet]\n{options}\n") };
    // Systemd would refuse the sixth start within ten seconds.
    let unit = format!("Description={name}, edition {edition}\nStartLimitIntervalSec=0");
    format!("[Unit]\n{unit}\n\n[Service]\nExecStart=/bin/sleep infinity\n{section}")
}

/// Deals units to hosts, one each in turn, as a person would.
#[must_use]
pub fn dealt(hosts: &[Host], files: Vec<(String, String)>) -> Vec<Hand> {
    let mut hands: Vec<Hand> = hosts.iter().map(|host| (host.clone(), Vec::new())).collect();
    for (number, file) in files.into_iter().enumerate() {
        let hand = number % hosts.len();
        hands[hand].1.push(file);
    }
    hands.retain(|(_, files)| !files.is_empty());
    hands
}

/// `systemctl VERB UNIT...` for each host that has some.
#[must_use]
pub fn systemctl(verb: &str, hands: &[Hand]) -> Vec<(Host, Vec<String>)> {
    let names = |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    hands.iter().map(|(host, files)| (host.clone(), command("systemctl", &[verb], &names(files)))).collect()
}

/// A program with its arguments.
#[must_use]
pub fn command(program: &str, verb: &[&str], units: &[String]) -> Vec<String> {
    let words = std::iter::once(program).chain(verb.iter().copied()).map(str::to_owned);
    words.chain(units.iter().cloned()).collect()
}

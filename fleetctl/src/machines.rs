//! The machines of the cluster, by the names that people have for them.

use fleet_api::Machine;
use fleet_core::{address::HostAddress, model::short};

use crate::error::{Failure, NOT_FOUND};

/// The machines that are alive.
#[derive(Clone, Debug, Default)]
pub struct Roster(Vec<Machine>);

/// What a word names.
#[derive(Debug, PartialEq)]
pub enum Found<'r> {
    /// This machine.
    One(&'r Machine),
    /// No machine.
    None,
    /// The beginning of several IDs.
    Several(Vec<&'r Machine>),
}

impl Roster {
    /// Takes the machines as the API lists them.
    pub fn new(machines: Vec<Machine>) -> Self {
        Self(machines)
    }

    /// Whether this machine is alive.
    pub fn knows(&self, id: &str) -> bool {
        self.get(id).is_some()
    }

    /// The address of a machine.
    pub fn address(&self, id: &str) -> Option<&str> {
        self.get(id).map(|machine| &*machine.primary_ip).filter(|ip| !ip.is_empty())
    }

    /// `d097a72e.../10.82.0.13`; only the ID for a machine that has gone, `-` for none.
    pub fn legend(&self, id: &str, full: bool) -> String {
        legend(id, self.address(id).unwrap_or_default(), full)
    }

    /// The machine that `word` names: its address, its host name, or the beginning of its ID.
    pub fn find(&self, word: &str) -> Found<'_> {
        if word.is_empty() {
            return Found::None;
        }
        // An IPv6 address has many forms; machines are shown with the shortest.
        let address = HostAddress::parse(word).map(|address| address.to_string());
        let address = address.as_deref().unwrap_or(word);
        let by_name = |machine: &&Machine| {
            [&*machine.id, &*machine.hostname].contains(&word) || [word, address].contains(&&*machine.primary_ip)
        };
        if let Some(machine) = self.0.iter().find(by_name) {
            return Found::One(machine);
        }
        let by_prefix: Vec<_> = self.0.iter().filter(|machine| machine.id.starts_with(word)).collect();
        match *by_prefix {
            [] => Found::None,
            [machine] => Found::One(machine),
            _ => Found::Several(by_prefix),
        }
    }

    /// The machines that `words` name, in that order.
    ///
    /// # Errors
    /// One of them names none, or several.
    pub fn choose(&self, words: &[String]) -> Result<Vec<&Machine>, Failure> {
        let choose = |word: &String| match self.find(word) {
            Found::One(machine) => Ok(machine),
            Found::None => Err(Failure::new(format!("no machine matches {word}"))
                .hint("see the machines that are alive with `fleetctl list-machines`")
                .code(NOT_FOUND)),
            Found::Several(machines) => Err(ambiguous(word, machines.iter().map(|machine| &*machine.id))),
        };
        words.iter().map(choose).collect()
    }

    fn get(&self, id: &str) -> Option<&Machine> {
        self.0.iter().find(|machine| machine.id == id)
    }
}

/// A word that names several machines.
pub fn ambiguous<'i>(word: &str, ids: impl Iterator<Item = &'i str>) -> Failure {
    let ids: Vec<_> = ids.collect();
    Failure::new(format!("found more than one machine that matches {word}"))
        .hint(format!("`{word}` may be any of {}", ids.join(", ")))
}

/// How a machine is shown: by its ID and, when known, its address.
pub fn legend(id: &str, address: &str, full: bool) -> String {
    if id.is_empty() {
        return "-".into();
    }
    let slash = if address.is_empty() { "" } else { "/" };
    format!("{}{slash}{address}", shown_id(id, full))
}

/// An ID as people read it, `d097a72e...`, or all of it.
pub fn shown_id(id: &str, full: bool) -> String {
    if full { id.into() } else { format!("{}...", short(id)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster() -> Roster {
        let machine = |id: &str, ip: &str, hostname: &str| Machine {
            id: id.into(),
            primary_ip: ip.into(),
            hostname: hostname.into(),
            ..Machine::default()
        };
        Roster::new(vec![
            machine("d097a72e4aef45bf815b90988acdbf13", "10.82.0.13", "h3"),
            machine("d58165df4b3c4dfaa586f6748272d7f5", "10.82.0.11", "h1"),
            machine("a7e8f00d000000000000000000000000", "fd00::13", "h4"),
            machine("e515483f000000000000000000000000", "", ""),
        ])
    }

    #[test]
    fn legends_are_those_of_the_lists() {
        let roster = roster();
        assert_eq!(roster.legend("d097a72e4aef45bf815b90988acdbf13", false), "d097a72e.../10.82.0.13");
        assert_eq!(
            roster.legend("d097a72e4aef45bf815b90988acdbf13", true),
            "d097a72e4aef45bf815b90988acdbf13/10.82.0.13"
        );
        assert_eq!(roster.legend("e515483f000000000000000000000000", false), "e515483f...");
        assert_eq!(roster.legend("ffffffff000000000000000000000000", false), "ffffffff...");
        assert_eq!(roster.legend("", false), "-");
    }

    #[test]
    fn machines_are_found_by_id_address_and_host_name() {
        let roster = roster();
        for (word, id) in
            [("d0", "d097"), ("d58165df", "d581"), ("10.82.0.11", "d581"), ("h3", "d097"), ("FD00:0::0013", "a7e8")]
        {
            assert!(matches!(roster.find(word), Found::One(machine) if machine.id.starts_with(id)), "{word}");
        }
        assert!(matches!(roster.find("d"), Found::Several(machines) if machines.len() == 2));
        assert_eq!(roster.find("10.82.0.1"), Found::None);
        assert_eq!(roster.find(""), Found::None);
    }
}

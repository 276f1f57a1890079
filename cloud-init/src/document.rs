//! A cloud-config as values: what a document says, checked as far as that is possible without looking at the host.

mod cluster;
mod file;
mod service;
mod unit;
mod user;

pub use cluster::ClusterUnit;
pub use file::{File, Owner};
use fleet_core::unit::UnitHash;
pub use service::Settings;
pub(crate) use unit::has_install;
pub use unit::{DropIn, Unit, Verb};
pub use user::User;

use crate::{
    fault::{Fault, Mark, Note, lines},
    reader::{Addresses, Fields, Reader},
    yaml::{self, Node},
};

/// Most bytes of a document.
const MAX_DOCUMENT: usize = 4 << 20;

/// What the first line of a document must be.
const HEADER: &str = "#cloud-config";

/// Whether an option can have that value, and if not, why; if it can, what should be known of it.
pub type Check<'c> = dyn Fn(&str, &str) -> Result<Vec<String>, String> + 'c;

/// What a document is checked against that is not in it.
#[derive(Clone, Copy)]
pub struct Reading<'r> {
    /// The host's addresses.
    pub addresses: Addresses,
    /// The options of `fleet.conf`.
    pub options: &'r [&'r str],
    /// Options that once were, and mean nothing any more.
    pub gone: &'r [&'r str],
    /// Looks at options of `fleet.conf`.
    pub check: &'r Check<'r>,
}

/// A cloud-config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `hostname`
    pub hostname: Option<String>,
    /// `manage_etc_hosts: localhost`
    pub manage_etc_hosts: bool,
    /// `users`, and the user `core` when there are keys for it.
    pub users: Vec<User>,
    /// `write_files`
    pub files: Vec<File>,
    /// `coreos.fleet`: options of `fleet.conf`.
    pub fleet: Vec<(String, String)>,
    /// `coreos.etcd`, `coreos.etcd2`, `coreos.flannel`, `coreos.locksmith`: settings of services.
    pub settings: Vec<Settings>,
    /// `coreos.units`
    pub units: Vec<Unit>,
    /// `fleet.units`
    pub cluster: Vec<ClusterUnit>,
    /// What a reader should know of it.
    pub notes: Vec<Note>,
    /// Tells this document, addresses filled in, from others.
    pub hash: UnitHash,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// All that is wrong with it, in its order.
    pub fn parse(text: &str, reading: Reading<'_>) -> Result<Self, Vec<Fault>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        check_header(text).map_err(|fault| vec![fault])?;
        let root = yaml::parse(text).map_err(|fault| vec![fault])?;
        let mut reader = Reader::new(reading.addresses);
        let mut document = Self {
            hostname: None,
            manage_etc_hosts: false,
            users: Vec::new(),
            files: Vec::new(),
            fleet: Vec::new(),
            settings: Vec::new(),
            units: Vec::new(),
            cluster: Vec::new(),
            notes: Vec::new(),
            hash: UnitHash::of(&format!("{:?}\n{text}", reading.addresses)),
        };
        if let Some(root) = &root {
            document.read(root, &mut reader, &reading);
        }
        let (faults, notes) = reader.end();
        document.notes = notes;
        if faults.is_empty() { Ok(document) } else { Err(faults) }
    }

    fn read(&mut self, root: &Node, reader: &mut Reader, reading: &Reading<'_>) {
        let known = ["coreos", "fleet", "hostname", "manage_etc_hosts", "ssh_authorized_keys", "users", "write_files"];
        let fields = reader.any_fields(root, "the document");
        for (key, mark, _) in &fields.entries {
            match STOCK.iter().find(|(stock, _)| stock == key) {
                Some((_, instead)) => {
                    reader.fault(*mark, format!("`{key}` is cloud-init's, and CoreOS never had it"), *instead);
                }
                None if !known.contains(&&**key) => reader.unknown(key, *mark, "the document", &known),
                None => {}
            }
        }
        self.hostname = fields.get("hostname").and_then(|node| hostname(node, reader));
        self.manage_etc_hosts = fields.get("manage_etc_hosts").is_some_and(|node| {
            let text = reader.line(node, "manage_etc_hosts");
            match text {
                Some(text) if text.text != "localhost" => {
                    let message = format!("manage_etc_hosts is {:?}", text.text);
                    reader.fault(node.mark, message, "write localhost, the one value that CoreOS knew");
                    false
                }
                text => text.is_some(),
            }
        });
        self.users = user::read(&fields, reader);
        if let Some(node) = fields.get("write_files") {
            self.files = reader.list(node, "write_files").iter().filter_map(|item| file::read(item, reader)).collect();
        }
        if let Some(node) = fields.get("coreos") {
            self.read_coreos(node, reader, reading);
        }
        if let Some(node) = fields.get("fleet") {
            self.cluster = cluster::read(node, reader);
        }
        once(reader, "write_files", self.files.iter().map(|file| (&*file.path, file.mark)));
        once(reader, "coreos.units", self.units.iter().map(|unit| (&*unit.name, unit.mark)));
        once(reader, "users", self.users.iter().map(|user| (&*user.name, user.mark)));
        once(reader, "fleet.units", self.cluster.iter().map(|unit| (unit.name.as_str(), unit.mark)));
    }

    fn read_coreos(&mut self, node: &Node, reader: &mut Reader, reading: &Reading<'_>) {
        let known = ["etcd", "etcd2", "flannel", "fleet", "locksmith", "oem", "units", "update"];
        let coreos = reader.fields(node, "coreos", &known);
        if let Some(node) = coreos.get("fleet") {
            self.fleet = service::fleet(node, reader, reading);
        }
        self.settings = service::settings(&coreos, reader);
        service::accepted(&coreos, reader);
        if let Some(node) = coreos.get("units") {
            self.units = reader.list(node, "coreos.units").iter().filter_map(|item| unit::read(item, reader)).collect();
        }
    }
}

/// Keys of today's cloud-init that people reach for, and what does the same here.
const STOCK: [(&str, &str); 8] = [
    ("runcmd", "use a unit with `Type=oneshot` and `command: start` in coreos.units"),
    ("bootcmd", "use a unit with `Type=oneshot` and `command: start` in coreos.units"),
    ("packages", "give this document to cloud-init itself, or install packages in the image"),
    ("package_update", "give this document to cloud-init itself, or install packages in the image"),
    ("package_upgrade", "give this document to cloud-init itself, or install packages in the image"),
    ("fqdn", "use `hostname`"),
    ("groups", "use `groups` of a user, or give this document to cloud-init itself"),
    ("chpasswd", "use `passwd` of a user, with a hash"),
];

fn check_header(text: &str) -> Result<(), Fault> {
    let first = lines(text).next().unwrap_or_default();
    let mark = Mark { line: 1, column: 0, width: first.chars().count() };
    if text.len() > MAX_DOCUMENT {
        return Err(Fault::new(mark, format!("the document has more than {MAX_DOCUMENT} bytes"), "write less"));
    }
    if first.trim_end() == HEADER {
        return Ok(());
    }
    let mend = if first.starts_with("#!") {
        "this is a script: run it, or write it with write_files and run it by a unit".into()
    } else if first.to_ascii_lowercase().starts_with("content-type:") {
        "this has several parts: give its part of type text/cloud-config".into()
    } else {
        format!("begin with a line {HEADER}")
    };
    Err(Fault::new(mark, "this is not a cloud-config", mend))
}

/// Host names and parts of them, as RFC 1123 has them.
fn hostname(node: &Node, reader: &mut Reader) -> Option<String> {
    let name = reader.line(node, "hostname")?.text;
    let is_label = |label: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(label.chars().next())
            && edge(label.chars().next_back())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if name.len() <= 64 && name.split('.').all(is_label) {
        return Some(name);
    }
    let message = format!("{name:?} cannot be a host's name");
    reader.fault(node.mark, message, "use at most 64 letters, digits and `-`, with `.` between parts");
    None
}

/// Each thing is described once: of two, nobody could say which counts.
fn once<'n>(reader: &mut Reader, what: &str, names: impl Iterator<Item = (&'n str, Mark)>) {
    let mut known = std::collections::BTreeMap::new();
    for (name, mark) in names {
        if let Some(first) = known.insert(name, mark) {
            let message = format!("{name} stands twice in {what}, first in line {}", first.line);
            reader.fault(mark, message, "make one entry of the two");
        }
    }
}

/// Reads a key with one of the reader's methods, if it is there.
fn get<T>(
    fields: &Fields<'_>,
    reader: &mut Reader,
    key: &str,
    what: &str,
    read: impl FnOnce(&mut Reader, &Node, &str) -> Option<T>,
) -> Option<T> {
    let node = fields.get(key)?;
    read(reader, node, &format!("{what}.{key}"))
}

#[cfg(test)]
mod tests;

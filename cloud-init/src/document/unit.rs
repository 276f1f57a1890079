//! `coreos.units`: units of this host.

use std::fmt;

use fleet_core::unit::{UnitFile, UnitName, suggest};

use super::get;
use crate::{
    fault::Mark,
    reader::{Reader, Text},
    yaml::{Node, Style},
};

/// A unit of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Where it stands in the document.
    pub mark: Mark,
    /// Its name.
    pub name: String,
    /// Its whole file; without it, the unit is there already.
    pub content: Option<String>,
    /// Files that change parts of it.
    pub drop_ins: Vec<DropIn>,
    /// Whether what is written and enabled lasts until the next boot only.
    pub runtime: bool,
    /// Whether its `[Install]` section is to be carried out.
    pub enable: bool,
    /// Whether it must not be started by anybody; `Some(false)` takes that back.
    pub mask: Option<bool>,
    /// What is to be done with it.
    pub command: Option<Verb>,
}

/// A file that changes a part of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropIn {
    /// The name of the file.
    pub name: String,
    /// What is in it.
    pub content: String,
}

/// What can be done with a unit: a verb of systemctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they are systemctl's own words")]
pub enum Verb {
    Start,
    Stop,
    Restart,
    TryRestart,
    Reload,
    ReloadOrRestart,
    ReloadOrTryRestart,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::TryRestart,
        Self::Reload,
        Self::ReloadOrRestart,
        Self::ReloadOrTryRestart,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::TryRestart => "try-restart",
            Self::Reload => "reload",
            Self::ReloadOrRestart => "reload-or-restart",
            Self::ReloadOrTryRestart => "reload-or-try-restart",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Unit {
    /// Whether it is a file of systemd-networkd, which has no state of its own.
    #[must_use]
    pub fn is_network(&self) -> bool {
        is_network(&self.name)
    }

    /// The file itself.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.directory(), self.name)
    }

    /// The file of a drop-in.
    #[must_use]
    pub fn drop_in_path(&self, drop_in: &DropIn) -> String {
        format!("{}/{}.d/{}", self.directory(), self.name, drop_in.name)
    }

    fn directory(&self) -> &'static str {
        match (self.runtime, self.is_network()) {
            (false, false) => "/etc/systemd/system",
            (true, false) => "/run/systemd/system",
            (false, true) => "/etc/systemd/network",
            (true, true) => "/run/systemd/network",
        }
    }
}

fn is_network(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, suffix)| ["network", "netdev", "link"].contains(&suffix))
}

const KEYS: [&str; 7] = ["command", "content", "drop_ins", "enable", "mask", "name", "runtime"];

pub(super) fn read(node: &Node, reader: &mut Reader) -> Option<Unit> {
    let what = "coreos.units";
    let fields = reader.fields(node, what, &KEYS);
    let Some(name) = fields.get("name") else {
        reader.fault(fields.mark, "a unit has no name", "add `name: NAME.service`");
        return None;
    };
    let mark = name.mark;
    let name = unit_name(reader, name, "coreos.units.name");
    let content = get(&fields, reader, "content", what, Reader::text);
    let drop_ins = match fields.get("drop_ins") {
        Some(node) => {
            let items = reader.list(node, "coreos.units.drop-ins");
            items.iter().filter_map(|item| drop_in(item, reader)).collect()
        }
        None => Vec::new(),
    };
    let unit = Unit {
        mark,
        runtime: get(&fields, reader, "runtime", what, Reader::flag).unwrap_or_default(),
        enable: get(&fields, reader, "enable", what, Reader::flag).unwrap_or_default(),
        mask: get(&fields, reader, "mask", what, Reader::flag),
        command: get(&fields, reader, "command", what, command),
        content: content.as_ref().map(|content| content.text.clone()),
        drop_ins,
        name: name?,
    };
    super::once(reader, "drop-ins of a unit", unit.drop_ins.iter().map(|drop_in| (&*drop_in.name, unit.mark)));
    if let Some(content) = &content {
        look_at(reader, content);
    }
    if unit.mask == Some(true) && content.is_some() {
        reader.note(mark, format!("content of {} is not written: mask: true counts", unit.name));
    }
    if unit.enable && content.as_ref().is_some_and(|content| !has_install(&content.text)) {
        reader.note(mark, format!("enable of {} does nothing: its content has no [Install] section", unit.name));
    }
    if unit.is_network() && (unit.command.is_some() || unit.enable) {
        let name = &unit.name;
        reader.note(mark, format!("command and enable of {name} do nothing: systemd-networkd is restarted instead"));
    }
    Some(unit)
}

/// Whether a unit's file says what enabling it means.
pub(crate) fn has_install(content: &str) -> bool {
    content.lines().any(|line| line.trim() == "[Install]")
}

/// Systemd passes over lines that it cannot read, and so did CoreOS. The reader should still know.
fn look_at(reader: &mut Reader, content: &Text) {
    if let Err(error) = UnitFile::parse(&content.text) {
        let line = line_of(content, error.line);
        reader.note(Mark { line, ..content.mark }, format!("systemd will not read this line of a unit: {error}"));
    }
}

/// The line of the document that a line of a text in it is, from 1; that of its beginning when it has no line of its
/// own.
pub(super) fn line_of(text: &Text, line: u32) -> usize {
    if text.style == Style::Literal { text.mark.line + line as usize } else { text.mark.line }
}

fn unit_name(reader: &mut Reader, node: &Node, what: &str) -> Option<String> {
    let name = reader.line(node, what)?.text;
    // The rules for characters are those of units; only these three suffixes are not.
    let checked = match name.rsplit_once('.') {
        Some((stem, _)) if is_network(&name) => UnitName::new(&format!("{stem}.service")),
        _ => UnitName::new(&name),
    };
    if let Err(error) = checked {
        let mend = match UnitName::new(&format!("{name}.service")) {
            Ok(meant) => format!("did you mean `{meant}`?"),
            Err(_) => "write a name as in `docker.service`".into(),
        };
        reader.fault(node.mark, format!("{what} cannot be {name:?}: {error}"), mend);
        return None;
    }
    Some(name)
}

fn drop_in(node: &Node, reader: &mut Reader) -> Option<DropIn> {
    let what = "coreos.units.drop-ins";
    let fields = reader.fields(node, what, &["content", "name"]);
    let Some(name) = fields.get("name") else {
        reader.fault(fields.mark, "a drop-in has no name", "add `name: 10-NAME.conf`");
        return None;
    };
    let mark = name.mark;
    let name = reader.line(name, "coreos.units.drop-ins.name")?.text;
    let is_file = name.len() <= 255 && name.len() > ".conf".len() && !name.contains('/') && !name.starts_with('.');
    if !is_file || !name.ends_with(".conf") {
        let message = format!("{name:?} is no name of a drop-in: systemd would pass over it");
        reader.fault(mark, message, "write a file name that ends in .conf");
        return None;
    }
    let content = get(&fields, reader, "content", what, Reader::text)?;
    look_at(reader, &content);
    Some(DropIn { name, content: content.text })
}

fn command(reader: &mut Reader, node: &Node, what: &str) -> Option<Verb> {
    let word = reader.line(node, what)?.text;
    let verb = Verb::ALL.into_iter().find(|verb| verb.as_str() == word);
    if verb.is_none() {
        let words = Verb::ALL.map(Verb::as_str);
        let mend = match suggest(&word, words) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known are {}", words.join(", ")),
        };
        reader.fault(node.mark, format!("{what} cannot be {word:?}"), mend);
    }
    verb
}

//! What a unit's contents say of how systemd starts it.
//!
//! Only what the file says counts; drop-ins on a host are not known here.

use super::{UnitFile, UnitName, aliases, expand_specifiers};

/// Dependencies without which systemd does not start a unit (`systemd.unit(5)`).
const REQUIREMENTS: [&str; 3] = ["Requires", "Requisite", "BindsTo"];

/// What of a unit's contents matters to how its starts are judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// A start is over when its commands have ended, and leaves nothing that runs: `Type=oneshot` without
    /// `RemainAfterExit=`.
    pub ends: bool,
    /// It has a `Condition…=` or an `Assert…=` that may keep it from its start.
    pub conditional: bool,
    /// The units without which systemd does not start it, in the order of its file.
    pub requires: Vec<UnitName>,
    /// The names that systemd links it under beside its own.
    pub aliases: Vec<UnitName>,
}

impl Behaviour {
    /// Reads it out of a file.
    #[must_use]
    pub fn of(file: &UnitFile, unit: &UnitName) -> Self {
        let last = |name: &str| file.values("Service", name).pop().unwrap_or_default();
        let remains = is_true(&last("RemainAfterExit"));
        // Without a type, what has no `ExecStart=` is a oneshot.
        let is_oneshot = match &*last("Type") {
            "" => file.has_section("Service") && file.values("Service", "ExecStart").is_empty(),
            kind => kind == "oneshot",
        };
        let is_condition = |name: &str| name.starts_with("Condition") || name.starts_with("Assert");
        let conditional = file.options().iter().any(|option| option.section == "Unit" && is_condition(&option.name));
        Self { ends: is_oneshot && !remains, conditional, requires: required(file, unit), aliases: aliases(file, unit) }
    }
}

fn required(file: &UnitFile, unit: &UnitName) -> Vec<UnitName> {
    let mut units = Vec::new();
    for option in file.options() {
        if option.section == "Unit" && REQUIREMENTS.contains(&&*option.name) {
            let value = expand_specifiers(&option.unfolded(), unit);
            let named = value.split_whitespace().filter_map(|name| UnitName::new(name).ok());
            units.extend(named);
        }
    }
    units
}

/// The unit that a timer, a path or a socket starts; `None` of a unit of another type.
#[must_use]
pub fn triggered(file: &UnitFile, unit: &UnitName) -> Option<UnitName> {
    let (stem, suffix) = unit.as_str().rsplit_once('.')?;
    let (section, key) = match suffix {
        "timer" => ("Timer", "Unit"),
        "path" => ("Path", "Unit"),
        "socket" => ("Socket", "Service"),
        _ => return None,
    };
    if let Some(named) = file.values(section, key).pop().filter(|named| !named.is_empty()) {
        return UnitName::new(&expand_specifiers(&named, unit)).ok();
    }
    // A socket that accepts starts an instance for each connection, which need not be there before.
    let accepts = || file.values("Socket", "Accept").pop().unwrap_or_default();
    if suffix == "socket" && is_true(&accepts()) {
        return UnitName::new(&format!("{stem}@.service")).ok();
    }
    UnitName::new(&format!("{stem}.service")).ok()
}

/// Whether systemd takes a value for yes.
fn is_true(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> UnitFile {
        UnitFile::parse(text).unwrap()
    }

    fn unit() -> UnitName {
        UnitName::new("web@1.service").unwrap()
    }

    #[test]
    fn a_oneshot_ends_unless_it_remains() {
        for (text, ends) in [
            ("[Service]\nExecStart=/bin/a\n", false),
            ("[Service]\nType=oneshot\nExecStart=/bin/a\n", true),
            ("[Service]\nType=oneshot\nRemainAfterExit=Yes\nExecStart=/bin/a\n", false),
            ("[Service]\nType=oneshot\nType=simple\nExecStart=/bin/a\n", false),
            ("[Service]\nExecStop=/bin/a\n", true),
            ("[Timer]\nOnCalendar=daily\n", false),
        ] {
            assert_eq!(Behaviour::of(&file(text), &unit()).ends, ends, "{text}");
        }
    }

    #[test]
    fn conditions_and_assertions_are_those_of_the_unit_section() {
        for (text, conditional) in [
            ("[Unit]\nConditionPathExists=/a\n", true),
            ("[Unit]\nAssertFileNotEmpty=/a\n", true),
            ("[Unit]\nDescription=Condition\n[Service]\nConditionPathExists=/a\n", false),
        ] {
            assert_eq!(Behaviour::of(&file(text), &unit()).conditional, conditional, "{text}");
        }
    }

    #[test]
    fn what_a_unit_needs_and_what_it_starts_is_read_with_its_specifiers() {
        let names = |units: Vec<UnitName>| units.iter().map(ToString::to_string).collect::<Vec<_>>();
        let needs = file("[Unit]\nRequires=db.service net@%i.service\nWants=x.service\nBindsTo=%p.socket\n");
        assert_eq!(names(Behaviour::of(&needs, &unit()).requires), ["db.service", "net@1.service", "web.socket"]);
        for (name, text, starts) in [
            ("a.timer", "[Timer]\nOnCalendar=daily\n", Some("a.service")),
            ("a@x.timer", "[Timer]\nOnCalendar=daily\nUnit=b@%i.service\n", Some("b@x.service")),
            ("a@x.path", "[Path]\nPathExists=/a\n", Some("a@x.service")),
            ("a.socket", "[Socket]\nListenStream=1\nService=b.service\n", Some("b.service")),
            ("a.socket", "[Socket]\nListenStream=1\nAccept=yes\n", Some("a@.service")),
            ("a.service", "[Service]\nExecStart=/bin/a\n", None),
        ] {
            let unit = UnitName::new(name).unwrap();
            assert_eq!(triggered(&file(text), &unit).map(|unit| unit.to_string()).as_deref(), starts, "{name}");
        }
    }
}

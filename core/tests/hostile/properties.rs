//! What holds for any input, however hostile. Each function takes raw input and panics when a property is broken.
//!
//! `core/tests/hostile.rs` runs them under proptest, the targets in `fuzz/` under libFuzzer: the code is the same.

use std::path::Path;

use fleet_core::{
    model::{
        HeldRecord, Key, Keys, Kind, LeaderRecord, MachineId, MachineRecord, MetadataEdits, Placement, Record,
        StateRecord, UnitRecord,
    },
    unit::{Glob, Requirements, UnitFile, UnitHash, UnitName, UnitOption, expand_specifiers},
};

/// Bytes that claim to be a unit file: read, or refused with a line of the file.
pub fn unit_file(bytes: &[u8]) {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
    let file = match UnitFile::parse_bytes(bytes) {
        Ok(file) => file,
        Err(error) => {
            assert!((1..=lines).contains(&error.line), "line {} of {lines}: {error}", error.line);
            assert!(error.render("f").lines().count() >= 3, "{error:?}");
            return;
        }
    };
    let stand_in_it = |line: u32| (1..=lines).contains(&line);
    assert!(file.options().iter().all(|option| stand_in_it(option.line)), "{file:?}");
    assert!(file.settings().iter().all(|setting| stand_in_it(setting.line)), "{file:?}");
    assert!(file.warnings().iter().all(|warning| stand_in_it(warning.line)), "{file:?}");

    let canonical = file.canonical();
    let again = UnitFile::parse(&canonical).expect("canonical text is a unit file");
    assert_eq!(again.canonical(), canonical, "canonical text is a fixed point");
    assert_eq!((again.hash(), UnitHash::of(&canonical)), (file.hash(), file.hash()));
    for UnitOption { section, name, value, .. } in file.options() {
        assert!(again.options().iter().any(|o| (&o.section, &o.name, &o.value) == (section, name, value)));
        assert_eq!(again.values(section, name), file.values(section, name), "systemd reads the same of both");
    }
    assert_eq!(again.options().len(), file.options().len());

    let carried = UnitFile::from_options(file.options()).expect("the API carries every file");
    assert_eq!(carried.hash(), file.hash());
}

/// Options that did not come from a file: they are refused, or a unit that reads back as itself. Those whose values
/// have one line are that unit's.
pub fn options(options: &[UnitOption]) {
    let Ok(file) = UnitFile::from_options(options) else { return };
    let plain = |options: &[UnitOption]| -> Vec<(String, String, String)> {
        let value = |option: &UnitOption| option.value.trim().to_owned();
        let mut all: Vec<_> = options.iter().map(|o| (o.section.clone(), o.name.clone(), value(o))).collect();
        all.sort();
        all
    };
    if options.iter().all(|option| !option.value.contains('\n') && !option.value.trim_end().ends_with('\\')) {
        assert_eq!(plain(file.options()), plain(options));
    }
    unit_file(file.canonical().as_bytes());
}

/// The `[X-Fleet]` section of any file, for any name: requirements, or an error; warnings point into the file.
pub fn requirements(name: &str, text: &str) {
    let (Ok(name), Ok(file)) = (UnitName::new(name), UnitFile::parse(text)) else { return };
    let lines: Vec<u32> = file.options().iter().map(|option| option.line).collect();
    match Requirements::read(&file, &name) {
        Ok((requirements, warnings)) => {
            assert!(warnings.iter().all(|warning| lines.contains(&warning.line)), "{warnings:?}");
            let globs = requirements.conflicts.iter().chain(&requirements.replaces);
            globs.for_each(|pattern| glob(pattern.as_str(), name.as_str()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A pattern and a name: an answer, and the right one where it is known without matching.
pub fn glob(pattern: &str, name: &str) {
    let glob = Glob::new(pattern);
    let matches = glob.matches(name);
    if glob.check().is_err() && !glob.is_exact() {
        assert!(!matches, "malformed patterns match nothing");
    }
    if glob.is_exact() {
        assert_eq!(matches, pattern == name);
    }
    let escaped: String = name.chars().flat_map(|c| ['\\', c]).collect();
    assert!(Glob::new(format!("{escaped}*")).matches(name));
}

/// Specifiers: what has none stays as it is, and what comes of them is no longer than it can be.
pub fn specifiers(value: &str, name: &str) {
    let Ok(name) = UnitName::new(name) else { return };
    let expanded = expand_specifiers(value, &name);
    let count = value.matches('%').count();
    assert!(expanded.len() <= value.len() + count * name.as_str().len());
    if count == 0 {
        assert_eq!(expanded, value);
    }
}

/// A string that claims to be a unit's name or a machine's ID: what is taken can be part of a path and of a key.
pub fn name(text: &str) {
    if let Ok(name) = UnitName::new(text) {
        assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
        assert_is_file_name(text);
        let json = serde_json::to_string(&name).expect("a string");
        assert_eq!(serde_json::from_str::<UnitName>(&json).expect("reads back"), name);
        assert_eq!(format!("{}.{}", name.stem(), name.kind()), text);
        match name.instance() {
            Some(instance) => {
                assert!(!name.is_template());
                assert_eq!(format!("{}@{instance}.{}", name.prefix(), name.kind()), text);
                let template = name.template().expect("instances have templates");
                assert!(template.is_template() && UnitName::new(template.as_str()) == Ok(template.clone()));
                assert_eq!((template.prefix(), template.kind()), (name.prefix(), name.kind()));
            }
            None => assert!(name.template().is_none()),
        }
    }
    if let Ok(id) = MachineId::new(text) {
        assert_eq!(id.as_str(), text);
        assert!(text.len() == 32 && text.starts_with(id.short()));
        assert_is_file_name(text);
    }
    if let Ok(hash) = text.parse::<UnitHash>() {
        assert_eq!(hash.to_string(), text, "a hash has one text");
    }
}

fn assert_is_file_name(text: &str) {
    assert!(!text.is_empty() && text.len() <= 255 && text != "." && text != "..");
    assert!(!text.contains(['/', '\0', '\n']) && !text.contains(char::is_control), "{text:?}");
    let path = Path::new("/run/fleet/units").join(text);
    assert_eq!(path.parent(), Some(Path::new("/run/fleet/units")));
    assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(text));
}

/// Any text as a key under any prefix: what is read is written the same way; what is written is read.
pub fn keys(prefix: &str, text: &str) {
    let keys = Keys::new(prefix);
    for text in [text.to_owned(), format!("{}{text}", keys.prefix())] {
        if let Some(key) = keys.parse(&text) {
            assert_eq!(keys.format(&key), text, "a key has one text");
            assert_eq!(keys.kind(&text), Some(key.kind()));
            let (from, to) = keys.followed();
            assert_eq!(from <= text && text < to, Kind::FOLLOWED.contains(&key.kind()), "{text}");
        }
    }
    let machine = MachineId::new("d097a72e4aef45bf815b90988acdbf13").expect("an ID");
    let name = UnitName::new(text).unwrap_or_else(|_| UnitName::new("a@b.service").expect("a name"));
    for key in [
        Key::File(UnitHash::of(text)),
        Key::Unit(name.clone()),
        Key::Global(name.clone()),
        Key::Sched(machine.clone(), name.clone()),
        Key::Machine(machine.clone()),
        Key::Metadata(machine.clone()),
        Key::State(machine, name.clone()),
        Key::Submitted(name, UnitHash::of(text)),
        Key::Leader,
        Key::Held,
    ] {
        assert_eq!(keys.parse(&keys.format(&key)), Some(key.clone()), "under {:?}", keys.prefix());
    }
}

/// Any bytes as a value of any key: read, or refused; what is read is written and read the same.
pub fn records(bytes: &[u8]) {
    record::<UnitRecord>(bytes);
    record::<MachineRecord>(bytes);
    record::<MetadataEdits>(bytes);
    record::<StateRecord>(bytes);
    record::<HeldRecord>(bytes);
    record::<Placement>(bytes);
    record::<LeaderRecord>(bytes);
}

fn record<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    match R::decode(bytes) {
        Ok(record) => {
            assert_eq!(R::decode(&record.encode()).expect("what is written is read"), record);
            // Members that are passed over may hold what no value could, such as 1e400.
            if let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) {
                assert!(value["v"].as_u64().is_some_and(|v| v <= 1), "no other version is read: {value}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

//! What cannot mean what its author wrote: told with its line, while the behaviour stays CoreOS fleet's.
//!
//! [`doubts`] is what `submit`, `start`, `load` and `verify` warn of, and what `why` repeats.

use super::{
    Glob, Requirements, UnitFile, UnitName, UnitOption, UnitType, Warning, X_FLEET,
    install::{self, Taken},
    requirements::{Key, words},
    specifier,
};

/// Everything in `file`, as the contents of the unit `name`, that its author can hardly have meant, by line.
#[must_use]
pub fn doubts(file: &UnitFile, name: &UnitName) -> Vec<Warning> {
    let mut reader = Reader { name, machine_id: None, found: file.warnings().to_vec() };
    // One that contradicts itself is refused, with a message of its own.
    reader.found.extend(Requirements::read(file, name).map(|(_, warnings)| warnings).unwrap_or_default());
    for option in file.options() {
        match Key::of(&option.name) {
            Some(key) if option.section == X_FLEET => reader.fleet(option, key),
            Some(key) if key != Key::Conflicts && !option.section.starts_with("X-") => reader.astray(option),
            _ => {}
        }
    }
    reader.aliases(file);
    reader.found.sort_by_key(|warning| warning.line);
    reader.found
}

struct Reader<'n> {
    name: &'n UnitName,
    /// The line of the first `MachineID=`.
    machine_id: Option<u32>,
    found: Vec<Warning>,
}

impl Reader<'_> {
    fn warn(&mut self, line: u32, message: String, hint: impl Into<Option<String>>) {
        self.found.push(Warning { line, message, hint: hint.into() });
    }

    /// An option of `[X-Fleet]` in a section of systemd's, which does not know it.
    fn astray(&mut self, option: &UnitOption) {
        let message = format!("{}= has no effect in [{}]", option.name, option.section);
        self.warn(option.line, message, format!("write it below [{X_FLEET}]"));
    }

    fn fleet(&mut self, option: &UnitOption, key: Key) {
        let (line, value) = (option.line, option.unfolded());
        if value.is_empty() {
            return;
        }
        let comment = [" #", "\t#", " ;", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
        if let Some(at) = comment {
            let (meant, comment) = (value[..at].trim(), value[at..].trim());
            let message = match key {
                Key::Global => format!("Global={value:?} is not \"true\", so the unit is not global"),
                _ => format!("{comment:?} is part of the value of {}=", option.name),
            };
            return self.warn(
                line,
                message,
                format!("write {}={meant}, and the comment on a line of its own", option.name),
            );
        }
        // What `%i` is, only an instance knows.
        let is_known = |word: &String| !(self.name.is_template() && word.contains('%'));
        let expanded = |word: String| specifier::expand(&word, self.name);
        let words: Vec<String> = words(&value).into_iter().filter(is_known).map(expanded).collect();
        match key {
            Key::Global => self.global(line, &value),
            Key::MachineId => words.iter().for_each(|word| self.machine_id(line, word)),
            Key::MachineOf => words.iter().for_each(|word| self.machine_of(line, word)),
            Key::MachineMetadata => words.iter().for_each(|word| self.metadata(line, word)),
            Key::Conflicts => {
                let patterns = words.iter().flat_map(|word| word.split_whitespace());
                patterns.for_each(|pattern| self.pattern(line, &option.name, pattern, "separate them by blanks"));
            }
            Key::Replaces => {
                words
                    .iter()
                    .for_each(|word| self.pattern(line, &option.name, word, "write one Replaces= line for each"));
            }
            Key::OnPartition => {}
        }
    }

    fn global(&mut self, line: u32, value: &str) {
        let last = words(value).pop().unwrap_or_default().to_lowercase();
        if !["true", "yes", "1", "on", "t", "false", "no", "0", "off", "f", "n"].contains(&&*last) {
            let message = format!("Global={value:?} is not \"true\", so the unit is not global");
            self.warn(line, message, "write Global=true or Global=false".to_owned());
        }
    }

    fn machine_id(&mut self, line: u32, id: &str) {
        if let Some(first) = self.machine_id {
            let message = format!("MachineID={id:?} is passed over: the one of line {first} counts");
            return self.warn(line, message, "keep one MachineID=".to_owned());
        }
        self.machine_id = Some(line);
        let is_id = [8, 32].contains(&id.len()) && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_id {
            let message = format!("MachineID={id:?} is no machine's ID, so no machine can take the unit");
            let hint = "`fleetctl list-machines --full` shows the IDs; for a host's name, give the host metadata and write \
                        MachineMetadata=";
            self.warn(line, message, hint.to_owned());
        }
    }

    fn machine_of(&mut self, line: u32, word: &str) {
        let cannot = |what: &str| format!("MachineOf={word:?} is {what}, so no machine can take the unit");
        if word.contains(char::is_whitespace) || word.contains(',') {
            let units = word.split([' ', '\t', ',']).filter(|unit| !unit.is_empty());
            let lines: Vec<String> = units.map(|unit| format!("MachineOf={unit}")).collect();
            let hint = format!("write one line for each unit: {}", lines.join(", "));
            return self.warn(line, cannot("one name of several words"), hint);
        }
        match UnitName::new(word) {
            Ok(unit) if unit == *self.name => {
                let message = cannot("the unit itself");
                self.warn(line, message, "name another unit, or remove it".to_owned());
            }
            Ok(unit) if unit.is_template() => {
                let hint = format!("name an instance: {}@1.{}", unit.prefix(), unit.kind());
                self.warn(line, cannot("a template, which never runs"), hint);
            }
            Ok(_) => {}
            Err(error) => {
                let hint = with_suffix(word).map(|name| format!("did you mean {name:?}?"));
                let hint = hint.unwrap_or_else(|| "write the name of one unit".into());
                self.warn(line, cannot(&format!("no name of a unit ({error})")), hint);
            }
        }
    }

    fn metadata(&mut self, line: u32, word: &str) {
        let quotes = ['"', '\''];
        // What has another number of `=` is passed over, and told so.
        if word.matches('=').count() == 1 && (word.starts_with(quotes) || word.ends_with(quotes)) {
            let message = format!("the quotes in MachineMetadata={word} are part of its key and value");
            self.warn(line, message, format!("write MachineMetadata={}", word.replace(quotes, "")));
        }
    }

    /// A pattern that matches no unit, or none that counts. `separate` is how to write several.
    fn pattern(&mut self, line: u32, option: &str, pattern: &str, separate: &str) {
        let none = format!("{option}={pattern:?} matches no unit");
        if Glob::new(pattern).check().is_err() {
            // Told already for Conflicts=.
            if option == "Replaces" {
                self.warn(line, format!("{none}: malformed pattern"), "write \"\\\\\" before a \"[\"".to_owned());
            }
        } else if pattern.contains(',') || pattern.contains(char::is_whitespace) {
            self.warn(line, format!("{none}: it is one pattern of several words"), separate.to_owned());
        } else if pattern == self.name.as_str() {
            let message = format!("{option}={pattern:?} is the unit itself, and has no effect");
            self.warn(line, message, "name another unit, or remove it".to_owned());
        } else if let Some(bad) = pattern.chars().find(|&c| !may_be_in_pattern(c)) {
            self.warn(line, format!("{none}: no unit has {bad:?} in its name"), None);
        } else if !ends_like_name(pattern) {
            let message = format!("{none}: every unit's name ends in its type");
            self.warn(line, message, format!("did you mean \"{pattern}.service\"?"));
        }
    }

    fn aliases(&mut self, file: &UnitFile) {
        for alias in install::read(file, self.name) {
            let (message, hint) = match alias.taken {
                Ok(Taken::Own) => (format!("Alias={} is the unit itself, and has no effect", alias.word), "remove it"),
                Ok(Taken::NoAliases) => (
                    format!("Alias={} has no effect: units of type {} have none", alias.word, self.name.kind()),
                    "remove it",
                ),
                _ => continue,
            };
            self.warn(alias.line, message, hint.to_owned());
        }
    }
}

/// The name with `.service` behind it, when that makes it one.
fn with_suffix(word: &str) -> Option<String> {
    let name = format!("{word}.service");
    UnitName::new(&name).is_ok_and(|name| name.instance().is_some() || !name.is_template()).then_some(name)
}

fn may_be_in_pattern(c: char) -> bool {
    c.is_ascii_alphanumeric() || r":-_.\@*?[]^".contains(c)
}

/// Whether what a pattern ends with can be the end of a unit's name.
fn ends_like_name(pattern: &str) -> bool {
    let end = pattern.rsplit('*').next().unwrap_or_default();
    if end.contains(['?', '[', '\\']) && pattern.contains('.') {
        return true;
    }
    let suffixes = UnitType::ALL.iter().map(|kind| format!(".{kind}"));
    let has_star = pattern.contains('*');
    suffixes.into_iter().any(|suffix| end.ends_with(&suffix) || has_star && suffix.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "web@1.service";

    fn found_in(unit: &str, section: &str) -> Vec<(u32, String)> {
        let file = UnitFile::parse(&format!("[Service]\nExecStart=/bin/a\n[X-Fleet]\n{section}\n")).unwrap();
        let doubts = doubts(&file, &UnitName::new(unit).unwrap());
        let said =
            |warning: Warning| (warning.line, format!("{} - {}", warning.message, warning.hint.unwrap_or_default()));
        doubts.into_iter().map(said).collect()
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_line_and_mend() {
        for (section, message) in [
            (
                "Global=True # everywhere",
                "Global=\"True # everywhere\" is not \"true\", so the unit is not global - write Global=True, and the \
                 comment on a line of its own",
            ),
            (
                "Global=ture",
                "Global=\"ture\" is not \"true\", so the unit is not global - write Global=true or Global=false",
            ),
            (
                "MachineMetadata=a=b ; fast",
                "\"; fast\" is part of the value of MachineMetadata= - write MachineMetadata=a=b, and the comment on a \
                 line of its own",
            ),
            (
                "MachineOf=nap@1",
                "MachineOf=\"nap@1\" is no name of a unit (unit name must contain \".\"), so no machine can take the \
                 unit - did you mean \"nap@1.service\"?",
            ),
            (
                "MachineOf=a.service b.service",
                "MachineOf=\"a.service b.service\" is one name of several words, so no machine can take the unit - write \
                 one line for each unit: MachineOf=a.service, MachineOf=b.service",
            ),
            (
                "MachineOf=nap@.service",
                "MachineOf=\"nap@.service\" is a template, which never runs, so no machine can take the unit - name an \
                 instance: nap@1.service",
            ),
            (
                "MachineOf=%n",
                "MachineOf=\"web@1.service\" is the unit itself, so no machine can take the unit - name another unit, or \
                 remove it",
            ),
            (
                "MachineOf=nap@*.service",
                "MachineOf=\"nap@*.service\" is no name of a unit (invalid character '*' in unit name), so no machine can \
                 take the unit - write the name of one unit",
            ),
            (
                "Conflicts=a.service,b.service",
                "Conflicts=\"a.service,b.service\" matches no unit: it is one pattern of several words - separate them by \
                 blanks",
            ),
            (
                "Replaces=a.service b.service",
                "Replaces=\"a.service b.service\" matches no unit: it is one pattern of several words - write one \
                 Replaces= line for each",
            ),
            (
                "Conflicts=%p@2",
                "Conflicts=\"web@2\" matches no unit: every unit's name ends in its type - did you mean \"web@2.service\"?",
            ),
            (
                "Conflicts=*-db",
                "Conflicts=\"*-db\" matches no unit: every unit's name ends in its type - did you mean \"*-db.service\"?",
            ),
            ("Conflicts=a/b.service", "Conflicts=\"a/b.service\" matches no unit: no unit has '/' in its name - "),
            (
                "Conflicts=%n",
                "Conflicts=\"web@1.service\" is the unit itself, and has no effect - name another unit, or remove it",
            ),
            (
                "MachineID=core-01",
                "MachineID=\"core-01\" is no machine's ID, so no machine can take the unit - `fleetctl list-machines \
                 --full` shows the IDs; for a host's name, give the host metadata and write MachineMetadata=",
            ),
            (
                "MachineMetadata='a=b'",
                "the quotes in MachineMetadata='a=b' are part of its key and value - write MachineMetadata=a=b",
            ),
            (
                "MachineMetadata=a=b c=d",
                "MachineMetadata \"a=b c=d\" is ignored: write \"key=value\" - write each pair in quotes: \
                 MachineMetadata=\"a=b\" \"c=d\"",
            ),
        ] {
            assert_eq!(found_in(NAME, section), [(4, message.to_owned())], "{section}");
        }
        let twice = found_in(NAME, "MachineID=d097a72e\nMachineID=d097a72e4aef45bf815b90988acdbf13");
        assert_eq!(twice.len(), 1);
        assert!(twice[0].1.contains("is passed over: the one of line 4 counts"), "{twice:?}");
    }

    #[test]
    fn what_is_meant_is_not_doubted() {
        for section in [
            "Global=true\nMachineMetadata=\"a=b\" \"a=c\"",
            "Global=No",
            "MachineOf=\"a.service\" \"b.timer\"",
            "MachineOf=%p-db@%i.service",
            "Conflicts=%p@*.service\nConflicts=a.service b.* *.timer * x@[12].service x.servic?",
            r"Conflicts=my\x2dapp.service my\x2dapp@*.service",
            "Replaces=old.service",
            "MachineID=d097a72e4aef45bf815b90988acdbf13",
            "X-ConditionMachineID=d097a72e",
            "MachineMetadata=rank=two words\nMachineMetadata=region=us",
            "OnPartition=stop",
        ] {
            assert_eq!(found_in(NAME, section), [], "{section}");
            assert_eq!(found_in("web@.service", section), [], "of a template: {section}");
        }
        assert_eq!(found_in("web@.service", "MachineOf=db@%i\nMachineID=%i"), [], "only instances know");
    }

    #[test]
    fn options_of_fleet_elsewhere_and_aliases_without_effect_are_said() {
        let said = |unit: &str, text: &str| -> Vec<(u32, String)> {
            let found = doubts(&UnitFile::parse(text).unwrap(), &UnitName::new(unit).unwrap());
            found.into_iter().map(|warning| (warning.line, warning.message)).collect()
        };
        assert_eq!(
            said(
                "a.service",
                "[Unit]\nConflicts=b.service\nMachineOf=b.service\n[Service]\nGlobal=true\n[X-Other]\nGlobal=1\n"
            ),
            [(3, "MachineOf= has no effect in [Unit]".into()), (5, "Global= has no effect in [Service]".into())]
        );
        assert_eq!(
            said("a.service", "[Install]\nAlias=a.service b.service\n"),
            [(2, "Alias=a.service is the unit itself, and has no effect".into())]
        );
        assert_eq!(
            said("a.mount", "[Install]\nAlias=b.mount\n"),
            [(2, "Alias=b.mount has no effect: units of type mount have none".into())]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_section_is_doubted_or_not(section in "((Global|MachineOf|Conflicts|Replaces|MachineID|MachineMetadata)=[ -~]{0,12}\n){0,6}") {
            let lines = section.lines().count() as u32 + 3;
            for (line, said) in found_in(NAME, &section) {
                proptest::prop_assert!((4..=lines).contains(&line) && !said.contains('\n'), "{said}");
            }
        }
    }
}

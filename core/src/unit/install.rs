//! `[Install]`: the other names that systemd is to link a unit under, and what it refuses of that section.
//!
//! A host whose systemd refuses one name does not enable the unit at all, so such a file is refused when it is new.
//! Names that depend on the host (`Alias=%H.service`) are not known here: what can be told without it is.

use thiserror::Error;

use super::{NameError, UnitFile, UnitName, UnitType};

/// A name in `[Install]` that systemd refuses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{option}={name} is refused by systemd: {reason}")]
pub struct InstallError {
    /// The line of the file, from 1; 0 when it did not come from a file.
    pub line: u32,
    /// `Alias`, `WantedBy` or another.
    pub option: String,
    /// The name as written.
    pub name: String,
    /// What is wrong with it.
    pub reason: InstallReason,
}

/// Why systemd refuses a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InstallReason {
    /// It is no name of a unit.
    #[error("{0}")]
    Name(#[from] NameError),
    /// `Alias=x.timer` of a service.
    #[error("an alias of a {0} unit ends in .{0}")]
    Type(UnitType),
    /// An alias with `@` of a unit without.
    #[error("{0} is no template and no instance of one, so its alias has no \"@\"")]
    Plain(UnitName),
    /// An alias without `@` of a unit with one.
    #[error("{0} has an \"@\" in its name, so its alias has one")]
    NotPlain(UnitName),
    /// Another instance.
    #[error("an alias of {0} has the same instance behind its \"@\"")]
    Instance(UnitName),
    /// A `/` that does not stand for a link to this unit among what another one wants.
    #[error("a path is taken only as UNIT.wants/{0} or UNIT.requires/{0}")]
    Path(UnitName),
    /// `%z`, or a `%` at the end.
    #[error("there is no specifier %{0}")]
    Specifier(String),
}

impl InstallError {
    /// What to do about it.
    #[must_use]
    pub fn mend(&self) -> String {
        let Self { option, name, reason, .. } = self;
        match reason {
            InstallReason::Type(kind) => match name.rsplit_once('.') {
                Some((stem, _)) if !stem.is_empty() => format!("write {option}={stem}.{kind}, or remove it"),
                _ => format!("write {option}={name}.{kind}, or remove it"),
            },
            InstallReason::Name(NameError::NoSuffix) => "write the whole name, with its suffix, or remove it".into(),
            InstallReason::NotPlain(_) | InstallReason::Instance(_) => {
                "write NAME@%i and the suffix, so that each instance has an alias of its own, or remove it".into()
            }
            InstallReason::Specifier(_) => "write \"%%\" for a percent sign, or remove it".into(),
            InstallReason::Name(_) | InstallReason::Plain(_) | InstallReason::Path(_) => {
                "correct it, or remove it".into()
            }
        }
    }
}

/// What systemd makes of one alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The unit is linked under this name.
    Linked(UnitName),
    /// A link in the directory of what another unit wants.
    Wanted,
    /// The unit's own name, which systemd passes over.
    Own,
    /// Units of this type have no aliases, and systemd passes over the option.
    NoAliases,
    /// Only the host knows.
    OnHost,
}

/// One alias as written.
pub(super) struct Alias {
    pub line: u32,
    pub word: String,
    pub taken: Result<Taken, InstallReason>,
}

/// The names that systemd links the unit `name` under beside its own, in order, each once. A template has those of its
/// instances, as far as they do not depend on the instance: `b@.service`.
#[must_use]
pub fn aliases(file: &UnitFile, name: &UnitName) -> Vec<UnitName> {
    let mut names = Vec::new();
    for alias in read(file, name) {
        match alias.taken {
            Ok(Taken::Linked(alias)) if !names.contains(&alias) => names.push(alias),
            _ => {}
        }
    }
    names
}

/// Whether systemd takes every name in `[Install]`, as far as that can be known without the host.
///
/// # Errors
/// The first that it refuses.
pub fn check_install(file: &UnitFile, name: &UnitName) -> Result<(), InstallError> {
    for Alias { line, word, taken } in read(file, name) {
        taken.map_err(|reason| InstallError { line, option: "Alias".into(), name: word, reason })?;
    }
    for by in file.settings().into_iter().filter(|option| option.section == "Install") {
        if !["WantedBy", "RequiredBy", "UpheldBy"].contains(&&*by.name) {
            continue;
        }
        for word in words(&by.value) {
            let known = expand(&word, name).and_then(|(word, _)| Ok(UnitName::new(&word)?));
            known.map_err(|reason| InstallError { line: by.line, option: by.name.clone(), name: word, reason })?;
        }
    }
    Ok(())
}

/// The line on which a unit is given this alias, 0 when it is not.
pub(super) fn line_of(file: &UnitFile, name: &UnitName, alias: &UnitName) -> u32 {
    let mut all = read(file, name).into_iter();
    all.find(|known| known.taken == Ok(Taken::Linked(alias.clone()))).map_or(0, |known| known.line)
}

/// Every alias with what systemd makes of it.
pub(super) fn read(file: &UnitFile, name: &UnitName) -> Vec<Alias> {
    let mut aliases = Vec::new();
    for option in file.settings().iter().filter(|option| option.section == "Install" && option.name == "Alias") {
        if option.value.is_empty() {
            aliases.clear();
        }
        for word in words(&option.value) {
            aliases.push(Alias { line: option.line, taken: take(&word, name), word });
        }
    }
    aliases
}

/// The words of a list, without their quotes.
fn words(value: &str) -> impl Iterator<Item = String> {
    value.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned())
}

fn take(word: &str, name: &UnitName) -> Result<Taken, InstallReason> {
    if !has_aliases(name.kind()) {
        return Ok(Taken::NoAliases);
    }
    let (word, is_known) = expand(word, name)?;
    let taken = take_expanded(&word, name)?;
    Ok(if is_known { taken } else { Taken::OnHost })
}

fn take_expanded(word: &str, name: &UnitName) -> Result<Taken, InstallReason> {
    if let Some((directory, link)) = word.rsplit_once('/') {
        return wanted(directory, link, name);
    }
    let alias = UnitName::new(word)?;
    if alias.kind() != name.kind() {
        return Err(InstallReason::Type(name.kind()));
    }
    if alias == *name {
        return Ok(Taken::Own);
    }
    let has_at = |name: &UnitName| name.is_template() || name.instance().is_some();
    match (has_at(name), has_at(&alias)) {
        (false, true) => return Err(InstallReason::Plain(name.clone())),
        (true, false) => return Err(InstallReason::NotPlain(name.clone())),
        _ => {}
    }
    let Some(instance) = name.instance() else { return Ok(Taken::Linked(alias)) };
    if alias.is_template() {
        let alias = UnitName::new(&format!("{}@{instance}.{}", alias.prefix(), alias.kind()))?;
        return Ok(if alias == *name { Taken::Own } else { Taken::Linked(alias) });
    }
    if alias.instance() == Some(instance) {
        Ok(Taken::Linked(alias))
    } else {
        Err(InstallReason::Instance(name.clone()))
    }
}

/// `multi-user.target.wants/a.service`, an old way to say `WantedBy=`.
fn wanted(directory: &str, link: &str, name: &UnitName) -> Result<Taken, InstallReason> {
    let by = directory.strip_suffix(".wants").or_else(|| directory.strip_suffix(".requires"));
    let by = by.and_then(|by| UnitName::new(by).ok());
    let is_own = UnitName::new(link).is_ok_and(|link| {
        link == *name || name.template().is_some_and(|template| template == link)
            // An instance of this template: only that one can be told.
            || link.template().is_some_and(|template| template == *name)
    });
    if by.is_some() && is_own { Ok(Taken::Wanted) } else { Err(InstallReason::Path(name.clone())) }
}

/// Replaces the specifiers that systemd knows in `[Install]`. What is the host's to say becomes an `x`, and the second
/// is false.
fn expand(word: &str, name: &UnitName) -> Result<(String, bool), InstallReason> {
    let mut out = String::with_capacity(word.len());
    let mut chars = word.chars();
    let mut is_known = true;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some('n') => out.push_str(name.as_str()),
            Some('N') => out.push_str(name.stem()),
            Some('p') => out.push_str(name.prefix()),
            Some('j') => out.push_str(name.prefix().rsplit('-').next().unwrap_or_default()),
            Some('i') => out.push_str(name.instance().unwrap_or_default()),
            Some(specifier) if "aAbBgGHlmMoquUvwW".contains(specifier) => {
                is_known = false;
                out.push('x');
            }
            other => return Err(InstallReason::Specifier(other.map(String::from).unwrap_or_default())),
        }
    }
    Ok((out, is_known))
}

/// Whether systemd knows aliases of this type.
fn has_aliases(kind: UnitType) -> bool {
    use UnitType::{Device, Path, Service, Socket, Target, Timer};
    matches!(kind, Device | Path | Service | Socket | Target | Timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(options: &str) -> UnitFile {
        UnitFile::parse(&format!("[Service]\nExecStart=/bin/true\n[Install]\n{options}\n")).unwrap()
    }

    fn name(text: &str) -> UnitName {
        UnitName::new(text).unwrap()
    }

    /// As `systemctl enable` of systemd 252 links them.
    #[test]
    fn aliases_are_those_that_systemd_links() {
        for (unit, options, expected) in [
            ("a.service", "WantedBy=multi-user.target", &[][..]),
            ("a.service", "Alias=b.service", &["b.service"]),
            (
                "a.service",
                "Alias=\"c.service\" d.service\nAlias=b.service c.service",
                &["c.service", "d.service", "b.service"],
            ),
            ("a.service", "Alias=b.service\nAlias=\nAlias=c.service", &["c.service"]),
            ("a.service", "Alias=a.service", &[]),
            ("my-a.service", "Alias=%j.service x-%N.service", &["a.service", "x-my-a.service"]),
            ("a.service", r"Alias=b\x2dc.service", &[r"b\x2dc.service"]),
            ("a.service", "Alias=%H.service b-%m.service\nWantedBy=a.target %H.target \"b.service\"", &[]),
            ("a.service", "Alias=multi-user.target.wants/a.service", &[]),
            ("w@1.service", "Alias=b@.service", &["b@1.service"]),
            ("w@1.service", "Alias=b@1.service", &["b@1.service"]),
            ("w@1.service", "Alias=%p-x@%i.service", &["w-x@1.service"]),
            ("w@1.service", "Alias=w@.service", &[]),
            ("w@.service", "Alias=b@%i.service", &["b@.service"]),
            ("data.mount", "Alias=b.mount other.service", &[]),
            ("a.target", "Alias=b.target", &["b.target"]),
        ] {
            let file = install(options);
            let found: Vec<String> = aliases(&file, &name(unit)).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{unit} {options}");
            assert_eq!(check_install(&file, &name(unit)), Ok(()), "{unit} {options}");
        }
    }

    /// As `systemctl enable` of systemd 252 refuses them.
    #[test]
    fn alias_that_systemd_refuses_is_said_with_line_and_mend() {
        for (unit, alias, reason) in [
            ("a.service", "b.timer", "an alias of a service unit ends in .service"),
            ("a.service", "b", "unit name must contain \".\""),
            ("a.service", "b!x.service", "invalid character '!' in unit name"),
            ("a.service", "b@.service", "a.service is no template and no instance of one, so its alias has no \"@\""),
            ("a.service", "b@1.service", "a.service is no template and no instance of one, so its alias has no \"@\""),
            ("w@1.service", "b.service", "w@1.service has an \"@\" in its name, so its alias has one"),
            ("w@1.service", "%p-%i.service", "w@1.service has an \"@\" in its name, so its alias has one"),
            ("w@.service", "b.service", "w@.service has an \"@\" in its name, so its alias has one"),
            ("w@1.service", "b@2.service", "an alias of w@1.service has the same instance behind its \"@\""),
            (
                "a.service",
                "multi-user.target.wants/b.service",
                "a path is taken only as UNIT.wants/a.service or UNIT.requires/a.service",
            ),
            ("a.service", "foo/a.service", "a path is taken only as UNIT.wants/a.service or UNIT.requires/a.service"),
            ("a.service", "%z.service", "there is no specifier %z"),
            ("a.service", "%%.service", "invalid character '%' in unit name"),
            ("a.service", "%H.timer", "an alias of a service unit ends in .service"),
        ] {
            let error = check_install(&install(&format!("Alias={alias}")), &name(unit)).unwrap_err();
            assert_eq!((error.line, &*error.option, &*error.name), (4, "Alias", alias));
            assert_eq!(error.to_string(), format!("Alias={alias} is refused by systemd: {reason}"), "{unit}");
            assert!(!error.mend().is_empty());
        }
        let error = check_install(&install("Alias=b.timer"), &name("a.service")).unwrap_err();
        assert_eq!(error.mend(), "write Alias=b.service, or remove it");
        for (by, reason) in [
            ("WantedBy=a.target multi-user", "WantedBy=multi-user is refused by systemd: unit name must contain \".\""),
            ("RequiredBy=b!.target", "RequiredBy=b!.target is refused by systemd: invalid character '!' in unit name"),
            ("WantedBy=%z.target", "WantedBy=%z.target is refused by systemd: there is no specifier %z"),
        ] {
            let error = check_install(&install(by), &name("a.service")).unwrap_err();
            assert_eq!((error.line, error.to_string()), (4, reason.to_owned()));
        }
    }
}

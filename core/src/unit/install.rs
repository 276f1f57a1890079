//! `Alias=` of `[Install]`: the other names that systemd is to link a unit under, and those that it refuses.
//!
//! A host whose systemd refuses one alias does not enable the unit at all, so such a file is refused when it is new.
//! What depends on the host (`Alias=%H.service`) is not known here and passed over.

use thiserror::Error;

use super::{NameError, UnitFile, UnitName, UnitType};

/// An alias that systemd refuses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Alias={alias} is refused by systemd: {reason}")]
pub struct AliasError {
    /// The line of the file, from 1; 0 when it did not come from a file.
    pub line: u32,
    /// The alias as written.
    pub alias: String,
    /// What is wrong with it.
    pub reason: AliasReason,
}

/// Why systemd refuses an alias.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AliasReason {
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

impl AliasError {
    /// What to do about it.
    #[must_use]
    pub fn mend(&self) -> String {
        match &self.reason {
            AliasReason::Type(kind) => match self.alias.rsplit_once('.') {
                Some((stem, _)) if !stem.is_empty() => format!("write Alias={stem}.{kind}, or remove it"),
                _ => format!("write Alias={}.{kind}, or remove it", self.alias),
            },
            AliasReason::Name(NameError::NoSuffix) => "write the whole name, with its suffix, or remove it".into(),
            AliasReason::NotPlain(_) | AliasReason::Instance(_) => {
                "write NAME@%i and the suffix, so that each instance has an alias of its own, or remove it".into()
            }
            AliasReason::Specifier(_) => "write \"%%\" for a percent sign, or remove it".into(),
            AliasReason::Name(_) | AliasReason::Plain(_) | AliasReason::Path(_) => "correct it, or remove it".into(),
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
    pub taken: Result<Taken, AliasReason>,
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

/// Whether systemd takes every alias, as far as that can be known without the host.
///
/// # Errors
/// The first that it refuses.
pub fn check_aliases(file: &UnitFile, name: &UnitName) -> Result<(), AliasError> {
    for Alias { line, word, taken } in read(file, name) {
        if let Err(reason) = taken {
            return Err(AliasError { line, alias: word, reason });
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
        for word in option.value.split_whitespace() {
            let word = word.trim_matches(['"', '\'']).to_owned();
            aliases.push(Alias { line: option.line, taken: take(&word, name), word });
        }
    }
    aliases
}

fn take(word: &str, name: &UnitName) -> Result<Taken, AliasReason> {
    if !has_aliases(name.kind()) {
        return Ok(Taken::NoAliases);
    }
    let Some(word) = expand(word, name)? else { return Ok(Taken::OnHost) };
    if let Some((directory, link)) = word.rsplit_once('/') {
        return wanted(directory, link, name);
    }
    let alias = UnitName::new(&word)?;
    if alias.kind() != name.kind() {
        return Err(AliasReason::Type(name.kind()));
    }
    if alias == *name {
        return Ok(Taken::Own);
    }
    let has_at = |name: &UnitName| name.is_template() || name.instance().is_some();
    match (has_at(name), has_at(&alias)) {
        (false, true) => return Err(AliasReason::Plain(name.clone())),
        (true, false) => return Err(AliasReason::NotPlain(name.clone())),
        _ => {}
    }
    let Some(instance) = name.instance() else { return Ok(Taken::Linked(alias)) };
    if alias.is_template() {
        let alias = UnitName::new(&format!("{}@{instance}.{}", alias.prefix(), alias.kind()))?;
        return Ok(if alias == *name { Taken::Own } else { Taken::Linked(alias) });
    }
    if alias.instance() == Some(instance) { Ok(Taken::Linked(alias)) } else { Err(AliasReason::Instance(name.clone())) }
}

/// `multi-user.target.wants/a.service`, an old way to say `WantedBy=`.
fn wanted(directory: &str, link: &str, name: &UnitName) -> Result<Taken, AliasReason> {
    let by = directory.strip_suffix(".wants").or_else(|| directory.strip_suffix(".requires"));
    let by = by.and_then(|by| UnitName::new(by).ok());
    let is_own = UnitName::new(link).is_ok_and(|link| {
        link == *name || name.template().is_some_and(|template| template == link)
            // An instance of this template: only that one can be told.
            || link.template().is_some_and(|template| template == *name)
    });
    if by.is_some() && is_own { Ok(Taken::Wanted) } else { Err(AliasReason::Path(name.clone())) }
}

/// Replaces the specifiers that systemd knows in `[Install]`; `None` when one of them is the host's to say.
fn expand(word: &str, name: &UnitName) -> Result<Option<String>, AliasReason> {
    let mut out = String::with_capacity(word.len());
    let mut chars = word.chars();
    let mut on_host = false;
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
            Some(specifier) if "aAbBgGHlmMoquUvwW".contains(specifier) => on_host = true,
            other => return Err(AliasReason::Specifier(other.map(String::from).unwrap_or_default())),
        }
    }
    Ok((!on_host).then_some(out))
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
            ("a.service", "Alias=%H.service b-%m.service", &[]),
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
            assert_eq!(check_aliases(&file, &name(unit)), Ok(()), "{unit} {options}");
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
        ] {
            let error = check_aliases(&install(&format!("Alias={alias}")), &name(unit)).unwrap_err();
            assert_eq!((error.line, &*error.alias), (4, alias));
            assert_eq!(error.to_string(), format!("Alias={alias} is refused by systemd: {reason}"), "{unit}");
            assert!(!error.mend().is_empty());
        }
        let error = check_aliases(&install("Alias=b.timer"), &name("a.service")).unwrap_err();
        assert_eq!(error.mend(), "write Alias=b.service, or remove it");
    }
}

//! Options as they were given, in the file or as variables: their names, their values, and where they stand.

use std::{fmt, path::Path};

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// One word, one number, one string.
    Text(String),
    /// Several.
    List(Vec<String>),
    /// Something that no option has, such as a list of lists.
    Other(String),
}

/// An option that was given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) value: Value,
    /// For messages: the file and the line, or the variable.
    pub(super) place: String,
}

impl Value {
    /// TOML where it is valid TOML, plain text otherwise. What is neither text nor a list stays as it was written: a
    /// password may look like a number.
    pub(super) fn read(text: &str) -> Self {
        let parsed: Result<toml::Table, _> = toml::from_str(&format!("v = {text}"));
        match parsed.ok().and_then(|mut table| table.remove("v")) {
            Some(toml::Value::String(text)) => Self::Text(text),
            Some(toml::Value::Array(items)) => list(items).unwrap_or_else(|| Self::Other(text.into())),
            Some(toml::Value::Table(_)) => Self::Other(text.into()),
            Some(_) => Self::Text(before_comment(text).into()),
            None => Self::Text(text.trim_matches(['"', '\'']).into()),
        }
    }
}

fn list(items: Vec<toml::Value>) -> Option<Value> {
    let text = |item| match item {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Datetime(time) => Some(time.to_string()),
        toml::Value::Array(_) | toml::Value::Table(_) => None,
    };
    items.into_iter().map(text).collect::<Option<_>>().map(Value::List)
}

/// A number may have a comment behind it, but what goes on without a blank is a part of the word.
fn before_comment(text: &str) -> &str {
    match text.split_once('#') {
        Some((before, _)) if before.ends_with(char::is_whitespace) => before.trim_end(),
        _ => text,
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(items) => write!(f, "{items:?}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Reads a file: what it gives, and what is no line of such a file.
pub(super) fn read_file(path: &Path, text: &str) -> (Vec<Given>, Vec<String>) {
    let (mut given, mut faults) = (Vec::new(), Vec::new());
    let mut in_list = false;
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (line, place) = (line.trim(), format!("{}:{}", path.display(), index + 1));
        if in_list {
            in_list = !line.contains(']');
            continue;
        }
        if line.is_empty() || line.starts_with(['#', ';']) || (line.starts_with('[') && line.ends_with(']')) {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            faults.push(format!("{place}: expect `option = value`"));
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if value.starts_with('[') && !value.contains(']') {
            faults.push(format!("{place}: option {name} is a list of several lines: write it in one, from [ to ]"));
            in_list = true;
            continue;
        }
        given.push(Given { name: name.into(), value: Value::read(value), place });
    }
    (given, faults)
}

/// Reads variables. One that is empty counts as not set.
pub(super) fn read_variables(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Given> {
    let given = variables.into_iter().filter_map(|(place, value)| {
        let name = place.strip_prefix("FLEET_")?.to_lowercase();
        let value = value.trim();
        (!value.is_empty()).then(|| Given { name, value: Value::read(value), place })
    });
    given.collect()
}

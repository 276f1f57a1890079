//! What the values of options mean. A value that cannot be used is refused with what is wrong and what is taken.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use fleet_core::address::{HostAddress, Server, ServerError};

use super::{Listen, given::Value};

/// Longer than anything should wait. There are times that no clock can be advanced by.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest lease that etcd gives.
const SHORTEST: Duration = Duration::from_secs(2);

pub(super) fn text(value: &Value) -> anyhow::Result<String> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::List(_) | Value::Other(_) => bail!("expect one text, not a list"),
    }
}

/// A text that may be empty, which counts as none.
pub(super) fn optional(value: &Value) -> anyhow::Result<Option<String>> {
    Ok(Some(text(value)?).filter(|text| !text.is_empty()))
}

pub(super) fn number(value: &Value, range: std::ops::RangeInclusive<u64>) -> anyhow::Result<u64> {
    let number = text(value)?.parse().ok().filter(|number| range.contains(number));
    number.with_context(|| match *range.end() {
        u64::MAX => format!("expect a whole number, {} or more", range.start()),
        end => format!("expect a whole number from {} to {end}", range.start()),
    })
}

/// As Go's programs take it.
pub(super) fn boolean(value: &Value) -> anyhow::Result<bool> {
    match &*text(value)? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => bail!("expect true or false"),
    }
}

/// Items of a list, or of a text with commas between them, as CoreOS fleet took it: brackets and quotes do not count.
pub(super) fn list(value: &Value) -> anyhow::Result<Vec<String>> {
    let items: Vec<&str> = match value {
        Value::List(items) => items.iter().map(String::as_str).collect(),
        Value::Text(text) => {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            bare.unwrap_or(text).split(',').collect()
        }
        Value::Other(_) => bail!("expect a list of texts"),
    };
    let items = items.into_iter().map(|item| item.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\''));
    Ok(items.filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

pub(super) fn path(value: &Value) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(text(value)?);
    ensure!(
        path.is_absolute() && path.parent().is_some(),
        "expect the absolute path of a directory, as in /run/fleet/units"
    );
    Ok(path)
}

/// What keys in etcd begin with.
pub(super) fn prefix(value: &Value) -> anyhow::Result<String> {
    let prefix = text(value)?;
    let is_path = !prefix.is_empty() && !prefix.contains(|c: char| c.is_whitespace() || c.is_control());
    ensure!(is_path, "expect the beginning of keys in etcd, as in /fleet/, or / for all of etcd");
    Ok(prefix)
}

/// The address or name of this host.
pub(super) fn host(value: &Value, warn: &mut dyn FnMut(String)) -> anyhow::Result<Option<String>> {
    let Some(text) = optional(value)? else { return Ok(None) };
    let host = HostAddress::parse(text.trim()).map_err(|error| {
        let meant = HostAddress::guess(&text).map(|host| format!(", did you mean {host}?")).unwrap_or_default();
        anyhow::anyhow!("{error}; expect an address, as in 10.0.0.1 or fd00::1, or a host's name{meant}")
    })?;
    if host.is_local() {
        warn(format!("others cannot reach this host by {host}"));
    }
    Ok(Some(host.to_string()))
}

/// The members of etcd, each once.
pub(super) fn servers(value: &Value, warn: &mut dyn FnMut(String)) -> anyhow::Result<Vec<Server>> {
    const TAKEN: &str = "expect URLs such as http://10.0.0.1:2379 or https://[fd00::1]:2379, with commas between";
    let mut servers: Vec<Server> = Vec::new();
    for text in list(value)? {
        let server = Server::parse(&text).map_err(|error| {
            let meant = Server::guess(&text).map(|server| format!(", did you mean {server}?")).unwrap_or_default();
            match error {
                // With a password, which is not to be shown.
                ServerError::Login => error.into(),
                error => anyhow::anyhow!("{text} will not do: {error}; {TAKEN}{meant}"),
            }
        })?;
        if servers.iter().any(|known| known.url(false) == server.url(false)) {
            warn(format!("{server} is named twice"));
        } else {
            servers.push(server);
        }
    }
    ensure!(!servers.is_empty(), "{TAKEN}");
    Ok(servers)
}

/// `key=value,key=value`
pub(super) fn metadata(value: &Value, warn: &mut dyn FnMut(String)) -> anyhow::Result<BTreeMap<String, String>> {
    let expected = "expect \"key=value,key=value\"";
    let Value::Text(text) = value else { bail!("{expected}, as one text") };
    let mut metadata = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => (key.trim(), value.trim()),
            Some(_) => bail!("{expected}: {pair:?} has no key"),
            None => bail!("{expected}, not {pair:?}"),
        };
        if value.contains('=') {
            warn(format!("no unit can ask for {pair}, which has two `=`: give {key} another value"));
        }
        if value.contains(" #") {
            warn(format!("the value of {key} is {value:?}: a comment has to be on a line of its own"));
        }
        if let Some(before) = metadata.insert(key.to_owned(), value.to_owned()).filter(|before| before != value) {
            warn(format!("{key} is given twice: {value:?} counts, and not {before:?}"));
        }
    }
    Ok(metadata)
}

/// How long a request may take.
pub(super) fn patience(value: &Value) -> anyhow::Result<Duration> {
    let patience = duration(&text(value)?).map_err(|_| anyhow::anyhow!("expect seconds, as in 5 or 1.5"))?;
    ensure!(!patience.is_zero(), "expect more than 0 seconds");
    ensure!(patience <= DAY, "expect at most a day");
    Ok(patience)
}

/// The time of a lease, which etcd counts in seconds.
pub(super) fn ttl(value: &Value, warn: &mut dyn FnMut(String)) -> anyhow::Result<Duration> {
    let given = duration(&text(value)?)?;
    ensure!(given >= SHORTEST, "expect at least 2s, etcd's shortest lease");
    ensure!(given <= DAY, "expect at most a day");
    let whole = Duration::from_secs(given.as_secs());
    if whole != given {
        warn(format!("etcd's leases last whole seconds: {}s counts", whole.as_secs()));
    }
    Ok(whole)
}

/// Reads `30s`, `500ms`, `1m30s` (Go's notation) or plain seconds.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let expected = || format!("expect a time such as \"10s\", not {text:?}");
    if let Ok(seconds) = text.parse() {
        return Duration::try_from_secs_f64(seconds).with_context(expected);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').with_context(expected)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => bail!(expected()),
        };
        let number: f64 = number.parse().with_context(expected)?;
        let part = Duration::try_from_secs_f64(number * factor).with_context(expected)?;
        total = total.checked_add(part).with_context(expected)?;
        rest = after;
    }
    ensure!(!text.is_empty(), expected());
    Ok(total)
}

/// Where the API listens, each once.
pub(super) fn listen(value: &Value, warn: &mut dyn FnMut(String)) -> anyhow::Result<Vec<Listen>> {
    let mut listens = Vec::new();
    for text in list(value)? {
        let listen = socket(&text)
            .with_context(|| format!("expect unix:///PATH or tcp://IP:PORT, as in tcp://[::1]:49153, not {text:?}"))?;
        if listens.contains(&listen) {
            warn(format!("{text} is named twice"));
        } else {
            listens.push(listen);
        }
    }
    Ok(listens)
}

fn socket(text: &str) -> Option<Listen> {
    let path = text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text));
    if let Some(path) = path.map(Path::new) {
        return path.is_absolute().then(|| Listen::Unix(path.into()));
    }
    let address = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let address: std::net::SocketAddr = address.trim_end_matches('/').parse().ok()?;
    // A port that the kernel chooses is one that nobody finds.
    (address.port() != 0).then_some(Listen::Tcp(address))
}

//! Configuration: `/etc/fleet/fleet.conf` and `FLEET_*` variables.
//!
//! The file has a line `option = value` for each option, no sections, `#` comments: the format and the option names
//! of CoreOS fleet, whose files can be used as they are. A value is TOML where it is valid TOML, and plain text
//! otherwise. Variables win over the file; `FLEET_ETCD_SERVERS` stands for `etcd_servers`.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use fleet_core::unit::suggest;
use toml::Value;

/// The file that is read when no other is named. It need not exist.
pub const DEFAULT_FILE: &str = "/etc/fleet/fleet.conf";

/// Where the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `verbosity`: 0 tells what changes, 1 why, 2 everything.
    pub verbosity: u8,
    /// `log_format`: whether log lines are JSON.
    pub log_json: bool,
    /// `etcd_servers`: URLs of etcd's members.
    pub etcd_servers: Vec<String>,
    /// `etcd_username`, `etcd_password`
    pub etcd_user: Option<(String, String)>,
    /// `etcd_cafile`
    pub etcd_cafile: Option<PathBuf>,
    /// `etcd_certfile`, `etcd_keyfile`
    pub etcd_identity: Option<(PathBuf, PathBuf)>,
    /// `etcd_key_prefix`
    pub etcd_key_prefix: String,
    /// `etcd_request_timeout`, in seconds.
    pub etcd_request_timeout: Duration,
    /// `public_ip`: the address at which others reach this host. Without it, the one that etcd is reached from.
    pub public_ip: Option<String>,
    /// `metadata`: `key=value,key=value`
    pub metadata: BTreeMap<String, String>,
    /// `agent_ttl`: how long this host may be silent before it counts as dead; at least 2 s.
    pub agent_ttl: Duration,
    /// `units_directory`: where unit files are put.
    pub units_directory: PathBuf,
    /// `state_directory`: where is kept what was last wanted here, for a boot without etcd.
    pub state_directory: PathBuf,
    /// `listen`: where the API listens, beside the sockets that systemd hands over.
    pub listen: Vec<Listen>,
    /// `token_limit`: most entities on a page of the API.
    pub token_limit: u16,
    /// `disable_engine`: whether this host never leads.
    pub disable_engine: bool,
    /// `systemd_user`: whether units run in the systemd of the user that fleetd runs as, not in the host's.
    pub systemd_user: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            verbosity: 0,
            log_json: false,
            etcd_servers: vec!["http://127.0.0.1:2379".into()],
            etcd_user: None,
            etcd_cafile: None,
            etcd_identity: None,
            etcd_key_prefix: "/fleet/".into(),
            etcd_request_timeout: Duration::from_secs(5),
            public_ip: None,
            metadata: BTreeMap::new(),
            agent_ttl: Duration::from_secs(10),
            units_directory: "/run/fleet/units".into(),
            state_directory: "/var/lib/fleet".into(),
            listen: vec![Listen::Unix("/run/fleet.sock".into())],
            token_limit: 100,
            disable_engine: false,
            systemd_user: false,
        }
    }
}

/// Longer than anything should wait. There are times that no clock can be advanced by.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The options that mean something.
pub const OPTIONS: [&str; 19] = [
    "verbosity",
    "log_format",
    "etcd_servers",
    "etcd_username",
    "etcd_password",
    "etcd_cafile",
    "etcd_certfile",
    "etcd_keyfile",
    "etcd_key_prefix",
    "etcd_request_timeout",
    "public_ip",
    "metadata",
    "agent_ttl",
    "units_directory",
    "state_directory",
    "listen",
    "token_limit",
    "disable_engine",
    "systemd_user",
];

/// Options of CoreOS fleet that mean nothing any more: there is nothing left to tune or to switch.
pub const GONE: [&str; 6] = [
    "engine_reconcile_interval",
    "enable_grpc",
    "disable_watches",
    "authorized_keys_file",
    "verify_units",
    "etcd_discovery",
];

/// Options as they were given: name, value, and where (for messages).
type Given = Vec<(String, Value, String)>;

impl Config {
    /// Reads the file (it may be missing when it is the default one) and the variables. Returns warnings, too.
    ///
    /// # Errors
    /// The first value that cannot be used, with the place it was given at.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<(Self, Vec<String>)> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match fs::read(path) {
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        Self::read(path, text, variables)
    }

    /// As [`Config::load`], of a file that has been read.
    ///
    /// # Errors
    /// As there.
    pub fn read(
        path: &Path,
        text: Vec<u8>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<(Self, Vec<String>)> {
        let text = String::from_utf8(text).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            anyhow::anyhow!("{}:{line}: this is not UTF-8 text", path.display())
        })?;
        let mut given = read_file(path, &text)?;
        given.extend(read_variables(variables));
        let mut config = Self::default();
        let mut warnings = Vec::new();
        let (mut user, mut password, mut certificate, mut key) = (None, None, None, None);
        for (name, value, place) in given {
            let set = match &*name {
                "etcd_username" => text_of(&value).map(|text| user = some(text)),
                "etcd_password" => text_of(&value).map(|text| password = some(text)),
                "etcd_certfile" => text_of(&value).map(|text| certificate = some(text)),
                "etcd_keyfile" => text_of(&value).map(|text| key = some(text)),
                _ => config.set(&name, &value, &place, &mut warnings),
            };
            set.with_context(|| format!("{place}: option {name} cannot be {value:?}"))?;
        }
        config.etcd_user = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => bail!("etcd_username is given without etcd_password"),
            (None, Some(_)) => bail!("etcd_password is given without etcd_username"),
        };
        config.etcd_identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            (Some(_), None) => bail!("etcd_certfile is given without etcd_keyfile"),
            (None, Some(_)) => bail!("etcd_keyfile is given without etcd_certfile"),
        };
        Ok((config, warnings))
    }

    fn set(&mut self, name: &str, value: &Value, place: &str, warnings: &mut Vec<String>) -> anyhow::Result<()> {
        match name {
            "verbosity" => self.verbosity = number(value)?.clamp(0.0, 2.0) as u8,
            "log_format" => {
                self.log_json = match &*text_of(value)? {
                    "text" => false,
                    "json" => true,
                    _ => bail!("expect \"text\" or \"json\""),
                }
            }
            "etcd_servers" => {
                self.etcd_servers = list(value)?;
                ensure!(!self.etcd_servers.is_empty(), "expect a list of URLs");
            }
            "etcd_cafile" => self.etcd_cafile = some(text_of(value)?).map(PathBuf::from),
            "etcd_key_prefix" => self.etcd_key_prefix = text_of(value)?,
            "etcd_request_timeout" => {
                self.etcd_request_timeout = Duration::try_from_secs_f64(number(value)?)?;
                ensure!(!self.etcd_request_timeout.is_zero(), "expect more than 0 seconds");
                ensure!(self.etcd_request_timeout <= DAY, "expect at most a day");
            }
            "public_ip" => self.public_ip = some(text_of(value)?),
            "metadata" => self.metadata = metadata(&text_of(value)?)?,
            "agent_ttl" => {
                self.agent_ttl = duration(&text_of(value)?)?;
                ensure!(self.agent_ttl >= Duration::from_secs(2), "expect at least 2s, etcd's shortest lease");
                ensure!(self.agent_ttl <= DAY, "expect at most a day");
            }
            "units_directory" => self.units_directory = text_of(value)?.into(),
            "state_directory" => self.state_directory = text_of(value)?.into(),
            "listen" => self.listen = list(value)?.iter().map(|text| listen(text)).collect::<Result<_, _>>()?,
            "token_limit" => {
                let limit = number(value)?;
                ensure!((1.0..=65_535.0).contains(&limit), "expect 1 to 65535");
                self.token_limit = limit as u16;
            }
            "disable_engine" => self.disable_engine = boolean(value)?,
            "systemd_user" => self.systemd_user = boolean(value)?,
            gone if GONE.contains(&gone) => warnings.push(format!("{place}: option {gone} has no meaning any more")),
            unknown => {
                let hint = suggest(unknown, OPTIONS).map(|known| format!(", did you mean {known}?"));
                warnings.push(format!("{place}: unknown option {unknown}{}", hint.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// The address at which others reach this host.
    ///
    /// # Errors
    /// When it is not configured and etcd's address does not tell.
    pub fn address(&self) -> anyhow::Result<String> {
        if let Some(address) = &self.public_ip {
            return Ok(address.clone());
        }
        let routes = self.etcd_servers.iter().map(String::as_str).chain([ELSEWHERE]);
        let found = routes.filter_map(|url| towards(url).ok()).find(|address| !address.is_loopback());
        found.map(|address| address.to_string()).with_context(|| {
            let servers = self.etcd_servers.join(", ");
            format!("there is no route from this host to etcd at {servers}: set etcd_servers, or public_ip")
        })
    }
}

/// Any address that is not this host's: an etcd on the host itself tells nothing of its address (RFC 5737).
const ELSEWHERE: &str = "192.0.2.1:9";

/// The local address of a route to `url`. Nothing is sent.
fn towards(url: &str) -> std::io::Result<IpAddr> {
    let host = url.split_once("://").map_or(url, |(_, host)| host).trim_end_matches('/');
    let target = host.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let any: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

fn read_file(path: &Path, text: &str) -> anyhow::Result<Given> {
    let mut given = Given::new();
    for (index, line) in text.lines().enumerate() {
        let (line, place) = (line.trim(), format!("{}:{}", path.display(), index + 1));
        if line.is_empty() || line.starts_with(['#', ';']) || (line.starts_with('[') && line.ends_with(']')) {
            continue;
        }
        let (name, value) = line.split_once('=').with_context(|| format!("{place}: expect `option = value`"))?;
        given.push((name.trim().into(), value_of(value.trim()), place));
    }
    Ok(given)
}

fn read_variables(variables: impl IntoIterator<Item = (String, String)>) -> Given {
    let known = |name: &String| OPTIONS.contains(&&**name) || GONE.contains(&&**name);
    let options = variables.into_iter().filter_map(|(name, value)| {
        let option = name.strip_prefix("FLEET_")?.to_lowercase();
        known(&option).then(|| (option, value_of(value.trim()), name))
    });
    options.collect()
}

/// TOML where it is valid TOML, plain text otherwise.
fn value_of(text: &str) -> Value {
    let parsed: Result<toml::Table, _> = toml::from_str(&format!("v = {text}"));
    let value = parsed.ok().and_then(|mut table| table.remove("v"));
    value.unwrap_or_else(|| Value::String(text.trim_matches(['"', '\'']).into()))
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn text_of(value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        _ => bail!("expect text"),
    }
}

fn number(value: &Value) -> anyhow::Result<f64> {
    text_of(value)?.parse().context("expect a number")
}

fn boolean(value: &Value) -> anyhow::Result<bool> {
    text_of(value)?.parse().context("expect true or false")
}

fn list(value: &Value) -> anyhow::Result<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(text_of).collect(),
        other => {
            Ok(text_of(other)?.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
        }
    }
}

fn metadata(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => bail!("expect \"key=value,key=value\", not {pair:?}"),
    };
    pairs.map(pair).collect()
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

fn listen(text: &str) -> anyhow::Result<Listen> {
    if let Some(path) = text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text)) {
        return Ok(Listen::Unix(path.into()));
    }
    let address = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let address = address.parse().with_context(|| format!("expect unix:///PATH or tcp://IP:PORT, not {text:?}"))?;
    Ok(Listen::Tcp(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> anyhow::Result<(Config, Vec<String>)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Config::load(Some(file.path()), variables)
    }

    #[test]
    fn files_of_coreos_fleet_are_read_as_they_are() {
        let text = "# comment\nverbosity=1\netcd_servers=[\"http://10.0.0.1:2379\", \"http://10.0.0.2:2379\"]\n\
                    etcd_request_timeout=1.5\npublic_ip=192.0.2.7\nmetadata=\"region=us, disk=ssd\"\nagent_ttl=\"1m30s\"\n\
                    token_limit=50\nengine_reconcile_interval=2\n";
        let (config, warnings) = load(text, &[("FLEET_PUBLIC_IP", "192.0.2.8"), ("FLEET_OTHER", "x")]).unwrap();
        assert_eq!(config.etcd_servers, ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]);
        assert_eq!(config.public_ip.as_deref(), Some("192.0.2.8"), "a variable wins");
        assert_eq!(config.metadata, [("region".into(), "us".into()), ("disk".into(), "ssd".into())].into());
        assert_eq!(config.agent_ttl, Duration::from_secs(90));
        assert_eq!((config.verbosity, config.token_limit), (1, 50));
        assert_eq!(config.etcd_request_timeout, Duration::from_millis(1500));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let (config, _) = load("", &[("FLEET_ETCD_SERVERS", "http://a:1,http://b:2")]).unwrap();
        assert_eq!(config.etcd_servers, ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn faults_name_the_file_the_line_and_the_mend() {
        for (text, words) in [
            ("verbosity=0\nnonsense\n", &[":2: expect `option = value`"][..]),
            ("agent_ttl=soon\n", &[":1: option agent_ttl cannot be", "expect a time such as \"10s\""]),
            ("agent_ttl=1s\n", &[":1: option agent_ttl", "at least 2s"]),
            ("agent_ttl=9999999999999999999s9999999999999999999s\n", &[":1: option agent_ttl", "expect a time"]),
            ("agent_ttl=\"1000000000h\"\n", &[":1: option agent_ttl", "at most a day"]),
            ("etcd_request_timeout=0\n", &[":1: option etcd_request_timeout", "more than 0"]),
            ("metadata=\"ssd\"\n", &["expect \"key=value,key=value\""]),
            ("listen=[\"ftp://x\"]\n", &["expect unix:///PATH or tcp://IP:PORT"]),
            ("etcd_username=me\n", &["etcd_username is given without etcd_password"]),
        ] {
            let error = format!("{:#}", load(text, &[]).unwrap_err());
            words.iter().for_each(|word| assert!(error.contains(word), "{text}: {error}"));
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"verbosity=0\nmetadata=\"a=\xff\"\n").unwrap();
        let binary = format!("{:#}", Config::load(Some(file.path()), []).unwrap_err());
        assert!(binary.ends_with(":2: this is not UTF-8 text"), "{binary}");
        let (_, warnings) = load("metdata=a=b\n", &[]).unwrap();
        assert!(warnings[0].ends_with("unknown option metdata, did you mean metadata?"), "{warnings:?}");
        let missing = Config::load(Some(Path::new("/nonexistent/fleet.conf")), []).unwrap_err();
        assert!(format!("{missing:#}").starts_with("cannot read /nonexistent/fleet.conf"));
    }
}

//! Configuration: `/etc/fleet/fleet.conf` and `FLEET_*` variables.
//!
//! The file has a line `option = value` for each option, no sections, `#` comments: the format and the option names
//! of CoreOS fleet, whose files can be used as they are. A value is TOML where it is valid TOML, and plain text
//! otherwise. Variables win over the file; `FLEET_ETCD_SERVERS` stands for `etcd_servers`.

mod given;
mod value;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::bail;
use fleet_core::{
    address::{HostAddress, Server, ServerError},
    unit::suggest,
};
use thiserror::Error;

use given::{Given, Value, read_file, read_variables};

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
    /// `etcd_servers`: etcd's members.
    pub etcd_servers: Vec<Server>,
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
            etcd_servers: vec![Server::Tcp {
                tls: None,
                host: HostAddress::Ip(Ipv4Addr::LOCALHOST.into()),
                port: Some(2379),
            }],
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

/// Options of which the value is nobody's business.
const SECRET: [&str; 2] = ["etcd_username", "etcd_password"];

/// What is wrong with a configuration, each fault with the place it was given at.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0.join("; "))]
pub struct Faults(pub Vec<String>);

/// A configuration that was read: all of it that can be used, and what cannot.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The configuration; an option with a fault has its default.
    pub config: Config,
    /// What has no effect, or another than it seems.
    pub warnings: Vec<String>,
    /// What cannot be used.
    pub faults: Vec<String>,
}

impl Config {
    /// Reads the file (it may be missing when it is the default one) and the variables. Returns warnings, too.
    ///
    /// # Errors
    /// All values that cannot be used, each with the place it was given at: [`Faults`].
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<(Self, Vec<String>)> {
        Self::load_usable(file, variables).into_result()
    }

    /// As [`Config::load`], with all that can be used though something cannot.
    #[must_use]
    pub fn load_usable(file: Option<&Path>, variables: impl IntoIterator<Item = (String, String)>) -> Read {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        match fs::read(path) {
            Ok(text) => Read::of(path, text, variables),
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Read::of(path, Vec::new(), variables)
            }
            Err(error) => {
                let mut read = Read::of(path, Vec::new(), variables);
                read.faults.insert(0, format!("cannot read {}: {error}", path.display()));
                read
            }
        }
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
        Read::of(path, text, variables).into_result()
    }

    /// Whether members of etcd of which the URL does not say it are reached with TLS.
    #[must_use]
    pub fn tls_by_default(&self) -> bool {
        self.etcd_cafile.is_some() || self.etcd_identity.is_some()
    }

    fn set(&mut self, name: &str, value: &Value, warn: &mut dyn FnMut(String)) -> anyhow::Result<()> {
        match name {
            "verbosity" => self.verbosity = value::number(value, 0..=u64::MAX)?.min(2) as u8,
            "log_format" => {
                self.log_json = match &*value::text(value)? {
                    "text" => false,
                    "json" => true,
                    _ => bail!("expect \"text\" or \"json\""),
                }
            }
            "etcd_servers" => self.etcd_servers = value::servers(value, warn)?,
            "etcd_cafile" => self.etcd_cafile = value::optional(value)?.map(PathBuf::from),
            "etcd_key_prefix" => self.etcd_key_prefix = value::prefix(value)?,
            "etcd_request_timeout" => self.etcd_request_timeout = value::patience(value)?,
            "public_ip" => self.public_ip = value::host(value, warn)?,
            "metadata" => self.metadata = value::metadata(value, warn)?,
            "agent_ttl" => self.agent_ttl = value::ttl(value, warn)?,
            "units_directory" => self.units_directory = value::path(value)?,
            "state_directory" => self.state_directory = value::path(value)?,
            "listen" => self.listen = value::listen(value, warn)?,
            "token_limit" => self.token_limit = value::number(value, 1..=u64::from(u16::MAX))? as u16,
            "disable_engine" => self.disable_engine = value::boolean(value)?,
            "systemd_user" => self.systemd_user = value::boolean(value)?,
            _ => {}
        }
        Ok(())
    }
}

impl Read {
    /// Reads the text of a file, and the variables, which win.
    #[must_use]
    pub fn of(path: &Path, text: Vec<u8>, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut read = Self::default();
        let text = String::from_utf8(text).unwrap_or_else(|error| {
            let good = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
            read.faults.push(format!("{}:{line}: this is not UTF-8 text", path.display()));
            String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned()
        });
        let (mut given, faults) = read_file(path, &text);
        read.faults.extend(faults);
        read.warn_of_doubles(&given);
        let is_known = |name: &str| OPTIONS.contains(&name) || GONE.contains(&name);
        for variable in read_variables(variables) {
            match suggest(&variable.name, OPTIONS) {
                _ if is_known(&variable.name) => given.push(variable),
                // Others may have variables that begin so, too.
                Some(meant) => read.warnings.push(format!(
                    "{}: there is no such variable, did you mean FLEET_{}?",
                    variable.place,
                    meant.to_uppercase()
                )),
                None => {}
            }
        }
        read.take(&given);
        read
    }

    fn take(&mut self, given: &[Given]) {
        // A fault in a line that another one replaces is one all the same.
        let mut texts: BTreeMap<&str, Option<String>> = BTreeMap::new();
        for Given { name, value, place } in given {
            let set = match &**name {
                "etcd_username" | "etcd_password" | "etcd_certfile" | "etcd_keyfile" => {
                    value::optional(value).map(|text| drop(texts.insert(name, text)))
                }
                gone if GONE.contains(&gone) => {
                    self.warnings.push(format!("{place}: option {gone} has no meaning any more"));
                    Ok(())
                }
                known if OPTIONS.contains(&known) => {
                    let mut warn = |what: String| self.warnings.push(format!("{place}: option {known}: {what}"));
                    self.config.set(known, value, &mut warn)
                }
                unknown => {
                    let hint = suggest(unknown, OPTIONS).map(|known| format!(", did you mean {known}?"));
                    self.warnings.push(format!("{place}: unknown option {unknown}{}", hint.unwrap_or_default()));
                    Ok(())
                }
            };
            if let Err(error) = set {
                let is_secret = SECRET.contains(&&**name) || error.is::<ServerError>();
                let shown = if is_secret { String::new() } else { format!(" cannot be {value}") };
                self.faults.push(format!("{place}: option {name}{shown}: {error:#}"));
            }
        }
        let place = |name: &str| given.iter().rfind(|it| it.name == name).map_or("", |it| &*it.place);
        let mut pair = |one: &'static str, other: &'static str| {
            match (texts.remove(one).flatten(), texts.remove(other).flatten()) {
                (Some(first), Some(second)) => return Some((first, second)),
                (Some(_), None) => self.faults.push(format!("{}: {one} is given without {other}", place(one))),
                (None, Some(_)) => self.faults.push(format!("{}: {other} is given without {one}", place(other))),
                (None, None) => {}
            }
            None
        };
        self.config.etcd_user = pair("etcd_username", "etcd_password");
        self.config.etcd_identity = pair("etcd_certfile", "etcd_keyfile").map(|(a, b)| (a.into(), b.into()));
        self.compare(place);
    }

    /// Looks at what options mean together.
    fn compare<'p>(&mut self, place: impl Fn(&str) -> &'p str) {
        let config = &self.config;
        let (units, state) = (&config.units_directory, &config.state_directory);
        if state.starts_with(units) {
            let last = ["state_directory", "units_directory"].map(&place).into_iter().find(|place| !place.is_empty());
            let last = last.unwrap_or_default();
            let (units, state) = (units.display(), state.display());
            self.faults.push(format!("{last}: state_directory {state} may not be in units_directory {units}"));
        }
        let (tls, servers) = (config.tls_by_default(), place("etcd_servers"));
        for server in &config.etcd_servers {
            match server {
                Server::Unix(_) => {}
                server if !server.has_tls(tls) && tls => {
                    let file = if config.etcd_cafile.is_some() { "etcd_cafile" } else { "etcd_certfile" };
                    let at = [servers, place(file)].into_iter().find(|place| !place.is_empty()).unwrap_or_default();
                    let url = server.url(tls);
                    self.warnings.push(format!("{at}: {url} is without TLS, {file} has no part in it: write https://"));
                }
                server if server.has_tls(tls) && config.etcd_cafile.is_none() => {
                    let url = server.url(tls);
                    let missing = "no certificate is trusted without etcd_cafile";
                    self.warnings.push(format!("{servers}: {url} cannot be reached: {missing}"));
                }
                _ => {}
            }
        }
    }

    fn warn_of_doubles(&mut self, given: &[Given]) {
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        for Given { name, place, .. } in given {
            if let Some(before) = known.insert(name, place) {
                self.warnings.push(format!("{place}: option {name} is given again, and {before} does not count"));
            }
        }
    }

    fn into_result(self) -> anyhow::Result<(Config, Vec<String>)> {
        if self.faults.is_empty() { Ok((self.config, self.warnings)) } else { Err(Faults(self.faults).into()) }
    }
}

/// Whether an option can have that value. Returns what should be known of it.
///
/// # Errors
/// What is wrong with it, and what is taken.
pub fn check(option: &str, value: &str) -> Result<Vec<String>, String> {
    let mut notes = Vec::new();
    let value = Value::Text(value.into());
    match Config::default().set(option, &value, &mut |note| notes.push(note)) {
        Ok(()) => Ok(notes),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// The members of etcd in a value that [`check`] takes.
#[must_use]
pub fn servers(value: &str) -> Vec<Server> {
    value::servers(&Value::Text(value.into()), &mut drop).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! Flags that hold for every command, their `FLEETCTL_*` variables, and the client that they describe.

use std::time::Duration;

use clap::{ArgAction, Args, builder::BoolishValueParser};
use fleet_client::{Client, DEFAULT_ENDPOINT, Endpoint, Event, HostPort, Ssh, Transport};
use fleet_core::unit::parse_span;

use crate::{error::Failure, output, remote::Remote};

/// Longer than anybody waits.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Flags that may stand before or after any command.
#[derive(Args, Debug)]
#[command(next_help_heading = "GLOBAL OPTIONS")]
pub struct Global {
    /// Where fleetd listens: `unix:///PATH` or `http://IP:PORT`. Of several with commas between, the first counts
    #[arg(long, global = true, value_name = "URL", env = "FLEETCTL_ENDPOINT", default_value = DEFAULT_ENDPOINT)]
    pub endpoint: String,
    /// Reach fleetd and all machines by SSH through this machine
    #[arg(long, global = true, value_name = "HOST[:PORT]", env = "FLEETCTL_TUNNEL")]
    tunnel: Option<String>,
    /// What a single request may take: seconds, or a time such as 500ms or 1m30s
    #[arg(long, global = true, value_name = "TIME", env = "FLEETCTL_REQUEST_TIMEOUT", default_value = "3", value_parser = time,
          allow_hyphen_values = true)]
    pub request_timeout: Duration,
    /// What an SSH connection may take to come about, in the same form
    #[arg(long, global = true, value_name = "TIME", env = "FLEETCTL_SSH_TIMEOUT", default_value = "10", value_parser = time,
          allow_hyphen_values = true)]
    pub ssh_timeout: Duration,
    /// Log in as this user, instead of as your ssh configuration says
    #[arg(long, global = true, value_name = "USER", env = "FLEETCTL_SSH_USERNAME")]
    ssh_username: Option<String>,
    /// Keep host keys in this file, instead of where your ssh configuration says
    #[arg(long, global = true, value_name = "FILE", env = "FLEETCTL_KNOWN_HOSTS_FILE")]
    known_hosts_file: Option<String>,
    /// Ask about unknown host keys; with `=false`, take them
    #[arg(long, global = true, value_name = "BOOL", env = "FLEETCTL_STRICT_HOST_KEY_CHECKING",
          num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    strict_host_key_checking: Option<bool>,
    /// Say on stderr what is asked of fleetd
    #[arg(long, global = true, env = "FLEETCTL_DEBUG", value_parser = BoolishValueParser::new())]
    debug: bool,
    /// How to reach the cluster; `API` is the only way left
    #[arg(long, global = true, value_name = "DRIVER", env = "FLEETCTL_DRIVER", default_value = "API", hide = true)]
    driver: String,
    /// Print this help and exit
    #[arg(short, long, alias = "h", global = true, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    _retired: Retired,
}

/// Flags of CoreOS fleet that are accepted and have no effect. TLS and etcd are fleetd's own business now.
#[derive(Args, Debug)]
struct Retired {
    #[arg(long, global = true, hide = true, env = "FLEETCTL_CA_FILE")]
    ca_file: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_CERT_FILE")]
    cert_file: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_KEY_FILE")]
    key_file: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_ETCD_CAFILE")]
    etcd_cafile: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_ETCD_CERTFILE")]
    etcd_certfile: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_ETCD_KEYFILE")]
    etcd_keyfile: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_ETCD_KEY_PREFIX")]
    etcd_key_prefix: Option<String>,
    #[arg(long, global = true, hide = true, env = "FLEETCTL_EXPERIMENTAL_API",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    experimental_api: Option<String>,
}

impl Global {
    /// The client that these flags describe. Nothing is connected yet.
    ///
    /// # Errors
    /// The flags describe none.
    pub fn client(&self) -> Result<Client, Failure> {
        self.client_by(self.ssh()?)
    }

    /// The same, which fails where ssh would ask somebody for something.
    ///
    /// # Errors
    /// As [`Global::client`].
    pub fn unasking_client(&self) -> Result<Client, Failure> {
        self.client_by(Ssh { batch: true, ..self.ssh()? })
    }

    fn client_by(&self, ssh: Ssh) -> Result<Client, Failure> {
        let unable = |message: &str| Failure::said(format!("Unable to initialize client: {message}"));
        match &*self.driver.to_lowercase() {
            "api" => {}
            "etcd" => {
                return Err(unable("driver \"etcd\" is no longer supported")
                    .hint("leave out --driver, and name a fleetd with --endpoint"));
            }
            _ => return Err(unable(&format!("unrecognized driver {:?}", self.driver))),
        }
        let endpoint = self.endpoint().map_err(|message| unable(&message))?;
        let (debug, agent) = (self.debug, concat!("fleetctl/", env!("CARGO_PKG_VERSION")));
        let listener = move |event: Event<'_>| match event {
            Event::Asks { method, path, of } if debug => output::note(&format!("debug: {method} {path} at {of}")),
            Event::Asks { .. } => {}
            Event::Old { seconds } => {
                output::note(&format!("WARNING: etcd is unreachable; this was true {seconds} s ago"));
            }
        };
        Ok(Client::with_events(Transport::new(endpoint, ssh), self.request_timeout, agent, listener))
    }

    /// Where fleetd listens.
    fn endpoint(&self) -> Result<Endpoint, String> {
        let text = if self.endpoint.is_empty() { DEFAULT_ENDPOINT } else { &self.endpoint };
        let endpoint = Endpoint::parse(text)?;
        // At the far end of a tunnel is another machine.
        Ok(if given(&self.tunnel).is_none() { endpoint.or_own() } else { endpoint })
    }

    /// What these flags say about SSH.
    ///
    /// # Errors
    /// The tunnel is no host.
    pub fn ssh(&self) -> Result<Ssh, Failure> {
        let tunnel = given(&self.tunnel).map(|tunnel| HostPort::parse(&tunnel)).transpose();
        Ok(Ssh {
            user: given(&self.ssh_username),
            timeout: self.ssh_timeout,
            known_hosts: given(&self.known_hosts_file),
            strict: self.strict_host_key_checking,
            tunnel: tunnel.map_err(|why| Failure::said(format!("Unable to initialize client: tunnel {why}")))?,
            batch: false,
        })
    }

    /// The way to the machines that these flags describe.
    ///
    /// # Errors
    /// As [`Global::ssh`].
    pub fn remote(&self) -> Result<Remote, Failure> {
        let is_own = || self.endpoint().is_ok_and(|endpoint| endpoint.is_own());
        Ok(Remote { ssh: self.ssh()?, user_units: given(&self.tunnel).is_none() && is_own() })
    }
}

/// A value, unless it is that of a variable which was set to nothing.
fn given(value: &Option<String>) -> Option<String> {
    value.clone().filter(|value| !value.is_empty())
}

/// Reads a time that somebody may wait: seconds, or with a unit.
fn time(text: &str) -> Result<Duration, String> {
    let time = parse_span(text).ok().flatten().filter(|time| !time.is_zero() && *time <= DAY);
    time.ok_or_else(|| "expect more than 0 seconds, and at most a day: 3, 0.5, 500ms or 1m30s".into())
}

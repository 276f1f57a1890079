//! `fleetd cloud-config`: sets up this host as a CoreOS `#cloud-config` says, and submits the units for the cluster that
//! it may have.
//!
//! What a document says and what is to be done about it is decided in the crate `fleet-cloud-config`; here is the
//! command around that. The host comes first, and without waiting for anything but systemd. Then the units for the
//! cluster, as soon as this host has joined: while etcd is away they wait, with longer and longer pauses.

mod seed;

use std::{
    io::{self, IsTerminal, Read, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum, ValueHint};
use fleet_cloud_config::{Addresses, Document, Reading, apply, plan, remember, survey};
use fleet_core::{address::Server, model::Keys, unit::parse_span};
use tokio::time::Instant;

use crate::{
    backoff::Backoff,
    config::{self, Config},
    daemon, network,
    registry::{Etcd, commit::Failure},
};
use seed::{Outcome, Seed};

/// A document that cannot be taken.
const USAGE: u8 = 2;
/// The cluster was not there in time.
const NO_CONNECTION: u8 = 4;

/// Most bytes of a document.
const MAX_DOCUMENT: u64 = 4 << 20;

/// Most faults that are shown at a time.
const SHOWN: usize = 20;

/// Between two looks at a cluster that this host has not joined yet.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Set up this host as a CoreOS cloud-config says
///
/// Does what the document asks for and the host is not yet: host name, users and keys, files, settings, units. Then
/// submits the units of its section `fleet` to the cluster, each once, when this host has joined. Doing it again is
/// harmless.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetd cloud-config --validate user-data
    fleetd cloud-config --dry-run user-data
    fleetd cloud-config user-data

EXIT CODES:
    0 done; 1 something could not be done; 2 the document cannot be taken; 4 the cluster was not there in time")]
pub struct CloudConfig {
    /// The document, or `-` for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Only say what is wrong with the document; needs no root
    #[arg(long, conflicts_with_all = ["dry_run", "only", "no_block", "wait"])]
    validate: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do one part of the document only
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// Do not wait for units that are started
    #[arg(long)]
    no_block: bool,
    /// How long to wait until this host has joined the cluster, as in 90s, 5min or infinity
    #[arg(long, value_name = "TIME", default_value = "2min")]
    wait: String,
    /// What $private_ipv4 stands for; otherwise the address that etcd is reached from
    #[arg(long, value_name = "ADDRESS", env = "COREOS_PRIVATE_IPV4")]
    private_ipv4: Option<String>,
    /// What $public_ipv4 stands for; otherwise the same address
    #[arg(long, value_name = "ADDRESS", env = "COREOS_PUBLIC_IPV4")]
    public_ipv4: Option<String>,
}

/// A part of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// All but the section `fleet`
    Host,
    /// The section `fleet`
    Cluster,
}

/// Carries out the command. `load` reads fleetd's configuration, which the document may change.
///
/// # Errors
/// What keeps it from beginning.
pub async fn run(
    args: &CloudConfig,
    load: impl Fn() -> anyhow::Result<(Config, Vec<String>)>,
) -> anyhow::Result<ExitCode> {
    let patience = parse_span(&args.wait).context("--wait")?;
    let text = read(&args.file)?;
    // One that cannot be read is no reason not to write a better one.
    let mut config = load().map_or_else(|_| Config::default(), |(config, _)| config);
    let mut reading =
        Reading { addresses: anywhere(), options: &config::OPTIONS, gone: &config::GONE, check: &config::check };
    if !args.validate {
        // On the first boot only the document knows where etcd is.
        let document = Document::parse(&text, reading).ok();
        config.etcd_servers = document.and_then(|document| servers(&document)).unwrap_or(config.etcd_servers);
        reading.addresses = args.addresses(&config).await?;
    }
    let name = if args.file == Path::new("-") { "<stdin>".into() } else { args.file.display().to_string() };
    let document = match Document::parse(&text, reading) {
        Ok(document) => document,
        Err(faults) => {
            faults.iter().take(SHOWN).for_each(|fault| eprintln!("{}", fault.render(&name, &text)));
            let count = faults.len();
            if count > SHOWN {
                eprintln!("and {} more", count - SHOWN);
            }
            eprintln!("error: {name} is not taken: {count} {}", if count == 1 { "fault" } else { "faults" });
            return Ok(ExitCode::from(USAGE));
        }
    };
    // At boot the other part, which comes first, has told them.
    for note in document.notes.iter().filter(|_| args.only != Some(Part::Cluster)) {
        eprintln!("{name}:{}: note: {}", note.line, note.text);
    }
    if args.validate {
        say(&format!("{name} is a cloud-config"));
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "a host is set up by root: use sudo, or --validate to check a document only"
    );
    let mut code = ExitCode::SUCCESS;
    let mut done = Done { dry: args.dry_run, changes: 0 };
    if args.only != Some(Part::Cluster) && !args.set_up(&document, &mut done)? {
        code = ExitCode::FAILURE;
    }
    if args.only != Some(Part::Host) && !document.cluster.is_empty() {
        // The document may just have said where etcd is.
        let (config, _) = load()?;
        if !args.seed(&config, &document, patience, &mut done).await? {
            code = ExitCode::from(NO_CONNECTION);
        }
    }
    if code == ExitCode::SUCCESS && done.changes == 0 {
        say("Nothing to do");
    }
    Ok(code)
}

/// Tells what is done, in one voice for a dry run and a real one.
struct Done {
    dry: bool,
    changes: usize,
}

impl Done {
    fn tell(&mut self, what: &str) {
        self.changes += 1;
        say(&if self.dry { format!("would {what}") } else { what.to_owned() });
    }
}

impl CloudConfig {
    async fn addresses(&self, config: &Config) -> anyhow::Result<Addresses> {
        // Not the configured one: the document may have set that on an earlier boot, with another address.
        let own = network::address(&Config { public_ip: None, ..config.clone() }, None).await;
        let own = own.ok().and_then(|own| own.parse().ok());
        let given = |option: &str, text: &Option<String>| match text.as_deref() {
            // CoreOS left the variables of addresses that it did not know empty.
            None | Some("") => Ok(own),
            Some(text) => match text.parse() {
                Ok(address) => Ok(Some(address)),
                Err(_) => bail!("{option} or its variable is {text:?}: expect an address as in 10.0.0.7"),
            },
        };
        Ok(Addresses {
            private: given("--private-ipv4", &self.private_ipv4)?,
            public: given("--public-ipv4", &self.public_ipv4)?,
        })
    }

    /// Returns whether all went well.
    fn set_up(&self, document: &Document, done: &mut Done) -> anyhow::Result<bool> {
        let present = survey(document)?;
        let plan = plan(document, &present);
        for note in &plan.notes {
            eprintln!("note: {note}");
        }
        let mut well = true;
        for action in &plan.actions {
            let outcome = if self.dry_run { Ok(()) } else { apply(action, self.no_block) };
            match outcome {
                Ok(()) => done.tell(&action.to_string()),
                Err(error) => {
                    well = false;
                    eprintln!("error: cannot {action}: {}", crate::chain(&error));
                }
            }
        }
        if !self.dry_run {
            remember(&plan.marks)?;
        }
        Ok(well)
    }

    /// Returns whether the cluster was there in time.
    async fn seed(
        &self,
        config: &Config,
        document: &Document,
        patience: Option<Duration>,
        done: &mut Done,
    ) -> anyhow::Result<bool> {
        let store = Etcd::new(daemon::endpoints(config)?);
        let id = daemon::machine_id(Path::new("/etc/machine-id"))?;
        let seed = Seed { store, keys: Keys::new(&config.etcd_key_prefix), id };
        // An end that no clock reaches is none.
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut waiting = Waiting { backoff: Backoff::new(PAUSES.0, PAUSES.1), deadline, told: None };
        if self.dry_run {
            waiting.deadline = Some(Instant::now());
        } else {
            loop {
                let why = match seed.joined().await {
                    Ok(true) => break,
                    Ok(false) => "this host has not joined the cluster: is fleet.service running?".into(),
                    Err(error) => crate::chain(&error),
                };
                if !waiting.pause(&why).await {
                    return Ok(false);
                }
            }
        }
        for unit in &document.cluster {
            let name = &unit.name;
            let outcome = loop {
                let outcome = if self.dry_run { seed.look(unit).await } else { seed.submit(unit).await };
                match outcome {
                    Ok(outcome) => break outcome,
                    Err(Failure::Refused(refusal)) => bail!("cannot submit {name} to the cluster: {refusal}"),
                    Err(Failure::Store(error)) if !waiting.pause(&crate::chain(&*error)).await => return Ok(false),
                    Err(Failure::Store(_)) => {}
                }
            };
            match outcome {
                Outcome::Same => {}
                Outcome::New => done.tell(&format!("submit {name} to the cluster")),
                Outcome::Replaces => done.tell(&format!("replace {name} in the cluster")),
                Outcome::Differs => eprintln!(
                    "warning: {name} is in the cluster with other contents and stays as it is; \
                     `replace: true` replaces it"
                ),
            }
        }
        Ok(true)
    }
}

/// Waits for a cluster that is not there.
struct Waiting {
    backoff: Backoff,
    deadline: Option<Instant>,
    told: Option<String>,
}

impl Waiting {
    /// Waits a while; returns false when there is no more time. Tells the reason when it is another one.
    async fn pause(&mut self, why: &str) -> bool {
        let pause = self.backoff.delay();
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            eprintln!("error: cannot submit units to the cluster: {why}");
            return false;
        }
        if self.told.as_deref() != Some(why) {
            eprintln!("note: waiting for the cluster: {why}");
            self.told = Some(why.to_owned());
        }
        tokio::time::sleep(left.map_or(pause, |left| left.min(pause))).await;
        true
    }
}

/// A document is as good on one host as on another.
fn anywhere() -> Addresses {
    let address = Some(Ipv4Addr::new(192, 0, 2, 1));
    Addresses { private: address, public: address }
}

/// The members of etcd that a document names.
fn servers(document: &Document) -> Option<Vec<Server>> {
    let (_, servers) = document.fleet.iter().find(|(option, _)| option == "etcd_servers")?;
    Some(config::servers(servers))
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = |source: &mut dyn Read, bytes: &mut Vec<u8>| source.take(MAX_DOCUMENT + 1).read_to_end(bytes);
    let outcome = if file == Path::new("-") {
        let mut input = io::stdin().lock();
        if input.is_terminal() {
            eprintln!("note: reading a cloud-config from the terminal; end it with Ctrl-D");
        }
        read(&mut input, &mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| read(&mut file, &mut bytes))
    };
    outcome.with_context(|| format!("cannot read {}", file.display()))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            bail!("{}:{line}: this is not UTF-8 text", file.display())
        }
    }
}

/// A host is not left half set up because nobody listens any more.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

//! The lab on the command line.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use fleet_lab::{Lab, Member, MemberStatus};

/// A cluster on a laptop: real systemd hosts with real etcd.
///
/// Hosts are containers that boot a systemd of their own on a bridge of their own. Everything is
/// removed again by `fleet-lab down`. Needs root.
#[derive(Parser)]
#[command(name = "fleet-lab", version, after_help = "Example: fleet-lab up --hosts 3")]
struct Args {
    #[command(subcommand)]
    command: Command,

    /// Which lab: K in 10.82.K.0/24, 1 to 99. `up` takes 1, the others the only lab there is.
    #[arg(long, global = true, value_name = "K", value_parser = clap::value_parser!(u8).range(1..=99))]
    subnet: Option<u8>,
}

#[derive(Subcommand)]
enum Command {
    /// Start a lab; one that is on this subnet is removed first.
    #[command(after_help = "Example: fleet-lab up --hosts 3 --metadata h1:disk=ssd,region=east")]
    Up(Up),
    /// Run a program in a host, beside its PID 1; exits as the program does.
    #[command(after_help = "Example: fleet-lab exec h1 -- systemctl status")]
    Exec {
        /// Host, like h1.
        host: String,
        /// Program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
    /// Take a host's power away: SIGKILL of its PID 1.
    #[command(after_help = "Example: fleet-lab kill h2")]
    Kill {
        /// Host, like h1.
        host: String,
    },
    /// Shut a host down in order.
    #[command(after_help = "Example: fleet-lab shutdown h2")]
    Shutdown {
        /// Host, like h1.
        host: String,
    },
    /// Boot a host that is down, with the disk and the machine-id it had.
    #[command(after_help = "Example: fleet-lab boot h2")]
    Boot {
        /// Host, like h1.
        host: String,
    },
    /// Reboot a host in order.
    #[command(after_help = "Example: fleet-lab reboot h2")]
    Reboot {
        /// Host, like h1.
        host: String,
    },
    /// Boot one more host.
    #[command(after_help = "Example: fleet-lab add --metadata disk=ssd")]
    Add {
        /// Its metadata.
        #[arg(long, value_name = "KEY=VALUE,...", default_value = "", value_parser = metadata)]
        metadata: String,
    },
    /// Cut a host off from the network.
    #[command(after_help = "Example: fleet-lab partition h2")]
    Partition {
        /// Host, like h1.
        host: String,
    },
    /// End a partition.
    #[command(after_help = "Example: fleet-lab heal h2")]
    Heal {
        /// Host, like h1.
        host: String,
    },
    /// Stop, start, freeze, thaw, kill or replace etcd.
    #[command(after_help = "Example: fleet-lab etcd pause")]
    Etcd {
        /// What to do.
        action: EtcdAction,
        /// Which member; all if none is named.
        #[arg(value_parser = clap::value_parser!(u8).range(1..=5))]
        member: Option<u8>,
    },
    /// Show what there is and how it is.
    #[command(after_help = "Example: fleet-lab status")]
    Status,
    /// Remove a lab: processes, mounts, network, files; also what a crash left of one.
    #[command(after_help = "Example: fleet-lab down")]
    Down {
        /// All labs that no other process is using.
        #[arg(long, conflicts_with = "subnet")]
        all: bool,
    },
    /// Run a thousand simulated machines on a real etcd, without root, and tell what they cost.
    #[command(disable_help_flag = true, after_help = "Example: fleet-lab sim --machines 1000 --units 20000")]
    Sim {
        /// What to run; `fleet-lab sim --help` lists it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

#[derive(clap::Args)]
struct Up {
    /// Number of hosts: h1, h2, ...
    #[arg(long, value_name = "N", default_value_t = 3)]
    hosts: u8,
    /// With docker and the image fleet/busybox in every host.
    #[arg(long)]
    docker: bool,
    /// With an ssh server in every host; root gets from any host into any other.
    #[arg(long)]
    ssh: bool,
    /// Number of etcd members, 1, 3 or 5.
    #[arg(long, value_name = "N", default_value_t = 1)]
    etcd: u8,
    /// With IPv6 alone.
    #[arg(long)]
    ipv6: bool,
    /// The fleetd to run; otherwise the one beside this program.
    #[arg(long, value_name = "PATH")]
    fleetd: Option<PathBuf>,
    /// The fleetctl to install; otherwise the one beside this program.
    #[arg(long, value_name = "PATH")]
    fleetctl: Option<PathBuf>,
    /// The directory with the fleetd and fleetctl of one host; may be repeated.
    #[arg(long, value_name = "HOST=DIR", value_parser = host_programs)]
    bin: Vec<(String, PathBuf)>,
    /// The repository whose cloud-init/fleet.service to install; otherwise the one this program was
    /// built from.
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
    /// Metadata of a host; may be repeated.
    #[arg(long, value_name = "HOST:KEY=VALUE,...", value_parser = host_metadata)]
    metadata: Vec<(String, String)>,
    /// One more line for every fleet.conf, like 'agent_ttl="2s"'; may be repeated.
    #[arg(long, value_name = "LINE")]
    config: Vec<String>,
    /// Without fleet in the hosts.
    #[arg(long)]
    no_fleet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum EtcdAction {
    /// End it in order.
    Stop,
    /// Start it with the data it had.
    Start,
    /// Freeze it: connections stay open, nothing answers.
    Pause,
    /// Thaw it.
    Resume,
    /// SIGKILL.
    Kill,
    /// Take its disk away and have a new member in its place; the others must be a majority.
    Replace,
}

fn host_metadata(text: &str) -> Result<(String, String), String> {
    let Some((host, metadata)) = text.split_once(':') else {
        return Err("not of the form HOST:KEY=VALUE,...".to_owned());
    };
    Ok((host.to_owned(), self::metadata(metadata)?))
}

fn host_programs(text: &str) -> Result<(String, PathBuf), String> {
    let (host, dir) = text.split_once('=').ok_or("not of the form HOST=DIR")?;
    Ok((host.to_owned(), dir.into()))
}

fn metadata(text: &str) -> Result<String, String> {
    match text.split(',').find(|pair| !text.is_empty() && !pair.contains('=')) {
        Some(odd) => Err(format!("`{odd}` is not of the form KEY=VALUE")),
        None => Ok(text.to_owned()),
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    if !matches!(args.command, Command::Sim { .. }) && !rustix::process::geteuid().is_root() {
        bail!("fleet-lab needs root (namespaces, mounts, a bridge): run it with sudo");
    }
    let lab = || Lab::attach(chosen(args.subnet, &Lab::existing())?);
    match args.command {
        Command::Up(options) => up(args.subnet, options),
        Command::Exec { host, program } => {
            let mut command = lab()?.find_host(&host)?.command(&program)?;
            if let Some(term) = std::env::var_os("TERM") {
                command.env("TERM", term);
            }
            // In the place of this process: exit code, signals and terminal are the program's.
            let error = command.stdin(std::process::Stdio::inherit()).exec();
            Err(error).map_err(|error: io::Error| anyhow::anyhow!("cannot run nsenter: {error}"))
        }
        Command::Kill { host } => lab()?.find_host(&host)?.kill(),
        Command::Shutdown { host } => lab()?.find_host(&host)?.shutdown(),
        Command::Reboot { host } => lab()?.find_host(&host)?.reboot(),
        Command::Boot { host } => {
            let host = lab()?.find_host(&host)?;
            let start = Instant::now();
            host.boot()?;
            eprintln!("{} up in {:.1} s", host.name(), seconds(start));
            Ok(())
        }
        Command::Add { metadata } => {
            let start = Instant::now();
            let host = lab()?.add_host(&metadata)?;
            eprintln!("{} up in {:.1} s", host.name(), seconds(start));
            Ok(())
        }
        Command::Partition { host } => lab()?.find_host(&host)?.partition(),
        Command::Heal { host } => lab()?.find_host(&host)?.heal(),
        Command::Etcd { action, member } => etcd(&lab()?, action, member),
        Command::Status => status(args.subnet),
        Command::Down { all } => down(args.subnet, all),
        Command::Sim { args } => sim(&args),
    }
}

/// Hands over to the program beside this one: with all of fleetd in it, it takes longer to build than the lab.
fn sim(args: &[OsString]) -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("fleet-scale");
    if !program.is_file() {
        let profile = if cfg!(debug_assertions) { "" } else { " --release" };
        bail!("no {}: build it first (`cargo build{profile} -p fleet-bench`)", program.display());
    }
    let error = std::process::Command::new(&program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

fn seconds(start: Instant) -> f32 {
    start.elapsed().as_secs_f32()
}

/// The lab that a command is for, of those that there are.
fn chosen(subnet: Option<u8>, existing: &[u8]) -> Result<u8> {
    match (subnet, existing) {
        (Some(subnet), _) if existing.contains(&subnet) => Ok(subnet),
        (Some(subnet), []) => bail!("there is no lab: start one with `fleet-lab up --subnet {subnet}`"),
        (Some(subnet), others) => bail!("there is no lab on subnet {subnet}, only on {}", listed(others)),
        (None, []) => bail!("there is no lab: start one with `fleet-lab up`"),
        (None, [one]) => Ok(*one),
        (None, several) => bail!("there are labs on the subnets {}: choose one with --subnet", listed(several)),
    }
}

fn listed(numbers: &[u8]) -> String {
    numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

fn up(subnet: Option<u8>, options: Up) -> Result<()> {
    let start = Instant::now();
    let subnet = subnet.unwrap_or(1);
    let mut builder = Lab::builder()
        .hosts(options.hosts)
        .docker(options.docker)
        .ssh(options.ssh)
        .etcd(options.etcd)
        .ipv6(options.ipv6)
        .subnet(subnet)
        .fleet(!options.no_fleet)
        .verbose(true);
    for (host, metadata) in &options.metadata {
        builder = builder.metadata(host, metadata);
    }
    for line in &options.config {
        builder = builder.config(line);
    }
    for (host, dir) in options.bin {
        builder = builder.programs(&host, dir);
    }
    if let Some(path) = options.fleetd {
        builder = builder.fleetd(path);
    }
    if let Some(path) = options.fleetctl {
        builder = builder.fleetctl(path);
    }
    if let Some(path) = options.repo {
        builder = builder.repo(path);
    }
    let mut lab = builder.up()?;
    lab.keep()?;
    eprintln!("up in {:.1} s", seconds(start));

    // Also when it is the only lab: the next one, of a test perhaps, would make the commands ambiguous.
    let try_this = if options.no_fleet { "systemctl status" } else { "fleetctl list-machines" };
    println!("try:  fleet-lab exec --subnet {subnet} h1 {try_this}");
    println!("end:  fleet-lab down --subnet {subnet}");
    Ok(())
}

fn etcd(lab: &Lab, action: EtcdAction, member: Option<u8>) -> Result<()> {
    let known = lab.members();
    if let Some(unknown) = member.filter(|number| known.iter().all(|member| member.number() != *number)) {
        let known: Vec<u8> = known.iter().map(Member::number).collect();
        bail!("no etcd member {unknown} in this lab, only {}", listed(&known));
    }
    let members: Vec<Member> = known.into_iter().filter(|m| member.is_none_or(|number| number == m.number())).collect();
    for member in members {
        match action {
            EtcdAction::Stop => member.stop(),
            EtcdAction::Start => member.start(),
            EtcdAction::Pause => member.pause(),
            EtcdAction::Resume => member.resume(),
            EtcdAction::Kill => member.kill(),
            EtcdAction::Replace => lab.replace_member(&member),
        }?;
    }
    Ok(())
}

fn status(subnet: Option<u8>) -> Result<()> {
    let mut out = String::new();
    let existing = Lab::existing();
    let subnets = subnet.map_or_else(|| existing.clone(), |subnet| vec![subnet]);
    if subnets.is_empty() {
        writeln!(out, "no lab")?;
    }
    for subnet in subnets {
        let Ok(lab) = Lab::attach(subnet) else {
            writeln!(out, "subnet {subnet}: {}", unreadable(subnet, &existing, Lab::is_in_use(subnet)))?;
            continue;
        };
        writeln!(out, "subnet {subnet}: {}", lab.dir().display())?;
        for member in lab.members() {
            let status = match member.status() {
                MemberStatus::Running => "running",
                MemberStatus::Paused => "paused",
                MemberStatus::Stopped => "stopped",
            };
            writeln!(out, "  etcd {}  {}  {status}", member.number(), member.endpoint())?;
        }
        for host in lab.hosts() {
            let status = match (host.is_up(), host.is_partitioned()) {
                (false, _) => "down",
                (true, Some(true)) => "up, partitioned",
                (true, _) => "up",
            };
            writeln!(
                out,
                "  {}  {}  {}  {status}  {}",
                host.name(),
                host.address(),
                host.machine_id(),
                host.metadata()
            )?;
        }
    }
    match io::stdout().write_all(out.as_bytes()) {
        // A reader like `head` has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// What is on a subnet where there is no lab that can be read.
fn unreadable(subnet: u8, existing: &[u8], is_in_use: bool) -> String {
    if !existing.contains(&subnet) {
        "no lab".into()
    } else if is_in_use {
        "another process is setting up a lab, or removing one".into()
    } else {
        format!("left-overs of a lab; `fleet-lab down --subnet {subnet}` removes them")
    }
}

fn down(subnet: Option<u8>, all: bool) -> Result<()> {
    let existing = Lab::existing();
    if all {
        let (used, unused): (Vec<u8>, Vec<u8>) = existing.into_iter().partition(|subnet| Lab::is_in_use(*subnet));
        if !used.is_empty() {
            eprintln!("left alone, as other processes use them: the labs on the subnets {}", listed(&used));
        }
        return unused.into_iter().try_for_each(Lab::remove);
    }
    match subnet {
        // Asked to remove what is not there, there is nothing left to do; but parts of it may be, without its files.
        Some(subnet) => Lab::remove(subnet),
        None if existing.is_empty() => Ok(()),
        None => Lab::remove(chosen(None, &existing)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn lab_that_is_not_there_is_told_from_one_that_is_not_whole() {
        assert_eq!(unreadable(7, &[], false), "no lab");
        assert_eq!(unreadable(7, &[6, 8], false), "no lab");
        assert!(unreadable(7, &[7], false).starts_with("left-overs of a lab; `fleet-lab down --subnet 7`"));
        assert!(unreadable(7, &[7], true).starts_with("another process is setting up a lab"));
    }

    #[test]
    fn command_is_for_the_lab_that_is_named_or_the_only_one() {
        let chosen = |subnet, existing: &[u8]| chosen(subnet, existing).map_err(|error| error.to_string());
        assert_eq!(chosen(None, &[7]), Ok(7));
        assert_eq!(chosen(Some(7), &[3, 7]), Ok(7));
        for (subnet, existing, words) in [
            (None, &[][..], "there is no lab: start one with `fleet-lab up`"),
            (Some(7), &[], "there is no lab: start one with `fleet-lab up --subnet 7`"),
            (Some(7), &[3, 5], "there is no lab on subnet 7, only on 3, 5"),
            (None, &[3, 5], "there are labs on the subnets 3, 5: choose one with --subnet"),
        ] {
            assert_eq!(chosen(subnet, existing), Err(words.to_owned()));
        }
    }

    #[test]
    fn metadata_belongs_to_a_host() {
        assert_eq!(host_metadata("h1:disk=ssd,region=east"), Ok(("h1".to_owned(), "disk=ssd,region=east".to_owned())));
        assert!(host_metadata("disk=ssd").is_err());
        assert!(host_metadata("h1:disk").is_err());
        assert!(metadata("disk").is_err() && metadata("").is_ok());
    }
}

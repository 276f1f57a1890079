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
        #[arg(long, value_name = "KEY=VALUE,...", default_value = "")]
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
    if let Some(odd) = metadata.split(',').find(|pair| !pair.contains('=')) {
        return Err(format!("`{odd}` is not of the form KEY=VALUE"));
    }
    Ok((host.to_owned(), metadata.to_owned()))
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
    let lab = || Lab::attach(chosen(args.subnet)?);
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
        bail!("no {}: build it first (`cargo build --release -p fleet-tests`)", program.display());
    }
    let error = std::process::Command::new(&program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

fn seconds(start: Instant) -> f32 {
    start.elapsed().as_secs_f32()
}

fn chosen(subnet: Option<u8>) -> Result<u8> {
    if let Some(subnet) = subnet {
        return Ok(subnet);
    }
    match Lab::existing().as_slice() {
        [] => bail!("there is no lab: start one with `fleet-lab up`"),
        [one] => Ok(*one),
        several => {
            let several: Vec<String> = several.iter().map(u8::to_string).collect();
            bail!("there are labs on the subnets {}: choose one with --subnet", several.join(", "))
        }
    }
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

    let which = match Lab::existing().as_slice() {
        [_] => String::new(),
        _ => format!(" --subnet {subnet}"),
    };
    let try_this = if options.no_fleet { "systemctl status" } else { "fleetctl list-machines" };
    println!("try:  fleet-lab{which} exec h1 {try_this}");
    println!("end:  fleet-lab{which} down");
    Ok(())
}

fn etcd(lab: &Lab, action: EtcdAction, member: Option<u8>) -> Result<()> {
    let members: Vec<Member> =
        lab.members().into_iter().filter(|m| member.is_none_or(|number| number == m.number())).collect();
    if members.is_empty() {
        bail!("this lab has only etcd member 1");
    }
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
    let subnets = subnet.map_or_else(Lab::existing, |subnet| vec![subnet]);
    if subnets.is_empty() {
        writeln!(out, "no lab")?;
    }
    for subnet in subnets {
        let Ok(lab) = Lab::attach(subnet) else {
            writeln!(out, "subnet {subnet}: left-overs of a lab; `fleet-lab down --subnet {subnet}` removes them")?;
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

fn down(subnet: Option<u8>, all: bool) -> Result<()> {
    if all {
        return Lab::existing().into_iter().try_for_each(Lab::remove);
    }
    // Asked to remove what is not there, there is nothing left to do.
    match subnet {
        None if Lab::existing().is_empty() => Ok(()),
        _ => Lab::remove(chosen(subnet)?),
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
    fn metadata_belongs_to_a_host() {
        assert_eq!(host_metadata("h1:disk=ssd,region=east"), Ok(("h1".to_owned(), "disk=ssd,region=east".to_owned())));
        assert!(host_metadata("disk=ssd").is_err());
        assert!(host_metadata("h1:disk").is_err());
    }
}

//! `fleetctl man`: manual pages, for those who make packages.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Command};
use clap_mangen::{
    Man as Page,
    roff::{Roff, bold, roman},
};
use fleet_client::os_message;

use super::Outcome;
use crate::{
    error::Failure,
    help::{self, ROOT_SECTIONS, Section},
};

/// Write the manual pages into a directory
///
/// Writes fleetctl.1, and fleetctl-COMMAND.1 for each command. The directory is made if it does not exist.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Where to
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    directory: PathBuf,
}

pub fn run(args: &ManArgs, definition: fn() -> Command) -> Outcome {
    let directory = &args.directory;
    write(directory, definition).map_err(|error| {
        Failure::new(format!("cannot write manual pages to {}: {}", directory.display(), os_message(&error)))
    })?;
    Ok(0)
}

fn write(directory: &Path, definition: fn() -> Command) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let as_defined = definition();
    let mut root = help::styled(definition()).disable_help_subcommand(true);
    root.build();
    fs::write(directory.join("fleetctl.1"), root_page(&root)?)?;
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let defined = as_defined.find_subcommand(name).expect("both are the same commands");
        fs::write(directory.join(format!("fleetctl-{name}.1")), page(command, &help::description(defined))?)?;
    }
    Ok(())
}

fn root_page(root: &Command) -> io::Result<Vec<u8>> {
    let page = titled(root.clone().subcommand_help_heading("COMMANDS"));
    let mut bytes = begin(&page, root)?;
    let description = "fleetctl talks to fleetd on one host of the cluster, any of them, and that is enough to run, \
                       watch and move units on all of them.";
    paragraphs(description).to_writer(&mut bytes)?;
    page.render_options_section(&mut bytes)?;
    page.render_subcommands_section(&mut bytes)?;
    end(root, ROOT_SECTIONS, "fleet.conf(5), fleetd(8)").to_writer(&mut bytes)?;
    Ok(bytes)
}

fn page(command: &Command, description: &str) -> io::Result<Vec<u8>> {
    let page = titled(command.clone());
    let mut bytes = begin(&page, command)?;
    paragraphs(description).to_writer(&mut bytes)?;
    page.render_options_section(&mut bytes)?;
    let sections = format!("{}\n\n{ROOT_SECTIONS}", help::text(command.get_after_help()));
    end(command, &sections, "fleetctl(1)").to_writer(&mut bytes)?;
    Ok(bytes)
}

fn titled(command: Command) -> Page {
    Page::new(command).source(concat!("fleet ", env!("CARGO_PKG_VERSION"))).manual("fleet")
}

/// Title, NAME and SYNOPSIS. A synopsis with all global options in it would say nothing.
fn begin(page: &Page, command: &Command) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    page.render_title(&mut bytes)?;
    page.render_name_section(&mut bytes)?;
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(name), roman(usage.strip_prefix(name).unwrap_or(usage))]);
    roff.to_writer(&mut bytes)?;
    Ok(bytes)
}

fn paragraphs(description: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["DESCRIPTION"]);
    for paragraph in description.split("\n\n") {
        roff.control("PP", []);
        roff.text([roman(paragraph.replace('\n', " "))]);
    }
    roff
}

/// The sections below the options.
fn end(command: &Command, sections: &str, see_also: &str) -> Roff {
    let mut roff = Roff::new();
    for Section { heading, lines } in help::sections(sections) {
        roff.control("SH", [heading.replace("EXIT CODES", "EXIT STATUS").as_str()]);
        verbatim(&mut roff, &lines);
        if heading == "ENVIRONMENT" {
            verbatim(&mut roff, &variables(command));
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(see_also)]);
    roff
}

fn verbatim(roff: &mut Roff, lines: &[String]) {
    roff.control("PP", []);
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

/// `FLEETCTL_TUNNEL  --tunnel`
fn variables(command: &Command) -> Vec<String> {
    let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let line = |arg: &clap::Arg| Some(format!("{:36}--{}", arg.get_env()?.to_str()?, arg.get_long()?));
    visible.filter_map(line).collect()
}

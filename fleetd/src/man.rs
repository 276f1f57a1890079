//! `fleetd man`: manual pages, for those who make packages.

use std::{fs, io, path::Path};

use anyhow::Context;
use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

/// What the page of fleetd itself says beyond its command line: headings, and terms with what they mean.
const SECTIONS: [(&str, &[(&str, &str)]); 2] = [
    (
        "SIGNALS",
        &[
            (
                "SIGTERM",
                "Ends fleetd. When systemd is stopping fleet.service for good, or the host is shut down, the host leaves \
                 the cluster: its units are stopped here and started elsewhere. Otherwise they stay as they are.",
            ),
            ("SIGINT", "The host leaves the cluster."),
            ("SIGHUP", "Reads the configuration again, all of it but listen and log_format. No unit is touched."),
            ("SIGUSR1", "Prints on standard output, as JSON, what fleetd knows of its host."),
        ],
    ),
    (
        "FILES",
        &[
            ("/etc/fleet/fleet.conf", "The configuration, see fleet.conf(5)."),
            ("/run/fleet.sock", "Where the API listens, for root and the group fleet (fleet.socket)."),
            (
                "/run/fleet",
                "Unit files and what fleetd has done with them, its lease, and which units may not run while it is down.",
            ),
            ("/var/lib/fleet", "What was last wanted of this host, for a boot while etcd is away."),
        ],
    ),
];

/// Writes fleetd.8, and fleetd-COMMAND.8 for each command, into a directory, which is made if it does not exist.
pub fn write(definition: Command, directory: &Path) -> anyhow::Result<()> {
    let pages = || {
        fs::create_dir_all(directory)?;
        let mut fleetd = definition.disable_help_subcommand(true);
        fleetd.build();
        for command in fleetd.get_subcommands().filter(|command| !command.is_hide_set()) {
            page(command.clone()).generate_to(directory)?;
        }
        fs::write(directory.join("fleetd.8"), fleetd_page(&fleetd)?)
    };
    pages().with_context(|| format!("cannot write manual pages to {}", directory.display()))
}

fn page(command: Command) -> Man {
    Man::new(command).section("8").source(concat!("fleet ", env!("CARGO_PKG_VERSION"))).manual("fleet")
}

fn fleetd_page(fleetd: &Command) -> io::Result<Vec<u8>> {
    let page = page(fleetd.clone().subcommand_help_heading("COMMANDS"));
    let mut bytes = Vec::new();
    page.render_title(&mut bytes)?;
    page.render_name_section(&mut bytes)?;
    page.render_synopsis_section(&mut bytes)?;
    page.render_description_section(&mut bytes)?;
    page.render_options_section(&mut bytes)?;
    page.render_subcommands_section(&mut bytes)?;
    let mut roff = Roff::new();
    for (heading, terms) in SECTIONS {
        roff.control("SH", [heading]);
        for (term, meaning) in terms {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*meaning)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("fleetctl(1), fleet.conf(5), systemd.unit(5)")]);
    roff.to_writer(&mut bytes)?;
    Ok(bytes)
}

//! The units of a simulated cluster: no two have the same contents.

use std::fmt::Write;

use anyhow::{Context, Result};
use fleet_core::unit::{UnitFile, UnitHash, UnitName};

/// A unit as it is submitted.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its name.
    pub name: UnitName,
    /// Its contents.
    pub file: UnitFile,
}

impl Unit {
    /// The unit of a number, in one of its versions. Every fifth wants a machine with an SSD.
    ///
    /// # Errors
    /// Never: what is written here is a unit.
    pub fn new(number: usize, version: usize) -> Result<Self> {
        let mut text = format!(
            "[Unit]\nDescription=Service {number} of a simulated cluster\nAfter=network-online.target\n\n\
             [Service]\nEnvironment=NUMBER={number} VERSION={version}\n\
             ExecStart=/usr/bin/program --listen=0.0.0.0:{} --name=service-{number} --verbose\nRestart=always\n",
            1024 + number % 60_000
        );
        if number.is_multiple_of(5) {
            write!(text, "\n[X-Fleet]\nMachineMetadata=disk=ssd\n")?;
        }
        let name = UnitName::new(&format!("service-{number}.service"))?;
        Ok(Self { name, file: UnitFile::parse(&text).context("a unit file")? })
    }

    /// The identity of its contents.
    pub fn hash(&self) -> UnitHash {
        self.file.hash()
    }

    /// Whether it fits on the machine of a number.
    pub fn fits(&self, ssd: bool) -> bool {
        ssd || self.file.values("X-Fleet", "MachineMetadata").is_empty()
    }
}

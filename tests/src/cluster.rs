//! A cluster of real hosts, as a user with `fleetctl` sees it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use fleet_lab::{Host, Lab, LabBuilder, eventually};

/// How long anything may take that takes milliseconds on a quiet machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A lab whose hosts have all joined.
pub struct Cluster {
    /// The lab.
    pub lab: Lab,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

/// A unit on a host, as `list-units` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The unit.
    pub unit: String,
    /// The host's name in the lab.
    pub host: String,
    /// Systemd's active state.
    pub active: String,
    /// Systemd's sub state.
    pub sub: String,
}

impl Cluster {
    /// Boots hosts and waits until they have joined.
    ///
    /// # Panics
    /// When they do not.
    #[must_use]
    pub fn new(hosts: u8) -> Self {
        Self::with(Lab::builder().hosts(hosts))
    }

    /// Boots what `builder` describes and waits until all hosts have joined.
    ///
    /// # Panics
    /// When they do not.
    #[must_use]
    pub fn with(builder: LabBuilder) -> Self {
        let lab = builder.up().expect("the lab boots");
        let cluster = Self { lab };
        cluster.joined(cluster.lab.hosts().len());
        cluster
    }

    /// Waits until the cluster has this many machines.
    ///
    /// # Panics
    /// When it has not in time.
    pub fn joined(&self, machines: usize) {
        eventually(DEADLINE, &format!("{machines} machines"), || {
            let list = self.fleetctl(&["list-machines", "--no-legend"])?;
            Ok(list.code == 0 && list.stdout.lines().count() == machines)
        })
        .expect("the hosts join");
    }

    /// A host.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        self.lab.host(name)
    }

    /// Writes unit files into `/root` of h1, where [`Cluster::fleetctl`] runs.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn write(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            self.host("h1").write(&format!("/root/{name}"), text).expect("h1 takes files");
        }
    }

    /// Runs `fleetctl` on h1.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub fn fleetctl(&self, args: &[&str]) -> Result<Run> {
        self.fleetctl_on("h1", args)
    }

    /// Runs `fleetctl` on a host, in `/root`.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub fn fleetctl_on(&self, host: &str, args: &[&str]) -> Result<Run> {
        // One that waits for ever is a failed test, not a test without end.
        let script = ["sh", "-c", "cd /root && exec timeout 120 fleetctl \"$@\"", "fleetctl"];
        let output = self.host(host).exec(&[&script[..], args].concat())?;
        Ok(Run {
            code: output.status.code().context("fleetctl was killed")?,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Runs `fleetctl` on h1 and returns what it printed.
    ///
    /// # Panics
    /// When it does not exit with 0.
    pub fn ok(&self, args: &[&str]) -> String {
        let run = self.fleetctl(args).expect("fleetctl runs");
        assert_eq!(run.code, 0, "fleetctl {args:?}: {run:?}");
        run.stdout
    }

    /// What `list-units` shows.
    ///
    /// # Errors
    /// When it fails.
    pub fn rows(&self) -> Result<Vec<Row>> {
        let run = self.fleetctl(&["list-units", "--full", "--no-legend"])?;
        anyhow::ensure!(run.code == 0, "{run:?}");
        let rows = run.stdout.lines().map(|line| {
            let mut cells = line.split('\t').filter(|cell| !cell.is_empty()).map(str::to_owned);
            let mut cell = || cells.next().with_context(|| format!("a cell is missing in {line:?}"));
            let (unit, machine, active, sub) = (cell()?, cell()?, cell()?, cell()?);
            let host = self.name_of(machine.split('/').next().unwrap_or_default());
            Ok(Row { unit, host, active, sub })
        });
        rows.collect()
    }

    /// Waits until exactly these units, each `unit` on `host`, are active, and no other.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn active(&self, expected: &[(&str, &str)]) {
        let mut expected: Vec<(String, String)> =
            expected.iter().map(|(unit, host)| ((*unit).into(), (*host).into())).collect();
        expected.sort();
        let look = || {
            let rows = self.rows()?.into_iter().filter(|row| row.active == "active");
            let mut active: Vec<_> = rows.map(|row| (row.unit, row.host)).collect();
            active.sort();
            Ok(active)
        };
        fleet_lab::eventually_eq(DEADLINE, "active units", &expected, look).expect("units are where they should be");
    }

    /// The host that a unit is scheduled to.
    #[must_use]
    pub fn host_of(&self, unit: &str) -> Option<String> {
        let target = self.ok(&["list-unit-files", "--full", "--no-legend", "--fields=unit,target"]);
        let line = target.lines().find(|line| line.split('\t').next() == Some(unit))?;
        let machine = line.split('\t').next_back()?.split('/').next()?;
        (machine != "-").then(|| self.name_of(machine))
    }

    /// The invocation IDs of a unit on all hosts that are up, by host; those without one are left out.
    ///
    /// # Panics
    /// When a host does not answer.
    #[must_use]
    pub fn invocations(&self, unit: &str) -> BTreeMap<String, String> {
        let up = self.lab.hosts().iter().filter(|host| host.is_up());
        let ids = up.map(|host| {
            let id = host.sh(&format!("systemctl show -p InvocationID --value '{unit}'")).expect("systemd answers");
            (host.name().to_owned(), id.trim().to_owned())
        });
        ids.filter(|(_, id)| !id.is_empty()).collect()
    }

    /// The lab's name of a machine.
    #[must_use]
    pub fn name_of(&self, machine: &str) -> String {
        let known = self.lab.hosts().iter().find(|host| host.machine_id() == machine);
        known.map_or_else(|| machine.to_owned(), |host| host.name().to_owned())
    }

    /// The names of all hosts.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lab.hosts().iter().map(|host| host.name().to_owned()).collect()
    }

    /// A request with curl on h1; returns the status and the body.
    ///
    /// # Panics
    /// When nothing answers.
    pub fn request(&self, args: &[&str], path: &str) -> (u16, String) {
        let url = format!("http://fleet{path}");
        let fixed = ["curl", "-s", "--unix-socket", "/run/fleet.sock", "-w", "\n%{http_code}", &url];
        let output = self.host("h1").exec(&[&fixed[..], args].concat()).expect("curl runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a status"), body.to_owned())
    }
}

//! Faults one by one, in a test: after each, every promise must have been kept.

use std::{path::Path, time::Duration};

use fleet_lab::Host;
use fleet_tests::Cluster;

use super::{
    campaign::{Campaign, Options},
    fault::{Fault, Kind},
    judge::judge,
    units,
};

/// A cluster with units of all kinds to which faults are done.
pub struct Trial(Campaign);

impl Trial {
    /// Boots it. `program` is `fleet-copy`.
    ///
    /// # Panics
    /// When it does not boot, or the units do not start.
    #[must_use]
    pub fn new(hosts: u8, members: u8, ttl: Duration, program: &str) -> Self {
        let options = Options {
            hosts,
            members,
            ttl,
            seed: 0,
            duration: Duration::ZERO,
            kinds: vec![Kind::ClockTurned],
            strict: true,
            overlapping: false,
        };
        Self(Campaign::prepare(options, Path::new(program)).expect("the cluster is ready"))
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.0.cluster()
    }

    /// A fault.
    #[must_use]
    pub fn fault(kind: Kind, hosts: &[&str], seconds: f64) -> Fault {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Fault { kind, hosts, member: 1, hold: Duration::from_secs_f64(seconds), until_moved: false }
    }

    /// Does these faults at the same time, waits until all has recovered, and holds what happened against what was
    /// promised.
    ///
    /// # Panics
    /// When a promise was broken.
    pub fn suffers(&mut self, faults: &[Fault]) {
        self.0.inflict(faults.to_vec(), Duration::from_millis(500)).expect("the lab does as it is told");
        let breaches: Vec<String> = judge(self.0.record()).iter().map(ToString::to_string).collect();
        if breaches.is_empty() {
            return;
        }
        let dir =
            std::env::temp_dir().join(format!("fleet-trial-{}-{}", std::process::id(), self.cluster().lab.subnet()));
        self.0.keep(&dir).expect("the journals are kept");
        panic!("after {faults:?}: {breaches:#?}; journals: {}", dir.display());
    }

    /// As [`suffers`](Self::suffers), and no unit may have noticed by systemd's word either; of strict ones only where
    /// they must not.
    ///
    /// # Panics
    /// When one has.
    pub fn does_not_notice(&mut self, faults: &[Fault]) {
        let hosts = self.cluster().names();
        let ttl = self.0.record().ttl;
        let harmless = faults.iter().all(|fault| fault.harms(&hosts, ttl).is_empty());
        let before = self.invocations(harmless);
        self.suffers(faults);
        assert_eq!(self.invocations(harmless), before, "after {faults:?}");
    }

    fn invocations(&self, strict: bool) -> Vec<(String, Vec<String>)> {
        let units = self.0.record().units.iter();
        let names: Vec<&str> =
            units.filter(|unit| strict || unit.kind != units::Kind::Strict).map(|unit| &*unit.name).collect();
        let script = format!("systemctl show -p Id -p InvocationID {}", names.join(" "));
        let of = |host: &Host| {
            let shown = host.sh(&script).expect("systemd answers");
            (host.name().to_owned(), shown.lines().map(str::to_owned).collect())
        };
        self.cluster().lab.hosts().iter().map(of).collect()
    }
}

//! A cluster as data: what its machines and its engine write, without either.

use std::{ops::Range, time::Duration};

use anyhow::{Context, Result, ensure};
use fleet_core::{
    model::{
        ActiveState, Desired, Features, Key, Keys, LeaseId, MachineId, MachineRecord, Placement, Record, Revision,
        StateRecord, UnitRecord, Unknown,
    },
    unit::{UnitFile, UnitName},
};
use fleetd::registry::{Etcd, Store, Transaction, Write};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{AT_ONCE, BATCH, Options, PREFIX};

/// The TTL of machines that send no keepalives.
const LONG: Duration = Duration::from_secs(3600);

/// A cluster.
pub struct Cluster {
    /// How large it is.
    pub options: Options,
    /// The machines: first those that are always there, then those that join.
    pub machines: Vec<MachineId>,
    store: Etcd,
    keys: Keys,
    units: Vec<UnitName>,
}

impl Cluster {
    /// One of which nothing is in `store` yet.
    ///
    /// # Errors
    /// Never: the names that are made here are names.
    pub fn new(options: &Options, store: Etcd) -> Result<Self> {
        // Spread like real IDs, which share no prefix.
        let id = |number: usize| format!("{:08x}{number:024x}", (number as u32).wrapping_mul(2_654_435_761));
        let machines = (0..options.machines).map(|number| Ok(MachineId::new(&id(number))?));
        let units = (0..options.globals).map(|number| Ok(UnitName::new(&format!("global-{number}.service"))?));
        Ok(Self {
            options: options.clone(),
            machines: machines.collect::<Result<_>>()?,
            store,
            keys: Keys::new(PREFIX),
            units: units.collect::<Result<_>>()?,
        })
    }

    /// The machines that are always there, and those that join.
    pub fn parts(&self) -> (&[MachineId], &[MachineId]) {
        self.machines.split_at(self.options.machines - self.options.joining)
    }

    /// The range of a machine's entries.
    pub fn range(&self, machine: &MachineId) -> (String, String) {
        self.keys.under(&format!("sched/{machine}/"))
    }

    /// Etcd's revision.
    ///
    /// # Errors
    /// Etcd does not answer.
    pub async fn revision(&self) -> Result<Revision> {
        Ok(self.store.list(&self.keys.under("none/"), None, 1).await?.revision)
    }

    /// Machines are members, without leases.
    ///
    /// # Errors
    /// Etcd does not do it.
    pub async fn boot(&self, machines: &[MachineId]) -> Result<()> {
        self.write(machines.iter().map(|machine| self.member(machine, None)).collect()).await
    }

    /// A unit is wanted, with contents of this version.
    ///
    /// # Errors
    /// Etcd does not do it.
    pub async fn submit(&self, unit: usize, version: u64) -> Result<()> {
        let file = Self::file(unit, version)?;
        let record = UnitRecord::new(file.hash(), Desired::Launched, 0);
        self.write(vec![
            Write::put(self.keys.format(&Key::File(file.hash())), file.canonical().into_bytes()),
            Write::put(self.keys.format(&Key::Global(self.units[unit].clone())), record.encode()),
        ])
        .await
    }

    /// Machines are to run units with contents of this version. Returns how many entries that makes.
    ///
    /// # Errors
    /// Etcd does not do it.
    pub async fn place(&self, machines: &[MachineId], units: Range<usize>, version: u64) -> Result<usize> {
        let mut values = Vec::new();
        for unit in units {
            let wanted = UnitRecord::new(Self::file(unit, version)?.hash(), Desired::Launched, 0);
            let placement = Placement::of(&wanted).context("a launched unit is placed")?.everywhere();
            values.push((&self.units[unit], placement.encode()));
        }
        let entry = |machine: &MachineId, (unit, value): &(&UnitName, Vec<u8>)| {
            Write::put(self.keys.format(&Key::Sched(machine.clone(), (*unit).clone())), value.clone())
        };
        let all = machines.iter().flat_map(|machine| values.iter().map(move |value| entry(machine, value)));
        self.write(all.collect()).await?;
        Ok(machines.len() * values.len())
    }

    /// Machines become members all at once, each with a lease of its own.
    ///
    /// # Errors
    /// Etcd does not do it.
    pub async fn join(&self, machines: &[MachineId]) -> Result<Vec<LeaseId>> {
        let joining = stream::iter(machines).map(async |machine| {
            let lease = self.store.grant(LONG).await?;
            self.commit(vec![self.member(machine, Some(lease))]).await?;
            anyhow::Ok(lease)
        });
        joining.buffered(AT_ONCE).try_collect().await
    }

    /// Machines report all units, on their leases if they have some.
    ///
    /// # Errors
    /// Etcd does not do it.
    pub async fn report(&self, machines: &[MachineId], leases: Option<&[LeaseId]>) -> Result<()> {
        let mut all = Vec::new();
        for (number, machine) in machines.iter().enumerate() {
            all.extend(self.states(machine, leases.map(|leases| leases[number]))?);
        }
        self.write(all).await
    }

    /// Leases end all at once, and with them what hangs on them.
    ///
    /// # Errors
    /// Etcd does not do it.
    pub async fn vanish(&self, leases: &[LeaseId]) -> Result<()> {
        let ending = stream::iter(leases).map(async |lease| self.store.revoke(*lease).await);
        Ok(ending.buffer_unordered(AT_ONCE).try_for_each(async |()| Ok(())).await?)
    }

    /// Machines are members once more, report what they run, and read their entries, as agents do when they have been
    /// away. Returns how many transactions that took.
    ///
    /// # Errors
    /// Etcd does not do it, or entries are missing.
    pub async fn come_back(&self, machines: &[MachineId]) -> Result<u64> {
        let coming = stream::iter(machines).map(async |machine| {
            let lease = self.store.grant(LONG).await?;
            self.commit(vec![self.member(machine, Some(lease))]).await?;
            let states = self.states(machine, Some(lease))?;
            let reports = states.chunks(BATCH);
            let own = 1 + reports.len() as u64;
            for report in reports {
                self.commit(report.to_vec()).await?;
            }
            let page = self.store.list(&self.range(machine), None, self.units.len() + 1).await?;
            ensure!(page.entries.len() == self.units.len(), "{machine} has {} entries", page.entries.len());
            Ok(own)
        });
        coming.buffer_unordered(AT_ONCE).try_fold(0, async |sum, own| Ok(sum + own)).await
    }

    /// Deletes all keys of a kind.
    ///
    /// # Errors
    /// Etcd does not do it.
    pub async fn forget(&self, kind: &str) -> Result<()> {
        self.commit(vec![Write::DeleteRange { range: self.keys.under(kind) }]).await
    }

    /// Writes in transactions, one after the other as the engine does.
    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        for batch in writes.chunks(BATCH) {
            self.commit(batch.to_vec()).await?;
        }
        Ok(())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<()> {
        self.store.commit(Transaction { guards: Vec::new(), writes }).await?.context("nothing guards it")?;
        Ok(())
    }

    fn file(unit: usize, version: u64) -> Result<UnitFile> {
        let text = format!("[Service]\nExecStart=/bin/sleep {unit}{version:03}\n[X-Fleet]\nGlobal=true\n");
        Ok(UnitFile::parse(&text)?)
    }

    fn member(&self, machine: &MachineId, lease: Option<LeaseId>) -> Write {
        let number = self.machines.iter().position(|known| known == machine).unwrap_or_default();
        let metadata = [("disk", "ssd".to_owned()), ("rack", format!("r{}", number / 20))];
        let record = MachineRecord {
            address: format!("10.{}.{}.{}", number / 65_536, number / 256 % 256, number % 256),
            hostname: format!("m{number}"),
            metadata: metadata.map(|(name, value)| (name.to_owned(), value)).into(),
            version: env!("CARGO_PKG_VERSION").into(),
            boot_id: format!("00000000-0000-4000-8000-{number:012x}"),
            cpus: 8,
            memory: 32 << 30,
            leaving: false,
            features: Features::of_this_daemon(),
            unknown: Unknown::default(),
        };
        Write::Put { key: self.keys.format(&Key::Machine(machine.clone())), value: record.encode(), lease }
    }

    /// What a machine reports of all units.
    fn states(&self, machine: &MachineId, lease: Option<LeaseId>) -> Result<Vec<Write>> {
        let state = |(number, unit): (usize, &UnitName)| {
            let record = StateRecord {
                hash: Self::file(number, 1)?.hash(),
                load: "loaded".into(),
                active: ActiveState::Active,
                sub: "running".into(),
                current: Desired::Launched,
                generation: 0,
                request: None,
                acted: true,
                finished: false,
                skipped: false,
                job: false,
                since: 1_795_251_043,
                problem: None,
                notice: None,
                released: None,
                start: None,
                unknown: Unknown::default(),
            };
            let key = self.keys.format(&Key::State(machine.clone(), unit.clone()));
            Ok(Write::Put { key, value: record.encode(), lease })
        };
        self.units.iter().enumerate().map(state).collect()
    }
}

//! How each fault is done to a lab, and how it is undone.

use anyhow::Result;
use fleet_lab::{Direction, Host, Lab, MemberStatus, Volume};

use super::{Fault, Kind};

const THAW: &str = "systemctl kill -s CONT --kill-whom=main fleet";
const RIGHT_CLOCK: &str = "rm -f /run/fleet-lab-clock";
/// Does not wait: fleetd is not ready without etcd.
const START: &str = "systemctl start --no-block fleet.socket fleet";

impl Fault {
    /// Does it.
    ///
    /// # Errors
    /// When that is not possible. What was done is undone by [`restore`].
    pub fn strike(&self, lab: &Lab) -> Result<()> {
        let member = || lab.etcd(self.member);
        let each = |act: &(dyn Fn(&Host) -> Result<()> + Sync)| self.each(lab, act);
        let sh = |script: &'static str| each(&move |host| host.sh(script).map(drop));
        match self.kind {
            Kind::MemberKilled => member().kill(),
            Kind::MemberFrozen => member().pause(),
            Kind::MemberReplaced => lab.replace_member(&member()),
            Kind::LeaderMoved => lab.move_store_leader(&member()),
            Kind::StoreKilled => lab.members().iter().try_for_each(fleet_lab::Member::kill),
            Kind::StoreFrozen => lab.members().iter().try_for_each(fleet_lab::Member::pause),
            Kind::QuorumLost => {
                let majority = lab.members().len() / 2 + 1;
                lab.members().iter().take(majority).try_for_each(fleet_lab::Member::kill)
            }
            Kind::Cut | Kind::ManyCut => each(&Host::partition),
            Kind::Compacted => {
                each(&Host::partition)?;
                lab.compact().map(drop)
            }
            Kind::CutInbound => each(&|host| host.cut(Direction::Inbound)),
            Kind::CutOutbound => each(&|host| host.cut(Direction::Outbound)),
            Kind::Lossy => each(&|host| host.lose(15)),
            Kind::Thin => each(&|host| host.throttle(256)),
            Kind::PowerLost | Kind::ManyPowerLost => each(&Host::kill),
            Kind::PowerLostWithoutStore => {
                lab.members().iter().try_for_each(fleet_lab::Member::kill)?;
                each(&Host::kill)?;
                each(&Host::boot)
            }
            Kind::Rebooted => each(&Host::reboot),
            Kind::DaemonKilled | Kind::DaemonsKilled => sh("systemctl kill -s KILL --kill-whom=main fleet"),
            Kind::DaemonRestarted | Kind::DaemonsRestarted => sh("systemctl restart fleet"),
            Kind::DaemonFrozen => sh("systemctl kill -s STOP --kill-whom=main fleet"),
            Kind::HostLeft => sh("systemctl stop fleet"),
            Kind::SystemdReplaced => sh("systemctl daemon-reexec"),
            Kind::BusRestarted => sh("systemctl restart dbus"),
            Kind::RootFull => each(&|host| host.fill(Volume::Root)),
            Kind::RunFull => each(&|host| host.fill(Volume::Run)),
            // By hours, back or forth.
            Kind::ClockTurned => {
                each(&|host| host.turn_clock(if self.member.is_multiple_of(2) { 7200 } else { -7200 }))
            }
        }
    }

    /// Undoes it, and nothing that another fault did.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn mend(&self, lab: &Lab) -> Result<()> {
        if self.kind.is_of_store() {
            restore_store(lab)?;
        }
        self.each(lab, &|host| match self.kind {
            Kind::Cut | Kind::ManyCut | Kind::Compacted => host.heal(),
            Kind::CutInbound | Kind::CutOutbound | Kind::Lossy | Kind::Thin => host.clear_traffic(),
            Kind::PowerLost | Kind::ManyPowerLost | Kind::PowerLostWithoutStore if !host.is_up() => host.boot(),
            Kind::DaemonFrozen => host.sh(THAW).map(drop),
            Kind::HostLeft => host.sh(START).map(drop),
            Kind::RootFull => host.empty(Volume::Root),
            Kind::RunFull => host.empty(Volume::Run),
            Kind::ClockTurned => host.sh(RIGHT_CLOCK).map(drop),
            _ => Ok(()),
        })
    }

    /// Does something to each of its hosts at once.
    fn each(&self, lab: &Lab, act: &(dyn Fn(&Host) -> Result<()> + Sync)) -> Result<()> {
        let hosts: Vec<Host> = self.hosts.iter().map(|name| lab.host(name)).collect();
        std::thread::scope(|scope| {
            let acts: Vec<_> = hosts.iter().map(|host| scope.spawn(move || act(host))).collect();
            acts.into_iter().try_for_each(|act| act.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}

/// Brings everything up that is down and undoes all that any fault did.
///
/// # Errors
/// When that is not possible.
pub fn restore(lab: &Lab) -> Result<()> {
    restore_store(lab)?;
    lab.hosts().iter().try_for_each(restore_host)
}

fn restore_store(lab: &Lab) -> Result<()> {
    for member in lab.members() {
        match member.status() {
            MemberStatus::Running => {}
            MemberStatus::Paused => member.resume()?,
            MemberStatus::Stopped => member.start()?,
        }
    }
    Ok(())
}

fn restore_host(host: &Host) -> Result<()> {
    if !host.is_up() {
        return host.boot();
    }
    if host.is_partitioned() == Some(true) {
        host.heal()?;
    }
    host.clear_traffic()?;
    host.empty(Volume::Root)?;
    host.empty(Volume::Run)?;
    host.sh(&format!("{THAW} 2>/dev/null; {RIGHT_CLOCK}; {START}")).map(drop)
}

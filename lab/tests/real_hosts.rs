//! The lab itself, on real hosts. Needs root and the packages that `fleet-lab up` asks for:
//! `cargo test -p fleet-lab --test real_hosts -- --ignored`.

use std::time::Duration;

use anyhow::Result;
use fleet_lab::{Direction, IMAGE, Lab, LabBuilder, MemberStatus, OUTSIDE, Volume, eventually, eventually_eq};

const SOON: Duration = Duration::from_secs(10);

fn lab() -> LabBuilder {
    Lab::builder().fleet(false)
}

fn reaches(lab: &Lab, from: &str, to: &str) -> Result<bool> {
    let address = lab.host(to).address().to_string();
    let ping = ["busybox", "ping", "-c1", "-W1", address.as_str()];
    Ok(lab.host(from).exec(&ping)?.status.success())
}

#[test]
#[ignore = "needs root"]
fn host_comes_back_from_power_loss_with_its_disk_and_its_identity() -> Result<()> {
    let lab = lab().hosts(2).up()?;
    let host = lab.host("h1");
    let (pid, id) = (host.pid1()?, host.sh("cat /etc/machine-id")?);
    host.write("/var/lib/kept/file", "kept")?;
    host.write("/run/lost", "lost")?;

    host.kill()?;
    assert!(!host.is_up());
    assert!(host.sh("true").is_err());
    host.write("/etc/while-down", "written")?;
    host.boot()?;

    assert_ne!(host.pid1()?, pid);
    assert_eq!(host.sh("cat /etc/machine-id")?, id);
    assert_eq!(id.trim(), host.machine_id());
    assert_eq!(host.sh("cat /var/lib/kept/file /etc/while-down")?, "keptwritten");
    assert!(host.sh("cat /run/lost").is_err());
    assert!(reaches(&lab, "h2", "h1")?);

    host.reboot()?;
    assert!(reaches(&lab, "h2", "h1")?);
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn units_of_one_host_are_not_those_of_another() -> Result<()> {
    let lab = lab().hosts(2).up()?;
    for host in lab.hosts() {
        host.sh("systemd-run --unit=same --remain-after-exit sleep 1000")?;
    }
    lab.host("h1").sh("systemctl stop same.service")?;
    eventually(SOON, "h1 has no process of the unit", || Ok(lab.host("h1").sh("pgrep -x sleep").is_err()))?;
    assert_eq!(lab.host("h2").sh("systemctl is-active same")?, "active\n");
    assert!(lab.host("h2").sh("journalctl -u same")?.contains("same"));
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn partition_cuts_off_until_it_heals() -> Result<()> {
    let mut lab = lab().up()?;
    lab.add_host("disk=ssd")?;
    let host = lab.host("h2");
    assert!(reaches(&lab, "h1", "h2")?);
    host.partition()?;
    assert_eq!(host.is_partitioned(), Some(true));
    assert!(!reaches(&lab, "h1", "h2")?);
    host.heal()?;
    eventually(SOON, "h2 is reached again", || reaches(&lab, "h1", "h2"))
}

#[test]
#[ignore = "needs root"]
fn store_survives_the_loss_of_a_member_and_keeps_its_data() -> Result<()> {
    let lab = lab().etcd(3).up()?;
    lab.etcdctl(&["put", "key", "value"])?;
    lab.etcd(1).kill()?;
    lab.etcd(2).pause()?;
    assert_eq!(lab.etcd(1).status(), MemberStatus::Stopped);
    assert_eq!(lab.etcd(2).status(), MemberStatus::Paused);
    lab.etcd(2).resume()?;
    lab.etcd(1).start()?;
    eventually_eq(SOON, "the value is there", &"key\nvalue\n".to_owned(), || lab.etcdctl(&["get", "key"]))
}

#[test]
#[ignore = "needs root"]
fn published_port_of_a_container_is_reached_from_another_host() -> Result<()> {
    let lab = lab().hosts(2).docker(true).up()?;
    lab.host("h1").sh(&format!("docker run -d --rm --name web -p 8080:80 {IMAGE} httpd -f -p 80 -h /www"))?;
    let url = format!("http://{}:8080/", lab.host("h1").address());
    eventually_eq(SOON, "the page", &"hello from fleet/busybox\n".to_owned(), || {
        lab.host("h2").sh(&format!("busybox wget -qO- {url}"))
    })
}

#[test]
#[ignore = "needs root"]
fn dropped_lab_leaves_nothing() -> Result<()> {
    let lab = lab().up()?;
    let (dir, pid) = (lab.dir().to_owned(), lab.host("h1").pid1()?);
    drop(lab);
    assert!(!dir.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}/root/etc")).exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!mounts.contains(&format!("{}/", dir.display())));
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn one_direction_can_be_cut_and_packets_lost() -> Result<()> {
    let lab = lab().hosts(2).up()?;
    let (host, caller) = (lab.host("h2"), lab.host("h1"));
    // Who hears the question for its address notes who asked.
    let hears = || -> Result<bool> {
        host.sh("ip neighbour flush all")?;
        caller.sh("ip neighbour flush all")?;
        assert!(!reaches(&lab, "h1", "h2")?);
        Ok(host.sh("ip neighbour show")?.contains(&format!("{} ", caller.address())))
    };
    host.cut(Direction::Outbound)?;
    assert!(hears()?, "mute, not deaf");
    host.cut(Direction::Inbound)?;
    assert!(!hears()?, "deaf");
    host.lose(20)?;
    // The few questions for its address may be lost all: then nothing arrives, and it is asked again.
    eventually(SOON, "some packets are lost, and not all", || {
        let pings = host.exec(&["busybox", "ping", "-c60", "-i0.05", "-W1", &caller.address().to_string()])?;
        let told = String::from_utf8_lossy(&pings.stdout).into_owned();
        Ok(told.contains("% packet loss") && !told.contains(" 0% packet") && !told.contains("100% packet"))
    })?;
    host.throttle(64)?;
    host.heal()?;
    eventually(SOON, "h2 is reached again", || reaches(&lab, "h1", "h2"))
}

#[test]
#[ignore = "needs root"]
fn full_disk_takes_nothing_until_it_is_emptied() -> Result<()> {
    let lab = lab().up()?;
    let host = lab.host("h1");
    for (volume, file) in [(Volume::Root, "/var/lib/file"), (Volume::Run, "/run/file")] {
        host.sh(&format!("head -c 100000 /dev/zero > {file}"))?;
        host.fill(volume)?;
        let refused = host.sh(&format!("head -c 100000 /dev/zero > {file}.more")).err().map(|e| e.to_string());
        assert!(refused.is_some_and(|error| error.contains("No space left on device")));
        assert_eq!(host.sh(&format!("wc -c < {file}"))?, "100000\n", "what is there stays");
        host.empty(volume)?;
        host.sh(&format!("head -c 100000 /dev/zero > {file}.more"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn members_that_lost_their_disks_are_replaced_one_by_one_and_the_data_stays() -> Result<()> {
    let lab = lab().etcd(3).up()?;
    lab.etcdctl(&["put", "key", "value"])?;
    for member in lab.members() {
        lab.replace_member(&member)?;
        assert_eq!(lab.etcdctl(&["get", "key"])?, "key\nvalue\n");
    }
    let leader = lab.store_leader()?.map(|member| member.number());
    let other = lab.members().into_iter().find(|member| Some(member.number()) != leader);
    let other = other.ok_or_else(|| anyhow::anyhow!("three members"))?;
    lab.move_store_leader(&other)?;
    assert_eq!(lab.store_leader()?.map(|member| member.number()), Some(other.number()));
    let revision = lab.compact()?;
    let past = lab.etcdctl(&["get", "key", "--rev", &(revision - 1).to_string()]);
    assert!(past.is_err_and(|error| error.to_string().contains("compacted")));
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn what_a_host_writes_outside_is_there_though_the_host_is_not() -> Result<()> {
    let lab = lab().up()?;
    let host = lab.host("h1");
    host.partition()?;
    host.sh(&format!("echo here > {OUTSIDE}/file"))?;
    host.kill()?;
    assert_eq!(std::fs::read_to_string(lab.outside().join("file"))?, "here\n");
    Ok(())
}

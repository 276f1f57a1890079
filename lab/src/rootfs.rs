//! The root file system of a host: the machine's own, under an overlay that makes it another host.
//!
//! The upper directory is on a tmpfs of its own: no trace of the machine's disk speed in the
//! measurements, a disk that a test can fill without harm, and it works where `/` is itself an
//! overlay (which cannot carry an upper directory). It outlives the host's power losses, not the lab.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{XattrFlags, setxattr};

use crate::network::Network;
use crate::state::{Dirs, HostDirs, HostState, State};
use crate::tool::run;
use crate::{clock, docker};

/// Size of a host's disk; memory is used only for what is written.
pub(crate) const DISK: &str = "2g";

/// Where hosts find what [`Lab::install`](crate::Lab::install) put into them.
pub const SHARE: &str = "/usr/lib/fleet-lab";

/// Where hosts find [`Lab::outside`](crate::Lab::outside).
pub const OUTSIDE: &str = "/var/lib/outside";

/// Directories in which nothing of the machine's shines through, with their mode. `/etc/systemd/system`
/// is the important one: none of the machine's enabled services starts in a host, whatever they are.
const EMPTY: &[(&str, u32)] = &[
    ("etc/systemd/system", 0o755),
    ("etc/fleet", 0o755),
    ("etc/docker", 0o755),
    ("root", 0o700),
    ("home", 0o755),
    ("var/log", 0o755),
    ("var/log/journal", 0o2755),
    ("var/lib/cloud", 0o755),
    ("var/lib/docker", 0o710),
    ("var/lib/containerd", 0o711),
    ("var/lib/etcd", 0o755),
    ("var/lib/fleet", 0o755),
    ("var/lib/fleet-lab", 0o755),
    ("var/lib/systemd", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

/// Units that the distribution wants in every boot and a host does not: consoles nobody sits at,
/// modules it may not load, mounts of the machine's kernel.
const MASKED: &[&str] = &[
    "getty.target",
    "getty-static.service",
    "console-getty.service",
    "container-getty@.service",
    "getty@.service",
    "serial-getty@.service",
    "modprobe@.service",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "dev-hugepages.mount",
    "var-lib-machines.mount",
    "systemd-tmpfiles-clean.timer",
];

/// Written where the repository has no unit of its own.
const STAND_IN_UNIT: &str = "\
[Unit]
Description=fleet daemon
After=dbus.service network.target

[Service]
ExecStart=/usr/bin/fleetd
Restart=always

[Install]
WantedBy=multi-user.target
";

/// The hosts come and go under the same few addresses.
const SSH_CONFIG: &str = "\
Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
";

/// Makes disk and overlay and fills them.
pub(crate) fn create(lab: &Dirs, network: Network, state: &State, host: &HostState) -> Result<()> {
    let dirs = lab.host(&host.name);
    mount(&dirs)?;
    let root = dirs.root();
    fill(&root, network, state, host)
        .and_then(|()| if state.ssh { ssh(&root, lab) } else { Ok(()) })
        .with_context(|| format!("cannot prepare the root file system of {}", host.name))
}

fn mount(dirs: &HostDirs) -> Result<()> {
    fs::create_dir_all(dirs.disk())?;
    fs::create_dir_all(dirs.root())?;
    let disk = dirs.disk();
    let options = format!("size={DISK},mode=0755");
    run(
        "mount",
        &["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), options.as_ref(), "fleet-lab".as_ref(), disk.as_os_str()],
    )?;
    fs::create_dir(dirs.upper())?;
    fs::create_dir(dirs.work())?;
    fs::set_permissions(dirs.upper(), fs::Permissions::from_mode(0o755))?;
    for (name, mode) in EMPTY {
        make_opaque(&dirs.upper(), name, *mode)?;
    }
    let options = overlay_options(dirs);
    run(
        "mount",
        &[
            "-t".as_ref(),
            "overlay".as_ref(),
            "-o".as_ref(),
            options.as_ref(),
            "fleet-lab".as_ref(),
            dirs.root().as_os_str(),
        ],
    )?;
    Ok(())
}

/// The upper directory is named absolutely: hosts are recognised by it (see `process.rs`).
fn overlay_options(dirs: &HostDirs) -> String {
    format!("lowerdir=/,upperdir={},workdir={}", dirs.upper().display(), dirs.work().display())
}

/// A directory that hides the one below it. Its parents copy the machine's modes.
fn make_opaque(upper: &Path, name: &str, mode: u32) -> Result<()> {
    let mut made = upper.to_owned();
    let mut below = PathBuf::from("/");
    for part in Path::new(name) {
        made.push(part);
        below.push(part);
        if !made.exists() {
            fs::create_dir(&made)?;
            let mode = fs::metadata(&below).map_or(0o755, |meta| meta.mode() & 0o7777);
            fs::set_permissions(&made, fs::Permissions::from_mode(mode))?;
        }
    }
    fs::set_permissions(&made, fs::Permissions::from_mode(mode))?;
    setxattr(&made, "trusted.overlay.opaque", b"y", XattrFlags::empty())
        .with_context(|| format!("cannot hide the machine's /{name}"))
}

fn fill(root: &Path, network: Network, state: &State, host: &HostState) -> Result<()> {
    let put = |path: &str, text: &str| put(root, path, text, 0o644);

    put("etc/machine-id", &format!("{}\n", host.machine_id))?;
    put("etc/hostname", &format!("{}\n", host.name))?;
    put("etc/hosts", &hosts_file(network))?;
    // Without a name server names outside the lab fail at once instead of after a timeout.
    put("etc/resolv.conf", "# the lab has no name server\n")?;
    put("etc/fstab", "# the root is the lab's, the rest is systemd's\n")?;
    put("etc/crypttab", "")?;
    // Where the machine has cloud-init, it would look for a cloud in every boot.
    put("etc/cloud/cloud-init.disabled", "")?;
    put("etc/group", &with_fleet_group(&read(root, "etc/group")?))?;

    let units = "etc/systemd/system";
    for unit in MASKED {
        link(root, &format!("{units}/{unit}"), "/dev/null")?;
    }
    // Init scripts of the machine's packages would become services.
    let generator = "etc/systemd/system-generators/systemd-sysv-generator";
    link(root, generator, "/dev/null")?;

    put(&format!("{units}/fleet-lab-network.service"), &network_unit(network, host.number))?;
    let mut enabled = vec!["fleet-lab-network.service"];

    if state.docker {
        put("etc/docker/daemon.json", &docker::daemon_json(&network.registry()))?;
        for (name, text) in docker::UNITS {
            put(&format!("{units}/{name}"), text)?;
            enabled.push(name);
        }
        enabled.extend(["containerd.service", "docker.socket", "docker.service"]);
    }
    if state.ssh {
        enabled.push("ssh.service");
    }
    if state.fleet {
        enabled.extend(fleet(root, network, state, host)?);
    }

    let root = format!("--root={}", root.display());
    let args: Vec<&str> = [root.as_str(), "--quiet", "enable"].into_iter().chain(enabled).collect();
    run("systemctl", &args).map(drop)
}

/// Every host has the lab's one key and lets it in: root gets from any host to any other.
fn ssh(root: &Path, lab: &Dirs) -> Result<()> {
    put(root, "root/.ssh/config", SSH_CONFIG, 0o600)?;
    let key = read(&lab.ssh(), "key")?;
    put(root, "root/.ssh/id_ed25519", &key, 0o600)?;
    let public = read(&lab.ssh(), "key.pub")?;
    put(root, "root/.ssh/authorized_keys", &public, 0o600)
}

/// The programs of fleet.
pub(crate) const PROGRAMS: [&str; 2] = ["fleetd", "fleetctl"];

/// fleet's own files; returns the units to enable.
fn fleet(root: &Path, network: Network, state: &State, host: &HostState) -> Result<Vec<&'static str>> {
    let programs = if host.own_programs { format!("{SHARE}/{}", host.name) } else { SHARE.to_owned() };
    for name in PROGRAMS {
        link(root, &format!("usr/bin/{name}"), &format!("{programs}/{name}"))?;
    }
    put(root, "etc/fleet/fleet.conf", &fleet_conf(network, state, host), 0o644)?;
    let mut units = Vec::new();
    for name in ["fleet.service", "fleet-fence.service", "fleet.socket"] {
        let text = match fs::read_to_string(state.repo.join("cloud-init").join(name)) {
            Ok(text) => text,
            Err(_) if name == "fleet.service" => STAND_IN_UNIT.to_owned(),
            Err(_) => continue,
        };
        put(root, &format!("etc/systemd/system/{name}"), &text, 0o644)?;
        // The fence is started by what it stands in for.
        if name != "fleet-fence.service" {
            units.push(name);
        }
    }
    if let Some(library) = &state.clock {
        put(root, "etc/systemd/system/fleet.service.d/clock.conf", &clock::drop_in(library), 0o644)?;
    }
    Ok(units)
}

fn fleet_conf(network: Network, state: &State, host: &HostState) -> String {
    let endpoints: Vec<String> = (1..=state.etcd)
        .map(|member| format!("\"http://{}\"", SocketAddr::from((network.member(member), 2379))))
        .collect();
    let mut text = format!("etcd_servers=[{}]\npublic_ip=\"{}\"\n", endpoints.join(","), network.host(host.number));
    if !host.metadata.is_empty() {
        text += &format!("metadata=\"{}\"\n", host.metadata);
    }
    for line in &state.config {
        text += line;
        text.push('\n');
    }
    text
}

/// The address is set inside, not from the machine: it is there before the first service starts,
/// and again after `systemctl reboot` in the host, when nspawn makes a new link.
fn network_unit(network: Network, number: u8) -> String {
    let address = network.host(number);
    let (in_range, certain) = (network.in_range(address), if network.ipv6 { " nodad" } else { "" });
    format!(
        "\
[Unit]
Description=Address {address} of this lab host
DefaultDependencies=no
Before=sysinit.target network-pre.target network.target network-online.target
Wants=network-pre.target network.target network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip address replace {in_range} dev host0{certain}
ExecStart=ip link set host0 up

[Install]
WantedBy=sysinit.target
"
    )
}

fn hosts_file(network: Network) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n".to_owned();
    for number in 1..=crate::MAX_HOSTS {
        text += &format!("{} h{number}\n", network.host(number));
    }
    text
}

fn with_fleet_group(groups: &str) -> String {
    if groups.lines().any(|line| line.starts_with("fleet:")) {
        return groups.to_owned();
    }
    let taken = |id: u32| groups.lines().any(|l| l.split(':').nth(2) == Some(&id.to_string()));
    let id = (900..1000).find(|id| !taken(*id)).unwrap_or(899);
    format!("{}\nfleet:x:{id}:\n", groups.trim_end())
}

fn read(root: &Path, path: &str) -> Result<String> {
    let path = root.join(path);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a new file in the overlay.
pub(crate) fn put(root: &Path, path: &str, text: &str, mode: u32) -> Result<()> {
    let place = fresh(root, path)?;
    fs::write(&place, text)
        .and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot write {}", place.display()))
}

fn link(root: &Path, path: &str, target: &str) -> Result<()> {
    let place = fresh(root, path)?;
    symlink(target, &place).with_context(|| format!("cannot write {}", place.display()))
}

/// A place in the overlay with nothing there. An absolute link in the machine's file system, like
/// `/etc/resolv.conf`, would lead out of the overlay to the machine's own file: one at the place
/// itself is removed, one on the way to it is refused.
fn fresh(root: &Path, path: &str) -> Result<PathBuf> {
    let place = root.join(path);
    let parent = place.parent().unwrap_or(root);
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    if fs::canonicalize(parent)? != parent {
        bail!("a link leads out of the host: {}", parent.display());
    }
    match fs::remove_file(&place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", place.display()))
        }
        _ => Ok(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleet_conf_names_every_member_and_the_hosts_own_address() {
        let state = State { etcd: 3, config: vec!["agent_ttl=\"2s\"".to_owned()], ..State::default() };
        let host = HostState { number: 2, metadata: "disk=ssd,region=east".to_owned(), ..HostState::default() };
        assert_eq!(
            fleet_conf(Network { subnet: 4, ipv6: false }, &state, &host),
            "etcd_servers=[\"http://10.82.4.1:2379\",\"http://10.82.4.2:2379\",\"http://10.82.4.3:2379\"]\n\
             public_ip=\"10.82.4.12\"\n\
             metadata=\"disk=ssd,region=east\"\n\
             agent_ttl=\"2s\"\n"
        );
    }

    #[test]
    fn group_is_added_once_with_a_free_id() {
        let groups = "root:x:0:\nother:x:900:\n";
        let with = with_fleet_group(groups);
        assert_eq!(with, "root:x:0:\nother:x:900:\nfleet:x:901:\n");
        assert_eq!(with_fleet_group(&with), with);
    }

    #[test]
    fn links_of_the_machine_do_not_lead_a_write_out_of_the_host() -> Result<()> {
        let base = std::env::temp_dir().join(format!("fleet-lab-rootfs-{}", std::process::id()));
        let (root, outside) = (base.join("root"), base.join("outside"));
        fs::create_dir_all(root.join("etc"))?;
        fs::create_dir_all(&outside)?;
        fs::write(outside.join("file"), "the machine's")?;
        symlink(outside.join("file"), root.join("etc/resolv.conf"))?;
        symlink(&outside, root.join("run"))?;

        let replaced = put(&root, "etc/resolv.conf", "the host's", 0o644);
        let refused = put(&root, "run/file", "the host's", 0o644);
        let untouched = fs::read_to_string(outside.join("file"))?;
        let written = fs::read_to_string(root.join("etc/resolv.conf"))?;
        fs::remove_dir_all(&base)?;

        replaced?;
        assert!(refused.is_err());
        assert_eq!(untouched, "the machine's");
        assert_eq!(written, "the host's");
        Ok(())
    }
}

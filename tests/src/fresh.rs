//! Hosts without fleet, and a server from which they get it on their first boot.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result, ensure};
use fleet_lab::{Lab, LabBuilder, SHARE, built};

const PROGRAMS: [&str; 2] = ["fleetd", "fleetctl"];
const UNITS: [&str; 3] = ["fleet.service", "fleet-fence.service", "fleet.socket"];

/// The repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in the repository")
}

/// Boots hosts that have no fleet. What [`tarball`] and [`starter`] bring them runs what was built last.
///
/// # Errors
/// The lab does not boot, or nothing was built.
pub fn hosts(builder: LabBuilder) -> Result<Lab> {
    let lab = builder.fleet(false).up()?;
    for program in PROGRAMS {
        lab.install(program, &built(program)?)?;
    }
    for host in lab.hosts() {
        // The lab's own, which a fresh host has not.
        host.sh("groupdel fleet && rmdir /etc/fleet")?;
    }
    Ok(lab)
}

/// A program that is what was built last, in a few bytes.
#[must_use]
pub fn starter(program: &str) -> Vec<u8> {
    format!("#!/bin/sh\nexec {SHARE}/{program} \"$@\"\n").into_bytes()
}

/// A unit of fleetd's own, for binaries below a prefix.
///
/// # Errors
/// It cannot be read.
pub fn unit(name: &str, prefix: &str) -> Result<String> {
    let path = repository().join("cloud-init").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.replace("/usr/bin/fleetd", &format!("{prefix}/bin/fleetd")))
}

/// The tarball that hosts are given, with links to what was built last in place of the static binaries.
///
/// # Errors
/// It cannot be made.
pub fn tarball() -> Result<Vec<u8>> {
    let root = tempfile::tempdir()?;
    let local = root.path().join("usr/local");
    fs::create_dir_all(local.join("bin"))?;
    fs::create_dir_all(local.join("lib/systemd/system"))?;
    for program in PROGRAMS {
        symlink(Path::new(SHARE).join(program), local.join("bin").join(program))?;
    }
    for name in UNITS {
        fs::write(local.join("lib/systemd/system").join(name), unit(name, "/usr/local")?)?;
    }
    let tar = Command::new("tar")
        .args(["--owner=root:0", "--group=root:0", "-czf", "-", "-C"])
        .arg(root.path())
        .arg("usr")
        .output()
        .context("cannot run tar")?;
    ensure!(tar.status.success(), "tar failed: {}", String::from_utf8_lossy(&tar.stderr));
    Ok(tar.stdout)
}

/// The SHA-256 of a file.
///
/// # Errors
/// There is no `sha256sum`.
pub fn sha256(bytes: &[u8]) -> Result<String> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    let sum = Command::new("sha256sum").arg(file.path()).output().context("cannot run sha256sum")?;
    let text = String::from_utf8(sum.stdout)?;
    Ok(text.split(' ').next().context("sha256sum says nothing")?.to_owned())
}

/// Serves files over HTTP to the hosts of a lab, until it is dropped.
pub struct Downloads {
    address: SocketAddr,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Downloads {
    /// Serves `files` on the lab's bridge.
    ///
    /// # Errors
    /// No port can be had there.
    pub fn serve(lab: &Lab, files: BTreeMap<&'static str, Vec<u8>>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::new(10, 82, lab.subnet(), 1), 0))?;
        let address = listener.local_addr()?;
        let ending = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ending);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                // One that goes away in the middle is the host's affair.
                let _ = stream.and_then(|stream| answer(stream, &files));
            }
        });
        Ok(Self { address, ending, thread: Some(thread) })
    }

    /// Where that is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // Wakes the thread.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, files: &BTreeMap<&'static str, Vec<u8>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The headers say nothing of interest, but have to be read before the answer.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let (status, body) = match files.get(path) {
        Some(body) => ("200 OK", &body[..]),
        None => ("404 Not Found", &b""[..]),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(body)
}

//! `fleetd dev`, as an ordinary user and as root, on a host that has no fleet otherwise.

use std::process::Stdio;

use anyhow::Result;
use fleet_lab::{Host, Lab, built, eventually};
use fleet_tests::{DEADLINE, docs::typed, fresh::repository};

const USER: &str = "ada";
const PAIR: &str = "[Service]\nExecStart=/bin/sleep 1000%i\n[X-Fleet]\nMachineMetadata=disk=ssd\nOnPartition=stop\n";

/// A person at a host with `fleetd` and `fleetctl`, in a home with this repository's units.
struct Person {
    lab: Lab,
    user: &'static str,
}

impl Person {
    fn new(user: &'static str) -> Self {
        let lab = Lab::builder().fleet(false).up().unwrap();
        for program in ["fleetd", "fleetctl"] {
            lab.install(program, &built(program).unwrap()).unwrap();
            lab.host("h1").sh(&format!("ln -s {}/{program} /usr/local/bin/", fleet_lab::SHARE)).unwrap();
        }
        let person = Self { lab, user };
        if user != "root" {
            person.host().sh(&format!("useradd --create-home --shell /bin/bash {user}")).unwrap();
            person.host().sh(&format!("loginctl enable-linger {user}")).unwrap();
        }
        let home = person.sh("pwd").trim().to_owned();
        for unit in ["hello.service", "node-info.service"] {
            let text = std::fs::read_to_string(repository().join("units").join(unit)).unwrap();
            person.host().write(&format!("{home}/units/{unit}"), &text).unwrap();
        }
        person.host().write(&format!("{home}/pair@.service"), PAIR).unwrap();
        person.host().write(&format!("{home}/dev.conf"), "metadata = \"disk=ssd\"\n").unwrap();
        person
    }

    fn host(&self) -> Host {
        self.lab.host("h1")
    }

    /// Runs a line in a login shell, and returns its code and all that it said.
    fn run(&self, line: &str) -> Result<(i32, String)> {
        let output = self.host().exec(&["runuser", "-l", self.user, "-c", &format!("{{ {line}; }} 2>&1")])?;
        Ok((output.status.code().unwrap_or(-1), String::from_utf8(output.stdout)?))
    }

    /// As `run`, of a line that succeeds.
    fn sh(&self, line: &str) -> String {
        let (code, said) = self.run(line).unwrap();
        assert_eq!(code, 0, "{line}: {said}");
        said
    }

    /// Starts `fleetd dev` in a terminal of its own, and waits until it serves.
    fn dev(&self) {
        let dev = match self.user {
            "root" => "exec fleetd --config dev.conf dev",
            _ => "FLEET_METADATA=disk=ssd exec fleetd dev",
        };
        let line = format!("{dev} >said 2>log </dev/null");
        let mut command = self.host().command(&["runuser", "-l", self.user, "-c", &line]).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Reaps it, however it ends.
        std::thread::spawn(move || child.wait());
        eventually(DEADLINE, "fleetd dev serves", || {
            let (code, said) = self.run("fleetctl list-machines --no-legend")?;
            Ok(code == 0 && said.contains("disk=ssd"))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {}", self.sh("cat said log")));
    }

    /// Ends `fleetd dev` as Ctrl-C (`INT`) or power would, and returns what it has said.
    fn end_dev(&self, signal: &str) -> String {
        let pid = self.process();
        self.host().sh(&format!("kill -{signal} {pid}")).unwrap();
        eventually(DEADLINE, "fleetd dev ends", || Ok(self.host().sh(&format!("test ! -e /proc/{pid}")).is_ok()))
            .unwrap();
        self.sh("cat said")
    }

    fn process(&self) -> String {
        let runtime = if self.user == "root" { "/run/fleet-dev" } else { "$XDG_RUNTIME_DIR/fleet" };
        self.sh(&format!("cat {runtime}/dev.lock")).trim().to_owned()
    }

    fn systemctl(&self) -> &'static str {
        if self.user == "root" { "systemctl" } else { "systemctl --user" }
    }

    /// Which start of a unit runs, and that it does.
    fn invocation(&self, unit: &str) -> String {
        let systemctl = self.systemctl();
        self.sh(&format!("{systemctl} is-active --quiet {unit} && {systemctl} show -p InvocationID --value {unit}"))
    }

    /// The processes of etcd for this user.
    fn etcds(&self) -> String {
        // The lab's own is outside of the host.
        self.host().sh("grep -lx etcd /proc/[0-9]*/comm | cut -d/ -f3").unwrap()
    }
}

#[test]
fn laptop_keeps_its_units_and_what_was_wanted_from_run_to_run() {
    let person = Person::new(USER);
    let (code, said) = person.run("PATH=/usr/local/bin fleetd dev").unwrap();
    assert_eq!(code, 1);
    assert!(said.starts_with("error: etcd is not installed"), "{said}");
    assert!(said.contains("\nhint: ") && said.contains("apt-get install etcd-server"), "{said}");
    let (code, said) = person.run("env -u XDG_RUNTIME_DIR fleetd dev").unwrap();
    assert_eq!(code, 1);
    assert!(said.contains("XDG_RUNTIME_DIR is not set\nhint: log in"), "{said}");

    person.dev();
    // No port at all: whoever reaches etcd or the API can have units started.
    let listening = person.host().sh("ss -Hltnp").unwrap();
    assert!(!listening.contains("etcd") && !listening.contains("fleetd"), "{listening}");
    assert_eq!(
        person.host().sh(&format!("stat -c %A /run/user/$(id -u {USER})/fleet/fleet.sock")).unwrap(),
        "srw-------\n"
    );

    // What the document says to type beside it.
    let commands = typed("joining.md", "On a laptop");
    for command in commands.strip_prefix("fleetd dev\n").unwrap().lines() {
        person.sh(command);
    }
    assert!(person.sh("fleetctl list-units --no-legend").is_empty(), "the document ends with nothing left");

    person.sh("fleetctl start units/hello.service units/node-info.service pair@1 pair@2");
    let invocations = |units: &[&str]| units.iter().map(|unit| person.invocation(unit)).collect::<Vec<_>>();
    let all = ["hello", "node-info", "pair@1", "pair@2"];
    let before = invocations(&all);
    assert!(person.sh("fleetctl status hello").contains("Active: active (running)"));
    eventually(DEADLINE, "its journal", || Ok(person.sh("fleetctl journal hello").contains("Hello from h1"))).unwrap();

    let (code, said) = person.run("fleetd dev").unwrap();
    assert_eq!(code, 1);
    let known = format!("error: fleetd dev runs already, as process {}, ", person.process());
    assert!(said.starts_with(&known) && said.contains("\nhint: fleetctl finds this by itself"), "{said}");

    let endpoint = "FLEETCTL_ENDPOINT=unix://$XDG_RUNTIME_DIR/fleet/fleet.sock";
    assert!(person.sh(&format!("{endpoint} fleetctl status hello")).contains("Active: active (running)"));
    // The host's own comes first, where there is one.
    person.host().sh("touch /run/fleet.sock").unwrap();
    let said = person.run("fleetd dev").unwrap().1;
    assert!(said.contains("\nhint: To reach this: export FLEETCTL_ENDPOINT=unix:///run/user/"), "{said}");
    person.host().sh("rm /run/fleet.sock").unwrap();

    let said = person.end_dev("INT");
    assert!(said.contains("Still running: hello.service node-info.service pair@1.service pair@2.service\n"), "{said}");
    assert_eq!(person.etcds(), "", "etcd ends with it");
    // Longer ago than the lease that proves that no other host runs what may run once: here is no other.
    person.sh("echo 1 >$XDG_RUNTIME_DIR/fleet/proof");
    let (code, said) = person.run("fleetctl list-units").unwrap();
    assert!(code != 0 && said.contains("cannot connect to unix:///var/run/fleet.sock"), "{said}");

    person.dev();
    let units = person.sh("fleetctl list-units --no-legend --fields=unit,active");
    assert_eq!(units.matches("active\n").count(), 4, "{units}");
    assert_eq!(invocations(&all), before, "taken up, not started again");

    // Killed, it leaves its etcd behind, which holds the data.
    person.end_dev("KILL");
    assert_eq!(person.etcds().lines().count(), 1);
    person.dev();
    assert_eq!(person.etcds().lines().count(), 1);
    assert_eq!(invocations(&all), before);

    // Its etcd dies: it gets another one.
    person.host().sh(&format!("kill -KILL {}", person.etcds())).unwrap();
    eventually(DEADLINE, "fleet writes again", || Ok(person.run("fleetctl stop pair@2")?.0 == 0)).unwrap();
    assert_eq!(person.run("systemctl --user is-active pair@2").unwrap().1, "inactive\n");
    assert_eq!(invocations(&all[..3]), before[..3]);

    let (code, said) = person.run("fleetd dev --stop-units").unwrap();
    assert_eq!((code, said.contains("runs already")), (1, true), "{said}");
    person.end_dev("INT");
    person.sh("fleetd dev --stop-units");
    assert_eq!(person.run("systemctl --user is-active hello pair@1").unwrap().1, "inactive\ninactive\n");

    // What is wanted has stayed, also over a boot.
    person.host().reboot().unwrap();
    person.dev();
    eventually(DEADLINE, "they run again", || {
        Ok(person.run("systemctl --user is-active hello pair@1 pair@2")?.1 == "active\nactive\ninactive\n")
    })
    .unwrap();
    person.end_dev("TERM");
    assert_eq!(person.etcds(), "");
}

#[test]
fn root_runs_units_in_the_systemd_of_the_machine() {
    let person = Person::new("root");
    person.dev();
    person.sh("fleetctl start units/hello.service");
    let before = person.invocation("hello");
    assert!(person.end_dev("INT").contains("Still running: hello.service\n"));
    person.dev();
    assert_eq!(person.invocation("hello"), before);
    person.end_dev("HUP");
    person.sh("fleetd dev --stop-units");
    assert_eq!(person.run("systemctl is-active hello").unwrap().1, "inactive\n");
}

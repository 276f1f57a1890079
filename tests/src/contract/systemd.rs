//! What fleet rests on in a [`Systemd`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use fleet_core::{
    host::{Active, Runtime},
    unit::UnitName,
};
use fleetd::{
    filesystem::Filesystem,
    systemd::{Systemd, SystemdError, Verb},
};
use tokio::time::{Instant, sleep};

/// Where the script puts its unit files.
const DIRECTORY: &str = "/run/contract/units";
/// Where targets lie.
const RUNTIME: &str = "/run/systemd/system";
/// Longer than any of the units takes for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than a signal takes, and shorter than what the units do slowly.
const SOON: Duration = Duration::from_millis(400);

const FOREVER: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
const LASTING: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
const FAILING: &str = "[Service]\nExecStart=/bin/false\n";
const NAMES: [&str; 25] = [
    "unknown.service",
    "plain.service",
    "changed.service",
    "failing.service",
    "missing.service",
    "empty.service",
    "once.service",
    "once-failing.service",
    "once-slow.service",
    "slow-start.service",
    "slow-stop.service",
    "again.service",
    "limit.service",
    "ends.service",
    "one.service",
    "two.service",
    "installed.service",
    "gone.service",
    "inst@1.service",
    "tick.timer",
    "tick.service",
    "posted.service",
    "conditional.service",
    "asserting.service",
    "needy.service",
];

struct Script<'a, D, F> {
    systemd: &'a D,
    files: &'a F,
    seen: Vec<String>,
    /// How jobs ended since they were last asked for.
    results: BTreeMap<UnitName, Vec<String>>,
}

/// Runs the script on a host that is up and returns what it saw.
pub async fn observe<D: Systemd, F: Filesystem>(systemd: &D, files: &F) -> Vec<String> {
    systemd.dirty().watch(NAMES.iter().map(|name| unit(name)).collect::<BTreeSet<_>>());
    let mut script = Script { systemd, files, seen: Vec::new(), results: BTreeMap::new() };
    script.unknown().await;
    script.ordinary().await;
    script.files_that_change().await;
    script.failures().await;
    script.oneshots().await;
    script.slow_ones().await;
    script.restarts().await;
    script.targets().await;
    script.batches_of_jobs().await;
    script.install_sections().await;
    script.batches_of_files().await;
    script.other_types().await;
    script.units_that_are_kept_down().await;
    script.seen
}

fn unit(name: &str) -> UnitName {
    UnitName::new(name).expect("a name")
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| path(name)).collect()
}

fn units(names: &[&str]) -> Vec<UnitName> {
    names.iter().map(|name| unit(name)).collect()
}

fn word<T: std::fmt::Debug>(result: &Result<T, SystemdError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) if error.is_no_such_unit() => "no such unit".into(),
        Err(SystemdError::Unavailable(_)) => "unavailable".into(),
        Err(_) => "refused".into(),
    }
}

fn state(runtime: &Runtime) -> String {
    let job = runtime.job.map(|job| format!(" job {job}")).unwrap_or_default();
    format!("{} {} {}{job}", runtime.load, runtime.active, runtime.sub)
}

fn is_settled(runtime: &Runtime) -> bool {
    runtime.job.is_none() && !matches!(runtime.active, Active::Activating | Active::Deactivating)
}

impl<D: Systemd, F: Filesystem> Script<'_, D, F> {
    fn saw(&mut self, what: &str, result: impl Into<String>) {
        self.seen.push(format!("{what}: {}", result.into()));
    }

    fn write(&self, name: &str, text: &str) {
        self.files.replace(&path(name), text.as_bytes()).expect("the host takes files");
    }

    /// Writes a unit file and makes it known.
    async fn put(&mut self, name: &str, text: &str) {
        self.write(name, text);
        let linked = self.systemd.link(&paths(&[name])).await;
        self.saw(&format!("link {name}"), word(&linked));
    }

    async fn now(&self, name: &str) -> Runtime {
        let mut listed = self.systemd.list(&units(&[name])).await.expect("systemd answers");
        listed.remove(&unit(name)).unwrap_or_default()
    }

    async fn look(&mut self, what: &str, name: &str) {
        let runtime = self.now(name).await;
        self.saw(&format!("{name} {what}"), state(&runtime));
    }

    async fn queue(&mut self, verb: Verb, name: &str) {
        let queued = self.systemd.queue(verb, name).await.map(drop);
        self.saw(&format!("{} {name}", verb.as_str()), word(&queued));
    }

    /// Notes how jobs ended.
    fn hear(&mut self) {
        for (unit, ended) in self.systemd.dirty().take() {
            self.results.entry(unit).or_default().extend(ended.map(|ended| ended.result));
        }
    }

    /// Waits until a unit has come to rest, and for its signals.
    async fn settle(&mut self, what: &str, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        sleep(SOON).await;
        let mut runtime = self.now(name).await;
        while !is_settled(&runtime) && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
            runtime = self.now(name).await;
        }
        sleep(SOON / 4).await;
        self.hear();
        let results = self.results.remove(&unit(name)).unwrap_or_default();
        let last = results.last().map_or("no job", String::as_str);
        self.saw(&format!("{name} {what}"), format!("{}, {last}", state(&runtime)));
    }

    async fn run(&mut self, verb: Verb, name: &str) {
        self.queue(verb, name).await;
        self.settle(&format!("after {}", verb.as_str()), name).await;
    }

    async fn needs_reload(&mut self, name: &str) {
        let needs = self.systemd.needs_reload(&unit(name)).await;
        self.saw(&format!("{name} needs a reload"), word(&needs));
    }

    async fn reset(&mut self, name: &str) {
        let reset = self.systemd.reset_failed(&unit(name)).await;
        self.saw(&format!("reset {name}"), word(&reset));
    }

    async fn disable(&mut self, names: &[&str]) {
        let disabled = self.systemd.disable(&units(names)).await;
        self.saw(&format!("disable {names:?}"), word(&disabled));
    }

    async fn reload(&mut self) {
        let reloaded = self.systemd.reload().await;
        self.saw("reload", word(&reloaded));
    }

    async fn unknown(&mut self) {
        self.look("that is nowhere", "unknown.service").await;
        for verb in [Verb::Start, Verb::Stop, Verb::Restart] {
            self.queue(verb, "unknown.service").await;
        }
        self.reset("unknown.service").await;
        self.needs_reload("unknown.service").await;
        self.hear();
        self.look("that is nowhere", "unknown.service").await;
        sleep(SOON).await;
        let marked = self.systemd.dirty().take().contains_key(&unit("unknown.service"));
        self.saw("looking at it marks it", marked.to_string());
        self.disable(&["unknown.service"]).await;
        let linked = self.systemd.link(&paths(&["unknown.service"])).await;
        self.saw("link a file that is not there", word(&linked));
        let enabled = self.systemd.enable(&paths(&["unknown.service"])).await;
        self.saw("enable one", word(&enabled));
    }

    async fn ordinary(&mut self) {
        self.put("plain.service", FOREVER).await;
        self.look("once linked", "plain.service").await;
        self.needs_reload("plain.service").await;
        self.hear();
        self.look("again", "plain.service").await;
        sleep(SOON).await;
        let marked = self.systemd.dirty().take().contains_key(&unit("plain.service"));
        self.saw("looking at an idle unit marks it", marked.to_string());
        self.run(Verb::Start, "plain.service").await;
        self.run(Verb::Start, "plain.service").await;
        self.hear();
        self.look("again", "plain.service").await;
        sleep(SOON).await;
        let marked = self.systemd.dirty().take().contains_key(&unit("plain.service"));
        self.saw("looking at an active unit marks it", marked.to_string());
        self.run(Verb::Restart, "plain.service").await;
        self.run(Verb::Stop, "plain.service").await;
        self.run(Verb::Stop, "plain.service").await;
        self.run(Verb::Restart, "plain.service").await;
        self.run(Verb::Stop, "plain.service").await;
        self.disable(&["plain.service"]).await;
        self.look("once disabled", "plain.service").await;
        self.disable(&["plain.service"]).await;
    }

    async fn files_that_change(&mut self) {
        self.put("changed.service", FOREVER).await;
        self.run(Verb::Start, "changed.service").await;
        self.needs_reload("changed.service").await;
        self.write("changed.service", LASTING);
        self.needs_reload("changed.service").await;
        self.run(Verb::Restart, "changed.service").await;
        self.run(Verb::Stop, "changed.service").await;
        self.needs_reload("changed.service").await;
        self.run(Verb::Start, "changed.service").await;
        self.write("changed.service", FOREVER);
        self.needs_reload("changed.service").await;
        self.reload().await;
        self.needs_reload("changed.service").await;
        self.settle("after a reload", "changed.service").await;
        self.run(Verb::Restart, "changed.service").await;
        // Away while it runs.
        self.disable(&["changed.service"]).await;
        self.look("disabled while it runs", "changed.service").await;
        self.needs_reload("changed.service").await;
        self.files.remove(&path("changed.service")).expect("the host lets go of files");
        self.run(Verb::Stop, "changed.service").await;
        self.queue(Verb::Start, "changed.service").await;
        self.put("gone.service", FOREVER).await;
        self.run(Verb::Start, "gone.service").await;
        self.disable(&["gone.service"]).await;
        self.reload().await;
        self.look("removed and reloaded while it runs", "gone.service").await;
        self.run(Verb::Stop, "gone.service").await;
    }

    async fn failures(&mut self) {
        self.put("failing.service", FAILING).await;
        self.run(Verb::Start, "failing.service").await;
        self.run(Verb::Stop, "failing.service").await;
        self.write("failing.service", FOREVER);
        self.needs_reload("failing.service").await;
        self.run(Verb::Start, "failing.service").await;
        self.reset("failing.service").await;
        self.look("once reset", "failing.service").await;
        self.run(Verb::Start, "failing.service").await;
        self.run(Verb::Stop, "failing.service").await;
        self.reset("failing.service").await;
        self.put("missing.service", "[Service]\nExecStart=/nonexistent/program\n").await;
        self.run(Verb::Start, "missing.service").await;
        self.disable(&["missing.service"]).await;
        self.look("failed and disabled", "missing.service").await;
        self.reset("missing.service").await;
        self.look("failed, disabled and reset", "missing.service").await;
        self.put("empty.service", "[Unit]\nDescription=nothing to run\n").await;
        self.look("has no command", "empty.service").await;
        self.queue(Verb::Start, "empty.service").await;
        self.queue(Verb::Stop, "empty.service").await;
        self.disable(&["empty.service"]).await;
        self.put("ends.service", "[Service]\nExecStart=/bin/true\n").await;
        self.run(Verb::Start, "ends.service").await;
    }

    async fn oneshots(&mut self) {
        self.put("once.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n").await;
        self.run(Verb::Start, "once.service").await;
        self.put("once-failing.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n").await;
        self.run(Verb::Start, "once-failing.service").await;
        self.put("once-slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 2\nExecStart=-/bin/false\n").await;
        self.queue(Verb::Start, "once-slow.service").await;
        sleep(SOON).await;
        self.look("meanwhile", "once-slow.service").await;
        self.settle("after start", "once-slow.service").await;
        self.queue(Verb::Start, "once-slow.service").await;
        sleep(SOON).await;
        self.run(Verb::Stop, "once-slow.service").await;
    }

    async fn slow_ones(&mut self) {
        self.put("slow-start.service", &format!("{FOREVER}ExecStartPre=/bin/sleep 2\n")).await;
        self.queue(Verb::Start, "slow-start.service").await;
        sleep(SOON).await;
        self.look("meanwhile", "slow-start.service").await;
        self.settle("after start", "slow-start.service").await;
        self.run(Verb::Stop, "slow-start.service").await;
        self.queue(Verb::Start, "slow-start.service").await;
        sleep(SOON).await;
        self.run(Verb::Stop, "slow-start.service").await;
        self.put("slow-stop.service", &format!("{FOREVER}ExecStop=/bin/sleep 2\n")).await;
        self.run(Verb::Start, "slow-stop.service").await;
        self.queue(Verb::Stop, "slow-stop.service").await;
        sleep(SOON).await;
        self.look("meanwhile", "slow-stop.service").await;
        self.settle("after stop", "slow-stop.service").await;
        self.run(Verb::Start, "slow-stop.service").await;
        self.queue(Verb::Stop, "slow-stop.service").await;
        sleep(SOON).await;
        self.queue(Verb::Start, "slow-stop.service").await;
        sleep(SOON).await;
        self.hear();
        let results = self.results.remove(&unit("slow-stop.service")).unwrap_or_default();
        self.saw("a stop that is overtaken", format!("{results:?}"));
        self.look("stopping, to be started", "slow-stop.service").await;
        self.settle("after both", "slow-stop.service").await;
        self.run(Verb::Restart, "slow-stop.service").await;
        // The time for stopping is bounded.
        self.write("slow-stop.service", &format!("{FOREVER}ExecStop=/bin/sleep 60\nTimeoutStopSec=1\n"));
        self.reload().await;
        self.run(Verb::Stop, "slow-stop.service").await;
        self.reset("slow-stop.service").await;
        self.put("posted.service", &format!("{FOREVER}ExecStopPost=/bin/sleep 2\n")).await;
        self.run(Verb::Start, "posted.service").await;
        self.queue(Verb::Stop, "posted.service").await;
        sleep(SOON).await;
        self.look("meanwhile", "posted.service").await;
        self.settle("after stop", "posted.service").await;
    }

    async fn units_that_are_kept_down(&mut self) {
        for (name, check) in [("conditional.service", "Condition"), ("asserting.service", "Assert")] {
            self.put(name, &format!("[Unit]\n{check}PathExists=/nonexistent/a\n{FOREVER}")).await;
            let held = self.systemd.hold(&unit(name)).await;
            self.saw(&format!("hold {name}"), word(&held));
            self.run(Verb::Start, name).await;
            let unmet = self.systemd.unmet(&unit(name)).await;
            self.saw(&format!("{name} is kept down by"), word(&unmet));
            let released = self.systemd.release(&unit(name)).await;
            self.saw(&format!("release {name}"), word(&released));
        }
        self.put("needy.service", &format!("[Unit]\nRequires=unknown.service\n{FOREVER}")).await;
        self.run(Verb::Start, "needy.service").await;
        self.write("needy.service", &format!("[Unit]\nRequires=conditional.service plain.service\n{FOREVER}"));
        self.reload().await;
        self.put("plain.service", FOREVER).await;
        self.run(Verb::Start, "needy.service").await;
        self.look("needed by another", "plain.service").await;
        self.run(Verb::Stop, "needy.service").await;
    }

    async fn restarts(&mut self) {
        self.put("again.service", "[Service]\nExecStart=/bin/sleep 1\nRestart=always\nRestartSec=2\n").await;
        self.run(Verb::Start, "again.service").await;
        sleep(Duration::from_millis(1500)).await;
        self.look("between two runs", "again.service").await;
        sleep(Duration::from_millis(1500)).await;
        self.look("in its second run", "again.service").await;
        self.run(Verb::Stop, "again.service").await;
        sleep(Duration::from_secs(3)).await;
        self.look("stays down", "again.service").await;
        self.run(Verb::Start, "again.service").await;
        sleep(Duration::from_millis(1500)).await;
        self.run(Verb::Stop, "again.service").await;
        self.put("limit.service", "[Service]\nExecStart=/bin/false\nRestart=on-failure\n").await;
        self.queue(Verb::Start, "limit.service").await;
        sleep(Duration::from_secs(4)).await;
        self.settle("restarted too often", "limit.service").await;
        self.run(Verb::Start, "limit.service").await;
        self.reset("limit.service").await;
    }

    async fn targets(&mut self) {
        self.put("one.service", FOREVER).await;
        self.put("two.service", LASTING).await;
        self.run(Verb::Start, "two.service").await;
        let target = Path::new(RUNTIME).join("contract.target");
        let wants = ["one", "two", "empty", "unknown"].map(|name| format!("Wants={name}.service\n")).concat();
        let text = format!("[Unit]\nDefaultDependencies=no\n{wants}");
        self.files.replace(&target, text.as_bytes()).expect("the host takes files");
        self.queue(Verb::Start, "contract.target").await;
        self.settle("wanted", "one.service").await;
        self.settle("wanted while active", "two.service").await;
        self.look("wanted without a command", "empty.service").await;
        // A target that wants a unit keeps its old definition.
        self.run(Verb::Stop, "one.service").await;
        self.write("one.service", LASTING);
        self.needs_reload("one.service").await;
        self.run(Verb::Start, "one.service").await;
        self.files.remove(&target).expect("the host lets go of files");
        self.queue(Verb::Stop, "contract.target").await;
        self.settle("its target is gone", "one.service").await;
        self.run(Verb::Stop, "one.service").await;
        self.needs_reload("one.service").await;
        self.run(Verb::Start, "one.service").await;
        self.run(Verb::Stop, "one.service").await;
        self.run(Verb::Stop, "two.service").await;
    }

    /// Units that are taken together: the target goes as soon as its job is queued, those of its units go on.
    async fn batches_of_jobs(&mut self) {
        let target = Path::new(RUNTIME).join("batch.target");
        self.put("third.service", FOREVER).await;
        self.put("fourth.service", &format!("{FOREVER}ExecStop=/bin/sleep 1\n")).await;
        for relation in ["Wants", "Conflicts", "Conflicts", "Wants", "Conflicts"] {
            let names = ["third", "fourth", "unknown"].map(|name| format!("{relation}={name}.service\n")).concat();
            let text = format!("[Unit]\nDefaultDependencies=no\n{names}");
            self.files.replace(&target, text.as_bytes()).expect("the host takes files");
            self.queue(Verb::Start, "batch.target").await;
            self.files.remove(&target).expect("the host lets go of files");
            self.queue(Verb::Stop, "batch.target").await;
            self.settle(relation, "third.service").await;
            self.settle(relation, "fourth.service").await;
            self.loaded(&["third.service", "fourth.service", "batch.target", "unknown.service"]).await;
        }
        self.write("third.service", LASTING);
        self.needs_reload("third.service").await;
        self.disable(&["third.service", "fourth.service"]).await;
    }

    async fn loaded(&mut self, names: &[&str]) {
        let loaded = self.systemd.loaded(&units(names)).await.expect("systemd answers");
        let loaded: Vec<String> = loaded.iter().map(|(unit, runtime)| format!("{unit} {}", state(runtime))).collect();
        self.saw("loaded", format!("{loaded:?}"));
    }

    async fn install_sections(&mut self) {
        self.write("installed.service", &format!("{FOREVER}[Install]\nWantedBy=multi-user.target\n"));
        let enabled = self.systemd.enable(&paths(&["installed.service"])).await;
        self.saw("enable", word(&enabled));
        self.look("enabled", "installed.service").await;
        self.run(Verb::Start, "installed.service").await;
        self.run(Verb::Stop, "installed.service").await;
        self.write("installed.service", &format!("{LASTING}[Install]\nWantedBy=multi-user.target\n"));
        self.needs_reload("installed.service").await;
        self.reload().await;
        // Now that its target knows of it, it stays loaded.
        self.write("installed.service", &format!("{FOREVER}[Install]\nWantedBy=multi-user.target\n"));
        self.needs_reload("installed.service").await;
        self.run(Verb::Start, "installed.service").await;
        self.run(Verb::Stop, "installed.service").await;
        self.disable(&["installed.service"]).await;
        self.files.remove(&path("installed.service")).expect("the host lets go of files");
        self.look("disabled and removed", "installed.service").await;
        self.reload().await;
        self.look("after a reload", "installed.service").await;
    }

    async fn batches_of_files(&mut self) {
        self.disable(&["one.service", "two.service"]).await;
        self.look("disabled", "one.service").await;
        self.write("one.service", FOREVER);
        let linked = self.systemd.link(&paths(&["one.service", "unknown.service", "two.service"])).await;
        self.saw("link with one that is missing", word(&linked));
        self.look("before it", "one.service").await;
        self.look("behind it", "two.service").await;
        let linked = self.systemd.link(&paths(&["one.service", "two.service"])).await;
        self.saw("link both", word(&linked));
        self.disable(&["one.service", "unknown.service", "two.service"]).await;
        self.look("before it", "one.service").await;
        self.look("behind it", "two.service").await;
        self.put("inst@1.service", FOREVER).await;
        self.run(Verb::Start, "inst@1.service").await;
        self.run(Verb::Stop, "inst@1.service").await;
        self.disable(&["inst@1.service"]).await;
        self.look("disabled", "inst@1.service").await;
    }

    async fn other_types(&mut self) {
        self.put("tick.service", FOREVER).await;
        self.put("tick.timer", "[Timer]\nOnActiveSec=1h\n").await;
        self.run(Verb::Start, "tick.timer").await;
        self.look("not yet", "tick.service").await;
        self.run(Verb::Stop, "tick.timer").await;
        self.disable(&["tick.timer", "tick.service"]).await;
    }
}

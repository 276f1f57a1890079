//! What bites units that run containers with docker.
//!
//! The container is a child of dockerd, not of the unit: systemd sees the docker client only. Nearly all of the rules
//! here follow from that.

mod line;

use self::line::{Docker, Run};
use super::{
    Finding, Rule,
    exec::{self, Command},
};
use crate::unit::{UnitFile, UnitName, UnitOption, expand_specifiers, parse_span};

/// What systemd allows a start when the unit does not say (`DefaultTimeoutStartSec=`).
const START: std::time::Duration = std::time::Duration::from_secs(90);

/// Limits of a unit, and what docker calls them.
const LIMITS: [(&str, &str); 17] = [
    ("MemoryMax", "--memory"),
    ("MemoryLimit", "--memory"),
    ("MemoryHigh", "--memory"),
    ("MemoryLow", "--memory-reservation"),
    ("MemoryMin", "--memory-reservation"),
    ("MemorySwapMax", "--memory-swap"),
    ("CPUQuota", "--cpus"),
    ("CPUWeight", "--cpu-shares"),
    ("CPUShares", "--cpu-shares"),
    ("AllowedCPUs", "--cpuset-cpus"),
    ("CPUAffinity", "--cpuset-cpus"),
    ("TasksMax", "--pids-limit"),
    ("IOWeight", "--blkio-weight"),
    ("BlockIOWeight", "--blkio-weight"),
    ("LimitNOFILE", "--ulimit"),
    ("OOMScoreAdjust", "--oom-score-adj"),
    ("Slice", "--cgroup-parent"),
];

/// Other ways to give a container what an option gives.
const ALSO: [(&str, &[&str]); 2] = [("--memory", &["-m"]), ("--cpus", &["--cpu-quota", "--cpu-period"])];

/// Looks at a service that runs docker, if it does.
pub(super) fn check(file: &UnitFile, name: &UnitName, findings: &mut Vec<Finding>) {
    let service = Service::read(file, name);
    service.client_stays(findings);
    service.container_is_found_again(findings);
    service.clean_ups_may_fail(findings);
    service.container_is_stopped(findings);
    service.pull_has_time(findings);
    service.limits_bind(findings);
    service.docker_is_up(findings);
}

/// A service, as far as docker is concerned.
struct Service<'f> {
    file: &'f UnitFile,
    unit: &'f UnitName,
    before: Vec<(Command, Docker)>,
    main: Vec<(Command, Docker)>,
    stop: Vec<(Command, Docker)>,
    kind: String,
}

impl<'f> Service<'f> {
    fn read(file: &'f UnitFile, unit: &'f UnitName) -> Self {
        let of = |options: &[&'static str]| {
            let commands = options.iter().flat_map(|option| exec::commands(file, option));
            commands.filter_map(|command| Docker::read(&command.words).map(|docker| (command, docker))).collect()
        };
        Self {
            file,
            unit,
            before: of(&["ExecStartPre"]),
            main: of(&["ExecStart"]),
            stop: of(&["ExecStop", "ExecStopPost"]),
            kind: last(file, "Type").map_or_else(|| "simple".into(), |option| option.value),
        }
    }

    /// The containers that are meant to be the service.
    fn runs(&self) -> impl Iterator<Item = (&Command, &Run)> {
        self.main.iter().filter_map(|(command, docker)| match docker {
            Docker::Run(run) => Some((command, run)),
            _ => None,
        })
    }

    /// Whether commands of `ExecStart=` are to end by themselves.
    fn is_oneshot(&self) -> bool {
        self.kind == "oneshot"
    }

    fn client_stays(&self, findings: &mut Vec<Finding>) {
        for (command, docker) in &self.main {
            let (what, mend) = match docker {
                Docker::Run(run) if run.has("--detach") => {
                    ("docker run --detach", "take -d (--detach) out of docker run")
                }
                Docker::Start { attached: false } => ("docker start", "write docker start --attach"),
                Docker::Compose { detached: true } => ("compose up --detach", "take -d (--detach) out of compose up"),
                _ => continue,
            };
            if !self.is_oneshot() {
                let message = format!(
                    "{what} ends at once: systemd takes the service for ended and runs ExecStop=, and nobody looks after \
                     the container"
                );
                findings.push(Finding::error(Rule::DockerDetached, command.line, message, mend));
            }
        }
        for (command, run) in self.runs() {
            if run.has("--interactive") && run.has("--tty") && last(self.file, "StandardInput").is_none() {
                let message = "docker run --interactive --tty ends with \"the input device is not a TTY\"";
                let mend = "take -i and -t out of docker run";
                findings.push(Finding::error(Rule::DockerTty, command.line, message, mend));
            }
            if let Some(policy) = run.value("--restart").filter(|policy| *policy != "no") {
                let message = format!(
                    "with --restart {policy}, docker starts the container again by itself, also on a machine that the unit \
                     has left"
                );
                let mend = "take --restart out of docker run, and write Restart= into [Service]";
                findings.push(Finding::error(Rule::DockerRestart, command.line, message, mend));
            }
        }
    }

    fn container_is_found_again(&self, findings: &mut Vec<Finding>) {
        for (command, run) in self.runs().filter(|(_, run)| !run.opaque) {
            let line = command.line;
            let removed = run.has("--rm");
            if !removed && !self.removes(run) {
                let message = "the container stays on the machine when it has ended, one more with each start";
                findings.push(Finding::warning(Rule::DockerRm, line, message, "add --rm to docker run"));
            }
            let Some(name) = run.value("--name") else {
                let message = "the container gets a name that docker makes up: the unit can neither stop nor remove it";
                findings.push(Finding::warning(Rule::DockerName, line, message, "add --name %p-%i, or --name %N"));
                continue;
            };
            if !self.cleans_up_before(name) {
                let message = if removed {
                    format!("a container {name} that a crash has left behind lets every further start fail")
                } else {
                    format!("the container {name} of the last start is still there, and lets every further start fail")
                };
                let mend = format!("add ExecStartPre=-/usr/bin/docker rm -f {name}");
                let finding = Finding::warning(Rule::DockerLeftover, line, message, mend);
                // Without --rm it takes no crash.
                let severity = if removed || self.removes(run) { finding.severity } else { super::Severity::Error };
                findings.push(Finding { severity, ..finding });
            }
        }
    }

    /// Whether the unit removes the container of `run` at some point.
    fn removes(&self, run: &Run) -> bool {
        let Some(name) = run.value("--name") else { return false };
        self.before.iter().chain(&self.stop).any(|(_, docker)| self.names(docker.removed(), name))
    }

    /// Whether a container of this name is out of the way before the service starts.
    fn cleans_up_before(&self, name: &str) -> bool {
        // One that was started with --rm goes when it is killed.
        self.before.iter().any(|(_, docker)| self.names(docker.removed(), name) || self.names(docker.stopped(), name))
    }

    fn clean_ups_may_fail(&self, findings: &mut Vec<Finding>) {
        for (command, docker) in self.before.iter().filter(|(command, _)| !command.may_fail) {
            if docker.removed().is_empty() && docker.stopped().is_empty() {
                continue;
            }
            let words = command.words[1..].join(" ");
            let message = format!("docker {words} fails where there is no such container, and with it the start");
            let mend = format!("begin the line with a minus sign: {}=-{} {words}", command.option, command.words[0]);
            let finding = match docker {
                // Since docker 20.10 it does not.
                Docker::Remove { forced: true, .. } => continue,
                _ => Finding::error(Rule::DockerFirstStart, command.line, message, mend),
            };
            findings.push(finding);
        }
    }

    fn container_is_stopped(&self, findings: &mut Vec<Finding>) {
        if self.is_oneshot() {
            return;
        }
        for (command, run) in self.runs().filter(|(_, run)| !run.opaque) {
            let Some(name) = run.value("--name") else { continue };
            let named = |docker: &Docker| [docker.stopped(), docker.removed()].concat();
            if self.stop.iter().any(|(_, docker)| self.names(&named(docker), name)) {
                continue;
            }
            let other = self.stop.iter().find(|(_, docker)| !named(docker).is_empty());
            if let Some((stop, docker)) = other {
                let message = format!(
                    "the container is called {name} (line {}), and {}= is about {}",
                    command.line,
                    stop.option,
                    named(docker).join(" and ")
                );
                let mend = format!("write {name} in both places");
                findings.push(Finding::error(Rule::DockerStopName, stop.line, message, mend));
                continue;
            }
            let message = "a stop reaches the docker client only: a container that ignores SIGTERM, as PID 1 does unless \
                           it asks for it, outlives the unit";
            let mend =
                format!("add ExecStop=/usr/bin/docker stop {name} and ExecStopPost=-/usr/bin/docker rm -f {name}");
            findings.push(Finding::warning(Rule::DockerStop, command.line, message, mend));
        }
    }

    fn pull_has_time(&self, findings: &mut Vec<Finding>) {
        // Only what a start waits for counts; a oneshot has no end to its start unless the unit says so.
        let waits_for_main = ["notify", "forking"].contains(&&*self.kind);
        let waited_for = self.before.iter().chain(self.main.iter().filter(|_| waits_for_main));
        let pulls = |docker: &Docker| matches!(docker, Docker::Pull);
        let Some((command, _)) = waited_for.into_iter().find(|(_, docker)| pulls(docker)) else { return };
        let timeouts = ["TimeoutStartSec", "TimeoutSec"].map(|name| last(self.file, name));
        let enough = match timeouts.into_iter().flatten().max_by_key(|option| option.line) {
            None => self.is_oneshot(),
            Some(option) => match parse_span(&option.value) {
                Ok(span) => span.is_none_or(|span| span.is_zero() || span > START),
                Err(_) => false,
            },
        };
        if !enough {
            let message = "a pull that takes longer than a start may (90 s unless the unit says otherwise) is killed, and \
                           the unit fails";
            let mend = "add TimeoutStartSec=0";
            findings.push(Finding::warning(Rule::DockerPull, command.line, message, mend));
        }
    }

    fn limits_bind(&self, findings: &mut Vec<Finding>) {
        let Some((_, run)) = self.runs().next() else { return };
        for (limit, flag) in LIMITS {
            let other = ALSO.iter().find(|(known, _)| *known == flag).map_or(&[][..], |(_, other)| other);
            let given = run.value(flag).is_some() || other.iter().any(|flag| run.value(flag).is_some());
            if let Some(option) = last(self.file, limit).filter(|_| !given && !run.opaque) {
                let value = &option.value;
                let message = format!(
                    "{limit}={value} binds the docker client: the container is a child of dockerd, in a control group of \
                     docker's"
                );
                let mend = match flag {
                    "--memory" => format!("add --memory {} to docker run", value.to_lowercase()),
                    "--cpus" => format!("add --cpus {} to docker run", cpus(value)),
                    "--ulimit" => format!("add --ulimit nofile={value} to docker run"),
                    "--cgroup-parent" | "--oom-score-adj" | "--cpuset-cpus" | "--pids-limit" => {
                        format!("add {flag} {value} to docker run")
                    }
                    _ => format!("give docker run its own limit: {flag}"),
                };
                findings.push(Finding::warning(Rule::DockerLimits, option.line, message, mend));
            }
        }
    }

    fn docker_is_up(&self, findings: &mut Vec<Finding>) {
        let Some((first, _)) = self.before.iter().chain(&self.main).min_by_key(|(command, _)| command.line) else {
            return;
        };
        let named = self.file.values("Unit", "After");
        let mut after = named.iter().flat_map(|value| value.split_whitespace());
        if !after.any(|unit| unit == "docker.service" || unit == "docker.socket") {
            let message = "when the machine boots, the unit may start before docker does, and fail";
            let mend = "add Requires=docker.service and After=docker.service to [Unit]";
            findings.push(Finding::warning(Rule::DockerOrder, first.line, message, mend));
        }
    }

    /// Whether one of `names` is `name`, in whatever specifiers they are written.
    fn names(&self, names: &[String], name: &str) -> bool {
        let plain = |text: &str| expand_specifiers(&text.replace("${", "$").replace('}', ""), self.unit);
        names.iter().any(|other| plain(other) == plain(name))
    }
}

/// The option of `[Service]` that counts when there may be only one.
fn last(file: &UnitFile, name: &str) -> Option<UnitOption> {
    exec::assigned(file, name).pop()
}

/// `150%` as docker has it: 1.5.
fn cpus(quota: &str) -> String {
    let percent = quota.trim_end_matches('%').parse::<f64>();
    percent.map_or_else(|_| "NUMBER".into(), |percent| format!("{}", percent / 100.0))
}

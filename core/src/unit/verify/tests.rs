use super::*;

/// A unit in which nothing is wrong.
const GOOD: &str = "\
[Unit]
After=docker.service
[Service]
TimeoutStartSec=0
ExecStartPre=-/usr/bin/docker rm -f %p-%i
ExecStartPre=/usr/bin/docker pull mysql
ExecStart=/usr/bin/docker run --rm --name %p-%i -p 80:80 mysql
ExecStop=/usr/bin/docker stop %p-%i
ExecStopPost=-/usr/bin/docker rm -f %p-%i
";

fn findings(name: &str, text: &str) -> Vec<Finding> {
    verify(&UnitFile::parse(text).unwrap(), &UnitName::new(name).unwrap())
}

fn rules(text: &str) -> Vec<(Rule, Severity, u32)> {
    findings("a@1.service", text).into_iter().map(|finding| (finding.rule, finding.severity, finding.line)).collect()
}

/// [`GOOD`] with some text in another's place.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replace(from, to)
}

#[test]
fn nothing_is_found_in_a_good_unit() {
    assert_eq!(findings("a@1.service", GOOD), []);
    assert_eq!(findings("a.service", "[Service]\nExecStart=/bin/sleep 1\nMemoryMax=1G\n"), []);
    assert_eq!(findings("a.timer", "[Timer]\nOnCalendar=daily\n"), []);
}

#[test]
fn each_slip_of_a_docker_unit_is_one_finding() {
    use Rule::*;
    use Severity::{Error, Warning};
    for (from, to, expected) in [
        ("run --rm", "run --rm -d", (DockerDetached, Error, 7)),
        ("run --rm", "run --rm --detach=true", (DockerDetached, Error, 7)),
        ("run --rm", "run --rm -dit", (DockerDetached, Error, 7)),
        ("run --rm", "run --rm -it", (DockerTty, Error, 7)),
        ("run --rm", "run --rm --restart=always", (DockerRestart, Error, 7)),
        ("ExecStartPre=-/usr/bin/docker rm -f %p-%i\n", "", (DockerLeftover, Warning, 6)),
        (
            "ExecStartPre=-/usr/bin/docker rm -f %p-%i",
            "ExecStartPre=-/usr/bin/docker rm -f b",
            (DockerLeftover, Warning, 7),
        ),
        (
            "=-/usr/bin/docker rm -f %p-%i\nExecStartPre",
            "=/usr/bin/docker kill %p-%i\nExecStartPre",
            (DockerFirstStart, Error, 5),
        ),
        (
            "=-/usr/bin/docker rm -f %p-%i\nExecStartPre",
            "=/usr/bin/docker rm %p-%i\nExecStartPre",
            (DockerFirstStart, Error, 5),
        ),
        (
            "ExecStop=/usr/bin/docker stop %p-%i\nExecStopPost=-/usr/bin/docker rm -f %p-%i\n",
            "",
            (DockerStop, Warning, 7),
        ),
        (
            "ExecStop=/usr/bin/docker stop %p-%i\nExecStopPost=-/usr/bin/docker rm -f %p-%i\n",
            "ExecStop=/usr/bin/docker stop %p\n",
            (DockerStopName, Error, 8),
        ),
        ("TimeoutStartSec=0\n", "", (DockerPull, Warning, 5)),
        ("TimeoutStartSec=0", "TimeoutStartSec=60", (DockerPull, Warning, 6)),
        ("TimeoutStartSec=0", "MemoryMax=64M\nTimeoutStartSec=0", (DockerLimits, Warning, 4)),
        ("TimeoutStartSec=0", "TimeoutStartSec=0\nCPUQuota=150%", (DockerLimits, Warning, 5)),
        ("TimeoutStartSec=0", "Slice=web.slice\nTimeoutStartSec=0", (DockerLimits, Warning, 4)),
        ("After=docker.service", "After=network.target", (DockerOrder, Warning, 5)),
    ] {
        let found = rules(&with(from, to));
        // Without a terminal, a container that is detached has none to miss.
        let found: Vec<_> = found.into_iter().filter(|(rule, ..)| *rule != DockerTty || !to.contains("-dit")).collect();
        assert_eq!(found, [expected], "{to}");
    }
}

#[test]
fn what_does_the_same_by_other_words_is_no_slip() {
    for (from, to) in [
        ("run --rm --name %p-%i", "run --rm --name=a-1"),
        ("run --rm", "run --rm --interactive"),
        ("run --rm", "run --rm --restart=no"),
        ("mysql\nExecStop", "mysql -d --restart=always -it\nExecStop"),
        ("=-/usr/bin/docker rm -f", "=/usr/bin/docker rm -f"),
        ("=-/usr/bin/docker rm -f %p-%i\nExecStartPre", "=-/usr/bin/docker kill a-1\nExecStartPre"),
        ("=-/usr/bin/docker rm -f %p-%i\nExecStartPre", "=/bin/sh -c 'docker rm -f a-1 || true'\nExecStartPre"),
        ("run --rm", "run"),
        ("ExecStop=/usr/bin/docker stop %p-%i\n", ""),
        ("ExecStopPost=-/usr/bin/docker rm -f %p-%i\n", ""),
        ("TimeoutStartSec=0", "TimeoutStartSec=infinity"),
        ("TimeoutStartSec=0", "TimeoutStartSec=20min"),
        ("TimeoutStartSec=0", "TimeoutSec=5min"),
        ("ExecStartPre=/usr/bin/docker pull mysql\n", ""),
        ("--rm --name", "--rm --memory 64m --name"),
        ("TimeoutStartSec=0", "TimeoutStartSec=0\nMemoryMax=64M\nMemoryMax="),
        ("After=docker.service", "After=network.target docker.socket"),
        ("--rm --name %p-%i -p 80:80", "$OPTIONS"),
        ("%p-%i -p 80:80 mysql", "%p-%i -p 80:80 mysql \\\n  # -d\n  -d"),
    ] {
        assert_eq!(rules(&with(from, to)), [], "{to}");
    }
    let limited =
        with("--rm --name", "--rm -m 64m --cpu-quota 5 --name").replace("0\n", "0\nMemoryMax=1\nCPUQuota=1%\n");
    assert_eq!(rules(&limited), []);
    let oneshot = "[Unit]\nAfter=docker.service\n[Service]\nType=oneshot\nExecStart=/usr/bin/docker pull mysql\n";
    assert_eq!(rules(oneshot), [], "a oneshot takes as long as it takes");
    let named = with("%p-%i", "${NAME}").replace("stop ${NAME}", "stop $NAME");
    assert_eq!(rules(&named), [], "a variable is the same with braces and without");
}

#[test]
fn container_without_a_name_is_told_once_and_not_of_what_follows() {
    let text = "[Unit]\nAfter=docker.service\n[Service]\nExecStart=/usr/bin/docker run -p 9200:9200 elasticsearch\n";
    assert_eq!(rules(text), [(Rule::DockerName, Severity::Warning, 4), (Rule::DockerRm, Severity::Warning, 4)]);
}

#[test]
fn container_that_nobody_removes_lets_the_second_start_fail() {
    let text = with("run --rm", "run")
        .replace("ExecStartPre=-/usr/bin/docker rm -f %p-%i\n", "")
        .replace("ExecStopPost=-/usr/bin/docker rm -f %p-%i\n", "");
    assert_eq!(rules(&text), [(Rule::DockerRm, Severity::Warning, 6), (Rule::DockerLeftover, Severity::Error, 6)]);
}

#[test]
fn what_a_shell_runs_counts_as_well() {
    let text = with("ExecStart=/usr/bin/docker run --rm", "ExecStart=/bin/sh -c 'exec /usr/bin/docker run -d --rm")
        .replace("80:80 mysql\n", "80:80 mysql'\n");
    assert_eq!(rules(&text), [(Rule::DockerDetached, Severity::Error, 7)]);
}

#[test]
fn unit_of_a_deck_gets_all_that_it_deserves_with_mends() {
    let deck = "\
[Unit]
After=docker.service
Requires=docker.service
[Service]
ExecStartPre=/usr/bin/docker pull dockerfile/elasticsearch
ExecStart=/usr/bin/docker run -d -p 9200:9200 -p 9300:9300 dockerfile/elasticsearch
CPUQuota=50%
MemoryMax=2G
";
    let found = findings("es.service", deck);
    let mends: Vec<_> = found.iter().map(|finding| (finding.line, finding.rule.as_str(), &*finding.mend)).collect();
    assert_eq!(
        mends,
        [
            (5, "docker-pull", "add TimeoutStartSec=0"),
            (6, "docker-detached", "take -d (--detach) out of docker run"),
            (6, "docker-name", "add --name %p-%i, or --name %N"),
            (6, "docker-rm", "add --rm to docker run"),
            (7, "docker-limits", "add --cpus 0.5 to docker run"),
            (8, "docker-limits", "add --memory 2g to docker run"),
        ]
    );
}

#[test]
fn what_the_cluster_would_refuse_is_an_error_on_its_line() {
    let service = "[Service]\nExecStart=/bin/a\n";
    for (text, rule, line, message) in [
        ("", Rule::Size, 0, "there are no options in this file"),
        ("[Service]\nType=simple\n", Rule::NoCommand, 2, "the service has no ExecStart="),
        (
            &*format!("{service}[X-Fleet]\nGlobal=true\nMachineOf=b.service\n"),
            Rule::XFleet,
            5,
            "Global cannot be used with Peers",
        ),
        (
            &format!("{service}[X-Fleet]\nConflicts=x.*\nX-ConditionMachineOf=x.service\n"),
            Rule::XFleet,
            5,
            "unresolvable requirements: peer \"x.service\" matches conflict \"x.*\"",
        ),
        (
            &format!("{service}TimeoutStopSec=infinity\n[X-Fleet]\nOnPartition=stop\n"),
            Rule::StopBound,
            5,
            "OnPartition=stop cannot be kept: TimeoutStopSec=infinity lets a stop take for ever: give a finite time",
        ),
    ] {
        let found = findings("a.service", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].rule, found[0].severity, found[0].line), (rule, Severity::Error, line), "{text}");
        assert_eq!(found[0].message, message);
    }
    let large = format!("{service}Environment=A={}\n", format!("{}\\\n", "a".repeat(2000)).repeat(40));
    assert_eq!(rules(&large), [(Rule::Size, Severity::Error, 0)]);
}

#[test]
fn what_is_passed_over_is_a_warning_with_the_nearest_word() {
    let found = findings("a.service", "[Service]\nExecStart=/bin/a\n[X-Fleet]\nConflict=b.service\n");
    assert_eq!(
        (found[0].rule, found[0].line, &*found[0].mend),
        (Rule::XFleetIgnored, 4, "did you mean \"Conflicts\"?")
    );
    assert_eq!((found.len(), found[0].severity), (1, Severity::Warning));
}

proptest::proptest! {
    #[test]
    fn any_file_is_verified(lines in proptest::collection::vec(
        "(ExecStart|ExecStartPre|ExecStop|MemoryMax|Type|TimeoutStartSec)=-?(docker (run|rm|stop) )?[-a-z$%'\" ]{0,20}", 0..8,
    )) {
        let text = format!("[Service]\n{}\n", lines.join("\n"));
        let last = text.lines().count() as u32;
        for finding in findings("a@1.service", &text) {
            proptest::prop_assert!(finding.line <= last && !finding.mend.is_empty() && !finding.message.contains('\n'));
        }
    }
}

#[test]
fn alias_that_systemd_refuses_is_an_error_and_doubts_are_warnings() {
    let found = findings("a.service", "[Unit]\nGlobal=yes\n[Service]\nExecStart=/bin/a\n[Install]\nAlias=b.timer\n");
    let said: Vec<_> = found.iter().map(|finding| (finding.rule, finding.severity, finding.line)).collect();
    assert_eq!(said, [(Rule::Doubt, Severity::Warning, 2), (Rule::Install, Severity::Error, 6)]);
    assert_eq!(found[1].mend, "write Alias=b.service, or remove it");
}

#[test]
fn alias_that_two_units_claim_is_told_of_both_unless_they_keep_off_each_other() {
    let alias = "[Service]\nExecStart=/bin/a\n[Install]\nAlias=db.service\n";
    let together = |units: &[(&str, &str)]| -> Vec<(usize, u32, String)> {
        let read: Vec<_> =
            units.iter().map(|(name, text)| (UnitFile::parse(text).unwrap(), UnitName::new(name).unwrap())).collect();
        let files: Vec<_> = read.iter().map(|(file, name)| (file, name)).collect();
        let found = verify_together(&files);
        assert!(
            found.iter().all(|(_, finding)| finding.rule == Rule::Install && finding.severity == Severity::Warning)
        );
        found.into_iter().map(|(place, finding)| (place, finding.line, finding.message)).collect()
    };
    let said =
        |whose: &str| format!("the alias db.service is also {whose}: a machine that has both gives it to one of them");
    assert_eq!(
        together(&[("a.service", alias), ("b.service", alias)]),
        [(0, 4, said("an alias of b.service")), (1, 4, said("an alias of a.service"))]
    );
    assert_eq!(
        together(&[("a.service", alias), ("db.service", "[Service]\nExecStart=/bin/a\n")]),
        [(0, 4, said("another unit's name"))]
    );
    let apart = format!("{alias}[X-Fleet]\nConflicts=a.service\n");
    assert_eq!(together(&[("a.service", alias), ("b.service", &apart)]), []);
    assert_eq!(together(&[("a.service", alias), ("a.service", alias)]), [], "the same unit twice");
    let instance = "[Service]\nExecStart=/bin/a\n[Install]\nAlias=db@%i.service\n";
    assert_eq!(together(&[("a@1.service", instance), ("a@2.service", instance)]), []);
}

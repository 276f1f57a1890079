use std::net::Ipv4Addr;

use super::*;
use crate::{document::Reading, reader::Addresses};

fn document(text: &str) -> Document {
    let here = Some(Ipv4Addr::new(10, 0, 0, 7));
    let reading = Reading {
        addresses: Addresses { private: here, public: here },
        options: &["etcd_servers", "metadata"],
        gone: &[],
        check: &|_, _| Ok(Vec::new()),
    };
    Document::parse(&format!("#cloud-config\n{text}"), reading).unwrap()
}

/// A host on which nothing was done yet.
fn fresh() -> Present {
    let root = Account { home: "/root".into(), ..Account::default() };
    Present {
        hostname: "localhost".into(),
        users: [("root".into(), root)].into(),
        groups: [("root".into(), 0), ("sudo".into(), 27)].into(),
        ..Present::default()
    }
}

fn file(text: &str) -> Entry {
    Entry::File { content: text.into(), mode: 0o644, uid: 0, gid: 0 }
}

fn told(plan: &Plan) -> Vec<String> {
    plan.actions.iter().map(ToString::to_string).collect()
}

fn state(load: &str, active: &str, file: &str) -> UnitState {
    UnitState { load: load.into(), active: active.into(), file: file.into() }
}

/// What the host is after the actions: what a survey would find then.
fn after(present: &Present, plan: &Plan) -> Present {
    let mut present = present.clone();
    present.done.extend(plan.marks.iter().cloned());
    let number = |names: &str| names.parse().ok();
    for action in &plan.actions {
        match action {
            Action::SetHostname(name) => present.hostname = name.clone(),
            Action::AddUser { name, options } => {
                let home = options.iter().position(|option| option == "--home-dir").map(|at| options[at + 1].clone());
                let home = home.unwrap_or_else(|| format!("/home/{name}"));
                let password = Some("*".to_owned());
                present.users.insert(name.clone(), Account { uid: 1000, gid: 1000, home, password });
                present.groups.insert(name.clone(), 1000);
            }
            Action::SetPassword { user, hash } => {
                present.users.get_mut(user).unwrap().password = Some(hash.clone());
            }
            Action::Authorize { home, content, .. } => {
                let entry = Entry::File { content: content.clone().into(), mode: 0o600, uid: 1000, gid: 1000 };
                present.paths.insert(keys_file(home), entry);
            }
            Action::Write { path, content, mode, owner } => {
                let uid = number(&owner.user).or_else(|| present.users.get(&owner.user).map(|user| user.uid)).unwrap();
                let gid = number(&owner.group).or_else(|| present.groups.get(&owner.group).copied()).unwrap();
                present.paths.insert(path.clone(), Entry::File { content: content.clone(), mode: *mode, uid, gid });
            }
            Action::SetAttributes { path, mode, owner } => {
                let gid = number(&owner.group).or_else(|| present.groups.get(&owner.group).copied()).unwrap();
                let uid = number(&owner.user).or_else(|| present.users.get(&owner.user).map(|user| user.uid)).unwrap();
                let Some(Entry::File { content, .. }) = present.paths.get(path) else { panic!("{path} is no file") };
                let entry = Entry::File { content: content.clone(), mode: *mode, uid, gid };
                present.paths.insert(path.clone(), entry);
            }
            Action::Mask { path } => {
                present.paths.insert(path.clone(), Entry::Link("/dev/null".into()));
            }
            Action::Unmask { path } => {
                present.paths.remove(path);
            }
            Action::Reload => {}
            Action::Enable { unit, runtime } => {
                let word = if *runtime { "enabled-runtime" } else { "enabled" };
                present.units.entry(unit.clone()).or_default().file = word.into();
            }
            Action::Command { unit, verb, mark } => {
                let active = if *verb == Verb::Stop { "inactive" } else { "active" };
                present.units.entry(unit.clone()).or_default().active = active.into();
                present.done.extend(mark.clone());
            }
        }
    }
    present
}

const EVERYTHING: &str = "\
hostname: core1
manage_etc_hosts: localhost
ssh_authorized_keys: [ssh-rsa AAAA me]
users:
  - name: elroy
    passwd: $6$x$y
    groups: [sudo, wheel]
    ssh-authorized-keys: [ssh-rsa BBBB]
write_files:
  - {path: /etc/a, content: a, permissions: '0600', owner: elroy}
coreos:
  fleet: {metadata: a=b}
  etcd2: {name: core1}
  units:
    - {name: a.service, command: start, enable: true, content: \"[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n\"}
    - {name: b.service, mask: true}
    - {name: c.service, command: restart, drop-ins: [{name: x.conf, content: \"[Service]\\n\"}]}
    - {name: d.service, command: stop}
    - {name: e.network, content: \"[Match]\\n\"}
";

#[test]
fn a_fresh_host_gets_everything_in_order_and_a_second_run_nothing() {
    let document = document(EVERYTHING);
    let mut host = fresh();
    host.units.insert("d.service".into(), state("loaded", "active", "disabled"));
    let first = plan(&document, &host);
    assert_eq!(
        told(&first),
        [
            "write /etc/hostname (6 bytes, 0644 root:root)",
            "name this host core1",
            "write /etc/hosts (16 bytes, 0644 root:root)",
            "make user elroy",
            "set the password of elroy",
            "authorize 1 key for elroy",
            "make user core",
            "authorize 1 key for core",
            "write /etc/a (1 bytes, 0600 elroy:root)",
            "write /etc/fleet/fleet.conf (17 bytes, 0644 root:root)",
            "write /etc/systemd/system/etcd.service.d/20-cloud-config.conf (74 bytes, 0644 root:root)",
            "write /etc/systemd/system/a.service (67 bytes, 0644 root:root)",
            "mask /etc/systemd/system/b.service",
            "write /etc/systemd/system/c.service.d/x.conf (10 bytes, 0644 root:root)",
            "write /etc/systemd/network/e.network (8 bytes, 0644 root:root)",
            "reload systemd's units",
            "enable a.service",
            "try-restart systemd-networkd.service",
            "start a.service",
            "restart c.service",
            "stop d.service",
        ]
    );
    assert_eq!(first.notes, ["user elroy is not put into group wheel, which this host does not have"]);
    let second = plan(&document, &after(&host, &first));
    assert_eq!(second, Plan::default());
}

#[test]
fn groups_are_given_to_new_users_as_far_as_the_host_has_them() {
    let plan = plan(&document("users: [{name: a, groups: [sudo, x], shell: /bin/sh, gecos: A B}]"), &fresh());
    let [Action::AddUser { options, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!(
        options.join(" "),
        "--password * --comment A B --shell /bin/sh --create-home --groups sudo --user-group"
    );
}

#[test]
fn of_a_user_that_exists_only_password_and_keys_change() {
    let mut host = fresh();
    let home = "/srv/core/".to_owned();
    host.users.insert("core".into(), Account { uid: 5, gid: 5, home, password: Some("$6$x".into()) });
    host.paths.insert("/srv/core/.ssh/authorized_keys".into(), file("ssh-rsa A\n"));
    let text = "users: [{name: core, passwd: $6$x, homedir: /elsewhere, ssh-authorized-keys: [ssh-rsa A, ssh-rsa B]}]";
    let plan = plan(&document(text), &host);
    let [Action::Authorize { home, new: 1, content, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!((&**home, &**content), ("/srv/core/", "ssh-rsa A\nssh-rsa B\n"));
}

#[test]
fn keys_are_not_written_through_a_link() {
    let mut host = fresh();
    host.paths.insert("/home/core/.ssh/authorized_keys".into(), Entry::Link("/root/.ssh".into()));
    let plan = plan(&document("ssh_authorized_keys: [ssh-rsa A]"), &host);
    assert_eq!(told(&plan), ["make user core"]);
    assert_eq!(plan.notes, ["keys of core are left out: /home/core/.ssh/authorized_keys is not a file"]);
}

#[test]
fn a_file_with_other_permissions_keeps_its_contents() {
    let mut host = fresh();
    host.paths.insert("/a".into(), file("x"));
    let document = document("write_files: [{path: /a, content: x, permissions: '0600'}]");
    let plan = plan(&document, &host);
    assert_eq!(told(&plan), ["set /a to 0600 root:root"]);
}

#[test]
fn links_and_devices_are_replaced_by_files() {
    let document = document("write_files: [{path: /a, content: x}]");
    for entry in [Entry::Link("/b".into()), Entry::Other] {
        let host = Present { paths: [("/a".into(), entry)].into(), ..fresh() };
        assert_eq!(told(&plan(&document, &host)), ["write /a (1 bytes, 0644 root:root)"]);
    }
}

#[test]
fn what_has_ended_or_was_stopped_is_not_started_again_until_the_next_boot() {
    let document = document("coreos: {units: [{name: a.service, command: start}]}");
    let mut host = fresh();
    host.units.insert("a.service".into(), state("loaded", "inactive", "static"));
    let first = plan(&document, &host);
    assert_eq!(told(&first), ["start a.service"]);
    let mut later = after(&host, &first);
    later.units.insert("a.service".into(), state("loaded", "failed", "static"));
    assert_eq!(plan(&document, &later), Plan::default());
    later.done.clear();
    assert_eq!(told(&plan(&document, &later)), ["start a.service"]);
    // The same for one that ran before the document came.
    host.units.insert("a.service".into(), state("loaded", "active", "static"));
    let first = plan(&document, &host);
    assert_eq!((&first.actions[..], first.marks.len()), (&[][..], 1));
    let mut later = after(&host, &first);
    later.units.insert("a.service".into(), state("loaded", "inactive", "static"));
    assert_eq!(plan(&document, &later), Plan::default());
}

#[test]
fn a_restart_is_done_anew_when_anything_of_the_document_changed() {
    let text = |content: &str| {
        format!(
            "write_files: [{{path: /a, content: {content}}}]\ncoreos: {{units: [{{name: a.service, command: restart}}]}}"
        )
    };
    let mut host = fresh();
    for (content, expected) in [
        ("x", &["write /a (1 bytes, 0644 root:root)", "restart a.service"][..]),
        ("x", &[]),
        ("y", &["write /a (1 bytes, 0644 root:root)", "restart a.service"]),
    ] {
        let plan = plan(&document(&text(content)), &host);
        assert_eq!(told(&plan), expected);
        host = after(&host, &plan);
    }
}

#[test]
fn a_running_unit_with_a_new_file_is_told_and_not_restarted() {
    let document =
        document("coreos: {units: [{name: a.service, command: start, content: \"[Service]\\nExecStart=/bin/x\\n\"}]}");
    let mut host = fresh();
    host.units.insert("a.service".into(), state("loaded", "active", "static"));
    let plan = plan(&document, &host);
    assert_eq!(told(&plan).len(), 2, "the file and the reload: {plan:?}");
    assert_eq!(plan.notes, ["a.service runs with its old file until it is restarted: `command: restart` does that"]);
}

#[test]
fn masks_are_set_and_taken_back() {
    let path = "/etc/systemd/system/a.service";
    let masked = Present { paths: [(path.into(), Entry::Link("/dev/null".into()))].into(), ..fresh() };
    let told = |text: &str, host: &Present| told(&plan(&document(text), host));
    let mask = "coreos: {units: [{name: a.service, mask: true}]}";
    let unmask = "coreos: {units: [{name: a.service, mask: false}]}";
    assert_eq!(told(mask, &fresh()), ["mask /etc/systemd/system/a.service", "reload systemd's units"]);
    assert_eq!(told(mask, &masked), [""; 0]);
    assert_eq!(told(unmask, &masked), ["unmask /etc/systemd/system/a.service", "reload systemd's units"]);
    assert_eq!(told(unmask, &fresh()), [""; 0]);
    let anew = plan(&document("coreos: {units: [{name: a.service, mask: false, content: x}]}"), &masked);
    assert_eq!((anew.actions.len(), &anew.notes[..]), (2, &[][..]), "{anew:?}");
}

#[test]
fn fleet_is_restarted_for_its_options_when_it_runs_and_only_once() {
    let options = "coreos: {fleet: {metadata: a=b}}";
    let command = "coreos: {fleet: {metadata: a=b}, units: [{name: fleet.service, command: restart}]}";
    let mut host = fresh();
    host.paths.insert(FLEET_CONF.into(), Entry::File { content: "# mine\n".into(), mode: 0o600, uid: 0, gid: 5 });
    assert_eq!(told(&plan(&document(options), &host)), ["write /etc/fleet/fleet.conf (24 bytes, 0600 root:5)"]);
    host.units.insert("fleet.service".into(), state("loaded", "active", "enabled"));
    let first = plan(&document(options), &host);
    assert_eq!(told(&first)[1..], ["try-restart fleet.service"]);
    assert_eq!(plan(&document(options), &after(&host, &first)), Plan::default());
    assert_eq!(told(&plan(&document(command), &host))[1..], ["restart fleet.service"]);
}

#[test]
fn options_of_fleet_go_into_a_fleet_conf_that_the_document_writes() {
    let text = "write_files: [{path: /etc/fleet/fleet.conf, content: \"# mine\\n\", permissions: '0600'}]\n\
                coreos: {fleet: {metadata: a=b}}";
    let document = document(text);
    let first = plan(&document, &fresh());
    assert_eq!(told(&first), ["write /etc/fleet/fleet.conf (24 bytes, 0600 root:root)"]);
    assert_eq!(plan(&document, &after(&fresh(), &first)), Plan::default());
}

#[test]
fn of_two_descriptions_of_one_file_the_last_counts_for_good() {
    let unit = "/etc/systemd/system/a.service";
    let document = document(&format!(
        "hostname: a\nmanage_etc_hosts: localhost\nssh_authorized_keys: [ssh-rsa A]\nwrite_files:\n  - {{path: /etc/hostname, \
         content: b}}\n  - {{path: /etc/hosts, content: c}}\n  - {{path: {unit}, content: d}}\n  - {{path: \
         /home/core/.ssh/authorized_keys, content: e}}\ncoreos: {{units: [{{name: a.service, mask: true}}]}}"
    ));
    let first = plan(&document, &fresh());
    let paths: Vec<String> = first.actions.iter().filter_map(Action::path).collect();
    assert_eq!(paths, ["/etc/hostname", "/etc/hosts", "/home/core/.ssh/authorized_keys", unit]);
    assert!(first.actions.contains(&Action::Mask { path: unit.into() }), "{first:?}");
    assert_eq!(first.notes.len(), 4, "{:?}", first.notes);
    assert_eq!(plan(&document, &after(&fresh(), &first)).actions, []);
}

#[test]
fn etcd2_is_etcd_where_the_host_calls_it_so() {
    let document = document("coreos: {units: [{name: etcd2.service, command: start, enable: true}]}");
    let mut host = fresh();
    host.units.insert("etcd2.service".into(), state("not-found", "inactive", ""));
    host.units.insert("etcd.service".into(), state("loaded", "inactive", "disabled"));
    let plan = plan(&document, &host);
    assert_eq!(told(&plan), ["enable etcd.service", "start etcd.service"]);
    assert_eq!(plan.notes, ["etcd2.service is etcd.service on this host"]);
}

#[test]
fn running_etcd_is_not_restarted_for_its_settings_unless_told() {
    let mut host = fresh();
    host.units.insert("etcd.service".into(), state("loaded", "active", "enabled"));
    let plan = plan(&document("coreos: {etcd2: {name: a}}"), &host);
    assert_eq!(told(&plan)[1..], ["reload systemd's units"]);
    assert_eq!(plan.notes, ["etcd.service runs with its old settings until it is restarted"]);
}

proptest::proptest! {
    /// Whatever parts a document has, and whatever the host was.
    #[test]
    fn a_second_run_changes_nothing(
        parts in proptest::collection::vec(0..8_usize, 0..8),
        active in 0..4_usize,
        link in proptest::bool::ANY,
    ) {
        let units = [
            "{name: a.service, command: start}",
            "{name: b.service, command: restart, content: \"[Install]\\nWantedBy=x.target\\n\", enable: true}",
            "{name: c.service, mask: true}",
            "{name: d.service, mask: false, command: reload-or-try-restart}",
            "{name: e.service, runtime: true, enable: true, command: stop}",
            "{name: f.service, drop-ins: [{name: x.conf, content: y}], command: try-restart}",
            "{name: g.link, content: x}",
            "{name: h.service, content: \"[Service]\\n\", command: reload}",
        ];
        let parts: BTreeSet<usize> = parts.into_iter().collect();
        let units: Vec<&str> = parts.iter().map(|part| units[*part]).collect();
        let document = document(&format!("coreos: {{units: [{}]}}", units.join(", ")));
        let mut host = fresh();
        for unit in &document.units {
            let active = ["active", "inactive", "failed", "activating"][active];
            host.units.insert(unit.name.clone(), state("loaded", active, "disabled"));
            if link {
                host.paths.insert(unit.path(), Entry::Link("/dev/null".into()));
            }
        }
        let first = plan(&document, &host);
        proptest::prop_assert_eq!(plan(&document, &after(&host, &first)).actions, vec![]);
    }
}

//! From what a document says and what the host is to what is to be done: a pure function. What is as it should be gives
//! no action, so the plan for a host that was set up is empty.
//!
//! The order is CoreOS's: the host's name, users, files, settings, units, then one reload of systemd, and the commands
//! of units in the order of the document.

use std::collections::BTreeSet;

use fleet_core::unit::UnitHash;

use crate::{
    action::{Action, keys_file},
    conf,
    document::{Document, Owner, Unit, User, Verb, has_install},
    present::{Account, Entry, Present, UnitState},
};

/// What fleetd reads its configuration from.
pub const FLEET_CONF: &str = "/etc/fleet/fleet.conf";
/// The service that reads it.
const FLEET: &str = "fleet.service";
/// What CoreOS called the service of etcd 2, and what it is called everywhere else.
const ETCD2: (&str, &str) = ("etcd2.service", "etcd.service");
const NETWORKD: &str = "systemd-networkd.service";

/// What is to be done, and what there is to say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// Commands that need not be carried out, to be remembered until the next boot like those that are: what they ask
    /// for is so now, and may be changed by an operator later.
    pub marks: Vec<String>,
}

/// Decides what is to be done to a host.
#[must_use]
pub fn plan(document: &Document, present: &Present) -> Plan {
    let mut planner =
        Planner { document, present, plan: Plan::default(), described: BTreeSet::new(), written: BTreeSet::new() };
    planner.hostname();
    for user in &document.users {
        planner.user(user);
    }
    for file in &document.files {
        planner.file(&file.path, file.content.clone(), file.mode, file.owner.clone());
    }
    let restart_fleet = planner.fleet_conf();
    planner.settings();
    planner.units();
    planner.commands(restart_fleet);
    planner.plan
}

struct Planner<'p> {
    document: &'p Document,
    present: &'p Present,
    plan: Plan,
    /// The paths that the document has spoken of so far.
    described: BTreeSet<String>,
    /// Those of them that get other contents.
    written: BTreeSet<String>,
}

impl Planner<'_> {
    fn act(&mut self, action: Action) {
        self.plan.actions.push(action);
    }

    fn note(&mut self, note: String) {
        self.plan.notes.push(note);
    }

    /// Of two descriptions of one file the last counts: with both, the file would change at each run.
    fn describe(&mut self, path: &str) {
        if self.described.insert(path.to_owned()) {
            return;
        }
        self.plan.actions.retain(|action| action.path().as_deref() != Some(path));
        self.written.remove(path);
        // Options are put into what the document has for it.
        if path != FLEET_CONF {
            self.note(format!("the document has {path} twice: what comes last counts"));
        }
    }

    fn hostname(&mut self) {
        if let Some(name) = &self.document.hostname {
            let now = self.present.text("/etc/hostname");
            self.root_file("/etc/hostname", if now.trim() == name { now } else { format!("{name}\n") });
            if self.present.hostname != *name {
                self.act(Action::SetHostname(name.clone()));
            }
        }
        if self.document.manage_etc_hosts {
            let name = self.document.hostname.as_ref().unwrap_or(&self.present.hostname);
            let hosts = self.present.text("/etc/hosts");
            self.root_file("/etc/hosts", conf::with_own_name(&hosts, name));
        }
    }

    fn user(&mut self, user: &User) {
        let name = &user.name;
        let account = match self.present.users.get(name) {
            Some(account) => account.clone(),
            None => {
                let options = self.options(user);
                self.act(Action::AddUser { name: name.clone(), options });
                Account { home: user.home.clone().unwrap_or_else(|| format!("/home/{name}")), ..Account::default() }
            }
        };
        if let Some(hash) = &user.password
            && account.password.as_ref() != Some(hash)
        {
            self.act(Action::SetPassword { user: name.clone(), hash: hash.clone() });
        }
        if user.keys.is_empty() {
            return;
        }
        let path = keys_file(&account.home);
        match self.present.paths.get(&path) {
            None | Some(Entry::File { .. }) => {}
            Some(_) => return self.note(format!("keys of {name} are left out: {path} is not a file")),
        }
        self.describe(&path);
        let before = self.present.text(&path);
        let content = conf::with_keys(&before, &user.keys);
        if content != before {
            let new = content.lines().count() - before.lines().count();
            self.act(Action::Authorize { user: name.clone(), home: account.home, new, content });
        }
    }

    fn options(&mut self, user: &User) -> Vec<String> {
        let mut options: Vec<String> = Vec::new();
        // Not the locked password that useradd gives: some sshd let nobody in who has that, keys or not.
        options.extend(["--password".into(), "*".into()]);
        let mut option = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                options.extend([name.into(), value.clone()]);
            }
        };
        option("--comment", &user.gecos);
        option("--home-dir", &user.home);
        option("--gid", &user.primary_group);
        let shell = Some("/bin/bash".to_owned()).filter(|_| !user.system);
        option("--shell", &user.shell.clone().or(shell));
        options.push(if user.no_home || user.system { "--no-create-home" } else { "--create-home" }.into());
        let (there, missing): (Vec<_>, Vec<_>) =
            user.groups.iter().partition(|group| self.present.groups.contains_key(*group));
        if !there.is_empty() {
            let names: Vec<&str> = there.into_iter().map(String::as_str).collect();
            options.extend(["--groups".into(), names.join(",")]);
        }
        // Without either option Debian's useradd makes a group of the user's name.
        let own_group = user.primary_group.is_none() && !user.no_user_group;
        options.push(if own_group { "--user-group" } else { "--no-user-group" }.into());
        options.extend(user.system.then(|| "--system".into()));
        options.extend(user.no_log_init.then(|| "--no-log-init".into()));
        for group in missing {
            let name = &user.name;
            self.plan.notes.push(format!("user {name} is not put into group {group}, which this host does not have"));
        }
        options
    }

    /// A file of root's that everybody may read.
    fn root_file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.file(path, content.into(), 0o644, Owner::root());
    }

    fn file(&mut self, path: &str, content: Vec<u8>, mode: u32, owner: Owner) {
        self.describe(path);
        let path = path.to_owned();
        match self.present.paths.get(&path) {
            Some(Entry::File { content: now, .. }) if *now == content => {
                if !self.has_attributes(&path, mode, &owner) {
                    self.act(Action::SetAttributes { path, mode, owner });
                }
                return;
            }
            _ => {}
        }
        self.written.insert(path.clone());
        self.act(Action::Write { path, content, mode, owner });
    }

    fn has_attributes(&self, path: &str, mode: u32, owner: &Owner) -> bool {
        let Some(Entry::File { mode: now, uid, gid, .. }) = self.present.paths.get(path) else { return false };
        let user = owner.user.parse().ok().or_else(|| self.present.users.get(&owner.user).map(|user| user.uid));
        let group = owner.group.parse().ok().or_else(|| self.present.groups.get(&owner.group).copied());
        *now == mode && user == Some(*uid) && group == Some(*gid)
    }

    /// Returns whether fleetd has to be started anew for it.
    fn fleet_conf(&mut self) -> bool {
        if self.document.fleet.is_empty() {
            return false;
        }
        // A document may write the file itself, too.
        let own = self.document.files.iter().find(|file| file.path == FLEET_CONF);
        let before = own
            .map_or_else(|| self.present.text(FLEET_CONF), |file| String::from_utf8_lossy(&file.content).into_owned());
        let content = conf::with_options(&before, &self.document.fleet);
        let (mode, owner) = match (own, self.present.paths.get(FLEET_CONF)) {
            (Some(file), _) => (file.mode, file.owner.clone()),
            // Somebody may have hidden a password in it.
            (None, Some(Entry::File { mode, uid, gid, .. })) => {
                let name = |id: &u32| if *id == 0 { "root".into() } else { id.to_string() };
                (*mode, Owner { user: name(uid), group: name(gid) })
            }
            (None, _) => (0o644, Owner::root()),
        };
        self.file(FLEET_CONF, content.into_bytes(), mode, owner);
        self.written.contains(FLEET_CONF) && self.present.unit(FLEET).is_up()
    }

    fn settings(&mut self) {
        for settings in &self.document.settings {
            let path = settings.path();
            self.root_file(&path, settings.content());
            if self.written.contains(&path) && self.present.unit(settings.unit).is_up() {
                let unit = settings.unit;
                let asked = self.document.units.iter().any(|known| {
                    known.name == unit && known.command.is_some_and(|verb| ![Verb::Start, Verb::Stop].contains(&verb))
                });
                if !asked {
                    self.note(format!("{unit} runs with its old settings until it is restarted"));
                }
            }
        }
    }

    fn units(&mut self) {
        for unit in &self.document.units {
            self.unit_files(unit);
        }
        let of_systemd = |path: &String| path.contains("/systemd/system/");
        let masks =
            self.plan.actions.iter().any(|action| matches!(action, Action::Mask { .. } | Action::Unmask { .. }));
        if masks || self.written.iter().any(of_systemd) {
            self.act(Action::Reload);
        }
        for unit in &self.document.units {
            self.enable(unit);
        }
    }

    fn unit_files(&mut self, unit: &Unit) {
        let path = unit.path();
        let is_masked = self.present.paths.get(&path) == Some(&Entry::Link("/dev/null".into()));
        match (unit.mask, &unit.content) {
            (Some(true), _) => {
                self.describe(&path);
                if !is_masked {
                    self.act(Action::Mask { path });
                }
            }
            // What is written there takes the place of the link.
            (_, Some(content)) => self.root_file(&path, content.clone()),
            (Some(false), None) => {
                self.describe(&path);
                if is_masked {
                    self.act(Action::Unmask { path });
                }
            }
            (None, None) => {}
        }
        for drop_in in &unit.drop_ins {
            self.root_file(&unit.drop_in_path(drop_in), drop_in.content.clone());
        }
    }

    fn enable(&mut self, unit: &Unit) {
        if !unit.enable || unit.is_network() || unit.mask == Some(true) {
            return;
        }
        if unit.content.as_ref().is_some_and(|content| !has_install(content)) {
            return;
        }
        let (name, state) = self.real(unit);
        let enabled = match &*state.file {
            "enabled" | "static" | "generated" | "alias" | "indirect" | "transient" => true,
            "enabled-runtime" => unit.runtime,
            _ => false,
        };
        // With another [Install] section it may be wanted by others.
        if !enabled || self.written.contains(&unit.path()) {
            self.act(Action::Enable { unit: name, runtime: unit.runtime });
        }
    }

    fn commands(&mut self, restart_fleet: bool) {
        let networks = self.document.units.iter().filter(|unit| unit.is_network());
        if networks.flat_map(paths).any(|path| self.written.contains(&path)) {
            self.act(Action::Command { unit: NETWORKD.into(), verb: Verb::TryRestart, mark: None });
        }
        let mut restarts_fleet = false;
        for unit in self.document.units.iter().filter(|unit| !unit.is_network()) {
            let Some(verb) = unit.command else { continue };
            let before = self.plan.actions.len();
            self.command(unit, verb);
            restarts_fleet |= unit.name == FLEET && before < self.plan.actions.len();
        }
        if restart_fleet && !restarts_fleet {
            // No unit of the cluster is touched by that.
            self.act(Action::Command { unit: FLEET.into(), verb: Verb::TryRestart, mark: None });
        }
    }

    fn command(&mut self, unit: &Unit, verb: Verb) {
        let (name, state) = self.real(unit);
        let changed = paths(unit).any(|path| self.written.contains(&path));
        let mark = self.mark(unit, verb);
        if self.present.done.contains(&mark) {
            return;
        }
        let nothing = match verb {
            Verb::Start => state.is_up(),
            Verb::Stop => ["inactive", "failed"].contains(&&*state.active),
            Verb::TryRestart | Verb::ReloadOrTryRestart => !state.is_up(),
            Verb::Restart | Verb::Reload | Verb::ReloadOrRestart => false,
        };
        if !nothing {
            return self.act(Action::Command { unit: name, verb, mark: Some(mark) });
        }
        self.plan.marks.push(mark);
        if verb == Verb::Start && changed {
            self.note(format!("{name} runs with its old file until it is restarted: `command: restart` does that"));
        }
    }

    /// What a command is remembered by. One that starts or stops is carried out once for what it is about, so that what
    /// has ended by itself, or was stopped by an operator, stays down. One that restarts is carried out anew when
    /// anything of the document has changed: the unit may read a file that it writes.
    fn mark(&self, unit: &Unit, verb: Verb) -> String {
        let about = match verb {
            Verb::Start | Verb::Stop => format!("{:?} {:?}", unit.content, unit.drop_ins),
            _ => self.document.hash.to_string(),
        };
        UnitHash::of(&format!("{} {verb} {about}", unit.name)).to_string()
    }

    /// The unit that is meant, by the name that this host has for it.
    fn real(&mut self, unit: &Unit) -> (String, UnitState) {
        let state = self.present.unit(&unit.name);
        let (old, new) = ETCD2;
        let is_new = unit.name == old && unit.content.is_none() && state.load == "not-found";
        let other = self.present.unit(new);
        if !is_new || other.load != "loaded" {
            return (unit.name.clone(), state);
        }
        let note = format!("{old} is {new} on this host");
        if !self.plan.notes.contains(&note) {
            self.note(note);
        }
        (new.into(), other)
    }
}

/// The files that a document may write for a unit.
fn paths(unit: &Unit) -> impl Iterator<Item = String> {
    std::iter::once(unit.path()).chain(unit.drop_ins.iter().map(|drop_in| unit.drop_in_path(drop_in)))
}

/// What a survey has to look at for a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Paths.
    pub paths: BTreeSet<String>,
    /// Users; their keys, too, where the flag is set.
    pub users: BTreeSet<String>,
    /// Groups.
    pub groups: BTreeSet<String>,
    /// Units.
    pub units: BTreeSet<String>,
}

/// What [`plan`] has to know of the host for this document.
#[must_use]
pub fn question(document: &Document) -> Question {
    let mut question = Question::default();
    question.paths.extend(["/etc/hostname", "/etc/hosts", FLEET_CONF].map(String::from));
    question.users.insert("root".into());
    question.groups.insert("root".into());
    for user in &document.users {
        question.users.insert(user.name.clone());
        question.groups.extend(user.groups.iter().cloned());
        let home = user.home.clone().unwrap_or_else(|| format!("/home/{}", user.name));
        question.paths.insert(keys_file(&home));
    }
    for file in &document.files {
        question.paths.insert(file.path.clone());
        question.users.insert(file.owner.user.clone());
        question.groups.insert(file.owner.group.clone());
    }
    for settings in &document.settings {
        question.paths.insert(settings.path());
        question.units.insert(settings.unit.into());
    }
    for unit in &document.units {
        question.paths.extend(paths(unit));
        if !unit.is_network() {
            question.units.insert(unit.name.clone());
        }
        if unit.name == ETCD2.0 {
            question.units.insert(ETCD2.1.into());
        }
    }
    if !document.fleet.is_empty() {
        question.units.insert(FLEET.into());
    }
    question
}

#[cfg(test)]
mod tests;

//! `users`, and `ssh_authorized_keys` at the top, which are those of the user `core`.

use super::get;
use crate::{
    fault::Mark,
    reader::{Fields, Reader},
    yaml::Node,
};

/// A user to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Where it stands in the document.
    pub mark: Mark,
    /// The name to log in with.
    pub name: String,
    /// The hash of the password.
    pub password: Option<String>,
    /// Public keys that let the user in.
    pub keys: Vec<String>,
    /// The comment in the list of users.
    pub gecos: Option<String>,
    /// The home directory, when it is not /home/NAME.
    pub home: Option<String>,
    /// Whether no home directory is made.
    pub no_home: bool,
    /// The first group, when it is not one of the user's own name.
    pub primary_group: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// Whether no group of the user's own name is made.
    pub no_user_group: bool,
    /// Whether it is a user of the system, not a person.
    pub system: bool,
    /// Whether logins leave no trace in lastlog.
    pub no_log_init: bool,
    /// The shell.
    pub shell: Option<String>,
}

/// The user of CoreOS.
const CORE: &str = "core";

const KEYS: [&str; 21] = [
    "coreos_ssh_import_github",
    "coreos_ssh_import_github_users",
    "coreos_ssh_import_url",
    "gecos",
    "groups",
    "homedir",
    "inactive",
    "lock_passwd",
    "name",
    "no_create_home",
    "no_log_init",
    "no_user_group",
    "passwd",
    "primary_group",
    "selinux_user",
    "shell",
    "ssh_authorized_keys",
    "ssh_import_id",
    "sudo",
    "system",
    "uid",
];

/// Keys that are read and do nothing, and why.
const ACCEPTED: [(&str, &str); 9] = [
    ("coreos_ssh_import_github", "keys are not fetched: write them to ssh-authorized-keys"),
    ("coreos_ssh_import_github_users", "keys are not fetched: write them to ssh-authorized-keys"),
    ("coreos_ssh_import_url", "keys are not fetched: write them to ssh-authorized-keys"),
    ("ssh_import_id", "keys are not fetched: write them to ssh-authorized-keys"),
    ("inactive", "CoreOS did not do it either"),
    ("lock_passwd", "CoreOS did not do it either: without passwd nobody logs in by password"),
    ("selinux_user", "CoreOS did not do it either"),
    ("sudo", "CoreOS did not do it either: use groups: [sudo], or a file in /etc/sudoers.d"),
    ("uid", "CoreOS did not do it either"),
];

pub(super) fn read(document: &Fields<'_>, reader: &mut Reader) -> Vec<User> {
    let mut users = Vec::new();
    if let Some(node) = document.get("users") {
        users.extend(reader.list(node, "users").iter().filter_map(|item| user(item, reader)));
    }
    if let Some(node) = document.get("ssh_authorized_keys") {
        let found = keys(reader, node, "ssh_authorized_keys");
        let mark = document.mark_of("ssh_authorized_keys");
        match users.iter_mut().find(|user| user.name == CORE) {
            _ if found.is_empty() => {}
            Some(core) => core.keys.extend(found),
            None => users.push(User { mark, name: CORE.into(), keys: found, ..User::default() }),
        }
    }
    users
}

fn user(node: &Node, reader: &mut Reader) -> Option<User> {
    let what = "users";
    let fields = reader.fields(node, what, &KEYS);
    let Some(name) = fields.get("name") else {
        reader.fault(fields.mark, "a user has no name", "add `name: NAME`");
        return None;
    };
    for (key, why) in ACCEPTED {
        if fields.get(key).is_some() {
            reader.note(fields.mark_of(key), format!("users.{} does nothing: {why}", key.replace('_', "-")));
        }
    }
    let mark = name.mark;
    let name = account(reader, name, "users.name");
    let groups = fields.get("groups").map(|node| groups(reader, node)).unwrap_or_default();
    let keys = fields.get("ssh_authorized_keys").map(|node| keys(reader, node, "users.ssh-authorized-keys"));
    let user = User {
        mark,
        password: get(&fields, reader, "passwd", what, password),
        keys: keys.unwrap_or_default(),
        gecos: get(&fields, reader, "gecos", what, field),
        home: get(&fields, reader, "homedir", what, directory),
        no_home: get(&fields, reader, "no_create_home", what, Reader::flag).unwrap_or_default(),
        primary_group: get(&fields, reader, "primary_group", what, account),
        groups,
        no_user_group: get(&fields, reader, "no_user_group", what, Reader::flag).unwrap_or_default(),
        system: get(&fields, reader, "system", what, Reader::flag).unwrap_or_default(),
        no_log_init: get(&fields, reader, "no_log_init", what, Reader::flag).unwrap_or_default(),
        shell: get(&fields, reader, "shell", what, directory),
        name: name?,
    };
    Some(user)
}

/// The name of a user or a group.
fn account(reader: &mut Reader, node: &Node, what: &str) -> Option<String> {
    let name = reader.line(node, what)?.text;
    let mut chars = name.chars();
    let begins = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if begins && name.len() <= 32 && chars.all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Some(name);
    }
    let message = format!("{what} cannot be {name:?}");
    reader.fault(node.mark, message, "begin with a letter; at most 32 letters, digits, `-`, `_` and `.`");
    None
}

/// Groups: a list, or names with commas between.
fn groups(reader: &mut Reader, node: &Node) -> Vec<String> {
    if let crate::yaml::Value::Scalar { .. } = &node.value {
        let Some(text) = reader.line(node, "users.groups") else { return Vec::new() };
        let names = text.text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let part = |name: &str| Node {
            mark: node.mark,
            value: crate::yaml::Value::Scalar { text: name.into(), style: crate::yaml::Style::Other },
        };
        return names.filter_map(|name| account(reader, &part(name), "users.groups")).collect();
    }
    reader.list(node, "users.groups").iter().filter_map(|item| account(reader, item, "users.groups")).collect()
}

fn password(reader: &mut Reader, node: &Node, what: &str) -> Option<String> {
    let hash = field(reader, node, what)?;
    if hash.starts_with('$') || hash == "*" || hash.starts_with('!') || hash.len() == 13 {
        return Some(hash);
    }
    // Not shown: it is most likely the password itself.
    reader.fault(node.mark, format!("{what} is no hash of a password"), "make one with `openssl passwd -6`");
    None
}

/// A field of the list of users, which has a line for each user and `:` between its fields.
fn field(reader: &mut Reader, node: &Node, what: &str) -> Option<String> {
    let text = reader.line(node, what)?.text;
    if text.contains(':') {
        reader.fault(node.mark, format!("{what} has a `:`"), "leave it out: it separates the fields of /etc/passwd");
        return None;
    }
    Some(text)
}

fn directory(reader: &mut Reader, node: &Node, what: &str) -> Option<String> {
    let text = field(reader, node, what)?;
    if text.starts_with('/') && !text.split('/').any(|part| part == "..") {
        return Some(text);
    }
    reader.fault(node.mark, format!("{what} is {text:?}, not an absolute path"), "write the whole path from `/` on");
    None
}

/// Public keys as `authorized_keys` has them, one on a line.
fn keys(reader: &mut Reader, node: &Node, what: &str) -> Vec<String> {
    let lines = reader.lines(node, what);
    let (keys, others): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.text.split_whitespace().count() >= 2 && !line.text.starts_with('-'));
    for other in others {
        let message = format!("{what} has {:?}, which is no public key", shorten(&other.text));
        reader.fault(other.mark, message, "write `ssh-ed25519 AAAA... name`, as it stands in a .pub file");
    }
    keys.into_iter().map(|key| key.text).collect()
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 24 { text.into() } else { text.chars().take(20).chain("...".chars()).collect() }
}

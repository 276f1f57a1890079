//! Options in the text of `fleet.conf`, and lines in other files of the host.

use std::collections::BTreeSet;

/// The text with these options in it: a line that sets one is changed, one that is missing is added at the end. All
/// else stays, comments included.
#[must_use]
pub fn with_options(text: &str, options: &[(String, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (name, value) in options {
        let wanted = format!("{name} = {}", quoted(value));
        // Of two lines for one option fleetd takes the last.
        match lines.iter_mut().rev().find(|line| sets(line) == Some(name)) {
            Some(line) => *line = wanted,
            None => lines.push(wanted),
        }
    }
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// The option that a line sets.
fn sets(line: &str) -> Option<&str> {
    let line = line.trim();
    if line.starts_with(['#', ';']) { None } else { line.split_once('=').map(|(name, _)| name.trim()) }
}

/// A string as TOML has it.
fn quoted(value: &str) -> String {
    let mut quoted = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\t' => quoted += "\\t",
            c if c.is_control() => quoted += &format!("\\u{:04X}", c as u32),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The text of `/etc/hosts` in which `hostname` stands for the host itself, as CoreOS made it: at 127.0.0.1. What else
/// there is stays.
#[must_use]
pub fn with_own_name(hosts: &str, hostname: &str) -> String {
    let knows = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        words.next() == Some("127.0.0.1") && words.any(|word| word == hostname)
    };
    if hosts.lines().any(knows) {
        return hosts.to_owned();
    }
    format!("127.0.0.1 {hostname}\n{hosts}")
}

/// The text of an `authorized_keys` with these keys in it; those that are there stay.
#[must_use]
pub fn with_keys(text: &str, keys: &[String]) -> String {
    let mut known: BTreeSet<&str> = text.lines().map(str::trim).collect();
    let mut text = text.to_owned();
    for key in keys {
        if !known.insert(key) {
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += key;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(options: &[(&str, &str)]) -> Vec<(String, String)> {
        options.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn options_are_changed_in_place_or_added_and_comments_stay() {
        let text = "# The members.\netcd_servers=[\"http://a\"]\n#metadata = \"\"\n";
        let new = with_options(text, &options(&[("metadata", "a=b,c=\"d\""), ("etcd_servers", "http://x,http://y")]));
        assert_eq!(
            new,
            "# The members.\netcd_servers = \"http://x,http://y\"\n#metadata = \"\"\nmetadata = \"a=b,c=\\\"d\\\"\"\n"
        );
        assert_eq!(with_options("", &options(&[("a", "b\\")])), "a = \"b\\\\\"\n");
        assert_eq!(with_options("a = 1\na = 2\n", &options(&[("a", "3")])), "a = 1\na = \"3\"\n");
    }

    #[test]
    fn own_name_and_keys_are_added_once() {
        assert_eq!(with_own_name("127.0.0.1 localhost\n", "core1"), "127.0.0.1 core1\n127.0.0.1 localhost\n");
        assert_eq!(with_own_name("127.0.0.1 localhost core1 # us\n", "core1"), "127.0.0.1 localhost core1 # us\n");
        assert_eq!(with_keys("ssh-rsa A a", &["ssh-rsa B b".into()]), "ssh-rsa A a\nssh-rsa B b\n");
        assert_eq!(with_keys("ssh-rsa A a\n", &["ssh-rsa A a".into()]), "ssh-rsa A a\n");
    }

    proptest::proptest! {
        #[test]
        fn a_second_time_changes_nothing(
            text in "([a-c] ?= ?[a-z\"]{0,3}\n|#[a-z =]{0,6}\n|[a-z]{0,3}\r?\n){0,6}",
            option in "[a-d]",
            value in ".{0,8}",
        ) {
            let options = vec![(option.clone(), value.clone())];
            let once = with_options(&text, &options);
            proptest::prop_assert_eq!(&with_options(&once, &options), &once);
            let once = with_own_name(&text, "name");
            proptest::prop_assert_eq!(&with_own_name(&once, "name"), &once);
            let keys = vec![format!("key {option}"), format!("key {option}")];
            let once = with_keys(&text, &keys);
            proptest::prop_assert_eq!(&with_keys(&once, &keys), &once);
        }
    }
}

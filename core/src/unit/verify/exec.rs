//! The commands of `Exec…=` lines, taken apart as systemd and, behind `sh -c`, a shell would.
//!
//! Far enough to find what is run with which words; a shell's variables and expansions stay as they are written.

use crate::unit::{UnitFile, UnitOption};

/// A command of the `[Service]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// `ExecStart`, `ExecStop` and so on.
    pub(super) option: &'static str,
    /// The line that the option begins on.
    pub(super) line: u32,
    /// Whether its failure counts for nothing, as far as that can be seen.
    pub(super) may_fail: bool,
    /// The program, and its arguments.
    pub(super) words: Vec<String>,
}

/// Everything that the options of this name run, in order.
pub(super) fn commands(file: &UnitFile, option: &'static str) -> Vec<Command> {
    let mut found = Vec::new();
    for assigned in assigned(file, option) {
        for mut words in systemd_commands(&assigned.value) {
            let Some(first) = words.first_mut() else { continue };
            let program = first.trim_start_matches(['@', '-', ':', '+', '!', '|']);
            let prefix = first[..first.len() - program.len()].to_owned();
            *first = program.to_owned();
            if prefix.contains('@') && words.len() > 1 {
                // What the program is told that it is called.
                words.remove(1);
            }
            let command = |words, may_fail| Command {
                option,
                line: assigned.line,
                may_fail: may_fail || prefix.contains('-'),
                words,
            };
            match script(&words) {
                // Whether the failure of one of its commands is the script's is for the script to say.
                Some(script) => found.extend(shell_commands(script).into_iter().map(|words| command(words, true))),
                None => found.push(command(words, false)),
            }
        }
    }
    found
}

/// The options of `[Service]` with this name that count: an empty one takes back those before it.
pub(super) fn assigned(file: &UnitFile, name: &str) -> Vec<UnitOption> {
    let mut assigned = Vec::new();
    for option in file.settings().into_iter().filter(|option| option.section == "Service" && option.name == name) {
        if option.value.is_empty() {
            assigned.clear();
        } else {
            assigned.push(option);
        }
    }
    assigned
}

/// The last word of a path.
pub(super) fn base(program: &str) -> &str {
    program.rsplit_once('/').map_or(program, |(_, name)| name)
}

/// What a shell is given with `-c`.
fn script(words: &[String]) -> Option<&str> {
    let (program, arguments) = words.split_first()?;
    if !["sh", "bash", "dash", "ash", "zsh"].contains(&base(program)) {
        return None;
    }
    let options = arguments.iter().take_while(|word| word.starts_with('-')).count();
    let at = arguments[..options].iter().position(|word| !word.starts_with("--") && word.ends_with('c'))?;
    arguments.get(at + 1).map(String::as_str)
}

/// The commands of one value: words between blanks, quotes taken off, a lone `;` between commands.
fn systemd_commands(value: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    for word in Words::new(value, &[]) {
        match word {
            Word::Plain(word) if word == ";" => commands.push(Vec::new()),
            Word::Plain(word) if word == "\\;" => push(&mut commands, ";".into()),
            Word::Plain(word) | Word::Quoted(word) => push(&mut commands, word),
            Word::End => {}
        }
    }
    commands.retain(|command| !command.is_empty());
    commands
}

/// The simple commands of a shell script, without what comes before a program's name.
fn shell_commands(script: &str) -> Vec<Vec<String>> {
    const BEFORE: [&str; 15] = [
        "exec", "if", "then", "elif", "else", "while", "until", "do", "{", "!", "time", "nohup", "env", "command",
        "sudo",
    ];
    // In a unit file, systemd makes one `$` of two before the shell sees them.
    let script = script.replace("$$", "$");
    let mut commands = vec![Vec::new()];
    for word in Words::new(&script, &[';', '&', '|', '(', ')', '\n', '`']) {
        match word {
            Word::End => commands.push(Vec::new()),
            Word::Plain(word) | Word::Quoted(word) => push(&mut commands, word),
        }
    }
    let is_before = |word: &String| {
        let assignment = word
            .split_once('=')
            .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        assignment || BEFORE.contains(&word.as_str())
    };
    for command in &mut commands {
        let program = command.iter().position(|word| !is_before(word)).unwrap_or(command.len());
        command.drain(..program);
    }
    commands.retain(|command| !command.is_empty());
    commands
}

fn push(commands: &mut [Vec<String>], word: String) {
    commands.last_mut().expect("there is always one").push(word);
}

/// A word, or the end of a command.
enum Word {
    Plain(String),
    /// With quotes around all of it or a part.
    Quoted(String),
    End,
}

/// Words between blanks, and the characters that end a command.
struct Words<'t> {
    rest: &'t str,
    ends: &'t [char],
}

impl<'t> Words<'t> {
    fn new(text: &'t str, ends: &'t [char]) -> Self {
        Self { rest: text, ends }
    }
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        let blank = |c: char| c.is_whitespace() && !self.ends.contains(&c);
        self.rest = self.rest.trim_start_matches(blank);
        let first = self.rest.chars().next()?;
        if self.ends.contains(&first) {
            self.rest = &self.rest[first.len_utf8()..];
            return Some(Word::End);
        }
        let (mut word, mut quoted, mut quote) = (String::new(), false, None);
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => (quote, quoted) = (Some(c), true),
                (None | Some('"'), '\\') => match chars.next() {
                    // Systemd's way to write a semicolon that ends no command.
                    Some((_, ';')) => word.push_str("\\;"),
                    Some((_, escaped)) => word.push(escaped),
                    None => {}
                },
                (None, c) if c.is_whitespace() || self.ends.contains(&c) => {
                    end = at;
                    break;
                }
                _ => word.push(c),
            }
        }
        self.rest = &self.rest[end..];
        Some(if quoted { Word::Quoted(word) } else { Word::Plain(word) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<Vec<String>> {
        let file = UnitFile::parse(&format!("[Service]\nExecStart={line}\n")).unwrap();
        commands(&file, "ExecStart").into_iter().map(|command| command.words).collect()
    }

    #[test]
    fn lines_come_apart_as_systemd_does_it() {
        for (line, expected) in [
            ("/bin/a -b c", vec![vec!["/bin/a", "-b", "c"]]),
            ("-/bin/a 'b c' \"d e\"f", vec![vec!["/bin/a", "b c", "d ef"]]),
            ("@/bin/a alias b", vec![vec!["/bin/a", "b"]]),
            ("/bin/a ; -/bin/b", vec![vec!["/bin/a"], vec!["/bin/b"]]),
            ("/bin/a \\; b ';'", vec![vec!["/bin/a", ";", "b", ";"]]),
            ("/bin/a \\\n  # a comment\n  -b", vec![vec!["/bin/a", "-b"]]),
            ("/bin/a 'open", vec![vec!["/bin/a", "open"]]),
            ("", vec![]),
        ] {
            assert_eq!(found(line), expected, "{line}");
        }
    }

    #[test]
    fn what_a_shell_runs_is_found() {
        for (script, expected) in [
            ("exec docker run a", vec![vec!["docker", "run", "a"]]),
            (
                "A=1 env B=$$C docker pull a && docker run a || true",
                vec![vec!["docker", "pull", "a"], vec!["docker", "run", "a"], vec!["true"]],
            ),
            ("while sleep 5; do x=$$(docker ps); done", vec![vec!["sleep", "5"], vec!["docker", "ps"], vec!["done"]]),
        ] {
            assert_eq!(found(&format!("/bin/sh -ec '{script}'")), expected, "{script}");
        }
        assert_eq!(found("/bin/sh /script -c x"), [["/bin/sh", "/script", "-c", "x"]]);
    }

    #[test]
    fn failures_count_unless_they_are_said_not_to() {
        let file = UnitFile::parse("[Service]\nExecStartPre=/bin/a\nExecStartPre=-/bin/b\nExecStartPre=/bin/sh -c c\n");
        let commands = commands(&file.unwrap(), "ExecStartPre");
        assert_eq!(commands.iter().map(|command| command.may_fail).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(commands.iter().map(|command| command.line).collect::<Vec<_>>(), [2, 3, 4]);
    }

    proptest::proptest! {
        #[test]
        fn any_line_comes_apart(line in "[-a-c@;&|'\"\\\\ $(){}`]{0,24}") {
            for command in systemd_commands(&line).into_iter().chain(shell_commands(&line)) {
                proptest::prop_assert!(!command.is_empty());
            }
        }
    }
}

//! How flags may be spelled: as clap knows them, and as Go's flag package took them in the first fleetctl.
//!
//! Go has one kind of flag: `-full` is `--full`, and a switch may have a value, `-full=true`. With one dash, a word is a
//! long flag when there is such a flag, or when it cannot be short ones. What follows the target of `ssh` is another
//! program's and left alone; so is what follows `--`.

use std::{collections::BTreeMap, ffi::OsString};

use clap::{Arg, ArgAction, Command};

/// The flags that may stand somewhere, with their dashes, and what they take.
#[derive(Debug, Default)]
struct Flags(BTreeMap<String, Takes>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// No value; Go also takes `=true` and `=false`.
    Nothing,
    /// A value behind a `=`, if any.
    Attached,
    /// A value, which may be the next word.
    Value,
}

impl Flags {
    /// Adds the flags of a command. Those of the root may stand anywhere.
    fn add(&mut self, command: &Command) {
        for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
            let short = arg.get_short().map(|short| format!("-{short}"));
            let long = long_names(arg).map(|name| format!("--{name}"));
            self.0.extend(long.chain(short).map(|flag| (flag, takes(arg))));
        }
    }

    /// The flag that a word with dashes means, without its value.
    fn meant(&self, word: &str) -> String {
        let Some(name) = word.strip_prefix('-').filter(|name| !name.starts_with('-')) else { return word.into() };
        let mut letters = name.chars();
        let may_be_short = letters.next().is_none_or(|first| self.0.contains_key(&format!("-{first}")));
        let is_letter = letters.next().is_none();
        let long = format!("-{word}");
        if !is_letter && (!may_be_short || self.0.contains_key(&long)) { long } else { word.into() }
    }
}

fn long_names(arg: &Arg) -> impl Iterator<Item = &str> {
    arg.get_long().into_iter().chain(arg.get_all_aliases().into_iter().flatten())
}

fn takes(arg: &Arg) -> Takes {
    match arg.get_action() {
        ArgAction::Set | ArgAction::Append if arg.is_require_equals_set() => Takes::Attached,
        ArgAction::Set | ArgAction::Append => Takes::Value,
        _ => Takes::Nothing,
    }
}

/// The words of a command line in the spelling of clap.
pub fn normalized(definition: &Command, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let mut normalized: Vec<OsString> = words.next().into_iter().collect();
    let mut flags = Flags::default();
    flags.add(definition);
    let mut command: Option<&Command> = None;
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if !text.starts_with('-') || text == "-" {
            let is_foreign = command.is_some_and(|command| command.get_name() == "ssh");
            if let (None, Some(found)) = (command, definition.find_subcommand(text)) {
                flags.add(found);
                command = Some(found);
            }
            normalized.push(word);
            if is_foreign {
                break;
            }
            continue;
        }
        if text == "--" {
            normalized.push(word);
            break;
        }
        let (flag, value) = text.split_once('=').map_or((text, None), |(flag, value)| (flag, Some(value)));
        let flag = flags.meant(flag);
        match (flags.0.get(&flag), value) {
            (Some(Takes::Nothing), Some("1" | "t" | "T" | "TRUE" | "true" | "True")) => normalized.push(flag.into()),
            (Some(Takes::Nothing), Some("0" | "f" | "F" | "FALSE" | "false" | "False")) => {}
            (Some(Takes::Value), None) => {
                normalized.push(flag.into());
                normalized.extend(words.next());
            }
            // Clap knows best how to refuse what makes no sense.
            (_, Some(value)) => normalized.push(format!("{flag}={value}").into()),
            (_, None) => normalized.push(flag.into()),
        }
    }
    normalized.extend(words);
    normalized
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::definition;

    fn line(words: &str) -> Vec<OsString> {
        std::iter::once("fleetctl").chain(words.split_whitespace()).map(OsString::from).collect()
    }

    #[track_caller]
    fn becomes(words: &str, expected: &str) {
        becomes_with(&definition(), words, expected);
    }

    #[track_caller]
    fn becomes_with(definition: &Command, words: &str, expected: &str) {
        assert_eq!(normalized(definition, line(words)), line(expected), "{words}");
    }

    #[test]
    fn every_long_flag_of_every_command_may_have_one_dash() {
        let root = definition();
        let mut seen = 0;
        for command in root.get_subcommands() {
            let name = command.get_name();
            for arg in root.get_arguments().chain(command.get_arguments()) {
                for flag in long_names(arg) {
                    let becomes = |words: &str, expected: &str| becomes_with(&root, words, expected);
                    seen += 1;
                    match takes(arg) {
                        _ if flag.len() == 1 => becomes(&format!("{name} --{flag}"), &format!("{name} --{flag}")),
                        Takes::Nothing => {
                            becomes(&format!("{name} -{flag}"), &format!("{name} --{flag}"));
                            becomes(&format!("{name} -{flag}=true x"), &format!("{name} --{flag} x"));
                            becomes(&format!("{name} --{flag}=false x"), &format!("{name} x"));
                            becomes(&format!("{name} -{flag}=maybe"), &format!("{name} --{flag}=maybe"));
                        }
                        Takes::Attached => {
                            becomes(&format!("{name} -{flag}=false"), &format!("{name} --{flag}=false"));
                            becomes(&format!("{name} -{flag} x"), &format!("{name} --{flag} x"));
                        }
                        Takes::Value => {
                            becomes(&format!("{name} -{flag}=a=b"), &format!("{name} --{flag}=a=b"));
                            becomes(&format!("{name} -{flag} -full"), &format!("{name} --{flag} -full"));
                        }
                    }
                }
            }
        }
        assert!(seen > 500, "{seen} flags were looked at");
    }

    #[test]
    fn short_flags_stay_what_they_are() {
        for words in [
            "list-units -l",
            "list-units -lo json",
            "-h",
            "-v",
            "journal -fn5 a",
            "journal -n 5 -f a",
            "journal -n -5 a",
            "ssh -A h1",
            "stop -",
        ] {
            becomes(words, words);
        }
        becomes("list-units -l=true -l=false", "list-units -l");
        becomes("journal -f=true -n=5 a", "journal -f -n=5 a");
    }

    #[test]
    fn flags_stand_before_the_command_too() {
        becomes("-endpoint http://h:1 -debug list-units -full", "--endpoint http://h:1 --debug list-units --full");
        becomes("-tunnel ssh -endpoint=x ssh h1 ls -full", "--tunnel ssh --endpoint=x ssh h1 ls -full");
        becomes("-version", "--version");
        becomes("help -full", "help --full");
    }

    #[test]
    fn what_is_no_flag_is_named_whole() {
        becomes("list-machines -bogusflag", "list-machines --bogusflag");
        becomes("list-machines -bogus=1", "list-machines --bogus=1");
    }

    #[test]
    fn words_of_a_remote_command_are_not_touched() {
        for words in ["ssh h ls --full=false -full --h", "ssh h1 -full", "stop -- -full --full=false ssh"] {
            becomes(words, words);
        }
        becomes("ssh -machine h1 ls -full", "ssh --machine h1 ls -full");
        becomes("ssh -unit=a.service -A=true ls --no-block=false", "ssh --unit=a.service -A ls --no-block=false");
        becomes("ssh -ssh-port 22 -forward-agent h1 -full", "ssh --ssh-port 22 --forward-agent h1 -full");
        becomes("status ssh -ssh-port=22", "status ssh --ssh-port=22");
    }
}

//! The docker command line, as far as units use it.

use crate::unit::verify::exec::base;

/// A command of the docker client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Docker {
    /// `run`
    Run(Run),
    /// `pull`
    Pull,
    /// `start`
    Start {
        /// Whether the client stays.
        attached: bool,
    },
    /// `rm`
    Remove {
        /// With `--force`: running ones, too.
        forced: bool,
        /// Which.
        names: Vec<String>,
    },
    /// `stop` or `kill`
    Stop(Vec<String>),
    /// `compose up`
    Compose {
        /// Whether the client goes away.
        detached: bool,
    },
    /// Any other.
    Other,
}

/// `docker run`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    /// The options before the image, by their long names where they have one.
    options: Vec<(String, Option<String>)>,
    /// Whether a variable stands among them, in which there may be more.
    pub(super) opaque: bool,
}

/// Options of the client itself that take a value.
const GLOBAL: [&str; 10] =
    ["--config", "--context", "-c", "--host", "-H", "--log-level", "-l", "--tlscacert", "--tlscert", "--tlskey"];

/// Options of `docker run` that take none, with their short names.
const SWITCHES: [(&str, char); 14] = [
    ("--detach", 'd'),
    ("--disable-content-trust", ' '),
    ("--help", ' '),
    ("--init", ' '),
    ("--interactive", 'i'),
    ("--no-healthcheck", ' '),
    ("--oom-kill-disable", ' '),
    ("--privileged", ' '),
    ("--publish-all", 'P'),
    ("--quiet", 'q'),
    ("--read-only", ' '),
    ("--rm", ' '),
    ("--sig-proxy", ' '),
    ("--tty", 't'),
];

impl Docker {
    /// Reads a command, unless it is another program's.
    pub(super) fn read(words: &[String]) -> Option<Self> {
        let (program, words) = words.split_first()?;
        match base(program) {
            "docker" => {}
            "docker-compose" => return Some(compose(words)),
            _ => return None,
        }
        let words = after_options(words, &GLOBAL);
        let Some((verb, mut rest)) = words.split_first() else { return Some(Self::Other) };
        let mut verb = verb.as_str();
        if matches!(verb, "container" | "image")
            && let Some((next, after)) = rest.split_first()
        {
            (verb, rest) = (next, after);
        }
        Some(match verb {
            "run" => Self::Run(Run::read(rest)),
            "pull" => Self::Pull,
            "start" => Self::Start { attached: has_switch(rest, "--attach", 'a') },
            "rm" => Self::Remove { forced: has_switch(rest, "--force", 'f'), names: names(rest, &[]) },
            "stop" => Self::Stop(names(rest, &["-t", "--time", "--timeout", "-s", "--signal"])),
            "kill" => Self::Stop(names(rest, &["-s", "--signal"])),
            "compose" => compose(rest),
            _ => Self::Other,
        })
    }

    /// The containers that it removes.
    pub(super) fn removed(&self) -> &[String] {
        if let Self::Remove { names, .. } = self { names } else { &[] }
    }

    /// The containers that it stops.
    pub(super) fn stopped(&self) -> &[String] {
        if let Self::Stop(names) = self { names } else { &[] }
    }
}

impl Run {
    fn read(words: &[String]) -> Self {
        let mut run = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if is_list(word) {
                run.opaque = true;
            } else if let Some((name, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
                run.options.push((name.into(), Some(value.into())));
            } else if word.starts_with("--") && word.len() > 2 {
                let is_switch = SWITCHES.iter().any(|(name, _)| name == word);
                let value = if is_switch { None } else { words.next().cloned() };
                run.options.push((word.clone(), value));
            } else if let Some(letters) =
                word.strip_prefix('-').filter(|letters| !letters.is_empty() && *letters != "-")
            {
                run.short(letters, &mut words);
            } else {
                // The image; what follows is the container's.
                break;
            }
        }
        run
    }

    /// `-dit`, `-p 80:80`, `-p80:80`, `-dp 80:80`
    fn short<'w>(&mut self, letters: &str, words: &mut impl Iterator<Item = &'w String>) {
        for (at, letter) in letters.char_indices() {
            if let Some((name, _)) = SWITCHES.iter().find(|(_, short)| *short == letter) {
                self.options.push(((*name).into(), None));
                continue;
            }
            let attached = letters[at + letter.len_utf8()..].trim_start_matches('=');
            let value = if attached.is_empty() { words.next().cloned() } else { Some(attached.to_owned()) };
            self.options.push((format!("-{letter}"), value));
            return;
        }
    }

    /// Whether a switch is on.
    pub(super) fn has(&self, name: &str) -> bool {
        let last = self.options.iter().rev().find(|(known, _)| known == name);
        last.is_some_and(|(_, value)| !matches!(value.as_deref(), Some("false" | "0" | "f" | "F" | "False" | "FALSE")))
    }

    /// The value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| known == name)?.1.as_deref()
    }
}

/// Whether systemd makes any number of words of this one: `$OPTIONS`, but not `${IMAGE}`.
fn is_list(word: &str) -> bool {
    word.starts_with('$') && !word.starts_with("${") && word.len() > 1
}

fn compose(words: &[String]) -> Docker {
    let words = after_options(words, &["-f", "--file", "-p", "--project-name", "--profile", "--env-file", "--ansi"]);
    match words.split_first() {
        Some((verb, rest)) if verb == "up" => Docker::Compose { detached: has_switch(rest, "--detach", 'd') },
        _ => Docker::Other,
    }
}

/// The words from the first that is neither an option nor the value of one of `with_value`.
fn after_options<'w>(words: &'w [String], with_value: &[&str]) -> &'w [String] {
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        at += if with_value.contains(&word.as_str()) { 2 } else { 1 };
    }
    words.get(at..).unwrap_or_default()
}

/// The words that are neither options nor their values.
fn names(words: &[String], with_value: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = after_options(words, with_value);
    while let Some((name, after)) = rest.split_first() {
        names.push(name.clone());
        rest = after_options(after, with_value);
    }
    names
}

fn has_switch(words: &[String], long: &str, short: char) -> bool {
    words.iter().any(|word| {
        word == long
            || word.starts_with('-') && !word.starts_with("--") && word.contains(short)
            || word.strip_prefix(long).is_some_and(|value| value == "=true")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Docker {
        let words: Vec<String> = line.split_whitespace().map(Into::into).collect();
        Docker::read(&words).unwrap()
    }

    fn run(line: &str) -> Run {
        match read(&format!("/usr/bin/docker run {line}")) {
            Docker::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_end_where_the_image_begins() {
        for (line, detached, name, rm) in [
            ("--rm --name a image -d --name b", false, Some("a"), true),
            ("-d image", true, None, false),
            ("-p 80:80 --name=a -dit image", true, Some("a"), false),
            ("-dp 80:80 image --rm", true, None, false),
            ("-p80:80 -d image", true, None, false),
            ("-v=/a:/b --rm=false --detach=true image", true, None, false),
            ("-e d --env -d image", false, None, false),
            ("--rm=true --name ${NAME} ${IMAGE} -d", false, Some("${NAME}"), true),
        ] {
            let run = run(line);
            assert_eq!((run.has("--detach"), run.value("--name"), run.has("--rm")), (detached, name, rm), "{line}");
            assert!(!run.opaque, "{line}");
        }
        assert!(run("--name a $OPTIONS image").opaque);
        assert!(!run("--name a image $OPTIONS").opaque);
    }

    #[test]
    fn commands_are_known_by_all_their_names() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (line, expected) in [
            ("docker -H tcp://a:1 --debug pull image", Docker::Pull),
            ("docker image pull image", Docker::Pull),
            ("docker container rm -fv a b", Docker::Remove { forced: true, names: names(&["a", "b"]) }),
            ("docker rm a", Docker::Remove { forced: false, names: names(&["a"]) }),
            ("docker stop -t 5 a", Docker::Stop(names(&["a"]))),
            ("docker kill --signal=HUP a", Docker::Stop(names(&["a"]))),
            ("docker start -a x", Docker::Start { attached: true }),
            ("docker start x", Docker::Start { attached: false }),
            ("docker compose -f a.yml up -d", Docker::Compose { detached: true }),
            ("docker-compose up", Docker::Compose { detached: false }),
            ("docker ps", Docker::Other),
            ("docker", Docker::Other),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
        assert_eq!(Docker::read(&["/usr/bin/podman".into(), "run".into()]), None);
    }
}

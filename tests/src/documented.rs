//! What a document tells people to type, for the test that types it.

use std::{fs, path::Path};

/// The repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in the repository")
}

/// The commands in the `console` blocks of a section of a document: what follows `$ `, in order.
///
/// # Panics
/// When there is no such document, no such section, or no command in it.
#[must_use]
pub fn typed(document: &str, heading: &str) -> Vec<String> {
    let path = repository().join(document);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let commands = commands(&text, heading);
    assert!(!commands.is_empty(), "{document} has no section {heading:?} with commands");
    commands
}

fn commands(text: &str, heading: &str) -> Vec<String> {
    let (mut inside, mut console) = (false, false);
    let mut commands = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ").filter(|_| !console) {
            inside = title == heading;
        } else if line.starts_with("```") {
            console = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside && console) {
            commands.push(command.to_owned());
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_follows_a_prompt_in_a_console_of_the_section_is_typed() {
        let text = "## A\n```console\n$ no\n```\n## B\n$ no\n```\n$ no\n```\n```console\n$ one\nanswer\n$ two  # why\n```\n## C\n";
        assert_eq!(super::commands(text, "B"), ["one", "two  # why"]);
    }
}

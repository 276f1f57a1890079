//! What the documents have a user type: so that tests can type it.

use std::{fs, path::Path};

/// The commands under a heading of a document in `docs/`, in their order: its blocks marked `sh`, and those of the
/// headings below it.
///
/// # Panics
/// When there is no such document, or no command under such a heading.
#[must_use]
pub fn typed(document: &str, heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(document);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let script = under(&text, heading);
    assert!(!script.is_empty(), "{document} has no commands under {heading:?}");
    script
}

fn under(text: &str, heading: &str) -> String {
    let level = |line: &str| Some(line.bytes().take_while(|byte| *byte == b'#').count()).filter(|level| *level > 0);
    let mut script = String::new();
    // How deep the wanted heading is, while the lines are under it.
    let mut depth = None;
    let (mut in_block, mut wanted) = (false, false);
    for line in text.lines() {
        match (in_block, line.strip_prefix("```")) {
            (true, Some(_)) => in_block = false,
            (false, Some(kind)) => (in_block, wanted) = (true, kind == "sh"),
            (true, None) if wanted && depth.is_some() => {
                script += line;
                script.push('\n');
            }
            (false, None) => {
                if let Some(new) = level(line) {
                    if line.trim_start_matches('#').trim() == heading {
                        depth = Some(new);
                    } else if depth.is_some_and(|depth| new <= depth) {
                        depth = None;
                    }
                }
            }
            (true, None) => {}
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_typed_under_the_heading_is_taken() {
        let text = "\
# Title\n```sh\nno\n```\n## TLS\nWords.\n```sh\n# a comment\none\n```\n```toml\nno = 1\n```\n### More\n```sh\ntwo\n```\n## Next\n```sh\nno\n```\n";
        assert_eq!(under(text, "TLS"), "# a comment\none\ntwo\n");
        assert_eq!(under(text, "Nothing"), "");
    }
}

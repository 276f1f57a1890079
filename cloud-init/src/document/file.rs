//! `write_files`

use super::get;
use crate::{encoding::Encoding, fault::Mark, reader::Reader, yaml::Node};

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it stands in the document.
    pub mark: Mark,
    /// Its absolute path.
    pub path: String,
    /// Its contents, unpacked.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose a file is: names or numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The group.
    pub group: String,
}

impl Owner {
    /// `root:root`
    #[must_use]
    pub fn root() -> Self {
        Self { user: "root".into(), group: "root".into() }
    }
}

const KEYS: [&str; 5] = ["content", "encoding", "owner", "path", "permissions"];

pub(super) fn read(node: &Node, reader: &mut Reader) -> Option<File> {
    let what = "write_files";
    let fields = reader.fields(node, what, &KEYS);
    let Some(path) = fields.get("path") else {
        reader.fault(fields.mark, "a file has no path", "add `path: /where/it/goes`");
        return None;
    };
    let path_text = reader.line(path, "write_files.path")?.text;
    let is_path = |text: &str| {
        text.len() < 4096
            && text.strip_prefix('/').is_some_and(|rest| {
                !rest.is_empty() && rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
            })
    };
    if !is_path(&path_text) {
        let message = format!("{path_text:?} is no path that a file can be written to");
        reader.fault(path.mark, message, "write the whole path from `/` on, without `.`, `..` and `//`");
        return None;
    }
    let mode = get(&fields, reader, "permissions", what, permissions);
    let owner = get(&fields, reader, "owner", what, owner);
    let encoding = get(&fields, reader, "encoding", what, encoding);
    let content = match fields.get("content") {
        Some(node) => Some((node, reader.text(node, "write_files.content")?)),
        None => None,
    };
    let content = match content {
        Some((node, text)) => match encoding.unwrap_or_default().decode(&text.text) {
            Ok(content) => content,
            Err(error) => {
                reader.fault(node.mark, error.to_string(), "check `encoding`, and that nothing is cut off");
                return None;
            }
        },
        None => Vec::new(),
    };
    Some(File {
        mark: path.mark,
        path: path_text,
        content,
        mode: mode.unwrap_or(0o644),
        owner: owner.unwrap_or_else(Owner::root),
    })
}

fn encoding(reader: &mut Reader, node: &Node, what: &str) -> Option<Encoding> {
    let text = reader.line(node, what)?.text;
    let encoding = Encoding::new(&text);
    if encoding.is_none() {
        let mend = format!("known are {}", Encoding::NAMES.join(", "));
        reader.fault(node.mark, format!("there is no encoding {text:?}"), mend);
    }
    encoding
}

fn permissions(reader: &mut Reader, node: &Node, what: &str) -> Option<u32> {
    let text = reader.line(node, what)?.text;
    let digits = text.strip_prefix("0o").unwrap_or(&text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777 && (3..=5).contains(&digits.len()));
    if mode.is_none() {
        reader.fault(node.mark, format!("{text:?} are no permissions"), "write them in octal, as in \"0644\"");
    }
    mode
}

fn owner(reader: &mut Reader, node: &Node, what: &str) -> Option<Owner> {
    let text = reader.line(node, what)?.text;
    let (user, group) = text.split_once(':').unwrap_or((&text, "root"));
    let is_name = |name: &str| {
        !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-$".contains(c))
    };
    if is_name(user) && is_name(group) {
        return Some(Owner { user: user.into(), group: group.into() });
    }
    reader.fault(node.mark, format!("{text:?} names no owner"), "write user:group, or the user alone");
    None
}

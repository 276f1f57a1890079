//! No file of the workspace uses another that uses it, be it by way of others: each can be read with what lies below it.
//!
//! A file may use those that it lies under (`http/units.rs` what `http.rs` offers); that is no use as meant here. Names
//! that a file only passes on with `pub use` count as those of the file which they come from.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The crates, by directory.
const CRATES: [&str; 10] =
    ["api", "bench", "client", "cloud-init", "core", "fleetctl", "fleetd", "lab", "sim", "tests"];

/// A module's path below the crate.
type Module = Vec<String>;

/// A file.
#[derive(Default)]
struct File {
    /// Its code, without comments, texts and tests.
    code: String,
    /// What its own code names.
    uses: BTreeSet<Module>,
    /// What it passes on, by the name under which it does.
    passes_on: BTreeMap<String, Module>,
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut circles = Vec::new();
    for name in CRATES.iter().filter(|name| root.join(name).exists()) {
        let uses = uses(&root.join(name).join("src"));
        for (user, used) in uses.iter().flat_map(|(user, used)| used.iter().map(move |used| (user, used))) {
            if reaches(&uses, used, user) {
                circles.push(format!("{name}: {} -> {}", user.join("::"), used.join("::")));
            }
        }
    }
    assert!(circles.is_empty(), "these uses close circles:\n{}", circles.join("\n"));
}

/// Whether a module uses another, by way of any others.
fn reaches(uses: &BTreeMap<Module, BTreeSet<Module>>, from: &Module, to: &Module) -> bool {
    let (mut seen, mut next) = (BTreeSet::from([from]), vec![from]);
    while let Some(module) = next.pop() {
        if module == to {
            return true;
        }
        next.extend(uses.get(module).into_iter().flatten().filter(|used| seen.insert(*used)));
    }
    false
}

/// Which files each file of a crate uses, without those that it lies under.
fn uses(source: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut files = BTreeMap::new();
    let root = ["lib.rs", "main.rs"].map(|name| source.join(name)).into_iter().find(|path| path.exists());
    read(&root.unwrap(), source, Vec::new(), &mut files);
    for module in files.keys().cloned().collect::<Vec<_>>() {
        let code = files[&module].code.clone();
        let (statements, rest) = statements(&code);
        let mut imported: BTreeMap<String, Module> = BTreeMap::new();
        let (mut uses, mut passes_on) = (BTreeSet::new(), BTreeMap::new());
        for (public, tree) in statements {
            for (path, name) in leaves(&tree) {
                let Some(path) = absolute(&files, &module, &path) else { continue };
                if public {
                    passes_on.insert(name, path);
                } else {
                    imported.insert(name, path.clone());
                    uses.insert(path);
                }
            }
        }
        for path in paths(&rest) {
            let by_import = || Some([imported.get(&path[0])?, &path[1..]].concat());
            uses.extend(absolute(&files, &module, &path).or_else(by_import));
        }
        let file = files.get_mut(&module).unwrap();
        (file.uses, file.passes_on) = (uses, passes_on);
    }
    let used = |user: &Module, file: &File| -> BTreeSet<Module> {
        let owners = file.uses.iter().map(|path| owner(&files, path, 0));
        owners.filter(|used| !user.starts_with(used)).collect()
    };
    files.iter().map(|(module, file)| (module.clone(), used(module, file))).collect()
}

/// Reads a file and those of the modules that it declares; their files lie in `below`.
fn read(path: &Path, below: &Path, module: Module, files: &mut BTreeMap<Module, File>) {
    let code = without_tests(&without_texts(&fs::read_to_string(path).unwrap()));
    let words: Vec<&str> = code.split_whitespace().collect();
    for pair in words.windows(2).filter(|pair| pair[0] == "mod") {
        let Some(name) = pair[1].strip_suffix(';') else { continue };
        let child = below.join(format!("{name}.rs"));
        // One with a path of its own is shared with another crate.
        if child.exists() {
            let module = [&*module, &[name.to_owned()]].concat();
            read(&child, &below.join(name), module, files);
        }
    }
    files.insert(module, File { code, ..File::default() });
}

/// The file that a path leads into.
fn owner(files: &BTreeMap<Module, File>, path: &[String], depth: u32) -> Module {
    let length = (0..=path.len()).rev().find(|length| files.contains_key(&path[..*length])).unwrap_or_default();
    let (module, rest) = path.split_at(length);
    match rest.first().and_then(|name| files[module].passes_on.get(name)) {
        Some(origin) if depth < 8 => owner(files, &[origin, &rest[1..]].concat(), depth + 1),
        _ => module.to_vec(),
    }
}

/// A path of this crate from its root; `None` for one of another crate, and for what is no path of modules.
fn absolute(files: &BTreeMap<Module, File>, module: &Module, path: &[String]) -> Option<Module> {
    let first = path.first()?;
    let supers = path.iter().take_while(|part| *part == "super").count();
    let path = match &**first {
        "crate" => path[1..].to_vec(),
        "self" => [module, &path[1..]].concat(),
        "super" => [&module[..module.len().checked_sub(supers)?], &path[supers..]].concat(),
        child if files.contains_key(&[&**module, &[child.to_owned()]].concat()) => [module, path].concat(),
        _ => return None,
    };
    Some(path.into_iter().filter(|part| part != "self").collect())
}

/// The trees of the `use` statements, with whether each passes names on, and the code without them.
fn statements(code: &str) -> (Vec<(bool, String)>, String) {
    let (mut trees, mut rest, mut left) = (Vec::new(), String::new(), code);
    while let Some(at) = left.find("use ") {
        let (before, after) = left.split_at(at);
        rest.push_str(before);
        let is_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let Some(end) = after.find(';').filter(|_| !is_word) else {
            rest.push_str("use ");
            left = &after["use ".len()..];
            continue;
        };
        let public = before.trim_end().rsplit(['\n', ';']).next().unwrap_or_default().trim().starts_with("pub");
        trees.push((public, after["use ".len()..end].to_owned()));
        left = &after[end + 1..];
    }
    rest.push_str(left);
    (trees, rest)
}

/// The paths in a tree, `a::{b, c::d as e}`, and the name that each is known by.
fn leaves(tree: &str) -> Vec<(Module, String)> {
    let tree = tree.trim();
    let Some((before, inner)) = tree.split_once('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path: Module = path.split("::").map(|part| part.trim().to_owned()).collect();
        let own = path.iter().rev().find(|part| *part != "self").cloned().unwrap_or_default();
        return vec![(path, if name.is_empty() { own } else { name.trim().to_owned() })];
    };
    let prefix: Module =
        before.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner[start..at].trim();
                start = (at + 1).min(inner.len());
                if !part.is_empty() {
                    found.extend(leaves(part).into_iter().map(|(path, name)| {
                        let name = if path == ["self"] { prefix.last().cloned().unwrap_or_default() } else { name };
                        ([&*prefix, &*path].concat(), name)
                    }));
                }
            }
            _ => {}
        }
    }
    found
}

/// The paths that stand in code.
fn paths(code: &str) -> Vec<Module> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_part(c)).map(|word| word.trim_end_matches(':'));
    let paths = words.filter(|word| word.contains("::") && !word.starts_with(':'));
    paths.map(|path| path.split("::").map(Into::into).collect()).collect()
}

/// Code without what `#[cfg(test)]` stands before.
fn without_tests(code: &str) -> String {
    let (mut kept, mut left) = (String::new(), code);
    while let Some((before, after)) = left.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let mut depth = 0;
        let end = after.char_indices().find(|(_, c)| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0 && ['}', ';'].contains(c)
        });
        left = end.map_or("", |(end, c)| &after[end + c.len_utf8()..]);
    }
    kept + left
}

/// Code without comments, and with nothing in its texts.
fn without_texts(code: &str) -> String {
    let mut kept = String::new();
    let mut left = code;
    while let Some(c) = left.chars().next() {
        let raw = left.strip_prefix('r').map(|rest| rest.len() - rest.trim_start_matches('#').len());
        let length = match c {
            '/' if left.starts_with("//") => left.find('\n').unwrap_or(left.len()),
            'r' if raw.is_some_and(|hashes| left[1 + hashes..].starts_with('"')) && !kept.ends_with(is_word) => {
                let end = format!("\"{}", "#".repeat(raw.unwrap_or_default()));
                let begin = 1 + end.len();
                left[begin..].find(&end).map_or(left.len(), |at| begin + at + end.len())
            }
            '"' => quoted(left, '"'),
            // A character, and not a lifetime.
            '\'' if left[1..].starts_with('\\') || left[1..].chars().nth(1) == Some('\'') => quoted(left, '\''),
            c => {
                kept.push(c);
                c.len_utf8()
            }
        };
        left = &left[length..];
    }
    kept
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How long a text between such marks is, with them.
fn quoted(text: &str, mark: char) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == mark && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, c)| at + c.len_utf8())
}

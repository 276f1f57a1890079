//! From a tree of YAML to values of the types that keys expect. All faults of a document are collected, so that a
//! person mends them in one go.
//!
//! `-` and `_` are the same in keys, as they were to CoreOS. A value that is empty counts as absent.

use std::{collections::BTreeSet, net::Ipv4Addr};

use fleet_core::unit::suggest;

use crate::{
    fault::{Fault, Mark, Note},
    yaml::{Node, Style, Value},
};

/// What stands in for `$private_ipv4` and `$public_ipv4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The host's address among its neighbours.
    pub private: Option<Ipv4Addr>,
    /// The address at which the world reaches it.
    pub public: Option<Ipv4Addr>,
}

/// Collects what is wrong with a document and what there is to say of it.
pub(crate) struct Reader {
    addresses: Addresses,
    faults: Vec<Fault>,
    notes: Vec<Note>,
}

/// The entries of a mapping, by normalised key.
pub(crate) struct Fields<'n> {
    /// Where the mapping stands.
    pub mark: Mark,
    /// Key, where it stands, and value.
    pub entries: Vec<(String, Mark, &'n Node)>,
}

/// A text of the document and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub text: String,
    pub mark: Mark,
    pub style: Style,
}

impl Reader {
    pub fn new(addresses: Addresses) -> Self {
        Self { addresses, faults: Vec::new(), notes: Vec::new() }
    }

    /// All that was collected, in the order of the document.
    pub fn end(mut self) -> (Vec<Fault>, Vec<Note>) {
        self.faults.sort_by_key(|fault| fault.mark);
        self.notes.sort_by_key(|note| note.line);
        (self.faults, self.notes)
    }

    pub fn fault(&mut self, mark: Mark, message: impl Into<String>, mend: impl Into<String>) {
        self.faults.push(Fault::new(mark, message, mend));
    }

    pub fn note(&mut self, mark: Mark, text: impl Into<String>) {
        self.notes.push(Note { line: mark.line, text: text.into() });
    }

    /// The entries of a mapping. Keys that are not among `known` are faults; `what` says whose keys they are.
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Fields<'n> {
        let fields = self.any_fields(node, what);
        for (key, mark, _) in &fields.entries {
            if !known.contains(&&**key) {
                self.unknown(key, *mark, what, known);
            }
        }
        fields
    }

    /// A key that means nothing there.
    pub fn unknown(&mut self, key: &str, mark: Mark, what: &str, known: &[&str]) {
        let mend = match suggest(key, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.len() <= 12 => format!("known are {}", known.join(", ")),
            None => "remove it, or see docs/cloud-config.md for the keys that there are".into(),
        };
        self.fault(mark, format!("{what} has no key `{key}`"), mend);
    }

    /// The entries of a mapping, whatever their keys.
    pub fn any_fields<'n>(&mut self, node: &'n Node, what: &str) -> Fields<'n> {
        let mut fields = Fields { mark: node.mark, entries: Vec::new() };
        let entries = match &node.value {
            Value::Map(entries) => entries,
            _ if node.is_null() => return fields,
            _ => {
                let message = format!("{what} is {}, not a mapping", node.kind());
                self.fault(node.mark, message, "write `key: value` lines below it, indented");
                return fields;
            }
        };
        let mut seen = BTreeSet::new();
        for (key, value) in entries {
            let Value::Scalar { text, .. } = &key.value else {
                self.fault(key.mark, format!("a key of {what} is {}", key.kind()), "write a word before `:`");
                continue;
            };
            let name = text.replace('-', "_");
            if !seen.insert(name.clone()) {
                self.fault(key.mark, format!("`{text}` stands twice in {what}"), "keep one of them");
            } else {
                fields.entries.push((name, key.mark, value));
            }
        }
        fields
    }

    /// The items of a list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ if node.is_null() => &[],
            _ => {
                let message = format!("{what} is {}, not a list", node.kind());
                self.fault(node.mark, message, "begin each item with `- `, on a line of its own");
                &[]
            }
        }
    }

    /// A single value as text, addresses filled in. Nothing is the empty text.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<Text> {
        match &node.value {
            Value::Scalar { text, style } => {
                let text = if node.is_null() { "" } else { text };
                let text = self.fill_in(text, node.mark)?;
                if text.contains('\0') {
                    self.fault(node.mark, format!("{what} has a NUL character"), "remove it, or use `encoding: b64`");
                    return None;
                }
                Some(Text { text, mark: node.mark, style: *style })
            }
            _ => {
                let message = format!("{what} is {}, not a single value", node.kind());
                self.fault(node.mark, message, "write one value, in quotes if it has a `: ` or a `#`");
                None
            }
        }
    }

    /// A text of one line.
    pub fn line(&mut self, node: &Node, what: &str) -> Option<Text> {
        let text = self.text(node, what)?;
        let trimmed = text.text.trim();
        if trimmed.contains(|c: char| c.is_control() && c != '\t') {
            self.fault(node.mark, format!("{what} has more than one line"), "write it on one line");
            return None;
        }
        Some(Text { text: trimmed.to_owned(), ..text })
    }

    /// Texts of one line each: a list of them, or a single one.
    pub fn lines(&mut self, node: &Node, what: &str) -> Vec<Text> {
        let items = self.list(node, what);
        let texts: Vec<Text> = items.iter().filter_map(|item| self.line(item, what)).collect();
        for text in texts.iter().filter(|text| text.text.is_empty()) {
            self.fault(text.mark, format!("an item of {what} is empty"), "write a value, or remove the `-`");
        }
        texts.into_iter().filter(|text| !text.text.is_empty()).collect()
    }

    /// A truth value, in any of the words that YAML 1.1 has for it.
    pub fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        let text = self.text(node, what)?;
        match &*text.text.to_ascii_lowercase() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => {
                self.fault(node.mark, format!("{what} is {:?}", text.text), "write true or false");
                None
            }
        }
    }

    /// Fills in the addresses. `\$private_ipv4` stands for the word itself.
    fn fill_in(&mut self, text: &str, mark: Mark) -> Option<String> {
        let words = [
            ("$private_ipv4", self.addresses.private, "COREOS_PRIVATE_IPV4 or --private-ipv4"),
            ("$public_ipv4", self.addresses.public, "COREOS_PUBLIC_IPV4 or --public-ipv4"),
        ];
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            let Some((word, address, setting)) = words.iter().find(|(word, ..)| from.starts_with(word)) else {
                filled += before;
                filled.push('$');
                rest = &from[1..];
                continue;
            };
            if let Some(before) = before.strip_suffix('\\') {
                filled += before;
                filled += word;
            } else if let Some(address) = address {
                filled += before;
                filled += &address.to_string();
            } else {
                let message = format!("{word} stands for an address of this host, which is not known");
                self.fault(mark, message, format!("set {setting}"));
                return None;
            }
            rest = &from[word.len()..];
        }
        filled += rest;
        Some(filled)
    }
}

impl<'n> Fields<'n> {
    /// The value of a key; `None` when it is absent or empty.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(known, ..)| known == key).map(|(.., value)| *value).filter(|value| !value.is_null())
    }

    /// Where a key stands; where the mapping stands when it is absent.
    pub fn mark_of(&self, key: &str) -> Mark {
        self.entries.iter().find(|(known, ..)| known == key).map_or(self.mark, |(_, mark, _)| *mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn reader() -> Reader {
        Reader::new(Addresses { private: Some(Ipv4Addr::new(10, 0, 0, 7)), public: None })
    }

    fn fill_in(text: &str) -> (Option<String>, usize) {
        let mut reader = reader();
        (reader.fill_in(text, Mark::default()), reader.end().0.len())
    }

    #[test]
    fn addresses_are_filled_in_wherever_they_are_named() {
        assert_eq!(fill_in("$private_ipv4:7001").0.as_deref(), Some("10.0.0.7:7001"));
        assert_eq!(fill_in("a$private_ipv4,$private_ipv4b").0.as_deref(), Some("a10.0.0.7,10.0.0.7b"));
        assert_eq!(fill_in(r"\$private_ipv4 $HOME \$x $").0.as_deref(), Some(r"$private_ipv4 $HOME \$x $"));
        assert_eq!(fill_in("x $public_ipv4"), (None, 1));
        assert_eq!(fill_in(r"\$public_ipv4").0.as_deref(), Some("$public_ipv4"));
    }

    #[test]
    fn hyphens_and_underscores_are_one_key_and_no_key_stands_twice() {
        let node = yaml::parse("a-b: 1\na_b: 2\nxx: 3\nab: 4\n").unwrap().unwrap();
        let mut reader = reader();
        let fields = reader.fields(&node, "it", &["a_b"]);
        assert_eq!(reader.text(fields.get("a_b").unwrap(), "x").unwrap().text, "1");
        let messages: Vec<String> = reader.end().0.into_iter().map(|f| format!("{}; {}", f.message, f.mend)).collect();
        assert_eq!(
            messages,
            [
                "`a_b` stands twice in it; keep one of them",
                "it has no key `xx`; known are a_b",
                "it has no key `ab`; did you mean `a_b`?"
            ]
        );
    }

    #[test]
    fn truth_values_have_the_words_of_yaml_1_1() {
        let node = yaml::parse("[yes, On, true, no, OFF, maybe]").unwrap().unwrap();
        let Value::List(items) = &node.value else { panic!("{node:?}") };
        let mut reader = reader();
        let flags: Vec<Option<bool>> = items.iter().map(|item| reader.flag(item, "it")).collect();
        assert_eq!(flags, [Some(true), Some(true), Some(true), Some(false), Some(false), None]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_filled_in(text in r"(\\|\$|private_ipv4|public_ipv4|é|x){0,12}") {
            fill_in(&text);
        }
    }
}

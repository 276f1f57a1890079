//! A YAML document as a tree that knows where each of its parts stands.
//!
//! Scalars stay as they are written: in a cloud-config `0644` is four characters and `1.10` a version, and what a key
//! expects decides what they mean. Depth and size are bounded, aliases included, so that no document can exhaust the
//! host that it is to set up.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::fault::{Fault, Mark, lines};

/// Most nodes of a document, with all that its aliases stand for.
const MAX_NODES: usize = 100_000;
/// Most collections within each other.
const MAX_DEPTH: usize = 32;

/// A part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub mark: Mark,
    /// What it is.
    pub value: Value,
}

/// What a part of a document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, number, truth value or nothing: the characters, and how they were written.
    Scalar {
        /// The characters, quotes and escapes resolved.
        text: String,
        /// How they were written.
        style: Style,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the document.
    Map(Vec<(Node, Node)>),
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In quotes, or folded: its lines are not those of the document.
    Other,
    /// After `|`: line by line below the line of the `|`.
    Literal,
}

impl Node {
    /// Whether nothing stands there: an empty value, `~` or `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        let Value::Scalar { text, style: Style::Plain } = &self.value else { return false };
        matches!(&**text, "" | "~" | "null" | "Null" | "NULL")
    }

    /// The word for what it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "empty",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn nodes(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Self::nodes).sum(),
            Value::Map(entries) => entries.iter().map(|(key, value)| key.nodes() + value.nodes()).sum(),
        }
    }

    fn depth(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or_default(),
            Value::Map(entries) => {
                1 + entries.iter().map(|(key, value)| key.depth().max(value.depth())).max().unwrap_or_default()
            }
        }
    }
}

/// Reads the one document of `text`; `None` when there is nothing in it but comments.
///
/// # Errors
/// The first place that is not YAML, or that goes beyond the bounds.
pub fn parse(text: &str) -> Result<Option<Node>, Fault> {
    let lines: Vec<&str> = lines(text).collect();
    let mut tree = Tree::default();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| {
            let at = error.marker();
            let mark = Mark { line: at.line(), column: at.col(), width: 1 };
            Fault::new(mark, format!("this is not YAML: {}", error.info()), "mind indentation, quotes and `: `")
        })?;
        tree.take(&event, &span, &lines)?;
    }
    Ok(tree.root)
}

/// A collection that is not complete yet.
struct Open {
    mark: Mark,
    anchor: Option<usize>,
    /// The key that waits for its value.
    key: Option<Node>,
    value: Value,
}

#[derive(Default)]
struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: usize,
}

impl Tree {
    fn take(&mut self, event: &Event<'_>, span: &Span, lines: &[&str]) -> Result<(), Fault> {
        let mark = mark(span);
        if let Some((scalar, style)) = event.scalar() {
            let style = match style {
                ScalarStyle::Plain => Style::Plain,
                ScalarStyle::Literal => Style::Literal,
                _ => Style::Other,
            };
            // The parser writes `~` where nothing stands.
            let empty = span.start.index() == span.end.index() && style == Style::Plain;
            let scalar = if empty { String::new() } else { scalar.to_owned() };
            let mark = if style == Style::Literal { literal(span, lines) } else { mark };
            return self.add(Node { mark, value: Value::Scalar { text: scalar, style } }, event.anchor_id());
        }
        if let Some(anchor) = event.alias_id() {
            let unknown = || Fault::new(mark, "this alias stands for nothing", "write the value itself");
            let node = self.anchors.get(&anchor).ok_or_else(unknown)?;
            if self.open.len() + node.depth() > MAX_DEPTH {
                return Err(too_deep(mark));
            }
            // Counted before it is copied: a few lines of aliases can stand for more than memory holds.
            self.count(node.nodes(), mark)?;
            let node = Node { mark, ..self.anchors[&anchor].clone() };
            return self.place(node);
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Fault::new(mark, "a second document begins here", "keep one, and remove `---`"));
                }
            }
            Event::SequenceStart(..) => self.begin(mark, event.anchor_id(), Value::List(Vec::new()))?,
            Event::MappingStart(..) => self.begin(mark, event.anchor_id(), Value::Map(Vec::new()))?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { mark, anchor, value, .. }) = self.open.pop() {
                    self.add(Node { mark, value }, anchor)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, mark: Mark, anchor: Option<usize>, value: Value) -> Result<(), Fault> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(mark));
        }
        self.open.push(Open { mark, anchor, key: None, value });
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: Option<usize>) -> Result<(), Fault> {
        self.count(1, node.mark)?;
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node)
    }

    fn count(&mut self, nodes: usize, mark: Mark) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let message = format!("the document has more than {MAX_NODES} parts");
            return Err(Fault::new(mark, message, "write less, or fewer aliases"));
        }
        Ok(())
    }

    fn place(&mut self, node: Node) -> Result<(), Fault> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { value: Value::List(items), .. }) => items.push(node),
            Some(Open { value: Value::Map(entries), key, .. }) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
            Some(Open { value: Value::Scalar { .. }, .. }) => {}
        }
        Ok(())
    }
}

fn too_deep(mark: Mark) -> Fault {
    Fault::new(mark, format!("more than {MAX_DEPTH} collections stand in each other"), "no cloud-config needs that")
}

fn mark(span: &Span) -> Mark {
    let (start, end) = (span.start, span.end);
    let width = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { 1 };
    Mark { line: start.line(), column: start.col(), width: width.max(1) }
}

/// The `|` of a literal block, which the parser has at its first line that is not empty: the lines of the block follow
/// the one of the `|`.
fn literal(span: &Span, lines: &[&str]) -> Mark {
    let first = span.start.line().saturating_sub(1).min(lines.len());
    let above = lines[..first].iter().rposition(|line| !line.trim().is_empty());
    let bar = above.and_then(|index| {
        let before = lines[index].split(" #").next()?;
        let column = before[..before.rfind('|')?].chars().count();
        Some(Mark { line: index + 1, column, width: 1 })
    });
    bar.unwrap_or(Mark { line: span.start.line(), column: span.start.col(), width: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(node: &Node) -> &str {
        match &node.value {
            Value::Scalar { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    fn entries(text: &str) -> Vec<(Node, Node)> {
        match parse(text).unwrap().unwrap().value {
            Value::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_stay_as_they_are_written() {
        let entries = entries("#cloud-config\na: 0644\nb: 1.10\nc: 'yes'\nd:\ne: ~\nf: \"x\\ty\"\n");
        let texts: Vec<&str> = entries.iter().map(|(_, value)| scalar(value)).collect();
        assert_eq!(texts, ["0644", "1.10", "yes", "", "~", "x\ty"]);
        let nulls: Vec<bool> = entries.iter().map(|(_, value)| value.is_null()).collect();
        assert_eq!(nulls, [false, false, false, true, true, false]);
    }

    #[test]
    fn keys_and_values_know_where_they_stand() {
        let (key, value) = &entries("#cloud-config\n\n  host: name\n")[0];
        assert_eq!(key.mark, Mark { line: 3, column: 2, width: 4 });
        assert_eq!(value.mark, Mark { line: 3, column: 8, width: 4 });
    }

    #[test]
    fn a_literal_block_is_marked_at_its_bar() {
        for (text, line, column) in
            [("a: |\n  b\n  c\n", 1, 3), ("a: |\n\n\n  b\n", 1, 3), ("x: y\na: |- # why | so\n  b | c\n", 2, 3)]
        {
            let entries = entries(text);
            let (_, value) = entries.iter().find(|(key, _)| scalar(key) == "a").unwrap();
            assert_eq!((value.mark.line, value.mark.column), (line, column), "{text:?}");
            assert!(matches!(value.value, Value::Scalar { style: Style::Literal, .. }));
        }
    }

    #[test]
    fn aliases_stand_for_what_they_name() {
        let entries = entries("a: &x [1, 2]\nb: *x\n");
        assert_eq!(entries[0].1.value, entries[1].1.value);
        assert_eq!(entries[1].1.mark.line, 2);
    }

    #[test]
    fn nothing_is_no_document_and_two_are_one_too_many() {
        assert_eq!(parse("#cloud-config\n").unwrap(), None);
        assert_eq!(parse("a: b\n---\nc: d\n").unwrap_err().message, "a second document begins here");
        let fault = parse("a: [1, 2\nb: 3\n").unwrap_err();
        assert!(fault.message.starts_with("this is not YAML"), "{fault:?}");
    }

    #[test]
    fn bombs_are_refused_in_time() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", "));
        }
        assert!(parse(&bomb).unwrap_err().message.contains("more than 100000 parts"));
        assert!(parse(&"[".repeat(10_000)).is_err());
        let deep: String = (0..100).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        assert!(parse(&deep).unwrap_err().message.contains("stand in each other"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-z :|>&*!%@`'\"{}\\[\\],#?~\\-\n\t]|é){0,120}") {
            let _ = parse(&text);
        }
    }
}

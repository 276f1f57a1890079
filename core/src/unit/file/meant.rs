//! What a unit file means to systemd: `systemd.syntax(7)`.

use super::{UnitOption, is_comment, lines::is_continued};

/// The options of a text as systemd reads them: lines that continue a value joined by a space, comments between them
/// left out, what is no option passed over.
pub(super) fn read(text: &str) -> Vec<UnitOption> {
    let mut reader = Reader { section: String::new(), options: Vec::new() };
    let mut begun: Option<(u32, String)> = None;
    for (line, number) in text.lines().zip(1..) {
        if is_comment(line.trim_start()) {
            continue;
        }
        let (first, mut joined) = match begun.take() {
            Some((first, begun)) => (first, begun + line),
            None => (number, line.to_owned()),
        };
        if is_continued(&joined) {
            joined.pop();
            joined.push(' ');
            begun = Some((first, joined));
        } else {
            reader.take(first, &joined);
        }
    }
    if let Some((first, joined)) = begun {
        reader.take(first, &joined);
    }
    reader.options
}

struct Reader {
    section: String,
    options: Vec<UnitOption>,
}

impl Reader {
    fn take(&mut self, number: u32, line: &str) {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            if let Some(section) = section.strip_suffix(']') {
                self.section = section.into();
            }
            return;
        }
        let Some((name, value)) = line.split_once('=') else { return };
        if !name.trim().is_empty() {
            self.options.push(UnitOption {
                section: self.section.clone(),
                name: name.trim().into(),
                value: value.trim().into(),
                line: number,
            });
        }
    }
}

//! `fleet.units`: units of the cluster, which CoreOS's cloud-config could not submit.

use std::collections::BTreeMap;

use fleet_core::{
    model::Desired,
    unit::{Requirements, RequirementsError, UnitFile, UnitName, doubts, suggest},
};

use super::{get, unit::line_of};
use crate::{
    fault::Mark,
    reader::{Reader, Text},
    yaml::Node,
};

/// A unit for the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterUnit {
    /// Where it stands in the document.
    pub mark: Mark,
    /// Its name.
    pub name: UnitName,
    /// Its contents.
    pub file: UnitFile,
    /// Whether it runs on every machine that fits.
    pub global: bool,
    /// What is wanted of it.
    pub desired: Desired,
    /// Whether it takes the place of a unit of that name with other contents.
    pub replace: bool,
}

/// Largest unit file that a cluster takes, in bytes.
const MAX_FILE: usize = 64 << 10;

const WORDS: [(&str, Desired); 3] =
    [("start", Desired::Launched), ("load", Desired::Loaded), ("submit", Desired::Inactive)];

/// A unit whose contents may be those of a template further down.
struct Draft {
    mark: Mark,
    name: UnitName,
    content: Option<Text>,
    desired: Option<Desired>,
    replace: bool,
}

pub(super) fn read(node: &Node, reader: &mut Reader) -> Vec<ClusterUnit> {
    let fields = reader.fields(node, "fleet", &["units"]);
    let Some(node) = fields.get("units") else { return Vec::new() };
    let drafts: Vec<Draft> = reader.list(node, "fleet.units").iter().filter_map(|item| draft(item, reader)).collect();
    let templates: BTreeMap<UnitName, Text> =
        drafts.iter().filter_map(|draft| Some((draft.name.clone(), draft.content.clone()?))).collect();
    drafts.into_iter().filter_map(|draft| complete(draft, &templates, reader)).collect()
}

fn draft(node: &Node, reader: &mut Reader) -> Option<Draft> {
    let what = "fleet.units";
    let fields = reader.fields(node, what, &["command", "content", "name", "replace"]);
    let Some(node) = fields.get("name") else {
        reader.fault(fields.mark, "a unit has no name", "add `name: NAME.service`");
        return None;
    };
    let content = get(&fields, reader, "content", what, Reader::text);
    let desired = get(&fields, reader, "command", what, command);
    let replace = get(&fields, reader, "replace", what, Reader::flag).unwrap_or_default();
    let text = reader.line(node, "fleet.units.name")?.text;
    match UnitName::new(&text) {
        Ok(name) => Some(Draft { mark: node.mark, name, content, desired, replace }),
        Err(error) => {
            let mend = match UnitName::new(&format!("{text}.service")) {
                Ok(meant) => format!("did you mean `{meant}`?"),
                Err(_) => "write a name as in `web.service`".into(),
            };
            reader.fault(node.mark, error.to_string(), mend);
            None
        }
    }
}

fn complete(draft: Draft, templates: &BTreeMap<UnitName, Text>, reader: &mut Reader) -> Option<ClusterUnit> {
    let Draft { mark, name, content, desired, replace } = draft;
    let of_template = || name.template().and_then(|template| templates.get(&template).cloned());
    let Some(content) = content.or_else(of_template) else {
        let mend = match name.template() {
            Some(template) => format!("add content, or {template} with content to this list"),
            None => "add `content: |` and the unit's file below it".into(),
        };
        reader.fault(mark, format!("{name} has no content"), mend);
        return None;
    };
    let file = match UnitFile::parse(&content.text) {
        Ok(file) => file,
        Err(error) => {
            let mark = Mark { line: line_of(&content, error.line), column: 0, width: usize::MAX };
            reader.fault(mark, format!("{name}: {error}"), error.kind.mend());
            return None;
        }
    };
    if file.options().is_empty() {
        reader.fault(content.mark, format!("{name} has nothing in it"), "write its sections and options");
        return None;
    }
    let size = file.canonical().len();
    if size > MAX_FILE {
        let message = format!("{name} has {size} bytes, and a cluster takes {MAX_FILE} at most");
        reader.fault(content.mark, message, "put what is large into an image or a volume");
        return None;
    }
    let (requirements, _) = match Requirements::read_new(&file, &name) {
        Ok(read) => read,
        Err(error) => {
            let mend = match &error {
                RequirementsError::Install(error) => error.mend(),
                _ => "mend its [X-Fleet] section".into(),
            };
            reader.fault(content.mark, format!("{name}: {error}"), mend);
            return None;
        }
    };
    for warning in doubts(&file, &name) {
        let mark = Mark { line: line_of(&content, warning.line), ..content.mark };
        let hint = warning.hint.map(|hint| format!(", {hint}")).unwrap_or_default();
        reader.note(mark, format!("{name}: {}{hint}", warning.message));
    }
    if name.is_template() && desired.is_some_and(|desired| desired != Desired::Inactive) {
        let instance = name.as_str().replacen('@', "@1", 1);
        reader.fault(mark, format!("{name} is a template and never runs"), format!("add `- name: {instance}`"));
        return None;
    }
    let usual = if name.is_template() { Desired::Inactive } else { Desired::Launched };
    let desired = desired.unwrap_or(usual);
    Some(ClusterUnit { mark, name, file, global: requirements.global, desired, replace })
}

fn command(reader: &mut Reader, node: &Node, what: &str) -> Option<Desired> {
    let word = reader.line(node, what)?.text;
    let desired = WORDS.iter().find(|(known, _)| *known == word).map(|(_, desired)| *desired);
    if desired.is_none() {
        let mend = match suggest(&word, WORDS.map(|(known, _)| known)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "known are start, load and submit".into(),
        };
        reader.fault(node.mark, format!("{what} cannot be {word:?}"), mend);
    }
    desired
}

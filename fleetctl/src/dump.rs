//! A dump of CoreOS fleet's keyspace in etcd v2, read and checked. Pure.
//!
//! The dump is what etcd's v2 API answers to `GET /v2/keys/_coreos.com/fleet?recursive=true`: a tree of nodes, each
//! with its whole `key`, and a `value` or `nodes` of its own. Below the prefix, whatever it is, these count:
//!
//! * `/job/NAME/object`: `{"Name": NAME, "UnitHash": [20 bytes]}`
//! * `/job/NAME/target-state`: `inactive`, `loaded` or `launched`; without it, `inactive`
//! * `/unit/HASH`: `{"Raw": the unit file}`, where HASH is the 20 bytes in hexadecimal
//!
//! All else (machines, states, leases) belongs to the moment at which the dump was made.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::{
    model::{Desired, json as objects},
    unit::{NameError, ParseError, Requirements, RequirementsError, UnitFile, UnitHash, UnitName},
};
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

/// What a dump holds.
#[derive(Debug, Default)]
pub struct Dump {
    /// Units that are whole, by name.
    pub units: Vec<DumpedUnit>,
    /// Units that are not, by name, and what is wrong with each.
    pub faults: Vec<(String, Fault)>,
}

/// A unit of a dump.
#[derive(Debug)]
pub struct DumpedUnit {
    /// Its name.
    pub name: UnitName,
    /// Its contents.
    pub file: UnitFile,
    /// Its desired state.
    pub desired: Desired,
}

/// Why a document is no dump.
#[derive(Debug, Error)]
pub enum DumpError {
    /// It cannot be read at all.
    #[error("it is no answer of etcd's v2 API: {0}")]
    Json(#[from] serde_json::Error),
    /// Etcd's own error, in place of a tree.
    #[error("etcd answered with an error: {0}")]
    Refused(String),
    /// A tree of something else.
    #[error("it holds no units of CoreOS fleet: no key ends in /job/NAME/object")]
    Empty,
    /// More than one cluster's.
    #[error("it holds several clusters, below {0}: make a dump of one of them")]
    Several(String),
}

/// Why one unit cannot be taken from a dump.
#[derive(Debug, Error)]
pub enum Fault {
    /// Only its name is known.
    #[error("its contents are missing: the dump has no /unit/{0}")]
    Missing(String),
    /// What is there under its hash are not its contents.
    #[error("its contents are damaged: they do not have the hash {0}")]
    Damaged(String),
    /// Its object, or its contents, are not JSON of this kind.
    #[error("cannot read {key}: {error}")]
    Unreadable {
        /// The key.
        key: String,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// Object and key disagree.
    #[error("its object is that of {0}")]
    OtherName(String),
    /// An unknown desired state.
    #[error("its target state is {0:?}")]
    State(String),
    /// A name that no unit may have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Contents that no unit file may have.
    #[error("line {}: {}", .0.line, .0)]
    File(#[from] ParseError),
    /// Nothing in it.
    #[error("it has no options")]
    NoOptions,
    /// Requirements that contradict each other.
    #[error(transparent)]
    Requirements(#[from] RequirementsError),
}

/// Etcd's answer, or only the tree in it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Answer { node: Node },
    Error { message: String, cause: String },
    Tree(Node),
}

#[derive(Deserialize)]
struct Node {
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    name: String,
    unit_hash: [u8; 20],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    raw: String,
}

/// All keys that have values.
type Values<'d> = BTreeMap<&'d str, &'d str>;

impl Dump {
    /// Reads a dump and checks every unit in it.
    ///
    /// # Errors
    /// The document is no dump of one cluster of CoreOS fleet.
    pub fn read(json: &[u8]) -> Result<Self, DumpError> {
        let root = match serde_json::from_slice(json)? {
            Document::Answer { node } | Document::Tree(node) => node,
            Document::Error { message, cause } => return Err(DumpError::Refused(format!("{message} ({cause})"))),
        };
        let mut values = Values::new();
        collect(&root, &mut values);
        let objects: Vec<(&str, &str)> = values.keys().filter_map(|key| object_of(key)).collect();
        let prefixes: BTreeSet<&str> = objects.iter().map(|(prefix, _)| *prefix).collect();
        if prefixes.len() > 1 {
            return Err(DumpError::Several(prefixes.into_iter().collect::<Vec<_>>().join(" and ")));
        }
        let mut dump = Self::default();
        for (prefix, name) in objects {
            match unit(&values, prefix, name) {
                Ok(unit) => dump.units.push(unit),
                Err(fault) => dump.faults.push((name.into(), fault)),
            }
        }
        if dump.units.is_empty() && dump.faults.is_empty() { Err(DumpError::Empty) } else { Ok(dump) }
    }
}

fn collect<'d>(node: &'d Node, values: &mut Values<'d>) {
    values.extend(node.value.as_deref().map(|value| (&*node.key, value)));
    node.nodes.iter().for_each(|node| collect(node, values));
}

/// `/_coreos.com/fleet` and `a.service` of `/_coreos.com/fleet/job/a.service/object`
fn object_of(key: &str) -> Option<(&str, &str)> {
    let (jobs, name) = key.strip_suffix("/object")?.rsplit_once('/')?;
    Some((jobs.strip_suffix("/job")?, name))
}

fn unit(values: &Values, prefix: &str, name: &str) -> Result<DumpedUnit, Fault> {
    let object: Object = json(values, &format!("{prefix}/job/{name}/object"))?.expect("it is how the unit was found");
    if object.name != name {
        return Err(Fault::OtherName(object.name));
    }
    let name = UnitName::new(name)?;
    let state = values.get(&*format!("{prefix}/job/{name}/target-state")).copied();
    let desired = match state {
        None => Desired::Inactive,
        Some(state) => state.parse().map_err(|_| Fault::State(state.into()))?,
    };
    let hash: String = object.unit_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let contents: Option<Contents> = json(values, &format!("{prefix}/unit/{hash}"))?;
    let text = contents.ok_or_else(|| Fault::Missing(hash.clone()))?.raw;
    let file = UnitFile::parse(&text)?;
    if ![UnitHash::of(&text), file.hash()].iter().any(|known| known.to_string() == hash) {
        return Err(Fault::Damaged(hash));
    }
    if file.options().is_empty() {
        return Err(Fault::NoOptions);
    }
    Requirements::read_new(&file, &name)?;
    Ok(DumpedUnit { name, file, desired })
}

fn json<T: DeserializeOwned>(values: &Values, key: &str) -> Result<Option<T>, Fault> {
    let Some(value) = values.get(key) else { return Ok(None) };
    objects::from_slice(value.as_bytes()).map(Some).map_err(|error| Fault::Unreadable { key: key.into(), error })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TEXT: &str = "[Service]\nExecStart=/bin/true\n";

    /// A dump of nodes below `/f`, in one flat directory: the keys are what counts.
    fn read(values: &[(&str, Value)]) -> Result<Dump, DumpError> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), Into::into);
        let node = |(key, value): &(&str, Value)| json!({"key": format!("/f{key}"), "value": text(value)});
        let nodes: Vec<Value> = values.iter().map(node).collect();
        Dump::read(json!({"action": "get", "node": {"key": "/f", "dir": true, "nodes": nodes}}).to_string().as_bytes())
    }

    fn object(name: &str, text: &str) -> Value {
        let hash = UnitHash::of(text).to_string();
        let bytes: Vec<u8> = (0..20).map(|i| u8::from_str_radix(&hash[2 * i..2 * i + 2], 16).unwrap()).collect();
        json!({"Name": name, "UnitHash": bytes})
    }

    /// One unit `a.service` with everything in place but what `change` does.
    fn fault(change: impl FnOnce(&mut Vec<(&'static str, Value)>)) -> String {
        let contents: &str = Box::leak(format!("/unit/{}", UnitHash::of(TEXT)).into_boxed_str());
        let mut values = vec![
            ("/job/a.service/object", object("a.service", TEXT)),
            ("/job/a.service/target-state", json!("launched")),
            (contents, json!({"Raw": TEXT})),
        ];
        change(&mut values);
        let dump = read(&values).unwrap();
        let fault = dump.faults.first().map(|(_, fault)| fault.to_string());
        fault.unwrap_or_else(|| dump.units[0].desired.as_str().into())
    }

    #[test]
    fn a_whole_unit_comes_with_its_desired_state() {
        assert_eq!(fault(|_| {}), "launched");
        assert_eq!(fault(|values| drop(values.remove(1))), "inactive");
    }

    #[test]
    fn what_is_wrong_with_a_unit_is_said() {
        let hash = UnitHash::of(TEXT);
        assert_eq!(
            fault(|values| values.truncate(2)),
            format!("its contents are missing: the dump has no /unit/{hash}")
        );
        assert_eq!(
            fault(|values| values[2].1 = json!({"Raw": "[Service]\nExecStart=/bin/false\n"})),
            format!("its contents are damaged: they do not have the hash {hash}")
        );
        assert_eq!(fault(|values| values[1].1 = json!("running")), "its target state is \"running\"");
        assert_eq!(fault(|values| values[0].1 = object("b.service", TEXT)), "its object is that of b.service");
        assert!(fault(|values| values[0].1 = json!("{}")).starts_with("cannot read /f/job/a.service/object: missing"));
    }

    #[test]
    fn names_files_and_requirements_are_checked() {
        for (name, text, expected) in [
            ("a.bogus", TEXT, "invalid unit type: \"bogus\""),
            ("a.service", "[Unit\n", "line 1: unable to find end of section"),
            ("a.service", "", "it has no options"),
            ("a.service", "[X-Fleet]\nGlobal=true\nMachineOf=b.service\n", "Global cannot be used with Peers"),
        ] {
            let contents = format!("/unit/{}", UnitHash::of(text));
            let job = format!("/job/{name}/object");
            let dump = read(&[(&job, object(name, text)), (&contents, json!({"Raw": text}))]).unwrap();
            assert_eq!(dump.faults[0].1.to_string(), expected);
        }
    }

    #[test]
    fn other_documents_are_told_apart() {
        let error = |text: &str| Dump::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error("/_coreos.com/fleet/job").starts_with("it is no answer of etcd's v2 API"));
        assert_eq!(
            error(r#"{"errorCode":100,"message":"Key not found","cause":"/_coreos.com/fleet","index":7}"#),
            "etcd answered with an error: Key not found (/_coreos.com/fleet)"
        );
        assert!(error(r#"{"action":"get","node":{"key":"/x","dir":true}}"#).starts_with("it holds no units"));
        let several = read(&[("/a/job/a.service/object", json!("{}")), ("/b/job/a.service/object", json!("{}"))]);
        assert!(several.unwrap_err().to_string().starts_with("it holds several clusters, below /f/a and /f/b"));
    }
}

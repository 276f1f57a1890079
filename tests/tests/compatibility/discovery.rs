//! The discovery document of section 7, as far as the programs that read it care.

use anyhow::{Result, ensure};
use fleet_tests::http::Connection;
use serde_json::Value;

use super::script::Stage;

/// What the document says of itself.
const MEMBERS: [(&str, &str); 9] = [
    ("id", "fleet:v1"),
    ("name", "schema"),
    ("version", "v1"),
    ("protocol", "rest"),
    ("baseUrl", "$ENDPOINT/fleet/v1/"),
    ("rootUrl", "$ENDPOINT/"),
    ("basePath", "/fleet/v1/"),
    ("servicePath", "fleet/v1/"),
    ("batchPath", "batch"),
];

/// Schemas, and the properties that they have, no more and no less.
const SCHEMAS: [(&str, &[&str]); 7] = [
    ("Machine", &["id", "metadata", "primaryIP"]),
    ("MachinePage", &["machines", "nextPageToken"]),
    ("UnitOption", &["name", "section", "value"]),
    ("Unit", &["currentState", "desiredState", "machineID", "name", "options"]),
    ("UnitPage", &["nextPageToken", "units"]),
    ("UnitState", &["hash", "machineID", "name", "systemdActiveState", "systemdLoadState", "systemdSubState"]),
    ("UnitStatePage", &["nextPageToken", "states"]),
];

/// A method: where it stands, its ID, HTTP method and path, the schema that it takes and the one that it gives.
type Method = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, Option<&'static str>);

/// All methods.
const METHODS: [Method; 7] = [
    ("Machines/methods/List", "fleet.Machine.List", "GET", "machines", None, Some("MachinePage")),
    ("Units/methods/List", "fleet.Unit.List", "GET", "units", None, Some("UnitPage")),
    ("Units/methods/Get", "fleet.Unit.Get", "GET", "units/{unitName}", None, Some("Unit")),
    ("Units/methods/Delete", "fleet.Unit.Delete", "DELETE", "units/{unitName}", None, None),
    ("Units/methods/Set", "fleet.Unit.Set", "PUT", "units/{unitName}", Some("Unit"), None),
    ("UnitState/methods/List", "fleet.UnitState.List", "GET", "state", None, Some("UnitStatePage")),
    ("UnitState/methods/Get", "fleet.UnitState.Get", "GET", "state/{unitName}", None, Some("UnitState")),
];

/// Reads the document under both prefixes.
pub fn check(stage: &mut Stage) {
    for prefix in ["/fleet/v1", "/v1-alpha"] {
        let outcome = document(stage, prefix).and_then(|document| is_right(&document));
        stage.check(&format!("7 discovery document under {prefix}"), outcome);
    }
}

fn document(stage: &Stage, prefix: &str) -> Result<Value> {
    let answer = Connection::open(&stage.machines()[0])?.request("GET", &format!("{prefix}/discovery"), "")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(serde_json::from_str(&answer.body)?)
}

fn is_right(document: &Value) -> Result<()> {
    for (member, value) in MEMBERS {
        ensure!(document[member] == value, "{member} is {} instead of {value:?}", document[member]);
    }
    for (schema, properties) in SCHEMAS {
        let object = &document["schemas"][schema];
        let mut known: Vec<&str> = object["properties"]
            .as_object()
            .map(|known| known.keys().map(String::as_str).collect())
            .unwrap_or_default();
        known.sort_unstable();
        ensure!(object["id"] == schema && known == properties, "{schema} is {object}");
    }
    for (place, id, http_method, path, takes, gives) in METHODS {
        let method = document["resources"].pointer(&format!("/{place}")).unwrap_or(&Value::Null);
        let of = |member: &str| method[member]["$ref"].as_str();
        let right = method["id"] == id
            && method["httpMethod"] == http_method
            && method["path"] == path
            && (of("request"), of("response")) == (takes, gives);
        ensure!(right, "{place} is {method}");
    }
    Ok(())
}

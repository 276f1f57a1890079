//! `/machines`: the hosts, and their metadata.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use fleet_api::{Machine, MachinePage};
use fleet_core::{
    model::{MachineId, apply_edits},
    ops::Operation,
};
use serde_json::Value;

use super::{
    ApiError, Shared, aged, body,
    page::page,
    peer::By,
    request::{Query, Whole},
};
use crate::registry::Store;

/// `GET /machines`
pub(super) async fn list<S: Store>(State(api): Shared<S>, query: Query) -> Result<Response, ApiError> {
    let reading = api.view.read().await?;
    let machines = reading.cluster.machines.iter().map(|(id, machine)| {
        let edits = reading.cluster.metadata.get(id).map(|edits| &*edits.record);
        Machine {
            id: id.to_string(),
            metadata: apply_edits(machine.record.metadata.clone(), edits),
            primary_ip: machine.record.address.clone(),
            hostname: machine.record.hostname.clone(),
            drained: edits.is_some_and(|edits| edits.drain),
        }
    });
    let (machines, next_page_token) = page(machines.collect(), &query, api.token_limit)?;
    Ok(aged(MachinePage { machines, next_page_token }, reading.age))
}

/// One operation of a JSON Patch on metadata.
#[derive(Debug, PartialEq)]
struct PatchOperation {
    machine: MachineId,
    key: String,
    /// `None` removes the key.
    value: Option<String>,
}

/// `PATCH /machines`: carries out all operations, in order; each machine's all or none.
pub(super) async fn edit<S: Store>(
    State(api): Shared<S>,
    By(actor): By,
    Whole(body): Whole,
) -> Result<Response, ApiError> {
    let mut by_machine: BTreeMap<MachineId, BTreeMap<String, Option<String>>> = BTreeMap::new();
    for PatchOperation { machine, key, value } in parse(&body)? {
        by_machine.entry(machine).or_default().insert(key, value);
    }
    for (machine, edits) in by_machine {
        api.carry_out(&actor, &Operation::EditMetadata(machine, edits)).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::CONTENT_TYPE, "application/json")]).into_response())
}

/// Reads a patch; every operation is checked before any is done.
fn parse(body: &[u8]) -> Result<Vec<PatchOperation>, ApiError> {
    match body::any(body).map_err(|error| ApiError::bad_request(&error))? {
        Value::Array(operations) => operations.iter().map(operation).collect(),
        // To Go, a list of nothing.
        Value::Null => Ok(Vec::new()),
        other => Err(ApiError::bad_request(&body::wrong_kind(body::kind(&other), "[]api.machineMetadataOp"))),
    }
}

fn operation(value: &Value) -> Result<PatchOperation, ApiError> {
    let bad = |message| Err(ApiError::bad_request(message));
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let op = text("op");
    if !["add", "remove", "replace"].contains(&op) {
        return bad("invalid op: expect add, remove, or replace");
    }
    let path: Vec<&str> = text("path").split('/').collect();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let (machine, key) = match path[..] {
        ["", machine, "metadata", key] if !key.is_empty() && key.chars().all(allowed) => (machine, key),
        _ => return bad("machine metadata path invalid"),
    };
    let Ok(machine) = MachineId::new(machine) else { return bad("machine metadata path invalid") };
    // CoreOS fleet takes an object, though it documents a string.
    let given = value.get("value").and_then(|given| given.get("value").unwrap_or(given).as_str());
    let value = match (op, given.unwrap_or_default()) {
        ("remove", _) => None,
        (_, "") => return bad("invalid value: add and replace require a value"),
        (_, given) => Some(given.to_owned()),
    };
    Ok(PatchOperation { machine, key: key.into(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "d097a72e4aef45bf815b90988acdbf13";

    #[test]
    fn both_shapes_of_a_value_are_taken() {
        let object = format!(r#"[{{"op":"add","path":"/{ID}/metadata/disk","value":{{"value":"ssd"}}}}]"#);
        let string = format!(r#"[{{"op":"replace","path":"/{ID}/metadata/disk","value":"ssd"}}]"#);
        let expected =
            PatchOperation { machine: MachineId::new(ID).unwrap(), key: "disk".into(), value: Some("ssd".into()) };
        assert_eq!(parse(object.as_bytes()).unwrap(), [expected]);
        assert_eq!(parse(string.as_bytes()).unwrap()[0].value.as_deref(), Some("ssd"));
        let remove = format!(r#"[{{"op":"remove","path":"/{ID}/metadata/disk"}}]"#);
        assert_eq!(parse(remove.as_bytes()).unwrap()[0].value, None);
        assert!(parse(b"[]").unwrap().is_empty() && parse(b"null").unwrap().is_empty());
    }

    #[test]
    fn bad_patches_get_the_messages_that_clients_know() {
        for (body, message) in [
            (format!(r#"[{{"op":"move","path":"/{ID}/metadata/a"}}]"#), "invalid op: expect add, remove, or replace"),
            (r#"[{"op":"add","path":"/x/y","value":"v"}]"#.into(), "machine metadata path invalid"),
            (format!(r#"[{{"op":"add","path":"/{ID}/metadata/a b","value":"v"}}]"#), "machine metadata path invalid"),
            (
                format!(r#"[{{"op":"add","path":"/{ID}/metadata/a"}}]"#),
                "invalid value: add and replace require a value",
            ),
            ("{}".into(), "json: cannot unmarshal object into Go value of type []api.machineMetadataOp"),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err(), ApiError::bad_request(message), "{body}");
        }
    }
}

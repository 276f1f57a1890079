//! `GET /discovery`: the API described as a Google discovery document, version 1.

use axum::Json;
use serde_json::{Value, json};

/// The document.
pub(super) async fn discovery() -> Json<Value> {
    Json(document())
}

fn document() -> Value {
    json!({
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "fleet:v1",
        "name": "schema",
        "version": "v1",
        "title": "fleet API",
        "description": "",
        "documentationLink": "http://github.com/coreos/fleet",
        "protocol": "rest",
        "icons": {"x16": "", "x32": ""},
        "labels": [],
        "baseUrl": "$ENDPOINT/fleet/v1/",
        "basePath": "/fleet/v1/",
        "rootUrl": "$ENDPOINT/",
        "servicePath": "fleet/v1/",
        "batchPath": "batch",
        "parameters": {},
        "auth": {},
        "schemas": {
            "Machine": object("Machine", &json!({
                "id": required_string(),
                "primaryIP": required_string(),
                "metadata": {"type": "object", "properties": {}, "additionalProperties": string()},
            })),
            "MachinePage": page("MachinePage", "machines", "Machine"),
            "UnitOption": object("UnitOption", &json!({
                "section": required_string(),
                "name": required_string(),
                "value": string(),
            })),
            "Unit": object("Unit", &json!({
                "name": required_string(),
                "options": list("UnitOption"),
                "desiredState": unit_state(),
                "currentState": unit_state(),
                "machineID": required_string(),
            })),
            "UnitPage": page("UnitPage", "units", "Unit"),
            "UnitState": object("UnitState", &json!({
                "name": required_string(),
                "hash": required_string(),
                "machineID": required_string(),
                "systemdLoadState": required_string(),
                "systemdActiveState": required_string(),
                "systemdSubState": required_string(),
            })),
            "UnitStatePage": page("UnitStatePage", "states", "UnitState"),
        },
        "resources": {
            "Machines": {"methods": {
                "List": {
                    "id": "fleet.Machine.List",
                    "description": "Retrieve a page of Machine objects.",
                    "httpMethod": "GET",
                    "path": "machines",
                    "parameters": {"nextPageToken": query()},
                    "response": {"$ref": "MachinePage"},
                },
            }},
            "Units": {"methods": {
                "List": {
                    "id": "fleet.Unit.List",
                    "description": "Retrieve a page of Unit objects.",
                    "httpMethod": "GET",
                    "path": "units",
                    "parameters": {"nextPageToken": query()},
                    "response": {"$ref": "UnitPage"},
                },
                "Get": {
                    "id": "fleet.Unit.Get",
                    "description": "Retrieve a single Unit object.",
                    "httpMethod": "GET",
                    "path": "units/{unitName}",
                    "parameters": {"unitName": in_path()},
                    "parameterOrder": ["unitName"],
                    "response": {"$ref": "Unit"},
                },
                "Delete": {
                    "id": "fleet.Unit.Delete",
                    "description": "Delete the referenced Unit object.",
                    "httpMethod": "DELETE",
                    "path": "units/{unitName}",
                    "parameters": {"unitName": in_path()},
                    "parameterOrder": ["unitName"],
                },
                "Set": {
                    "id": "fleet.Unit.Set",
                    "description": "Create or update a Unit.",
                    "httpMethod": "PUT",
                    "path": "units/{unitName}",
                    "parameters": {"unitName": in_path()},
                    "parameterOrder": ["unitName"],
                    "request": {"$ref": "Unit"},
                },
            }},
            "UnitState": {"methods": {
                "List": {
                    "id": "fleet.UnitState.List",
                    "description": "Retrieve a page of UnitState objects.",
                    "httpMethod": "GET",
                    "path": "state",
                    "parameters": {"nextPageToken": query(), "unitName": query(), "machineID": query()},
                    "response": {"$ref": "UnitStatePage"},
                },
                "Get": {
                    "id": "fleet.UnitState.Get",
                    "description": "Retrieve a single UnitState object.",
                    "httpMethod": "GET",
                    "path": "state/{unitName}",
                    "parameters": {"unitName": in_path()},
                    "parameterOrder": ["unitName"],
                    "response": {"$ref": "UnitState"},
                },
            }},
        },
    })
}

fn object(id: &str, properties: &Value) -> Value {
    json!({"id": id, "type": "object", "properties": properties})
}

fn page(id: &str, member: &str, of: &str) -> Value {
    object(id, &json!({member: list(of), "nextPageToken": string()}))
}

fn list(of: &str) -> Value {
    json!({"type": "array", "required": true, "items": {"$ref": of}})
}

fn string() -> Value {
    json!({"type": "string"})
}

fn required_string() -> Value {
    json!({"type": "string", "required": true})
}

fn unit_state() -> Value {
    json!({"type": "string", "enum": ["inactive", "loaded", "launched"]})
}

fn query() -> Value {
    json!({"type": "string", "location": "query"})
}

fn in_path() -> Value {
    json!({"type": "string", "location": "path", "required": true})
}

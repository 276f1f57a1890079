//! Bodies are objects, however deep.

#[path = "../../core/src/model/json/tests/lists.rs"]
mod lists;

use fleet_core::model::json::{from_slice, from_value};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use self::lists::check;
use super::*;

const ID: &str = "d097a72e4aef45bf815b90988acdbf13";
const HASH: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

fn body<T: Serialize + DeserializeOwned>(sample: &Value) {
    check::<T>(sample, |text| from_slice(text).ok());
    check::<T>(sample, |text| from_value(serde_json::from_slice(text).unwrap()).ok());
}

#[test]
fn no_body_takes_a_list_for_an_object() {
    let option = json!({"name": "ExecStart", "section": "Service", "value": "/bin/true"});
    let unit = json!({
        "currentState": "inactive", "desiredState": "loaded", "machineID": ID, "name": "a.service", "options": [option],
    });
    body::<Unit>(&unit);
    body::<UnitPage>(&json!({"units": [unit], "nextPageToken": "t"}));
    let machine = json!({"id": ID, "metadata": {"a": "b"}, "primaryIP": "i", "hostname": "h", "drained": true});
    body::<MachinePage>(&json!({"machines": [machine], "nextPageToken": "t"}));
    let state = json!({
        "hash": HASH, "machineID": ID, "name": "a.service", "systemdActiveState": "active",
        "systemdLoadState": "loaded", "systemdSubState": "running",
    });
    body::<UnitStatePage>(&json!({"states": [state], "nextPageToken": "t"}));
    body::<ErrorEntity>(&json!({"error": {"code": 404, "message": "m", "reason": "unit-not-found"}}));
    let change = json!({"name": "a.service", "desiredState": "loaded", "options": [option], "destroy": true});
    body::<Changes>(&json!({ "changes": [change] }));
    body::<ChangesMade>(
        &json!({"results": [{"name": "a.service", "code": 409, "message": "m", "reason": "new-word"}]}),
    );
    let start = json!({"revision": 1, "noticed": 2, "installed": 3, "queued": 4, "active": 5, "settled": 6});
    body::<Trace>(&json!({
        "name": "a.service", "machineID": ID, "wanted": 1, "scheduled": 2, "reported": 3, "start": start,
    }));
    let verdict = json!({"id": ID, "primaryIP": "i", "fits": true, "reason": "r"});
    let report = json!({
        "machineID": ID, "hash": HASH, "currentState": "loaded", "generation": 1, "job": true, "load": "loaded",
        "active": "active", "sub": "running", "since": 1, "problem": "p",
    });
    let drained = json!({"name": "a.service", "state": "stuck", "machineID": ID, "reason": "r"});
    let away = json!({"id": ID, "since": "s", "until": "u", "reason": "r"});
    let waits = json!({"name": "a.service", "machineID": ID, "until": "u"});
    body::<Held>(&json!({"machines": [away], "units": [waits]}));
    body::<Drain>(&json!({"machineID": ID, "drained": true, "units": [drained], "globals": ["g.service"]}));
    body::<Why>(&json!({"name": "a.service", "summary": "s", "machineID": ID, "machines": [verdict]}));
    body::<UnitStatus>(&json!({
        "name": "a.service", "exists": true, "global": false, "hash": HASH, "desiredState": "loaded",
        "currentState": "loaded", "machineID": ID, "generation": 1, "reports": [report],
    }));
    let older = json!({"id": ID, "hostname": "h", "version": "0.1.0"});
    body::<Version>(&json!({
        "version": "0.1.0", "features": ["a"], "schema": 1, "oldest": "0.1.0", "inUse": ["b"],
        "waitsFor": {"c": [older]},
    }));
}

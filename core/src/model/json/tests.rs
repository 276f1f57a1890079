use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::{
    agent::Installed,
    model::{
        HeldRecord, MachineRecord, MetadataEdits, Record, ScheduledRecord, StateRecord, UnitRecord,
        api::{
            Changes, ChangesMade, Drain, ErrorEntity, Held, MachinePage, Trace, Unit, UnitPage, UnitStatePage,
            UnitStatus, Why,
        },
    },
};

const ID: &str = "d097a72e4aef45bf815b90988acdbf13";
const HASH: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

/// `sample` with one of its objects, however deep, as the list of that object's values, or as an empty one.
fn with_a_list(sample: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    match sample {
        Value::Object(members) => {
            found.push(Value::Array(members.values().cloned().collect()));
            found.push(json!([]));
            for (name, value) in members {
                found.extend(with_a_list(value).into_iter().map(|other| {
                    let mut members = members.clone();
                    members.insert(name.clone(), other);
                    Value::Object(members)
                }));
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                found.extend(with_a_list(value).into_iter().map(|other| {
                    let mut items = items.clone();
                    items[place] = other;
                    Value::Array(items)
                }));
            }
        }
        _ => {}
    }
    found
}

/// Reads `sample`, and none of its likenesses with a list in it.
fn check<T: Serialize + DeserializeOwned>(sample: &Value, read: impl Fn(&[u8]) -> Option<T>) {
    let kind = std::any::type_name::<T>();
    let value = read(sample.to_string().as_bytes()).unwrap_or_else(|| panic!("{kind} is read: {sample}"));
    let known = serde_json::to_value(&value).unwrap();
    let mut members = sample.as_object().unwrap().iter().filter(|(name, _)| *name != "v");
    assert!(members.all(|(name, value)| known[name] == *value), "{kind}: all of the sample is read: {known}");
    for wrong in with_a_list(sample) {
        assert!(read(wrong.to_string().as_bytes()).is_none(), "{kind}: {wrong}");
    }
}

fn body<T: Serialize + DeserializeOwned>(sample: &Value) {
    check::<T>(sample, |text| from_slice(text).ok());
    check::<T>(sample, |text| from_value(serde_json::from_slice(text).unwrap()).ok());
}

fn record<R: Record>(mut sample: Value) {
    sample["v"] = json!(1);
    check::<R>(&sample, |text| R::decode(text).ok());
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
    body::<ErrorEntity>(&json!({"error": {"code": 404, "message": "m"}}));
    let change = json!({"name": "a.service", "desiredState": "loaded", "options": [option], "destroy": true});
    body::<Changes>(&json!({ "changes": [change] }));
    body::<ChangesMade>(&json!({"results": [{"name": "a.service", "code": 204, "message": "m"}]}));
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
}

#[test]
fn no_record_takes_a_list_for_an_object() {
    let unit = json!({"hash": HASH, "desired": "launched", "generation": 2});
    record::<UnitRecord>(unit.clone());
    let mut scheduled = unit;
    scheduled["file"] = json!("[Unit]\n");
    record::<ScheduledRecord>(scheduled);
    record::<MachineRecord>(json!({
        "address": "a", "hostname": "h", "metadata": {"a": "b"}, "version": "1", "boot_id": "b", "cpus": 1, "memory": 2,
        "leaving": true,
    }));
    record::<MetadataEdits>(json!({"edits": {"a": "b", "c": null}, "drain": true, "evicted": true}));
    let start = json!({"revision": 1, "noticed": 2, "installed": 3, "queued": 4, "active": 5, "settled": 6});
    record::<StateRecord>(json!({
        "hash": HASH, "load": "loaded", "active": "active", "sub": "running", "current": "launched", "generation": 1,
        "job": true, "since": 2, "problem": "p", "released": 3, "start": start,
    }));
    record::<HeldRecord>(json!({
        "machines": [{"id": ID, "since": "s", "until": "u", "reason": "r"}],
        "units": [{"name": "a.service", "machine": ID, "until": "u"}],
    }));
    body::<Installed>(&json!({"hash": HASH, "applied": "launched", "generation": 1, "stopping": true}));
}

#[test]
fn what_follows_a_text_is_an_error() {
    assert!(from_slice::<Unit>(b"{} {}").is_err() && from_slice::<Unit>(b" {} \n").is_ok());
}

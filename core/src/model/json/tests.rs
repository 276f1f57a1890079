mod lists;

use serde::Serialize;
use serde_json::{Value, json};

use self::lists::check;
use super::*;
use crate::{
    host::Installed,
    model::{
        HeldRecord, LeaderRecord, MachineRecord, MetadataEdits, Placement, Record, StateRecord, SubmittedRecord,
        UnitRecord,
    },
};

const ID: &str = "d097a72e4aef45bf815b90988acdbf13";
const HASH: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

fn body<T: Serialize + DeserializeOwned>(sample: &Value) {
    check::<T>(sample, |text| from_slice(text).ok());
    check::<T>(sample, |text| from_value(serde_json::from_slice(text).unwrap()).ok());
}

fn record<R: Record>(mut sample: Value) {
    sample["v"] = json!(1);
    check::<R>(&sample, |text| R::decode(text).ok());
}

#[test]
fn no_record_takes_a_list_for_an_object() {
    let unit = json!({"hash": HASH, "desired": "launched", "generation": 2});
    record::<UnitRecord>(unit.clone());
    record::<Placement>(unit);
    record::<MachineRecord>(json!({
        "address": "a", "hostname": "h", "metadata": {"a": "b"}, "version": "1", "boot_id": "b", "cpus": 1, "memory": 2,
        "leaving": true, "features": ["a"],
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
    record::<LeaderRecord>(json!({"machine": ID, "features": ["a"]}));
    record::<SubmittedRecord>(json!({"machine": ID}));
    body::<Installed>(&json!({"hash": HASH, "applied": "launched", "generation": 1, "stopping": true}));
}

#[test]
fn what_follows_a_text_is_an_error() {
    assert!(from_slice::<MetadataEdits>(b"{} {}").is_err() && from_slice::<MetadataEdits>(b" {} \n").is_ok());
}

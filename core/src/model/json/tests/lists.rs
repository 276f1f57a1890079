//! Whether a type is read from an object only, never from a list of its members' values. The tests of `fleet-api`, whose
//! bodies are read the same way, have it, too.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

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
pub fn check<T: Serialize + DeserializeOwned>(sample: &Value, read: impl Fn(&[u8]) -> Option<T>) {
    let kind = std::any::type_name::<T>();
    let value = read(sample.to_string().as_bytes()).unwrap_or_else(|| panic!("{kind} is read: {sample}"));
    let known = serde_json::to_value(&value).unwrap();
    let mut members = sample.as_object().unwrap().iter().filter(|(name, _)| *name != "v");
    assert!(members.all(|(name, value)| known[name] == *value), "{kind}: all of the sample is read: {known}");
    for wrong in with_a_list(sample) {
        assert!(read(wrong.to_string().as_bytes()).is_none(), "{kind}: {wrong}");
    }
}

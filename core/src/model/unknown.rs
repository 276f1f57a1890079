//! Members of a record that this fleet does not know.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

/// The members of a record that are not known here, as they were written. It takes one word while there are none: an
/// engine keeps hundreds of thousands of records.
#[derive(Clone, Default)]
pub struct Unknown(Option<Box<Members>>);

#[derive(Clone)]
struct Members(Vec<(String, Box<RawValue>)>);

impl Unknown {
    /// Takes one more, in place of one of the same name.
    pub(super) fn insert(&mut self, name: String, value: Box<RawValue>) {
        let members = &mut self.0.get_or_insert_with(|| Box::new(Members(Vec::new()))).0;
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, before)) => *before = value,
            None => members.push((name, value)),
        }
    }

    fn members(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().flat_map(|members| &members.0).map(|(name, value)| (&**name, &**value))
    }
}

impl PartialEq for Unknown {
    fn eq(&self, other: &Self) -> bool {
        let text = |(name, value): (&str, &RawValue)| (name.to_owned(), value.get().to_owned());
        self.members().map(text).eq(other.members().map(text))
    }
}

impl Eq for Unknown {}

impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.members().map(|(name, value)| (name, value.get()))).finish()
    }
}

impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.members() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{
        HeldRecord, InUseRecord, LeaderRecord, MachineRecord, MetadataEdits, Placement, Record, StateRecord,
        SubmittedRecord, UnitRecord,
    };

    const ID: &str = "d097a72e4aef45bf815b90988acdbf13";
    const HASH: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    /// Also what no value of serde_json's could hold as it is.
    const LATER: &str = r#""later":{"a":[1e400,123456789012345678901234567890.50],"b":"\u0041"},"x":null"#;

    fn keeps<R: Record + PartialEq + std::fmt::Debug>(known: &serde_json::Value) {
        let known = known.to_string();
        let known = &known[1..known.len() - 1];
        let record = R::decode(format!(r#"{{"v":1,{known}}}"#).as_bytes()).unwrap();
        let plain = String::from_utf8(record.encode()).unwrap();
        assert!(plain.starts_with(r#"{"v":1,"#), "{plain}");
        for text in [format!(r#"{{{LATER},"v":1,{known}}}"#), format!(r#"{{"v":1,{known},{LATER}}}"#)] {
            let later = R::decode(text.as_bytes()).unwrap();
            assert_ne!(later, record);
            assert_eq!(String::from_utf8(later.encode()).unwrap(), format!("{},{LATER}}}", &plain[..plain.len() - 1]));
            assert_eq!(R::decode(&later.encode()).unwrap(), later);
        }
        let twice = format!(r#"{{"v":1,{known},"later":1,"later":2}}"#);
        assert!(R::decode(twice.as_bytes()).unwrap().encode().ends_with(br#","later":2}"#), "the last one counts");
        assert!(R::decode(format!(r#"{{"v":1,{known},"later":}}"#).as_bytes()).is_err());
    }

    #[test]
    fn every_record_keeps_what_it_does_not_know_as_it_was_written() {
        keeps::<UnitRecord>(&json!({"hash": HASH, "desired": "launched", "generation": 2}));
        keeps::<Placement>(&json!({"hash": HASH, "desired": "launched", "generation": 2}));
        keeps::<MachineRecord>(&json!({
            "address": "a", "hostname": "h", "version": "1", "boot_id": "b", "cpus": 1, "memory": 2,
        }));
        keeps::<MetadataEdits>(&json!({"edits": {"a": "b", "c": null}, "drain": true}));
        keeps::<StateRecord>(&json!({
            "hash": HASH, "load": "loaded", "active": "active", "sub": "running", "current": "launched", "since": 2,
        }));
        keeps::<HeldRecord>(&json!({"machines": [{"id": ID, "since": "s", "until": "u", "reason": "r"}]}));
        keeps::<LeaderRecord>(&json!({"machine": ID}));
        keeps::<InUseRecord>(&json!({"features": ["a"]}));
        keeps::<SubmittedRecord>(&json!({"machine": ID}));
    }

    #[test]
    fn a_record_without_any_has_one_word_for_them() {
        assert_eq!(size_of::<Unknown>(), size_of::<usize>());
        assert!(size_of::<Placement>() <= 48 && size_of::<UnitRecord>() <= 56, "there are hundreds of thousands");
    }
}

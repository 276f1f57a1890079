//! Values in etcd: JSON objects with `"v":1`, whose unknown members stay.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{Unknown, json};

/// A type that is the value of a key.
///
/// Members that a reader does not know are kept beside those that it does, and written back: a newer fleet may have put
/// them there. So new optional members need no new version. A value of a newer version is left as it is by all that
/// others wrote, and nothing is decided about its key.
pub trait Record: Serialize + DeserializeOwned {
    /// The newest version that is read here, and that is written unless [`Record::version`] says otherwise.
    const VERSION: u32;

    /// Members that are known, but no part of the record.
    const ASIDE: &[&str];

    /// The oldest version by whose rules this one is understood.
    fn version(&self) -> u32 {
        Self::VERSION
    }

    /// The members that are not known here.
    fn unknown(&self) -> &Unknown;

    /// The same, to be replaced.
    fn unknown_mut(&mut self) -> &mut Unknown;

    /// The value as bytes.
    #[must_use]
    fn encode(&self) -> Vec<u8> {
        encode(self, &())
    }

    /// Reads a value.
    ///
    /// # Errors
    /// It is no JSON of this shape, or from a newer version of fleet.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = json::from_slice(bytes).map_err(DecodeError::Shape)?;
        if v > Self::VERSION {
            return Err(DecodeError::Newer { version: v, known: Self::VERSION });
        }
        let (mut record, unknown) = json::with_unknown::<Self>(bytes, Self::ASIDE).map_err(DecodeError::Shape)?;
        *record.unknown_mut() = unknown;
        Ok(record)
    }
}

/// The value of a record as bytes, and `more` members of it.
pub(super) fn encode<T: Record>(record: &T, more: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Versioned<'r, T, M> {
        v: u32,
        #[serde(flatten)]
        record: &'r T,
        #[serde(flatten)]
        unknown: &'r Unknown,
        #[serde(flatten)]
        more: &'r M,
    }
    let value = Versioned { v: record.version(), record, unknown: record.unknown(), more };
    serde_json::to_vec(&value).expect("records are plain JSON objects")
}

/// Makes a type a record of a version. It has a member `unknown`, which serde is to skip; members that stand `beside` it
/// in the value are known, too. What older ones are `written as` is said by a method.
macro_rules! record {
    ($record:ident: version $version:literal $(, written as $written:ident)? $(, beside $aside:literal)?) => {
        impl $crate::model::Record for $record {
            const VERSION: u32 = $version;
            const ASIDE: &[&str] = &["v" $(, $aside)?];

            $(
                fn version(&self) -> u32 {
                    self.$written()
                }
            )?

            fn unknown(&self) -> &Unknown {
                &self.unknown
            }

            fn unknown_mut(&mut self) -> &mut Unknown {
                &mut self.unknown
            }
        }
    };
}
pub(super) use record;

/// Why a value cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not the JSON that belongs here.
    #[error("not a value of this key's shape")]
    Shape(#[source] serde_json::Error),
    /// Written by a newer fleet.
    #[error("written with schema version {version}, this fleet reads up to {known}: upgrade it")]
    Newer {
        /// The version.
        version: u32,
        /// The newest that is known here.
        known: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Desired, UnitRecord},
        unit::UnitHash,
    };

    #[test]
    fn values_carry_their_version() {
        let record = UnitRecord::new(UnitHash::of(""), Desired::Launched, 2);
        let text = String::from_utf8(record.encode()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"hash":"da39a3ee5e6b4b0d3255bfef95601890afd80709","desired":"launched","generation":2}"#
        );
        assert_eq!(UnitRecord::decode(text.as_bytes()).unwrap(), record);
    }

    #[test]
    fn values_of_wrong_shape_or_newer_version_are_errors() {
        for bad in ["", "null", "[]", "{}", r#"{"v":1}"#, r#"{"v":"1"}"#, r#"{"v":1,"hash":"x","desired":"launched"}"#]
        {
            assert!(matches!(UnitRecord::decode(bad.as_bytes()), Err(DecodeError::Shape(_))), "{bad}");
        }
        let error = UnitRecord::decode(br#"{"v":2}"#).unwrap_err();
        assert_eq!(error.to_string(), "written with schema version 2, this fleet reads up to 1: upgrade it");
    }
}

//! Reading a struct while the members that it does not have are kept.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

use super::Objects;
use crate::model::Unknown;

/// Around a deserializer of an object from which a struct is read.
///
/// What serde derives names the members of the struct when it asks for one: that tells which others there are.
pub(super) struct Members<'u, D> {
    pub inner: D,
    /// Members that are known, but not the struct's.
    pub aside: &'u [&'u str],
    /// Where to put the others.
    pub unknown: &'u mut Unknown,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Members<'_, D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Self { inner, aside, unknown } = self;
        inner.deserialize_map(Kept { inner: visitor, fields, aside, unknown })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, D::Error> {
        Err(D::Error::custom("only structs are read so"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Around the visitor of the struct, and around the members that it goes through.
struct Kept<'u, T> {
    inner: T,
    fields: &'static [&'static str],
    aside: &'u [&'u str],
    unknown: &'u mut Unknown,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Kept<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        let Self { inner, fields, aside, unknown } = self;
        inner.visit_map(Kept { inner: items, fields, aside, unknown })
    }
}

#[derive(Deserialize)]
struct Name<'n>(#[serde(borrow)] Cow<'n, str>);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Kept<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        while let Some(Name(name)) = self.inner.next_key()? {
            if self.fields.contains(&&*name) {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
            if self.aside.contains(&&*name) {
                self.inner.next_value::<IgnoredAny>()?;
            } else {
                let value: Box<RawValue> = self.inner.next_value()?;
                self.unknown.insert(name.into_owned(), value);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Objects(seed))
    }
}

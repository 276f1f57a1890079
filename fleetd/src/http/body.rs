//! Reading JSON bodies, with the words of Go's decoder where clients know them.

use std::fmt;

use fleet_core::model::json;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is JSON of another kind than an object, by Go's word for the kind.
    NoObject(&'static str),
    /// Anything else, in words for the client.
    Other(String),
}

impl BodyError {
    /// What Go's decoder says, which was to fill a value of `kind`.
    pub fn of_go(&self, kind: &str) -> String {
        match self {
            Self::NoObject(given) => wrong_kind(given, kind),
            Self::Other(words) => words.clone(),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObject(given) => write!(f, "expect an object, not {given}"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// Reads a body that is an object; `null` is one about which nothing is said, as it is to Go.
///
/// # Errors
/// What is wrong with it.
pub fn decode<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, BodyError> {
    let given = match json::from_slice::<Option<T>>(body) {
        Ok(value) => return Ok(value.unwrap_or_default()),
        Err(error) => beginning(body).unwrap_or_else(|| error.to_string()),
    };
    match any(body) {
        Ok(value) if !value.is_object() => Err(BodyError::NoObject(kind(&value))),
        _ => Err(BodyError::Other(given)),
    }
}

/// Reads a body of any kind.
///
/// # Errors
/// It is no JSON.
pub fn any(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| beginning(body).unwrap_or_else(|| error.to_string()))
}

/// What Go says of a value of one kind where it wants another.
pub fn wrong_kind(given: &str, wanted: &str) -> String {
    format!("json: cannot unmarshal {given} into Go value of type {wanted}")
}

/// Go's word for a JSON value.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What Go says of a body that does not even begin as JSON; `None` of one that does.
fn beginning(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start();
    let literal = match text.chars().next() {
        None => return Some("EOF".into()),
        Some('n') => "null",
        Some('t') => "true",
        Some('f') => "false",
        Some('{' | '[' | '"' | '-' | '0'..='9') => return None,
        Some(other) => return Some(format!("invalid character {other:?} looking for beginning of value")),
    };
    let wrong = literal
        .chars()
        .zip(text.chars().map(Some).chain(std::iter::repeat(None)))
        .find(|(want, got)| *got != Some(*want));
    wrong.map(|(want, got)| match got {
        Some(got) => format!("invalid character {got:?} in literal {literal} (expecting {want:?})"),
        None => "unexpected EOF".into(),
    })
}

#[cfg(test)]
mod tests {
    use fleet_api::Unit;

    use super::*;

    #[test]
    fn bodies_that_are_no_json_get_the_words_of_go() {
        for (body, words) in [
            ("no", "invalid character 'o' in literal null (expecting 'u')"),
            ("  nul", "unexpected EOF"),
            ("", "EOF"),
            ("<xml>", "invalid character '<' looking for beginning of value"),
        ] {
            assert_eq!(any(body.as_bytes()).unwrap_err(), words, "{body}");
            assert_eq!(decode::<Unit>(body.as_bytes()), Err(BodyError::Other(words.into())), "{body}");
        }
        assert!(any(b"{\"a\":}").is_err());
    }

    #[test]
    fn bodies_of_another_kind_are_told_so() {
        for (body, kind) in [("[]", "array"), ("[\"inactive\"]", "array"), ("\"x\"", "string"), (" 1", "number")] {
            let error = decode::<Unit>(body.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("expect an object, not {kind}"), "{body}");
            let words = format!("json: cannot unmarshal {kind} into Go value of type schema.Unit");
            assert_eq!(error.of_go("schema.Unit"), words, "{body}");
        }
        let inner = decode::<Unit>(b"{\"options\":[[\"Unit\"]]}").unwrap_err().of_go("schema.Unit");
        assert!(inner.contains("options") || inner.contains("UnitOption"), "{inner}");
        assert_eq!(decode::<Unit>(b"null"), Ok(Unit::default()));
    }
}

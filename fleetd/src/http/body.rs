//! Reading JSON bodies, with the words of Go's decoder where clients know them.

use serde::de::DeserializeOwned;

/// Reads a body.
///
/// # Errors
/// What is wrong with it, in words for the client.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| beginning(body).unwrap_or_else(|| error.to_string()))
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
    use serde_json::Value;

    use super::*;

    #[test]
    fn bodies_that_are_no_json_get_the_words_of_go() {
        for (body, words) in [
            ("no", "invalid character 'o' in literal null (expecting 'u')"),
            ("  nul", "unexpected EOF"),
            ("", "EOF"),
            ("<xml>", "invalid character '<' looking for beginning of value"),
        ] {
            assert_eq!(decode::<Value>(body.as_bytes()).unwrap_err(), words, "{body}");
        }
        assert!(decode::<Value>(b"{\"a\":}").is_err());
        assert_eq!(decode::<Value>(b"null"), Ok(Value::Null));
    }
}

//! Pages of long lists.
//!
//! A page token is URL-safe base64 of two little-endian 16-bit numbers: the entities on a page, and the page, from
//! 1. A page that ends exactly at the last entity carries a token, too; its page is empty.

use base64::{DecodeError, Engine as _, engine::general_purpose::URL_SAFE};
use fleet_api::Reason;

use super::{ApiError, request::Query};

/// The entities of the page that a query asks for (the first without a token), and the token of the next.
pub fn page<T>(entities: Vec<T>, query: &Query, limit: u16) -> Result<(Vec<T>, Option<String>), ApiError> {
    let mut tokens = query.all("nextPageToken");
    let token = tokens.next();
    if tokens.next().is_some() {
        return Err(bad_token("too many values for page token"));
    }
    slice(entities, token.as_deref(), limit)
}

fn slice<T>(entities: Vec<T>, token: Option<&str>, limit: u16) -> Result<(Vec<T>, Option<String>), ApiError> {
    let page = token.map_or(Ok(1), |token| decode(token, limit))?;
    let start = usize::from(page - 1) * usize::from(limit);
    let left = entities.len().saturating_sub(start);
    let next = (left >= usize::from(limit)).then(|| encode(limit, page.saturating_add(1)));
    Ok((entities.into_iter().skip(start).take(usize::from(limit)).collect(), next))
}

fn encode(limit: u16, page: u16) -> String {
    let ([a, b], [c, d]) = (limit.to_le_bytes(), page.to_le_bytes());
    URL_SAFE.encode([a, b, c, d])
}

fn decode(token: &str, limit: u16) -> Result<u16, ApiError> {
    let bytes = URL_SAFE.decode(token).map_err(|error| {
        let offset = match error {
            DecodeError::InvalidByte(offset, _) | DecodeError::InvalidLastSymbol(offset, _) => offset,
            DecodeError::InvalidLength(length) => length,
            DecodeError::InvalidPadding => token.len(),
        };
        bad_token(&format!("illegal base64 data at input byte {offset}"))
    })?;
    let (size, page) = match bytes[..] {
        [a, b, c, d] => (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])),
        [] => return Err(bad_token("EOF")),
        [_, _, _, _, _, ..] => return Err(bad_token("too many values for page token")),
        _ => return Err(bad_token("unexpected EOF")),
    };
    if size != limit {
        return Err(bad_token(&format!("token limit must be {limit}")));
    }
    if page == 0 {
        return Err(bad_token("token page must be greater than zero"));
    }
    Ok(page)
}

fn bad_token(message: &str) -> ApiError {
    ApiError::new(Reason::InvalidPageToken, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_walk_through_a_list_to_its_end() {
        assert_eq!(encode(100, 2), "ZAACAA==");
        let list: Vec<u32> = (0..200).collect();
        let (first, next) = slice(list.clone(), None, 100).unwrap();
        assert_eq!((first[99], next.as_deref()), (99, Some("ZAACAA==")));
        let (second, next) = slice(list.clone(), next.as_deref(), 100).unwrap();
        assert_eq!((second[0], second.len()), (100, 100));
        let (third, end) = slice(list, next.as_deref(), 100).unwrap();
        assert!(third.is_empty() && end.is_none(), "a full last page is followed by an empty one");
        assert_eq!(slice(vec![1, 2], None, 100).unwrap(), (vec![1, 2], None));
    }

    #[test]
    fn bad_tokens_get_the_messages_that_clients_know() {
        for (token, message) in [
            ("", "EOF"),
            ("!!!!", "illegal base64 data at input byte 0"),
            (&*encode(7, 1), "token limit must be 100"),
            (&*encode(100, 0), "token page must be greater than zero"),
            ("ZAACAAA=", "too many values for page token"),
        ] {
            assert_eq!(slice(vec![1], Some(token), 100).unwrap_err(), bad_token(message), "{token}");
        }
    }
}

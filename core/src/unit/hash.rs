//! The identity of a unit's contents.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use thiserror::Error;

/// SHA-1 over a unit's canonical text. Names contents; no security rests on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitHash([u8; 20]);

/// The string is not 40 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a unit hash: want 40 lower-case hexadecimal digits")]
pub struct HashError(String);

impl UnitHash {
    /// The hash of `text`, which is taken as it is.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha1::digest(text.as_bytes()).into())
    }
}

impl fmt::Display for UnitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for UnitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UnitHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let error = || HashError(text.into());
        // One text for one hash: a key with capitals would be another key.
        if text.len() != 40 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error());
        }
        let mut bytes = [0; 20];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for UnitHash {
    type Error = HashError;

    fn try_from(text: String) -> Result<Self, HashError> {
        text.parse()
    }
}

impl From<UnitHash> for String {
    fn from(hash: UnitHash) -> Self {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_sha1_in_hex_and_reads_back() {
        let hash = UnitHash::of("abc");
        assert_eq!(hash.to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("xyz".parse::<UnitHash>().is_err());
        assert!("+9993e364706816aba3e25717850c26c9cd0d89é".parse::<UnitHash>().is_err());
    }

    #[test]
    fn hash_with_a_sign_or_capitals_is_none() {
        for bad in ["+9993e364706816aba3e25717850c26c9cd0d89d", "A9993E364706816ABA3E25717850C26C9CD0D89D"] {
            assert!(bad.parse::<UnitHash>().is_err(), "{bad}");
        }
    }
}

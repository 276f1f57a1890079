//! The encodings of `write_files`: base64, gzip, and one in the other.

use std::io::Read;

use base64::{Engine, alphabet, engine};
use thiserror::Error;

/// Most bytes that the contents of a file may have once they are unpacked.
pub const MAX_CONTENT: u64 = 16 << 20;

/// Padding may be missing: what people paste has often lost it.
const BASE64: engine::GeneralPurpose = engine::GeneralPurpose::new(
    &alphabet::STANDARD,
    engine::GeneralPurposeConfig::new().with_decode_padding_mode(engine::DecodePaddingMode::Indifferent),
);

/// How the contents of a file are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    base64: bool,
    gzip: bool,
}

/// Why contents cannot be unpacked.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Not base64.
    #[error("the content is not base64: {0}")]
    Base64(#[source] base64::DecodeError),
    /// Not gzip.
    #[error("the content is not gzip: {0}")]
    Gzip(#[source] std::io::Error),
    /// More than [`MAX_CONTENT`].
    #[error("the content has more than {MAX_CONTENT} bytes once unpacked")]
    TooLarge,
}

impl Encoding {
    /// The names that an encoding may be given by.
    pub const NAMES: [&'static str; 8] =
        ["b64", "base64", "gz", "gzip", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"];

    /// The encoding of that name; `None` when there is none.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        match name {
            "" | "text/plain" => Some(Self::default()),
            "b64" | "base64" => Some(Self { base64: true, gzip: false }),
            "gz" | "gzip" => Some(Self { base64: false, gzip: true }),
            name if Self::NAMES.contains(&name) => Some(Self { base64: true, gzip: true }),
            _ => None,
        }
    }

    /// Unpacks contents.
    ///
    /// # Errors
    /// When they are not packed so, or too large.
    pub fn decode(self, content: &str) -> Result<Vec<u8>, DecodeError> {
        let mut bytes = content.as_bytes().to_vec();
        if self.base64 {
            bytes.retain(|byte| !byte.is_ascii_whitespace());
            bytes = BASE64.decode(&bytes).map_err(DecodeError::Base64)?;
        }
        if self.gzip {
            let mut unpacked = Vec::new();
            let reader = flate2::read::MultiGzDecoder::new(&*bytes);
            reader.take(MAX_CONTENT + 1).read_to_end(&mut unpacked).map_err(DecodeError::Gzip)?;
            bytes = unpacked;
        }
        if bytes.len() as u64 > MAX_CONTENT { Err(DecodeError::TooLarge) } else { Ok(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(name: &str, content: &str) -> Result<Vec<u8>, String> {
        Encoding::new(name).unwrap().decode(content).map_err(|error| error.to_string())
    }

    #[test]
    fn every_encoding_unpacks_what_was_packed() {
        let packed = BASE64.encode(gzip(b"hello\n"));
        assert_eq!(decode("", "hello\n").unwrap(), b"hello\n");
        assert_eq!(decode("b64", "aGVs\n  bG8K\n").unwrap(), b"hello\n");
        assert_eq!(decode("base64", "aGVsbG8").unwrap(), b"hello");
        for name in ["gz+b64", "gzip+base64", "gz+base64", "gzip+b64"] {
            assert_eq!(decode(name, &packed).unwrap(), b"hello\n");
        }
        assert_eq!(Encoding::new("rot13"), None);
    }

    #[test]
    fn what_is_not_packed_so_is_an_error() {
        assert!(decode("b64", "a$b").unwrap_err().starts_with("the content is not base64"));
        assert!(decode("gzip", "hello").unwrap_err().starts_with("the content is not gzip"));
        assert!(decode("gz+b64", "aGVsbG8K").unwrap_err().starts_with("the content is not gzip"));
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = BASE64.encode(gzip(&vec![0; MAX_CONTENT as usize + 1]));
        assert!(bomb.len() < 64 << 10);
        assert!(decode("gz+b64", &bomb).unwrap_err().contains("more than"));
    }

    proptest::proptest! {
        #[test]
        fn any_content_is_unpacked_or_refused(content in ".{0,60}", name in 0..8_usize) {
            let _ = Encoding::new(Encoding::NAMES[name]).unwrap().decode(&content);
        }
    }
}

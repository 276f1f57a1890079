//! Time spans as systemd writes them (`systemd.time(7)`): `90`, `1min 30s`, `infinity`.

use std::time::Duration;

use thiserror::Error;

/// The text is no time span that systemd reads.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a time span: write for example 90, 1min 30s or infinity")]
pub struct SpanError(String);

/// The words for a unit of time, and its length in microseconds. Of words that begin alike the longer comes first.
const WORDS: [(&str, u64); 30] = [
    ("seconds", SECOND),
    ("second", SECOND),
    ("sec", SECOND),
    ("s", SECOND),
    ("minutes", MINUTE),
    ("minute", MINUTE),
    ("min", MINUTE),
    ("months", MONTH),
    ("month", MONTH),
    ("msec", 1000),
    ("ms", 1000),
    ("m", MINUTE),
    ("M", MONTH),
    ("hours", HOUR),
    ("hour", HOUR),
    ("hr", HOUR),
    ("h", HOUR),
    ("days", DAY),
    ("day", DAY),
    ("d", DAY),
    ("weeks", WEEK),
    ("week", WEEK),
    ("w", WEEK),
    ("years", YEAR),
    ("year", YEAR),
    ("y", YEAR),
    ("usec", 1),
    ("us", 1),
    ("µs", 1),
    ("μs", 1),
];

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// 30.44 days, as systemd has it.
const MONTH: u64 = 2_629_800 * SECOND;
/// 365.25 days.
const YEAR: u64 = 31_557_600 * SECOND;

/// Reads a time span; a number without a word is seconds. `None` stands for `infinity`.
///
/// # Errors
/// It is none, or longer than 2^64 microseconds.
pub fn parse(text: &str) -> Result<Option<Duration>, SpanError> {
    let bad = || SpanError(text.into());
    let mut rest = text.trim();
    if rest == "infinity" {
        return Ok(None);
    }
    let mut total: u64 = 0;
    loop {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        // A dot wants digits behind it, and something there must be.
        if whole.is_empty() && fraction.is_empty() || rest[whole.len()..].starts_with('.') && fraction.is_empty() {
            return Err(bad());
        }
        let after = after.trim_start();
        let (length, after) = WORDS
            .iter()
            .find_map(|(word, length)| Some((*length, after.strip_prefix(word)?)))
            .unwrap_or((SECOND, after));
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        let part = whole.checked_mul(length).and_then(|part| part.checked_add(fraction_of(fraction, length)));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = after.trim_start();
        if rest.is_empty() {
            break;
        }
    }
    Ok(Some(Duration::from_micros(total)))
}

/// The decimal digits that `text` begins with, and what follows them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The part of `length` that the digits behind a dot stand for.
fn fraction_of(digits: &str, length: u64) -> u64 {
    let mut part = 0;
    let mut place = length;
    for digit in digits.bytes() {
        place /= 10;
        part += u64::from(digit - b'0') * place;
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_what_systemd_reads() {
        for (text, seconds) in [
            ("90", 90.0),
            ("0", 0.0),
            ("1min 30s", 90.0),
            ("1min30s", 90.0),
            (" 5m ", 300.0),
            ("2 h", 7200.0),
            ("1.5h", 5400.0),
            (".5", 0.5),
            ("300ms20s 5day", 432_020.3),
            ("10us", 0.000_01),
            ("3µs", 0.000_003),
            ("1M", 2_629_800.0),
            ("1month 1m", 2_629_860.0),
            ("1w 1y", 32_162_400.0),
            ("1hr 1hour 2hours", 14400.0),
            ("2 3", 5.0),
        ] {
            assert_eq!(parse(text), Ok(Some(Duration::from_secs_f64(seconds))), "{text:?}");
        }
        assert_eq!(parse(" infinity "), Ok(None));
    }

    #[test]
    fn what_is_no_span_is_an_error() {
        for text in ["", " ", "s", "-5", "5.", ".", ".s", "5 apples", "5x", "infinity 5", "1min infinity", "1e3", "١"]
        {
            assert_eq!(parse(text), Err(SpanError(text.into())));
        }
        assert!(
            parse("18446744073709551616").is_err() && parse("600000y").is_err() && parse("18446744073709s 1h").is_err()
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9 .a-zA-Z]{0,12}") {
            let _ = parse(&text);
        }

        #[test]
        fn parts_add_up(seconds in 0_u64..100_000, minutes in 0_u64..100_000) {
            let span = parse(&format!("{minutes}min {seconds}s"));
            proptest::prop_assert_eq!(span, Ok(Some(Duration::from_secs(minutes * 60 + seconds))));
        }
    }
}

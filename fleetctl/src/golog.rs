//! Lines in the form of CoreOS fleet's logger, which scripts cut apart: `2026/11/21 03:53:09 WARN file.go:1: text`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::output;

/// Writes one line to stderr. `site` is the place in CoreOS fleet's source that people have seen in such lines.
pub fn log(level: &str, site: &str, message: &str) {
    output::note(&format!("{} {level} {site}: {message}", timestamp(SystemTime::now())));
}

/// The time in UTC, which is what servers keep.
fn timestamp(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The date `days` after 1970-01-01. Years are counted from March, so that a leap day is a year's last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days + 719_468; // since 0000-03-01
    let era = days / DAYS_IN_400_YEARS;
    let day_of_era = days % DAYS_IN_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, text) in [
            (0, "1970/01/01 00:00:00"),
            (951_782_400, "2000/02/29 00:00:00"),
            (1_709_251_199, "2024/02/29 23:59:59"),
            (1_795_233_189, "2026/11/21 03:53:09"),
            (4_107_542_400, "2100/03/01 00:00:00"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}

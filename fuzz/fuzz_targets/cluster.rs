//! Good and bad values of every kind, in any order.
#![no_main]

use fleet_fuzz::properties::{Happening, cluster};

libfuzzer_sys::fuzz_target!(|happenings: Vec<(u8, Option<Result<u8, Vec<u8>>>)>| {
    let happenings = happenings.into_iter().map(|(key, value)| Happening { key, value });
    cluster(&happenings.collect::<Vec<_>>());
});

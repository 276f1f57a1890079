//! Any bytes as a unit file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fleet_fuzz::core::unit_file(bytes));

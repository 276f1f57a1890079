//! Any bytes as a value of any key in etcd.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fleet_fuzz::core::records(bytes));

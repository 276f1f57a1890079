//! Any values beside those that the engine is to decide on.
#![no_main]

libfuzzer_sys::fuzz_target!(|bad: Vec<(String, Vec<u8>)>| fleet_fuzz::engine::plan(&bad));

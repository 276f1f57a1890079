//! Any text as a cloud-config.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| fleet_fuzz::cloud_config::cloud_config(text));

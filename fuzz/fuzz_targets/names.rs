//! Any text as the name of a unit, the ID of a machine, a hash, and a key under any prefix.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (String, String)| {
    let (prefix, text) = input;
    fleet_fuzz::core::name(&text);
    fleet_fuzz::core::keys(&prefix, &text);
});

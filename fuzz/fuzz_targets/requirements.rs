//! Any text as the `[X-Fleet]` section of a unit with any name, and any pattern against it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (String, String)| {
    let (name, text) = input;
    fleet_fuzz::core::glob(&text, &name);
    for name in [&*name, "web@1.service"] {
        fleet_fuzz::core::specifiers(&text, name);
        fleet_fuzz::core::requirements(name, &text);
        fleet_fuzz::core::requirements(name, &format!("[X-Fleet]\n{text}"));
    }
});

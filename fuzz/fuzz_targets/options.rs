//! Any options, as a body of the HTTP API has them.
#![no_main]

use fleet_core::unit::UnitOption;

libfuzzer_sys::fuzz_target!(|options: Vec<(String, String, String)>| {
    let options = options.into_iter().map(|(section, name, value)| UnitOption { section, name, value, line: 0 });
    fleet_fuzz::core::options(&options.collect::<Vec<_>>());
});

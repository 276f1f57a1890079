//! Any requests to the HTTP API.
#![no_main]

use fleet_fuzz::api::{Ask, requests};

libfuzzer_sys::fuzz_target!(|asks: Vec<(u8, u8, String, u8, Vec<u8>)>| {
    let ask = |(method, route, rest, content_type, body)| Ask { method, route, rest, content_type, body };
    requests(&asks.into_iter().take(8).map(ask).collect::<Vec<_>>());
});

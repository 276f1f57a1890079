//! Anything in the directory of unit files and in the manifest.
#![no_main]

use fleet_fuzz::properties::{Found, disk};

type Input = (Vec<(Vec<u8>, u8, Vec<u8>)>, Option<Vec<u8>>, Vec<(String, String)>);

libfuzzer_sys::fuzz_target!(|input: Input| {
    let (found, manifest, members) = input;
    let found = found.into_iter().map(|(name, kind, contents)| Found { name, kind, contents });
    disk(&found.collect::<Vec<_>>(), manifest.as_deref(), &members);
});

//! The properties that the targets check. They live with the tests of their crates, which run them under proptest.

/// Of `fleet-core`: unit files, names, keys, values.
#[path = "../../core/tests/hostile/properties.rs"]
pub mod core;

//! The properties that the targets check. They live with the tests of their crates, which run them under proptest.

/// Of the HTTP API.
#[path = "../../fleetd/tests/hostile/api.rs"]
pub mod api;
/// Of `fleet-cloud-config`: documents and what is planned for them.
#[path = "../../cloud-init/tests/hostile/properties.rs"]
pub mod cloud_config;
/// Of `fleet-core`: unit files, names, keys, values.
#[path = "../../core/tests/hostile/properties.rs"]
pub mod core;
/// Of the engine.
#[path = "../../fleetd/tests/hostile/engine.rs"]
pub mod engine;
/// Of what else `fleetd` reads: the cluster's values, its configuration, its files.
#[path = "../../fleetd/tests/hostile/properties.rs"]
pub mod properties;

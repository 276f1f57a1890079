//! Home of the cluster tests; see `tests/`.

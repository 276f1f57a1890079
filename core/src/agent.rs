//! The next step for a host.

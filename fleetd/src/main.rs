//! The daemon of fleet.
fn main() {}

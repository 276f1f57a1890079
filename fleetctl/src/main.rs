//! The client of fleet.
fn main() {}

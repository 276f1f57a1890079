//! What the twins in memory must have in common with what they stand for.
//!
//! Each script drives one implementation of a trait through everything that fleet rests on and writes down what it
//! saw. A test runs it against the real thing and against the twin: both must have seen the same.

pub mod store;
pub mod systemd;

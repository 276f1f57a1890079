//! A leader's controllers on a store of a few lines.

mod collection;
mod globals;
mod handover;
mod held;
mod world;

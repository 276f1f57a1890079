//! The daemon of fleet.

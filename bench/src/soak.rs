//! The soak: faults drawn by seed against a lab full of units, and a verdict on what they did.
//!
//! [`units`] says what runs, [`fault`] what is done to it, [`operator`] goes on
//! working meanwhile, [`campaign`] does it all and writes down what happened; [`copies`] are the units' own words.
//! [`judge`] is a pure function from that record to the promises that were broken, [`report`] makes the table.
//! [`trial`] does single faults for tests.

pub mod campaign;
pub mod copies;
pub mod fault;
pub mod judge;
pub mod operator;
pub mod picture;
pub mod report;
pub mod trial;
pub mod units;

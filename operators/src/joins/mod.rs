//! Joins of events: with each other within bounds of time, with a table as of their time, and with what came before.

mod deduplicate;

pub use deduplicate::Deduplicate;

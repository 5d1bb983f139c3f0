//! Operators over nekton's agents: what the graph of agents is asked for.
//!
//! * [`aggregate`]: count, sum, mean, variance, min, max, top-k, quantiles, distinct, histogram, and one's own.
//!
//! Each works on differential dataflow's collections, is right at every time under changes and
//! retractions, and does not store anything: what it holds in memory is derived from its input.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod graphs;
pub mod links;

pub use aggregate::*;
pub use graphs::*;
pub use links::*;
pub use ordered_float::OrderedFloat;

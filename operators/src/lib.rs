//! Operators over nekton's agents: what the graph of agents is asked for.
//!
//! * [`aggregate`]: count, sum, mean, variance, min, max, top-k, quantiles, distinct, histogram, and one's own.
//! * [`links`]: roll-ups along the whole chain, links between those who share something or behave alike.
//! * [`proximity`]: who is near whom on the earth.
//! * [`graphs`]: reachability, shortest paths, components, communities, importance.
//!
//! Each works on differential dataflow's collections, is right at every time under changes and
//! retractions, and does not store anything: what it holds in memory is derived from its input.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod graphs;
pub mod links;
pub mod proximity;

pub use aggregate::*;
pub use graphs::*;
pub use links::*;
pub use ordered_float::OrderedFloat;
pub use proximity::*;

//! Operators over nekton's agents: what the graph of agents is asked for.
//!
//! * [`aggregate`]: count, sum, mean, variance, min, max, top-k, quantiles, distinct, histogram, and one's own.
//! * [`links`]: roll-ups along the whole chain, links between those who share something or behave alike.
//! * [`proximity`]: who is near whom on the earth.
//! * [`graphs`]: reachability, shortest paths, components, communities, importance.
//! * [`learn`]: models that live inside agents, and how good they are.
//!
//! Each of these works on differential dataflow's collections, is right at every time under changes and
//! retractions, and does not store anything: what it holds in memory is derived from its input.
//!
//! * [`windows`]: what events with times of their own say of each window, with corrections for late ones; retention.
//! * [`joins`]: events with the table's value as of their time, with each other within bounds, and each only once.
//! * [`etl`]: tables of databases from their changes, lookups, splitting, routing to many topics, masking.
//!
//! These work on events, are made of the engine's agents, and are in checkpoints as those are.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod etl;
pub mod graphs;
pub mod joins;
pub mod learn;
pub mod links;
pub mod proximity;
pub mod windows;

pub use aggregate::*;
pub use etl::*;
pub use graphs::*;
pub use joins::*;
pub use links::*;
pub use ordered_float::OrderedFloat;
pub use proximity::*;
pub use windows::*;

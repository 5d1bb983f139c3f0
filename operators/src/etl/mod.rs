//! Streaming ETL: events are enriched, split, routed and masked on their way, and tables of databases are followed.
//!
//! ```text
//!  database ── Debezium ──> topic ── debezium ──> table ──┐
//!  topic ──> mask ──> deduplicate ──> as_of / lookup <────┘ ──> split ──> route ──> topics
//! ```
//!
//! | | answers | remembers |
//! |---|---|---|
//! | [`debezium`](Capture::debezium) | what a database's table is now, and was | what is known of each row |
//! | [`as_of`](crate::Timed::as_of) | what a table said when an event *happened* | events that wait, and a row a key |
//! | [`lookup`](Lookup::lookup) | what a collection says when an event *comes* | the collection |
//! | [`split`](Split::split), [`try_map`](Split::try_map) | which of two | nothing |
//! | [`route`](Routing::route) | to which of many topics | nothing |
//! | [`mask`] | what may be seen of a value | nothing |
//! | [`deduplicate`](crate::Deduplicate::deduplicate) | whether it came before | keys, for a horizon |

mod capture;
mod debezium;
mod lookup;
pub mod mask;
mod route;
mod split;

pub use capture::{Capture, Captured, Changed};
pub use debezium::{Change, Stamp, debezium};
pub use lookup::Lookup;
pub use route::{Routes, Routing};
pub use split::Split;

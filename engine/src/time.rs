//! The dataflow's time.

/// System time in milliseconds since 1970, assigned to records at the source; the timestamp of
/// every collection. An *epoch* is one value of it.
pub type Time = u64;

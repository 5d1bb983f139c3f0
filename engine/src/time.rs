//! The dataflow's time, and the only place that reads the machine's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// System time in milliseconds since 1970, assigned to records at the source; the timestamp of
/// every collection. An *epoch* is one value of it.
pub type Time = u64;

/// The machine's clock in milliseconds since 1970. It may jump; [`crate::pace`] makes it monotone.
pub(crate) fn now() -> Time {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

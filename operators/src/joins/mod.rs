//! Joins of events: with each other within bounds of time, with a table as of their time, and with what came before.
//!
//! [`Timed::as_of`](crate::Timed::as_of) and [`Timed::interval_join`](crate::Timed::interval_join) go by the
//! [watermark](crate::Watermark) of both streams, which is the lesser one: where one of them has seldom anything to say, let it be
//! [idle](crate::Watermark::idle_after) soon. [`Deduplicate`] goes by when events come, and [`InOrder`]
//! by their places in their partition.

mod as_of;
mod deduplicate;
mod in_order;
mod interval;

use nekton_engine::Event;
use serde::{Deserialize, Serialize};

use crate::windows::Payload;

pub use as_of::AsOf;
pub use deduplicate::{Deduplicate, Deduplicated};
pub use in_order::InOrder;
pub use interval::{Bounds, Joined};

/// An event of one of two streams.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Either<L, R> {
    Left(L),
    Right(R),
}

impl<L: Event, R: Event> Payload for Either<L, R> {
    type Kept = Self;
    fn kept(&self) -> Self {
        self.clone()
    }
}

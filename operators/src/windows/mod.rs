//! Windows in event time, retention, and what else goes by the times that events carry.
//!
//! [Event time](EventTime::event_time) is a field of an event; how far a stream has come in it is its [`Watermark`]. From both follow
//! [`windows`](Timed::windows) (tumbling and hopping), [`sessions`](Timed::sessions), and the joins in [`joins`](crate::joins).
//!
//! All of them are agents: what they hold is in checkpoints, and is the same when events are replayed, on any number of
//! workers. Each is made of four roots, whose names begin with that of the operator: an agent for each partition, one that knows the
//! watermark, gates, which tell events that are too late from the others and wake what closes, and the operator's own agents.
//!
//! * **Early results**: a window's result is in the collection from its first event on, and changes with each epoch in which
//!   events came.
//! * **Corrections**: events that come behind the watermark, but before the window *closes*, correct it by ordinary
//!   changes. A window closes when the watermark has come to its end and the lateness that is allowed.
//! * **Too late**: later events are in `late`, for a topic of dead letters. No event is lost: each is in a window or there.
//! * **Closed**: each result that will not change any more is in `closed`, once, as an event.
//! * **Freed**: what waits for the watermark is let go when it comes. Results stay in the collection, or leave it after a
//!   retention (`keep`), and all state of the window with it.

mod fixed;
mod gate;
mod retention;
mod sessions;
mod watermark;

use nekton_engine::{Event, Events, Time};
use serde::{Deserialize, Serialize};

pub use fixed::{WindowValues, Windowed, Windows};
pub use retention::{Retain, Retention};
pub use sessions::Sessions;
pub use watermark::Watermark;

pub(crate) use gate::{Arrival, Passed, Payload, gate};
pub(crate) use watermark::{Seen, Settings, Side, order_of, seen, watermark};

/// A window: event times from its start to before its end, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first time in it.
    pub start: Time,
    /// The first time after it.
    pub end: Time,
}

/// Events that say when they happened.
#[derive(Clone)]
pub struct Timed<'s, E: Clone + 'static> {
    pub(crate) events: Events<'s, (Time, E)>,
    pub(crate) watermark: Watermark,
    /// What says how far they have come, where they do not say so themselves: the events that they stem from, at the same
    /// times of the dataflow. What agents emit has another partition for each segment, most of which are silent.
    pub(crate) clock: Option<Events<'s, (Time, ())>>,
}

impl<E: Clone + 'static> std::fmt::Debug for Timed<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timed").field("watermark", &self.watermark).finish_non_exhaustive()
    }
}

impl<'s, E: Event> Timed<'s, E> {
    /// Replaces each event by `logic` of it; it happened when it did.
    pub fn map<D: Event>(&self, logic: impl Fn(E) -> D + 'static) -> Timed<'s, D> {
        Timed {
            events: self.events.map(move |(time, event)| (time, logic(event))),
            watermark: self.watermark,
            clock: self.clock.clone(),
        }
    }

    /// Replaces each event by any number of others, which happened when it did. They have come as far as these have, also where
    /// nothing is made of some.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let posts = events(flow, "posts", [(1, vec![("rain rain", 50), ("snow", 60)]), (2, vec![("", 130)])]);
    /// // (text, milliseconds): at 1, "rain rain" at 50, "snow" at 60; at 2, "" at 130
    /// let posts = posts.event_time(|(_, at)| *at, Watermark::behind(30).step(1)).map(|(text, _)| text);
    /// let words = posts.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    /// let counts = words.windows("words", Windows::tumbling(100), |word| (word.clone(), ()), Count);
    /// flow.sink("final", &counts.closed);
    /// # });
    /// # let mut closed = topics.lines("final"); closed.sort();
    /// assert_eq!(closed, [r#"[["rain",{"start":0,"end":100}],2]"#, r#"[["snow",{"start":0,"end":100}],1]"#]);
    /// ```
    pub fn flat_map<I: IntoIterator<Item: Event>>(
        &self,
        logic: impl Fn(E) -> I + 'static,
    ) -> Timed<'s, I::Item> {
        let made =
            move |(time, event)| logic(event).into_iter().map(move |made| (time, made)).collect::<Vec<_>>();
        self.became(self.events.flat_map(made))
    }

    /// The events, without their times.
    pub fn events(&self) -> Events<'s, E> {
        self.events.map(|(_, event)| event)
    }

    /// What is seen of them for a watermark.
    pub(crate) fn seen(&self, side: Side, settings: Settings) -> Events<'s, Seen> {
        match &self.clock {
            Some(clock) => seen(clock, side, settings),
            None => seen(&self.events, side, settings),
        }
    }

    /// Events that an operator made of these at once, at the same times of the dataflow: they have come as far as these.
    pub(crate) fn became<D: Event>(&self, events: Events<'s, (Time, D)>) -> Timed<'s, D> {
        let clock = self.clock.clone().unwrap_or_else(|| self.events.map(|(time, _)| (time, ())));
        Timed { events, watermark: self.watermark, clock: Some(clock) }
    }
}

/// Event time.
pub trait EventTime<'s, E: Event> {
    /// The events with the time at which each happened, in milliseconds since 1970, and how far the stream has come in it.
    /// Nothing is kept: what is made of them is.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let clicks = events(flow, "clicks", [(1, vec![("start", 50), ("start", 20)]), (2, vec![("prices", 130)])]);
    /// // (page, milliseconds): at 1, start at 50 and 20; at 2, prices at 130
    /// let clicks = clicks.event_time(|(_, at)| *at, Watermark::behind(30).step(1)); // 20 after the first time, then 100
    /// let by_page = clicks.windows("by-page", Windows::tumbling(100), |(page, _)| (page.clone(), ()), Count);
    /// flow.sink("final", &by_page.closed);
    /// # });
    /// assert_eq!(topics.lines("final")[0], r#"[["start",{"start":0,"end":100}],2]"#);
    /// ```
    fn event_time(&self, time: impl Fn(&E) -> Time + 'static, watermark: Watermark) -> Timed<'s, E>;
}

impl<'s, E: Event> EventTime<'s, E> for Events<'s, E> {
    fn event_time(&self, time: impl Fn(&E) -> Time + 'static, watermark: Watermark) -> Timed<'s, E> {
        Timed { events: self.map(move |event| (time(&event), event)), watermark, clock: None }
    }
}

//! Deduplication: each event once.

use std::marker::PhantomData;

use nekton_engine::agents::Key;
use nekton_engine::{Agent, Context, Event, Events, Time};
use serde::{Deserialize, Serialize};

/// Deduplication.
pub trait Deduplicate<'s, E: Event> {
    /// The first event of each key, and no other of the key for so many milliseconds of the dataflow's time after it: for events
    /// that are sent again, by whoever was not sure that they had arrived.
    ///
    /// Within a time, events keep their order where they have the same key.
    ///
    /// **Cost**: a look-up in a hash table an event; for each that is the first, setting a timer. **Memory**: the
    /// key three times and some 110 bytes for each that came within the horizon.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let transfers = events(flow, "transfers", [(1, vec![("t7", 100), ("t7", 100)]), (2, vec![("t8", 5)]), (60_000, vec![("t7", 100)])]);
    /// // (number, amount): at 1, t7 twice; at 2, t8; at 60,000, t7 again
    /// let once = transfers.deduplicate("once", 3_600_000, |(number, _)| number.clone());
    /// flow.sink("booked", &once);
    /// # });
    /// assert_eq!(topics.lines("booked"), [r#"["t7",100]"#, r#"["t8",5]"#]);
    /// ```
    fn deduplicate<K: Key>(
        &self,
        name: &str,
        horizon: Time,
        key: impl Fn(&E) -> K + 'static,
    ) -> Events<'s, E>;
}

impl<'s, E: Event> Deduplicate<'s, E> for Events<'s, E> {
    fn deduplicate<K: Key>(
        &self,
        name: &str,
        horizon: Time,
        key: impl Fn(&E) -> K + 'static,
    ) -> Events<'s, E> {
        let events = self.map(move |event| (horizon, event));
        events.agents::<Known<K, E>>(name, move |(_, event)| key(event)).emitted()
    }
}

/// A key that an event was seen of.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct Known<K, E> {
    seen: bool,
    #[serde(skip)]
    of: PhantomData<(K, E)>,
}

impl<K: Key, E: Event> Agent for Known<K, E> {
    type Key = K;
    type Event = (Time, E);
    type View = ();
    type Emit = E;

    fn create(_key: &K) -> Self {
        Known { seen: false, of: PhantomData }
    }
    fn on_event(&mut self, (horizon, event): &(Time, E), context: &mut Context<'_, Self>) {
        if !std::mem::replace(&mut self.seen, true) {
            context.emit(event.clone());
            context.set_timer(context.time().saturating_add(*horizon));
        }
    }
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        context.leave();
    }
    fn view(&self) -> Option<()> {
        None
    }
}

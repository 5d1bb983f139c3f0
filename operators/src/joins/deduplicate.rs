//! Deduplication: each event once.

use std::marker::PhantomData;

use nekton_engine::agents::Key;
use nekton_engine::{Agent, Context, Event, Events, Time};
use serde::{Deserialize, Serialize};

use crate::etl::Split;
use crate::windows::Timed;

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

    /// As [`deduplicate`](Deduplicate::deduplicate), with the others as well: for whoever has to account for each of them.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let transfers = events(flow, "transfers", [(1, vec![("t7", 100), ("t7", 100)]), (2, vec![("t8", 5)]), (60_000, vec![("t7", 100)])]);
    /// // (number, amount): at 1, t7 twice; at 2, t8; at 60,000, t7 again
    /// let Deduplicated { first, again } = transfers.first_and_again("once", 3_600_000, |(number, _)| number.clone());
    /// flow.sink("booked", &first);
    /// flow.sink("sent-again", &again);
    /// # });
    /// # assert_eq!(topics.lines("booked"), [r#"["t7",100]"#, r#"["t8",5]"#]);
    /// assert_eq!(topics.lines("sent-again"), [r#"["t7",100]"#, r#"["t7",100]"#]);
    /// ```
    fn first_and_again<K: Key>(
        &self,
        name: &str,
        horizon: Time,
        key: impl Fn(&E) -> K + 'static,
    ) -> Deduplicated<'s, E>;
}

/// Events, and those that came again.
pub struct Deduplicated<'s, E: Clone + 'static> {
    /// The first of each key.
    pub first: Events<'s, E>,
    /// Those that came within the horizon after it.
    pub again: Events<'s, E>,
}

impl<'s, E: Event> Deduplicate<'s, E> for Events<'s, E> {
    fn deduplicate<K: Key>(
        &self,
        name: &str,
        horizon: Time,
        key: impl Fn(&E) -> K + 'static,
    ) -> Events<'s, E> {
        known::<K, E, false>(self, name, horizon, key).map(|(event, _)| event)
    }
    fn first_and_again<K: Key>(
        &self,
        name: &str,
        horizon: Time,
        key: impl Fn(&E) -> K + 'static,
    ) -> Deduplicated<'s, E> {
        let (again, first) = known::<K, E, true>(self, name, horizon, key).split(|(_, again)| *again);
        Deduplicated { first: first.map(|(event, _)| event), again: again.map(|(event, _)| event) }
    }
}

impl<'s, E: Event> Timed<'s, E> {
    /// As [`Deduplicate::deduplicate`], of events that say when they happened: they have come as far as these, whatever
    /// goes.
    pub fn deduplicate<K: Key>(
        &self,
        name: &str,
        horizon: Time,
        key: impl Fn(&E) -> K + 'static,
    ) -> Timed<'s, E> {
        self.became(self.events.deduplicate(name, horizon, move |(_, event)| key(event)))
    }

    /// As [`Deduplicate::first_and_again`], of events that say when they happened: the first of each key, and the others.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let clicks = events(flow, "clicks", [(1, vec![(("ann", 1), 20), (("bob", 2), 50)]), (2, vec![(("ann", 1), 20), (("ann", 3), 130)])]);
    /// // ((who, number), milliseconds): at 1, ann 1 at 20, bob 2 at 50; at 2, ann 1 at 20 again, ann 3 at 130
    /// let clicks = clicks.event_time(|(_, at)| *at, Watermark::behind(30).step(1)).map(|(click, _)| click);
    /// let (clicks, again) = clicks.first_and_again("once", 3_600_000, |(_, number)| *number);
    /// let by_user = clicks.windows("by-user", Windows::tumbling(100), |(user, _)| (user.clone(), ()), Count);
    /// flow.sink("final", &by_user.closed);
    /// flow.sink("again", &again);
    /// # });
    /// # let mut closed = topics.lines("final"); closed.sort();
    /// assert_eq!(closed[..2], [r#"[["ann",{"start":0,"end":100}],1]"#, r#"[["bob",{"start":0,"end":100}],1]"#]);
    /// assert_eq!(topics.lines("again"), [r#"["ann",1]"#]);
    /// ```
    pub fn first_and_again<K: Key>(
        &self,
        name: &str,
        horizon: Time,
        key: impl Fn(&E) -> K + 'static,
    ) -> (Timed<'s, E>, Events<'s, E>) {
        let events = self.events.first_and_again(name, horizon, move |(_, event)| key(event));
        (self.became(events.first), events.again.map(|(_, event)| event))
    }
}

/// Events, each with whether it came again. Those that did are only told `TOLD`.
fn known<'s, K: Key, E: Event, const TOLD: bool>(
    events: &Events<'s, E>,
    name: &str,
    horizon: Time,
    key: impl Fn(&E) -> K + 'static,
) -> Events<'s, (E, bool)> {
    let events = events.map(move |event| (horizon, event));
    events.agents::<Known<K, E, TOLD>>(name, move |(_, event)| key(event)).emitted()
}

/// A key that an event was seen of.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct Known<K, E, const TOLD: bool> {
    seen: bool,
    #[serde(skip)]
    of: PhantomData<(K, E)>,
}

impl<K: Key, E: Event, const TOLD: bool> Agent for Known<K, E, TOLD> {
    type Key = K;
    type Event = (Time, E);
    type View = ();
    type Emit = (E, bool);

    fn create(_key: &K) -> Self {
        Known { seen: false, of: PhantomData }
    }
    fn on_event(&mut self, (horizon, event): &(Time, E), context: &mut Context<'_, Self>) {
        let again = std::mem::replace(&mut self.seen, true);
        if !again {
            context.set_timer(context.time().saturating_add(*horizon));
        }
        if TOLD || !again {
            context.emit((event.clone(), again));
        }
    }
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        context.leave();
    }
    fn view(&self) -> Option<()> {
        None
    }
}

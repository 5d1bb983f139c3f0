//! As-of joins: events with the value that a table had when they happened.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use nekton_engine::agents::Key;
use nekton_engine::{Agent, Context, Event, Events, Row, Time};
use serde::{Deserialize, Serialize};

use super::Either;
use super::interval::of_side;
use crate::windows::{Arrival, Passed, Settings, Timed, gate, watermark};

/// Events with what a table said of them.
pub struct AsOf<'s, E: Clone + 'static, V: Clone + 'static> {
    /// Each event, once, with the value as of its time; `None` where there was none.
    pub enriched: Events<'s, (E, Option<V>)>,
    /// Events that were behind the watermark when they came: the table of their time may be gone.
    pub late: Events<'s, E>,
}

impl<'s, E: Event> Timed<'s, E> {
    /// Each event with the newest value of its key in a table that is not newer than the event itself, both by their own
    /// times: with the exchange rate of the moment of a payment, whenever either was published. Of rows of the same
    /// time, the one that came last counts.
    ///
    /// An event waits until the watermark of both streams is past its time, so that nothing has to be taken back. Rows are
    /// never too late: they hold from their time on for whatever has not been enriched yet.
    ///
    /// **Cost**: for each event and row, two look-ups in hash tables and two in trees, and two ways to another worker.
    /// **Memory**: each event that waits, and each row that may still be asked for: for each key one in any case, also
    /// where that deletes it, as an older row may still come; and those newer than the watermark. Some 70 bytes and the key
    /// for each event and row until the watermark is past it.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let rates = events(flow, "rates", [(1, vec![(("EUR", 110), 0)]), (3, vec![(("EUR", 120), 50)])]);
    /// # let payments = events(flow, "payments", [(1, vec![("EUR", 40)]), (2, vec![("EUR", 60)])]);
    /// // ((currency, rate), from when): EUR 110 from 0, and 120 from 50, which comes at 3
    /// let rates = rates.map(|((currency, rate), from)| (from, (currency, Some(rate))));
    /// let rates = rates.event_time(|(from, _)| *from, Watermark::behind(20).step(1)).map(|(_, row)| row);
    /// // (currency, milliseconds): at 1, of 40; at 2, of 60
    /// let payments = payments.event_time(|(_, at)| *at, Watermark::behind(20).step(1));
    /// let with_rate = payments.as_of("with-rate", &rates, |(currency, _)| currency.clone());
    /// flow.sink("with-rate", &with_rate.enriched);
    /// # });
    /// assert_eq!(topics.lines("with-rate"), [r#"[["EUR",40],110]"#, r#"[["EUR",60],120]"#]);
    /// ```
    pub fn as_of<K: Key, V: Event>(
        &self,
        name: &str,
        table: &Timed<'s, Row<K, V>>,
        key: impl Fn(&E) -> K + 'static,
    ) -> AsOf<'s, E, V> {
        let arrival = |key: K, time: Time, late_from: Time, payload| {
            let closes = time.saturating_add(1);
            Arrival { key, late_from, closes, ends: None, payload }
        };
        let events = of_side(self, 0).map(move |(time, event)| {
            arrival(key(&event), time, time.saturating_add(1), Either::Left((time, event)))
        });
        let rows = of_side(table, 1)
            .map(move |(time, (key, value))| arrival(key, time, Time::MAX, Either::Right((time, value))));
        let settings = Settings::two(self.watermark, table.watermark);
        let seen = self.seen(0, settings).concat(&table.seen(1, settings));
        let passed = gate(name, &events.concat(&rows), &watermark(name, &seen), settings.step());
        let late = passed.flat_map(|passed| match passed {
            Passed::Late(Either::Left((_, event))) => Some(event),
            _ => None,
        });
        let signals = passed.flat_map(|passed| match passed {
            Passed::Admitted(key, Either::Left((time, event))) => Some((key, Signal::Event(time, event))),
            Passed::Admitted(key, Either::Right((time, value))) => Some((key, Signal::Row(time, value))),
            Passed::Closed(key, at) => Some((key, Signal::Complete(at))),
            Passed::Ended(..) | Passed::Late(_) => None,
        });
        let enriched = signals.agents::<Rows<K, E, V>>(name, |(key, _)| key.clone()).emitted();
        AsOf { enriched, late }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Signal<E, V> {
    Event(Time, E),
    Row(Time, Option<V>),
    /// Everything before this has come.
    Complete(Time),
}

/// The rows of a key by the time from which they hold, and the events that wait.
#[derive(Serialize, Deserialize)]
#[serde(bound = "E: Event, V: Event")]
struct Rows<K, E, V> {
    rows: BTreeMap<Time, Option<V>>,
    events: BTreeMap<Time, Vec<E>>,
    #[serde(skip)]
    key: PhantomData<K>,
}

impl<K: Key, E: Event, V: Event> Agent for Rows<K, E, V> {
    type Key = K;
    type Event = (K, Signal<E, V>);
    type View = ();
    type Emit = (E, Option<V>);

    fn create(_key: &K) -> Self {
        Rows { rows: BTreeMap::new(), events: BTreeMap::new(), key: PhantomData }
    }
    fn on_event(&mut self, (_, signal): &(K, Signal<E, V>), context: &mut Context<'_, Self>) {
        match signal {
            Signal::Event(time, event) => self.events.entry(*time).or_default().push(event.clone()),
            Signal::Row(time, value) => drop(self.rows.insert(*time, value.clone())),
            Signal::Complete(before) => {
                while let Some(first) = self.events.first_entry()
                    && first.key() < before
                {
                    let (time, events) = first.remove_entry();
                    let value = self.rows.range(..=time).next_back().and_then(|(_, value)| value.clone());
                    for event in events {
                        context.emit((event, value.clone()));
                    }
                }
                // The newest row that holds now, and those to come, are all that can be asked for.
                if let Some((&holds, _)) = self.rows.range(..*before).next_back() {
                    self.rows = self.rows.split_off(&holds);
                }
                if self.rows.is_empty() && self.events.is_empty() {
                    context.leave();
                }
            }
        }
    }
    fn view(&self) -> Option<()> {
        None
    }
}

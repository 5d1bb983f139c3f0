//! Interval joins: pairs of events of two streams that happened within bounds of one another.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use nekton_engine::agents::Key;
use nekton_engine::{Agent, Block, Context, Event, Events, Time};
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;

use super::Either;
use crate::windows::{Arrival, Passed, Settings, Timed, gate, order_of, watermark};

/// How far the events of a pair may be apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    from: i64,
    to: i64,
    late: Time,
}

impl Bounds {
    /// The right one happened so many milliseconds after the left one, both bounds included: `-5_000` is 5 s before it.
    ///
    /// # Panics
    /// If `from` is greater than `to`.
    pub fn after(from: i64, to: i64) -> Self {
        assert!(from <= to, "nothing is from {from} ms to {to} ms after something");
        Bounds { from, to, late: 0 }
    }
    /// Events may be so many milliseconds behind the watermark.
    pub fn late(self, late: Time) -> Self {
        Bounds { late, ..self }
    }
}

/// Pairs of events.
pub struct Joined<'s, L: Clone + 'static, R: Clone + 'static> {
    /// Each pair, once, when the one that came later has come.
    pub pairs: Events<'s, (L, R)>,
    /// Events of the left stream that were too late.
    pub late_left: Events<'s, L>,
    /// Events of the right stream that were too late.
    pub late_right: Events<'s, R>,
}

/// The same events, in blocks whose order tells the sides apart.
pub(super) fn of_side<'s, E: Clone + 'static>(timed: &Timed<'s, E>, side: u8) -> Events<'s, (Time, E)> {
    let blocks = timed.events.blocks();
    let blocks = blocks.map(move |block| Block { order: order_of(side, block.order), events: block.events });
    timed.events.flow().events_of(blocks)
}

impl<'s, L: Event> Timed<'s, L> {
    /// All pairs of events of two streams that have the same key and happened within [`Bounds`] of one another. An event is
    /// too late when it is [`late`](Bounds::late) and more behind the watermark; all others find all their partners.
    ///
    /// Within a time, pairs of the same key are in the order in which the later one of each came.
    ///
    /// **Cost**: for each event, two look-ups in hash tables and two in trees, and two ways to another worker; for each
    /// pair, copying it. **Memory**: each event, its key and some 70 bytes, until no partner can come any more.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let ads = events(flow, "ads", [(1, vec![("ann", 10), ("bob", 20)])]);
    /// # let clicks = events(flow, "clicks", [(1, vec![("ann", 15)]), (2, vec![("bob", 90), ("ann", 12)])]);
    /// // (who, milliseconds): ads for ann at 10 and bob at 20; clicks of ann at 15 and 12, and of bob at 90
    /// let ads = ads.event_time(|(_, at)| *at, Watermark::behind(10));
    /// let clicks = clicks.event_time(|(_, at)| *at, Watermark::behind(10));
    /// let within = Bounds::after(0, 30); // a click is at most 30 after the ad
    /// let clicked = ads.interval_join("clicked", &clicks, within, |(who, _)| who.clone(), |(who, _)| who.clone());
    /// flow.sink("clicked", &clicked.pairs);
    /// # });
    /// assert_eq!(topics.lines("clicked"), [r#"[["ann",10],["ann",15]]"#, r#"[["ann",10],["ann",12]]"#]);
    /// ```
    pub fn interval_join<K: Key, R: Event>(
        &self,
        name: &str,
        right: &Timed<'s, R>,
        bounds: Bounds,
        left_key: impl Fn(&L) -> K + 'static,
        right_key: impl Fn(&R) -> K + 'static,
    ) -> Joined<'s, L, R> {
        let Bounds { from, to, late } = bounds;
        // No partner is in time any more when the last one that fits, if there is any, would be too late.
        let arrival = move |key: K, time: Time, needed: i64, payload| Arrival {
            key,
            late_from: time.saturating_add(late).saturating_add(1),
            closes: expires(time, needed, late),
            ends: None,
            payload,
        };
        let lefts = of_side(self, 0).map(move |(time, event)| {
            let side = Side { event, time, from, to, late };
            arrival(left_key(&side.event), time, to, Either::Left(side))
        });
        let rights = of_side(right, 1).map(move |(time, event)| {
            let (from, to) = (to.saturating_neg(), from.saturating_neg());
            let side = Side { event, time, from, to, late };
            arrival(right_key(&side.event), time, to, Either::Right(side))
        });
        let settings = Settings::two(self.watermark, right.watermark);
        let seen = self.seen(0, settings).concat(&right.seen(1, settings));
        let passed = gate(name, &lefts.concat(&rights), &watermark(name, &seen), settings.step());
        let late_left = passed.flat_map(|passed| match passed {
            Passed::Late(Either::Left(left)) => Some(left.event),
            _ => None,
        });
        let late_right = passed.flat_map(|passed| match passed {
            Passed::Late(Either::Right(right)) => Some(right.event),
            _ => None,
        });
        let signals = passed.flat_map(|passed| match passed {
            Passed::Admitted(key, event) => Some((key, Signal::Event(event))),
            Passed::Closed(key, at) => Some((key, Signal::Closes(at))),
            Passed::Ended(..) | Passed::Late(_) => None,
        });
        let pairs = signals.agents::<Waiting<K, L, R>>(name, |(key, _)| key.clone()).emitted();
        Joined { pairs, late_left, late_right }
    }
}

/// When an event that needs partners up to so long after it is not needed any more.
fn expires(time: Time, needed: i64, late: Time) -> Time {
    time.saturating_add_signed(needed).saturating_add(late).saturating_add(1)
}

/// An event, and where its partners are.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Side<E> {
    event: E,
    time: Time,
    from: i64,
    to: i64,
    late: Time,
}

impl<E> Side<E> {
    /// The times of its partners.
    fn partners(&self) -> std::ops::RangeInclusive<Time> {
        let to = i128::from(self.time) + i128::from(self.to);
        if to < 0 {
            // Nothing happens before 1970: an empty range, which begins behind its end, would panic.
            return Time::MAX..=Time::MAX;
        }
        self.time.saturating_add_signed(self.from)..=self.time.saturating_add_signed(self.to)
    }
    fn expires(&self) -> Time {
        expires(self.time, self.to, self.late)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Signal<L, R> {
    Event(Either<Side<L>, Side<R>>),
    Closes(Time),
}

/// The events of a key that may find partners, by their times. Those of a side expire in the order of their times.
#[derive(Serialize, Deserialize)]
#[serde(bound = "L: Event, R: Event")]
struct Waiting<K, L, R> {
    lefts: BTreeMap<Time, Vec<Side<L>>>,
    rights: BTreeMap<Time, Vec<Side<R>>>,
    #[serde(skip)]
    key: PhantomData<K>,
}

fn let_go<E>(waiting: &mut BTreeMap<Time, Vec<Side<E>>>, until: Time) {
    let over = |events: &Vec<Side<E>>| events.iter().all(|event| event.expires() <= until);
    while waiting.first_entry().is_some_and(|first| over(first.get())) {
        waiting.pop_first();
    }
}

impl<K: Key, L: Event, R: Event> Agent for Waiting<K, L, R> {
    type Key = K;
    type Event = (K, Signal<L, R>);
    type View = ();
    type Emit = (L, R);

    fn create(_key: &K) -> Self {
        Waiting { lefts: BTreeMap::new(), rights: BTreeMap::new(), key: PhantomData }
    }
    fn on_event(&mut self, (_, signal): &(K, Signal<L, R>), context: &mut Context<'_, Self>) {
        match signal {
            Signal::Event(Either::Left(left)) => {
                for right in self.rights.range(left.partners()).flat_map(|(_, rights)| rights) {
                    context.emit((left.event.clone(), right.event.clone()));
                }
                self.lefts.entry(left.time).or_default().push(left.clone());
            }
            Signal::Event(Either::Right(right)) => {
                for left in self.lefts.range(right.partners()).flat_map(|(_, lefts)| lefts) {
                    context.emit((left.event.clone(), right.event.clone()));
                }
                self.rights.entry(right.time).or_default().push(right.clone());
            }
            Signal::Closes(until) => {
                let_go(&mut self.lefts, *until);
                let_go(&mut self.rights, *until);
                if self.lefts.is_empty() && self.rights.is_empty() {
                    context.leave();
                }
            }
        }
    }
    fn view(&self) -> Option<()> {
        None
    }
}

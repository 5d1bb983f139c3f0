//! Tumbling and hopping windows: of a fixed size, at fixed places.

use std::marker::PhantomData;
use std::rc::Rc;

use differential_dataflow::VecCollection;
use nekton_engine::agents::{Key, Record};
use nekton_engine::{Agent, Context, Event, Events, Time};
use serde::{Deserialize, Serialize};

use super::{Arrival, Passed, Payload, Settings, Timed, Window, gate, watermark};
use crate::aggregate::{Count, Difference, Group};

/// Which windows there are, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    size: Time,
    every: Time,
    late: Time,
    keep: Option<Time>,
}

impl Windows {
    /// Windows of so many milliseconds, one after the other, from 1970 on: each event is in one.
    ///
    /// # Panics
    /// If that is 0.
    pub fn tumbling(size: Time) -> Self {
        Windows::hopping(size, size)
    }
    /// Windows of so many milliseconds, one beginning at each multiple of `every`, from 1970 on: each event is in `size / every` of
    /// them, which is what it costs.
    ///
    /// # Panics
    /// If one of them is 0, or `every` is greater than `size`, or an event would be in more than 10,000.
    pub fn hopping(size: Time, every: Time) -> Self {
        assert!(0 < every && every <= size, "windows of {size} ms every {every} ms would leave out events");
        assert!(size.div_ceil(every) <= 10_000, "an event would be in {} windows", size.div_ceil(every));
        Windows { size, every, late: 0, keep: None }
    }
    /// Windows stay open until the watermark is so many milliseconds past their end.
    pub fn late(self, late: Time) -> Self {
        Windows { late, ..self }
    }
    /// Results leave when the watermark is so many milliseconds past the window's closing. Otherwise they stay.
    pub fn keep(self, keep: Time) -> Self {
        Windows { keep: Some(keep), ..self }
    }
    /// The windows that a time is in, the latest first.
    fn of(self, time: Time) -> impl Iterator<Item = Window> {
        let last = time - time % self.every;
        let starts = std::iter::successors(Some(last), move |start| start.checked_sub(self.every));
        starts
            .map(move |start| Window { start, end: start.saturating_add(self.size) })
            .take_while(move |window| time < window.end)
    }
}

/// Results of windows.
pub struct Windowed<'s, K: Key, E: Clone + 'static, O: Record> {
    /// The result of each window of each key, open or closed: early, and corrected.
    pub results: VecCollection<'s, Time, ((K, Window), O), isize>,
    /// Each result that is final, once, when its window closes.
    pub closed: Events<'s, ((K, Window), O)>,
    /// Events for which all windows have closed.
    pub late: Events<'s, E>,
}

/// Values in windows.
pub struct WindowValues<'s, K: Key, E: Clone + 'static, V: Record> {
    /// What is in each window of each key.
    pub values: VecCollection<'s, Time, ((K, Window), V), isize>,
    /// Events for which all windows have closed.
    pub late: Events<'s, E>,
}

impl<'s, E: Event> Timed<'s, E> {
    /// What an aggregate says of the events in each window of each key: of the value that `pair` gives beside the key. For
    /// what is not `Count`, `Sum`, `Mean`, `Variance`, or a tuple of them: [`Timed::window_values`].
    ///
    /// **Cost**: for each event and window, two look-ups in hash tables and one in a tree, and two ways to another
    /// worker; for each result that changes in an epoch, a change. **Memory**: a result takes the key, the window and the
    /// aggregate's state; an open window, and one that is to be left, once more the key and some 40 bytes.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let sales = events(flow, "sales", [
    /// #     (1, vec![(("tea", 4), 10), (("tea", 6), 70)]), (2, vec![(("tea", 5), 95)]), (3, vec![(("tea", 1), 30)]), (4, vec![(("tea", 2), 320)]), (5, vec![(("tea", 9), 50)]),
    /// # ]);
    /// // ((good, amount), milliseconds): at 1, 4 at 10 and 6 at 70; at 2, 5 at 95; at 3, 1 at 30: it is late;
    /// // at 4, 2 at 320; at 5, 9 at 50: it is too late
    /// let sales = sales.event_time(|(_, at)| *at, Watermark::behind(10).step(1).never_idle());
    /// let hourly = Windows::tumbling(60).late(30); // for the example, an hour has 60 ms
    /// let sold = sales.windows("sold", hourly, |((good, amount), _)| (good.clone(), *amount), Sum);
    /// flow.sink("sold", upsert(&sold.results.filter(|((_, window), _)| window.start == 0)));
    /// flow.sink("sold-final", &sold.closed);
    /// flow.sink("too-late", &sold.late);
    /// # });
    /// assert_eq!(topics.lines("sold"), [
    ///     r#"{"key":["tea",{"start":0,"end":60}],"value":4,"time":1}"#,
    ///     r#"{"key":["tea",{"start":0,"end":60}],"value":5,"time":3}"#,
    /// ]);
    /// assert_eq!(topics.lines("sold-final"), [
    ///     r#"[["tea",{"start":0,"end":60}],5]"#,
    ///     r#"[["tea",{"start":60,"end":120}],11]"#,
    /// ]);
    /// assert_eq!(topics.lines("too-late"), [r#"[["tea",9],50]"#]);
    /// ```
    pub fn windows<K: Key, V, A: Group<V, State: Record>>(
        &self,
        name: &str,
        windows: Windows,
        pair: impl Fn(&E) -> (K, V) + 'static,
        aggregate: A,
    ) -> Windowed<'s, K, E, A::Output> {
        let adds = Rc::new(aggregate);
        let (result, last) = (adds.clone(), adds.clone());
        let arrivals = self.events.flat_map(move |(time, event)| {
            let (key, value) = pair(&event);
            let adds = adds.difference(value);
            // Only the last window that it is in can say that it is too late for all.
            let mut letter = Some(event);
            windows
                .of(time)
                .map(|window| {
                    let closes = window.end.saturating_add(windows.late);
                    Arrival {
                        key: (key.clone(), window),
                        late_from: closes,
                        closes,
                        ends: windows.keep.map(|keep| closes.saturating_add(keep)),
                        payload: Counted { adds: adds.clone(), letter: letter.take() },
                    }
                })
                .collect::<Vec<_>>()
        });
        let settings = Settings::one(self.watermark);
        let watermark = watermark(name, &self.seen(0, settings));
        let passed = gate(name, &arrivals, &watermark, settings.step());
        let late = passed.flat_map(|passed| match passed {
            Passed::Late(counted) => counted.letter,
            _ => None,
        });
        let signals = passed.flat_map(|passed| match passed {
            Passed::Admitted(key, adds) => Some((key, Signal::Adds(adds))),
            Passed::Closed(key, _) => Some((key, Signal::Closes)),
            Passed::Ended(key, _) => Some((key, Signal::Ends)),
            Passed::Late(_) => None,
        });
        let totals = signals.agents::<Total<(K, Window), A::State>>(name, |(key, _)| key.clone());
        let results = totals.flat_map(move |(key, total)| Some((key, result.output(&total)?)));
        let closed = totals.emitted().flat_map(move |(key, total)| Some((key, last.output(&total)?)));
        Windowed { results, closed, late }
    }

    /// The values themselves, for as long as their window is kept, for any [aggregate](crate::aggregate): it is then derived
    /// from them, with its own cost and memory. Otherwise as [`Timed::windows`] with a window for each different value.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let sales = events(flow, "sales", [(1, vec![(("tea", 4), 10), (("tea", 6), 70)]), (2, vec![(("tea", 5), 20)])]);
    /// // ((good, amount), milliseconds): at 1, 4 at 10 and 6 at 70; at 2, 5 at 20
    /// let sales = sales.event_time(|(_, at)| *at, Watermark::behind(60));
    /// let sold = sales.window_values("sold", Windows::tumbling(60), |((good, amount), _)| (good.clone(), *amount));
    /// flow.sink("largest", upsert(&sold.values.aggregate(Max)));
    /// # });
    /// assert_eq!(topics.lines("largest"), [
    ///     r#"{"key":["tea",{"start":0,"end":60}],"value":4,"time":1}"#,
    ///     r#"{"key":["tea",{"start":60,"end":120}],"value":6,"time":1}"#,
    ///     r#"{"key":["tea",{"start":0,"end":60}],"value":5,"time":2}"#,
    /// ]);
    /// ```
    pub fn window_values<K: Key, V: Key>(
        &self,
        name: &str,
        windows: Windows,
        pair: impl Fn(&E) -> (K, V) + 'static,
    ) -> WindowValues<'s, K, E, V> {
        let counted = self.windows(name, windows, move |event| (pair(event), ()), Count);
        let values =
            counted.results.explode(|(((key, value), window), count)| Some((((key, window), value), count)));
        WindowValues { values, late: counted.late }
    }
}

/// What an event adds to a window, and, with one of its windows, the event itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counted<D, E> {
    adds: D,
    letter: Option<E>,
}

impl<D: Event, E: Event> Payload for Counted<D, E> {
    type Kept = D;
    fn kept(&self) -> D {
        self.adds.clone()
    }
}

/// What a window hears.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Signal<D> {
    Adds(D),
    Closes,
    Ends,
}

/// A window of a key: the sum of what was added.
#[derive(Serialize, Deserialize)]
#[serde(bound = "D: Record")]
struct Total<K, D> {
    total: D,
    #[serde(skip)]
    key: PhantomData<K>,
}

impl<K: Key, D: Difference + Record + Default> Agent for Total<K, D> {
    type Key = K;
    type Event = (K, Signal<D>);
    type View = D;
    type Emit = (K, D);

    fn create(_key: &K) -> Self {
        Total { total: D::default(), key: PhantomData }
    }
    fn on_event(&mut self, (_, signal): &(K, Signal<D>), context: &mut Context<'_, Self>) {
        match signal {
            Signal::Adds(adds) => self.total.plus_equals(adds),
            Signal::Closes => context.emit((context.key().clone(), self.total.clone())),
            Signal::Ends => context.leave(),
        }
    }
    fn view(&self) -> Option<D> {
        Some(self.total.clone())
    }
}

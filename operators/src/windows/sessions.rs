//! Sessions: windows that last as long as events keep coming.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;

use nekton_engine::agents::{Key, Record};
use nekton_engine::{Agent, Context, Event, Time};
use serde::{Deserialize, Serialize};

use super::{Arrival, Passed, Payload, Settings, Timed, Window, Windowed, gate, watermark};
use crate::aggregate::{Difference, Group};

/// What makes a session, and for how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    gap: Time,
    late: Time,
    keep: Option<Time>,
}

impl Sessions {
    /// Two events that are less than so many milliseconds apart are in the same session. A session is from its
    /// first event to so long after its last one.
    ///
    /// # Panics
    /// If that is 0.
    pub fn gap(gap: Time) -> Self {
        assert!(gap > 0, "a session without a gap would hold no event");
        Sessions { gap, late: 0, keep: None }
    }
    /// Events may be so many milliseconds behind the watermark. A session stays open until the watermark is so
    /// far past its end.
    pub fn late(self, late: Time) -> Self {
        Sessions { late, ..self }
    }
    /// Results leave when the watermark is so many milliseconds past the session's closing. Otherwise they stay.
    pub fn keep(self, keep: Time) -> Self {
        Sessions { keep: Some(keep), ..self }
    }
}

impl<'s, E: Event> Timed<'s, E> {
    /// What an aggregate says of the events in each session of each key, as [`Timed::windows`]. An event that comes between
    /// two sessions may make one of them; it is too late when it is [`late`](Sessions::late) and more behind the watermark.
    ///
    /// **Cost**: for each event, two look-ups in hash tables and two in trees, and two ways to another worker; for each key that
    /// changes in an epoch, as much as it has sessions that are kept: where there are many, [`keep`](Sessions::keep) them
    /// shortly, and write `closed` to a topic. **Memory**: a session takes 40 bytes and the aggregate's state; each step
    /// of the watermark in which a key had events, once the key and some 40 bytes, until it closes.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let clicks = events(flow, "clicks", [(1, vec![("ann", 10), ("ann", 60)]), (2, vec![("ann", 35)]), (3, vec![("bob", 200)])]);
    /// // (who, milliseconds): at 1, ann at 10 and 60; at 2, ann at 35; at 3, bob at 200
    /// let clicks = clicks.event_time(|(_, at)| *at, Watermark::behind(50).step(1).never_idle());
    /// let visits = clicks.sessions("visits", Sessions::gap(30), |(who, _)| (who.clone(), ()), Count);
    /// flow.sink("visits", upsert(&visits.results.filter(|((who, _), _)| who == "ann")));
    /// flow.sink("visits-final", &visits.closed);
    /// # });
    /// assert_eq!(topics.lines("visits"), [
    ///     r#"{"key":["ann",{"start":10,"end":40}],"value":1,"time":1}"#,
    ///     r#"{"key":["ann",{"start":60,"end":90}],"value":1,"time":1}"#,
    ///     r#"{"key":["ann",{"start":10,"end":40}],"value":null,"time":2}"#,
    ///     r#"{"key":["ann",{"start":10,"end":90}],"value":3,"time":2}"#,
    ///     r#"{"key":["ann",{"start":60,"end":90}],"value":null,"time":2}"#,
    /// ]);
    /// assert_eq!(topics.lines("visits-final"), [r#"[["ann",{"start":10,"end":90}],3]"#]);
    /// ```
    pub fn sessions<K: Key, V, A: Group<V, State: Record>>(
        &self,
        name: &str,
        sessions: Sessions,
        pair: impl Fn(&E) -> (K, V) + 'static,
        aggregate: A,
    ) -> Windowed<'s, K, E, A::Output> {
        let adds = Rc::new(aggregate);
        let (result, last) = (adds.clone(), adds.clone());
        let Sessions { gap, late, keep } = sessions;
        let arrivals = self.events.map(move |(time, event)| {
            let (key, value) = pair(&event);
            let window = Window { start: time, end: time.saturating_add(gap) };
            let closes = window.end.saturating_add(late);
            Arrival {
                key,
                late_from: time.saturating_add(late).saturating_add(1),
                closes,
                ends: keep.map(|keep| closes.saturating_add(keep)),
                payload: Visit { window, adds: adds.difference(value), letter: event },
            }
        });
        let settings = Settings::one(self.watermark);
        let watermark = watermark(name, &self.seen(0, settings));
        let passed = gate(name, &arrivals, &watermark, settings.step());
        let too_late = passed.flat_map(|passed| match passed {
            Passed::Late(visit) => Some(visit.letter),
            _ => None,
        });
        let signals = passed.flat_map(move |passed| match passed {
            Passed::Admitted(key, (window, adds)) => Some((key, Signal::Adds(window, adds))),
            Passed::Closed(key, at) => Some((key, Signal::Closes(at.saturating_sub(late)))),
            Passed::Ended(key, at) => {
                let until = at.saturating_sub(late).saturating_sub(keep.unwrap_or(0));
                Some((key, Signal::Ends(until)))
            }
            Passed::Late(_) => None,
        });
        let kept = signals.agents::<Kept<K, A::State>>(name, |(key, _)| key.clone());
        let results = kept.flat_map(move |(key, sessions)| {
            let result = result.clone();
            let shown = move |(window, total)| Some(((key.clone(), window), result.output(&total)?));
            sessions.into_iter().filter_map(shown)
        });
        let closed = kept.emitted().flat_map(move |(key, total)| Some((key, last.output(&total)?)));
        Windowed { results, closed, late: too_late }
    }
}

/// A session of one event, what it adds, and the event.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Visit<D, E> {
    window: Window,
    adds: D,
    letter: E,
}

impl<D: Event, E: Event> Payload for Visit<D, E> {
    type Kept = (Window, D);
    fn kept(&self) -> (Window, D) {
        (self.window, self.adds.clone())
    }
}

/// What the sessions of a key hear.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Signal<D> {
    Adds(Window, D),
    /// All that end until then are closed.
    Closes(Time),
    /// All that end until then go.
    Ends(Time),
}

/// A session.
#[derive(Serialize, Deserialize)]
struct Session<D> {
    end: Time,
    total: D,
    closed: bool,
}

/// The sessions of a key, by their starts: they do not overlap.
#[derive(Serialize, Deserialize)]
#[serde(bound = "D: Record")]
struct Kept<K, D> {
    sessions: BTreeMap<Time, Session<D>>,
    #[serde(skip)]
    key: PhantomData<K>,
}

impl<K: Key, D: Difference + Record> Agent for Kept<K, D> {
    type Key = K;
    type Event = (K, Signal<D>);
    type View = Vec<(Window, D)>;
    type Emit = ((K, Window), D);

    fn create(_key: &K) -> Self {
        Kept { sessions: BTreeMap::new(), key: PhantomData }
    }
    fn on_event(&mut self, (key, signal): &(K, Signal<D>), context: &mut Context<'_, Self>) {
        match signal {
            Signal::Adds(window, adds) => {
                let Window { mut start, mut end } = *window;
                let mut total = adds.clone();
                // All that overlap, which are next to one another. No closed one does: what is in time begins behind its end.
                while let Some((&first, session)) = self.sessions.range(..end).next_back()
                    && session.end > start
                    && let Some(session) = self.sessions.remove(&first)
                {
                    (start, end) = (start.min(first), end.max(session.end));
                    total.plus_equals(&session.total);
                }
                self.sessions.insert(start, Session { end, total, closed: false });
            }
            Signal::Closes(until) => {
                for (start, session) in &mut self.sessions {
                    if session.end > *until {
                        break;
                    }
                    if !std::mem::replace(&mut session.closed, true) {
                        let window = Window { start: *start, end: session.end };
                        context.emit(((key.clone(), window), session.total.clone()));
                    }
                }
            }
            Signal::Ends(until) => {
                // Not what is still to be closed: what goes then is another event's.
                let over = |session: &Session<D>| session.closed && session.end <= *until;
                while self.sessions.first_entry().is_some_and(|first| over(first.get())) {
                    self.sessions.pop_first();
                }
                if self.sessions.is_empty() {
                    context.leave();
                }
            }
        }
    }
    fn view(&self) -> Option<Vec<(Window, D)>> {
        let shown = |(start, session): (&Time, &Session<D>)| {
            (Window { start: *start, end: session.end }, session.total.clone())
        };
        (!self.sessions.is_empty()).then(|| self.sessions.iter().map(shown).collect())
    }
}

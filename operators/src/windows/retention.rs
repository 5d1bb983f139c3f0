//! Retention: each key's last events, by their number or their age.

use std::collections::VecDeque;
use std::marker::PhantomData;

use differential_dataflow::VecCollection;
use nekton_engine::agents::{Key, Record};
use nekton_engine::{Agent, Context, Events, Time};
use serde::{Deserialize, Serialize};

/// What of a key's events is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    last: Option<usize>,
    within: Option<Time>,
}

impl Retention {
    /// The last so many.
    pub fn last(count: usize) -> Self {
        Retention { last: Some(count), within: None }
    }
    /// Those that came within so many milliseconds, in the dataflow's time.
    pub fn within(age: Time) -> Self {
        Retention { last: None, within: Some(age) }
    }
    /// Of these, at most the last so many.
    pub fn and_last(self, count: usize) -> Self {
        Retention { last: Some(count), ..self }
    }
}

/// Retention.
pub trait Retain<'s, E: Record> {
    /// Each key's last events, as a collection; how old they are is by when they came. An event goes exactly
    /// when it is too old, or another takes its place. (When a job's inputs end, some stay that would have gone after that.)
    ///
    /// **Cost**: an event takes a look-up in a hash table; a key that changes in an epoch, twice what copying all it retains
    /// takes: for some hundreds. With an age, a timer a key. **Memory**: the events, and for those with an age a timer of
    /// some 100 bytes and two keys.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let prices = events(flow, "prices", [(1, vec![("tea", 4)]), (2, vec![("tea", 6)]), (3, vec![("tea", 5)])]);
    /// let last = prices.retain("last-prices", Retention::last(2), |(good, _)| good.clone()); // tea: 4, 6, then 5
    /// let low = last.map(|(good, (_, price))| (good, price)).aggregate(Min);
    /// flow.sink("low", upsert(&low));
    /// # });
    /// assert_eq!(topics.lines("low"), [r#"{"key":"tea","value":4,"time":1}"#, r#"{"key":"tea","value":5,"time":3}"#]);
    /// ```
    fn retain<K: Key>(
        &self,
        name: &str,
        retention: Retention,
        key: impl Fn(&E) -> K + 'static,
    ) -> VecCollection<'s, Time, (K, E), isize>;
}

impl<'s, E: Record> Retain<'s, E> for Events<'s, E> {
    fn retain<K: Key>(
        &self,
        name: &str,
        retention: Retention,
        key: impl Fn(&E) -> K + 'static,
    ) -> VecCollection<'s, Time, (K, E), isize> {
        let events = self.map(move |event| (retention, event));
        let retained = events.agents::<Retained<K, E>>(name, move |(_, event)| key(event));
        retained.flat_map(|(key, events)| events.into_iter().map(move |event| (key.clone(), event)))
    }
}

/// What is retained of a key, the oldest first, with when each goes.
#[derive(Serialize, Deserialize)]
#[serde(bound = "E: Record")]
struct Retained<K, E> {
    events: VecDeque<(Option<Time>, E)>,
    #[serde(skip)]
    key: PhantomData<K>,
}

impl<K: Key, E: Record> Retained<K, E> {
    /// Sees to it that the first one goes in time.
    fn wait(&self, context: &mut Context<'_, Self>) {
        match self.events.front() {
            Some((Some(goes), _)) => context.set_timer(*goes),
            Some((None, _)) => {}
            None => context.leave(),
        }
    }
}

impl<K: Key, E: Record> Agent for Retained<K, E> {
    type Key = K;
    type Event = (Retention, E);
    type View = Vec<E>;
    type Emit = ();

    fn create(_key: &K) -> Self {
        Retained { events: VecDeque::new(), key: PhantomData }
    }
    fn on_event(&mut self, (retention, event): &(Retention, E), context: &mut Context<'_, Self>) {
        let goes = retention.within.map(|age| context.time().saturating_add(age));
        self.events.push_back((goes, event.clone()));
        while retention.last.is_some_and(|last| self.events.len() > last) {
            self.events.pop_front();
        }
        self.wait(context);
    }
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        while self.events.front().is_some_and(|(goes, _)| goes.is_some_and(|goes| goes <= context.time())) {
            self.events.pop_front();
        }
        self.wait(context);
    }
    fn view(&self) -> Option<Vec<E>> {
        (!self.events.is_empty()).then(|| self.events.iter().map(|(_, event)| event.clone()).collect())
    }
}

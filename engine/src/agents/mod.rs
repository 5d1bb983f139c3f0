//! Agents: one for each key, with a state that events and timers change and a view that others see.
//!
//! A root ([`Events::agents`]) is the only way from a stream of events to a collection. Its contract:
//!
//! * **Only changed views leave.** The collection of a root holds `(key, view)` for every agent whose
//!   [`view`](Agent::view) is `Some`. At the end of a time, each agent that was touched is asked for its view; if
//!   it is what it was before, nothing leaves.
//! * **Views change at the ends of epochs**, never in between: whoever reads two agents sees one
//!   consistent time.
//! * **Order.** Within a time, an agent first reads what has changed of what is linked to it ([`Reads`]), then its due
//!   timer fires, then its events come by source, partition and position. So results depend neither on the number of
//!   workers nor on batching.
//! * **Timers** are due at times of the dataflow, and fire at exactly their time.
//! * **Agents can leave**, and come again as if new.

mod copying;
mod operator;
mod pages;
mod reading;
mod segment;
mod timers;

use std::fmt::Debug;
use std::hash::Hash;

use differential_dataflow::VecCollection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::ExchangeData;

use crate::events::{Event, Events};
use crate::time::Time;

pub(crate) use operator::{Linking, root};
pub(crate) use reading::{Collections, EventsOnly, Hears, SETTLING};

/// What a key must be able to do: it is hashed to place the agent, compared, ordered, and sent.
pub trait Key: ExchangeData + Clone + Ord + Hash + Debug {}
impl<K: ExchangeData + Clone + Ord + Hash + Debug> Key for K {}

/// What a view or another record of a collection must be able to do.
pub trait Record: ExchangeData + Clone + Ord + Debug {}
impl<V: ExchangeData + Clone + Ord + Debug> Record for V {}

/// A stateful agent; the implementor is its state, which goes into checkpoints with the names of its fields: a field that is
/// added later needs `#[serde(default)]`.
///
/// ```
/// use nekton_engine::{Agent, Context};
/// use serde::{Deserialize, Serialize};
///
/// /// A traffic light that says when it is red.
/// #[derive(Default, Serialize, Deserialize)]
/// struct Light { red: bool }
///
/// impl Agent for Light {
///     type Key = u64;
///     type Event = (u64, bool);
///     type View = bool;
///     type Emit = ();
///     fn create(_key: &u64) -> Self { Light::default() }
///     fn on_event(&mut self, event: &(u64, bool), _context: &mut Context<'_, Self>) {
///         self.red = event.1;
///     }
///     fn view(&self) -> Option<bool> { Some(self.red) }
/// }
/// ```
pub trait Agent: Serialize + DeserializeOwned + 'static {
    /// What tells agents apart.
    type Key: Key;
    /// What happens to an agent.
    type Event: Event;
    /// What others see of it.
    type View: Record;
    /// Events of its own; `()` if it has none.
    type Emit: Event;

    /// A new agent, at the first event of its key.
    fn create(key: &Self::Key) -> Self;

    /// An event arrived.
    fn on_event(&mut self, event: &Self::Event, context: &mut Context<'_, Self>);

    /// The timer is due that was set with [`Context::set_timer`].
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// /// A door that says when it has been open for ten seconds.
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Door { warn: bool }
    ///
    /// impl Agent for Door {
    /// #   type Key = u64;
    ///     type Event = (u64, bool); // the door, and whether it was opened or closed
    /// #   type View = bool;
    /// #   type Emit = ();
    /// #   fn create(_door: &u64) -> Self { Door::default() }
    ///     fn on_event(&mut self, &(_, open): &(u64, bool), context: &mut Context<'_, Self>) {
    ///         self.warn = false;
    ///         if open { context.set_timer(context.time() + 10_000) } else { context.clear_timer() }
    ///     }
    ///     fn on_timer(&mut self, _context: &mut Context<'_, Self>) {
    ///         self.warn = true;
    ///     }
    ///     fn view(&self) -> Option<bool> { Some(self.warn) }
    /// }
    ///
    /// # let topics = job(&[], |flow| {
    /// # let moves = at(flow, [(0, vec![(1, true), (2, true)]), (9_000, vec![(1, false)]), (60_000, vec![(2, false)])]);
    /// let doors = moves.agents::<Door>("doors", |(door, _)| *door); // both opened at 0; 1 closed at 9,000, 2 at 60,000
    /// flow.sink("warnings", &doors.filter(|(_, warn)| *warn));
    /// # });
    /// assert_eq!(topics.lines("warnings"), [
    ///     r#"{"key":2,"before":null,"after":true,"time":10000}"#,
    ///     r#"{"key":2,"before":true,"after":null,"time":60000}"#,
    /// ]);
    /// ```
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        let _ = context;
    }

    /// What others see now, `None` for nothing. Called before the first and after the last
    /// change of a time; it must depend on the state alone.
    fn view(&self) -> Option<Self::View>;
}

/// An agent that also reads a collection: what that holds for its key, each time it has changed. See
/// [`Events::agents_reading`], and [`Events::agents_in_loop`] where the collection depends on the agents' own views.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// use nekton_engine::Reads;
///
/// /// A ventilator; its events are its number and whether it is allowed to run. It runs if a sensor beside it is hot.
/// #[derive(Default, Serialize, Deserialize)]
/// struct Fan { allowed: bool, hot: bool }
///
/// impl Agent for Fan {
///     type Key = u64;
///     type Event = (u64, bool);
///     type View = bool;
///     type Emit = ();
///     fn create(_fan: &u64) -> Self { Fan::default() }
///     fn on_event(&mut self, &(_, allowed): &(u64, bool), _context: &mut Context<'_, Self>) { self.allowed = allowed; }
///     fn view(&self) -> Option<bool> { Some(self.allowed && self.hot) }
/// }
///
/// impl Reads for Fan {
///     type Linked = i64;
///     fn on_linked(&mut self, celsius: &[i64], _context: &mut Context<'_, Self>) {
///         self.hot = celsius.iter().any(|celsius| *celsius > 60);
///     }
/// }
///
/// # let topics = job(&[], |flow| {
/// # let fans = flow.feed("fans", |_, _, _| Script::new([(1, vec![Block { order: Order { source: 0, partition: 0, position: Position::default() }, events: vec![(1, true)] }])]));
/// # let beside = flow.feed("beside", |_, _, _| Script::new([(1, vec![Block { order: Order { source: 0, partition: 0, position: Position::default() }, events: vec![(7, Some(1)), (8, Some(1))] }])]));
/// # let readings = at(flow, [(1, vec![(7, 20), (8, 21)]), (50, vec![(8, 64)]), (90, vec![(8, 59), (7, 61)]), (95, vec![(7, 60)])]);
/// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // 8 has 64 degrees at 50; 7 has 61 from 90 to 95
/// let beside = beside.table("beside"); // both stand beside the fan 1
/// let linked = sensors.views().join(beside).map(|(_, (celsius, fan))| (fan, celsius));
/// let fans = fans.agents_reading::<Fan>("fans", |(fan, _)| *fan, &linked);
/// flow.sink("fans", &fans);
/// # });
/// assert_eq!(topics.lines("fans"), [
///     r#"{"key":1,"before":null,"after":false,"time":1}"#,
///     r#"{"key":1,"before":false,"after":true,"time":51}"#, // a millisecond later; nothing at 91
///     r#"{"key":1,"before":true,"after":false,"time":96}"#,
/// ]);
/// ```
pub trait Reads: Agent {
    /// What there is to be read.
    type Linked: Record;

    /// What is linked has changed: `linked` is all of it as it is now, sorted; a record that the collection holds twice is
    /// there twice. Now is the time before `context.time()`: a change at a time is given at the next millisecond, before
    /// timer and events, and once, whatever happened within that time.
    ///
    /// An agent is not created by this: only an event does that. A new agent is given what there is, if there is any, before its
    /// first event.
    fn on_linked(&mut self, linked: &[Self::Linked], context: &mut Context<'_, Self>);
}

/// What an agent can do besides changing its state.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// /// A parcel on its way; its events are its number and what happened to it.
/// #[derive(Serialize, Deserialize)]
/// struct Parcel { number: u64, since: Time }
///
/// impl Agent for Parcel {
///     type Key = u64;
///     type Event = (u64, String);
///     type View = u64;
///     type Emit = String;
///     fn create(number: &u64) -> Self { Parcel { number: *number, since: 0 } }
///     fn on_event(&mut self, (_, what): &(u64, String), context: &mut Context<'_, Self>) {
///         match what.as_str() {
///             "posted" => self.since = context.time(),
///             _ => {
///                 let minutes = (context.time() - self.since) / 60_000;
///                 context.emit(format!("parcel {} took {minutes} minutes", context.key()));
///                 context.leave();
///             }
///         }
///     }
///     fn view(&self) -> Option<u64> { Some(self.number) }
/// }
///
/// # let topics = job(&[], |flow| {
/// # let scans = at(flow, [(1, vec![(5, "posted".to_owned())]), (120_001, vec![(5, "delivered".to_owned())])]);
/// let parcels = scans.agents::<Parcel>("parcels", |(parcel, _)| *parcel); // posted at 1, delivered at 120,001
/// flow.sink("on-their-way", upsert(&parcels.views()));
/// flow.sink("deliveries", &parcels.emitted());
/// # });
/// assert_eq!(topics.lines("deliveries"), [r#""parcel 5 took 2 minutes""#]);
/// assert_eq!(topics.lines("on-their-way"), [
///     r#"{"key":5,"value":5,"time":1}"#,
///     r#"{"key":5,"value":null,"time":120001}"#,
/// ]);
/// ```
pub struct Context<'a, A: Agent> {
    key: &'a A::Key,
    time: Time,
    effects: &'a mut Effects<A>,
}

impl<A: Agent> std::fmt::Debug for Context<'_, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("key", self.key).field("time", &self.time).finish_non_exhaustive()
    }
}

impl<A: Agent> Context<'_, A> {
    /// The agent's own key.
    pub fn key(&self) -> &A::Key {
        self.key
    }
    /// The time of the event or timer, in milliseconds since 1970: the dataflow's time, the same when
    /// it is replayed. Never ask the machine's clock instead.
    pub fn time(&self) -> Time {
        self.time
    }
    /// Sets the agent's one timer, in place of any that is pending. It fires at `due`, or at the next
    /// millisecond if that has passed.
    ///
    /// ```
    /// use nekton_engine::{Agent, Context};
    ///
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Sensor { silent: bool }
    /// impl Agent for Sensor {
    /// #   type Key = u64;
    /// #   type Event = u64;
    /// #   type View = bool;
    /// #   type Emit = ();
    /// #   fn create(_sensor: &u64) -> Self { Sensor { silent: false } }
    /// #   fn view(&self) -> Option<bool> { Some(self.silent) }
    ///     fn on_event(&mut self, _reading: &u64, context: &mut Context<'_, Self>) {
    ///         self.silent = false;
    ///         context.set_timer(context.time() + 60_000); // a minute after the last reading, whatever was set before
    ///     }
    ///     fn on_timer(&mut self, _context: &mut Context<'_, Self>) {
    ///         self.silent = true;
    ///     }
    ///     // ..
    /// }
    /// ```
    pub fn set_timer(&mut self, due: Time) {
        self.effects.timer = Some(TimerChange::Set(due.max(self.time + 1)));
        self.effects.any = true;
    }
    /// Takes back the pending timer, if there is one.
    pub fn clear_timer(&mut self) {
        self.effects.timer = Some(TimerChange::Clear);
        self.effects.any = true;
    }
    /// Emits an event of the agent's own, at this time. See [`Agents::emitted`].
    pub fn emit(&mut self, event: A::Emit) {
        self.effects.emitted.push((self.effects.segment, event));
    }
    /// Lets the agent leave: its view is retracted, its timer and state are gone. What it emitted
    /// stays. Another event of its key creates it anew.
    pub fn leave(&mut self) {
        self.effects.leave = true;
        self.effects.any = true;
    }
}

pub(crate) enum TimerChange {
    Set(Time),
    Clear,
}

/// What handlers asked for.
pub(crate) struct Effects<A: Agent> {
    /// Whether a timer or a leave was asked for.
    any: bool,
    timer: Option<TimerChange>,
    leave: bool,
    /// The segment of the agent at work.
    segment: u16,
    emitted: Vec<(u16, A::Emit)>,
}

/// The agents of a root, as collections and events.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(&[], |flow| {
/// # let readings = at(flow, [(1, vec![(7, 64), (8, 12)]), (2, vec![(7, 101)])]);
/// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 64, 8 => 12; at 2, 7 => 101
/// flow.sink("hot", &sensors.filter(|(_, celsius)| *celsius > 60)); // a collection
/// flow.sink("alarms", &sensors.emitted()); // events: a `Sensor` emits one above 100
/// # });
/// assert_eq!(topics.lines("hot"), [
///     r#"{"key":7,"before":null,"after":64,"time":1}"#,
///     r#"{"key":7,"before":64,"after":101,"time":2}"#,
/// ]);
/// assert_eq!(topics.lines("alarms"), [r#""7 boils""#]);
/// ```
pub struct Agents<'s, A: Agent> {
    pub(crate) views: VecCollection<'s, Time, (A::Key, A::View), isize>,
    pub(crate) emitted: Events<'s, A::Emit>,
}

impl<A: Agent> Clone for Agents<'_, A> {
    fn clone(&self) -> Self {
        Agents { views: self.views.clone(), emitted: self.emitted.clone() }
    }
}

impl<'s, A: Agent> Agents<'s, A> {
    /// The views as a differential collection of `(key, view)`.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[], |flow| {
    /// # let readings = at(flow, [(1, vec![(7, 64), (8, 12)]), (2, vec![(8, 65)])]);
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 64, 8 => 12; at 2, 8 => 65
    /// let hottest = sensors.views().map(|view| ((), view)).reduce(|(), views, hottest| {
    ///     let (_, celsius) = views.iter().map(|(view, _)| **view).max_by_key(|(_, celsius)| *celsius).expect("a group has some");
    ///     hottest.push((celsius, 1));
    /// });
    /// flow.sink("hottest", upsert(&hottest));
    /// # });
    /// assert_eq!(topics.lines("hottest"), [r#"{"key":null,"value":64,"time":1}"#, r#"{"key":null,"value":65,"time":2}"#]);
    /// ```
    pub fn views(&self) -> VecCollection<'s, Time, (A::Key, A::View), isize> {
        self.views.clone()
    }
    /// The events that agents emitted, ordered by segment and by what they reacted to.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[], |flow| {
    /// # let readings = at(flow, [(1, vec![(7, 101), (7, 99)]), (2, vec![(7, 102)])]);
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 101 and 99; at 2, 7 => 102
    /// flow.sink("alarms", &sensors.emitted()); // a `Sensor` emits one above 100, though nobody sees it above 100 at 1
    /// # });
    /// assert_eq!(topics.lines("alarms"), [r#""7 boils""#, r#""7 boils""#]);
    /// ```
    pub fn emitted(&self) -> Events<'s, A::Emit> {
        self.emitted.clone()
    }
    /// [`Collection::map`](VecCollection::map) of the views.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[], |flow| {
    /// # let readings = at(flow, [(1, vec![(7, 64), (8, 12)]), (2, vec![(7, 61)]), (3, vec![(7, 59)])]);
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // 8 => 12; 7 => 64, 61 at 2, 59 at 3
    /// flow.sink("hot", upsert(&sensors.map(|(sensor, celsius)| (sensor, celsius > 60))));
    /// # });
    /// assert_eq!(topics.lines("hot"), [
    ///     r#"{"key":7,"value":true,"time":1}"#,
    ///     r#"{"key":8,"value":false,"time":1}"#,
    ///     r#"{"key":7,"value":false,"time":3}"#, // nothing at 2
    /// ]);
    /// ```
    pub fn map<D: Record>(
        &self,
        logic: impl FnMut((A::Key, A::View)) -> D + 'static,
    ) -> VecCollection<'s, Time, D, isize> {
        self.views().map(logic)
    }
    /// [`Collection::filter`](VecCollection::filter) of the views.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[], |flow| {
    /// # let readings = at(flow, [(1, vec![(7, 64), (8, 12)]), (2, vec![(7, 59)])]);
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 64, 8 => 12; at 2, 7 => 59
    /// flow.sink("hot", upsert(&sensors.filter(|(_, celsius)| *celsius > 60)));
    /// # });
    /// assert_eq!(topics.lines("hot"), [r#"{"key":7,"value":64,"time":1}"#, r#"{"key":7,"value":null,"time":2}"#]);
    /// ```
    pub fn filter(
        &self,
        condition: impl FnMut(&(A::Key, A::View)) -> bool + 'static,
    ) -> VecCollection<'s, Time, (A::Key, A::View), isize> {
        self.views().filter(condition)
    }
    /// [`Collection::flat_map`](VecCollection::flat_map) of the views.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[], |flow| {
    /// # let readings = at(flow, [(1, vec![(7, 64), (8, 12)])]);
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // 7 => 64, 8 => 12
    /// let reached = sensors.flat_map(|(_, celsius)| [20, 40, 60].into_iter().filter(move |mark| celsius >= *mark));
    /// flow.sink("reached", diffs(&reached));
    /// # });
    /// assert_eq!(topics.lines("reached").len(), 3);
    /// ```
    pub fn flat_map<I>(
        &self,
        logic: impl FnMut((A::Key, A::View)) -> I + 'static,
    ) -> VecCollection<'s, Time, I::Item, isize>
    where
        I: IntoIterator<Item: Record> + 'static,
    {
        self.views().flat_map(logic)
    }
}

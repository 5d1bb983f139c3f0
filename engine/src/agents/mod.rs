//! Agents: one for each key, with a state that events and timers change and a view that others see.
//!
//! A root ([`Events::agents`]) is the only way from a stream of events to a collection. Its contract:
//!
//! * **Only changed views leave.** The collection of a root holds `(key, view)` for every agent whose
//!   [`view`](Agent::view) is `Some`. At the end of a time, each agent that was touched is asked for its view; if
//!   it is what it was before, nothing leaves.
//! * **Views change at the ends of epochs**, never in between: whoever reads two agents sees one
//!   consistent time.
//! * **Order.** Within a time, an agent's due timer fires first, then its events come by source,
//!   partition and position. So results depend neither on the number of workers nor on batching.
//! * **Timers** are due at times of the dataflow, and fire at exactly their time.
//! * **Agents can leave**, and come again as if new.

mod operator;
mod pages;
mod segment;
mod timers;

use std::fmt::Debug;
use std::hash::Hash;

use differential_dataflow::VecCollection;
use timely::ExchangeData;

use crate::events::{Event, Events};
use crate::time::Time;

pub(crate) use operator::root;

/// What a key must be able to do: it is hashed to place the agent, compared, ordered, and sent.
pub trait Key: ExchangeData + Clone + Ord + Hash + Debug {}
impl<K: ExchangeData + Clone + Ord + Hash + Debug> Key for K {}

/// What a view or another record of a collection must be able to do.
pub trait Record: ExchangeData + Clone + Ord + Debug {}
impl<V: ExchangeData + Clone + Ord + Debug> Record for V {}

/// A stateful agent; the implementor is its state.
///
/// ```
/// use nekton_engine::{Agent, Context};
///
/// /// A traffic light that says when it is red.
/// #[derive(Default)]
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
pub trait Agent: Sized + 'static {
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
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        let _ = context;
    }

    /// What others see now, `None` for nothing. Called before the first and after the last
    /// change of a time; it must depend on the state alone.
    fn view(&self) -> Option<Self::View>;
}

/// What an agent can do besides changing its state.
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
    pub fn views(&self) -> VecCollection<'s, Time, (A::Key, A::View), isize> {
        self.views.clone()
    }
    /// The events that agents emitted, ordered by segment and by what they reacted to.
    pub fn emitted(&self) -> Events<'s, A::Emit> {
        self.emitted.clone()
    }
    /// [`Collection::map`](VecCollection::map) of the views.
    pub fn map<D: Record>(
        &self,
        logic: impl FnMut((A::Key, A::View)) -> D + 'static,
    ) -> VecCollection<'s, Time, D, isize> {
        self.views().map(logic)
    }
    /// [`Collection::filter`](VecCollection::filter) of the views.
    pub fn filter(
        &self,
        condition: impl FnMut(&(A::Key, A::View)) -> bool + 'static,
    ) -> VecCollection<'s, Time, (A::Key, A::View), isize> {
        self.views().filter(condition)
    }
    /// [`Collection::flat_map`](VecCollection::flat_map) of the views.
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

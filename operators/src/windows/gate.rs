//! What stands between a stream and the agents that go by its watermark: tells events that are too late from the others, and
//! agents when the watermark has come to where they want to hear of it.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use nekton_engine::agents::Key;
use nekton_engine::hash::fixed_hash;
use nekton_engine::{Agent, Context, Event, Events, Time};
use serde::{Deserialize, Serialize};

/// How many gates share the keys. Each hears of every step of the watermark.
const GATES: u16 = 256;

/// What goes through a gate, and what of it is kept when it is in time.
pub(crate) trait Payload: Event {
    type Kept: Event;
    fn kept(&self) -> Self::Kept;
}

/// Something for the agent of `key`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Arrival<K, X> {
    pub(crate) key: K,
    /// It is too late when the watermark is here.
    pub(crate) late_from: Time,
    /// The agent hears when the watermark is here,
    pub(crate) closes: Time,
    /// and here, which is not before.
    pub(crate) ends: Option<Time>,
    pub(crate) payload: X,
}

/// What a gate hears.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Heard<K, X> {
    Arrival(u16, Arrival<K, X>),
    Watermark(u16, Time),
}

/// What a gate says, in this order for each key: whatever was admitted before its closing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Passed<K, X, V> {
    Admitted(K, V),
    Late(X),
    /// The watermark has come to where the key closes.
    Closed(K, Time),
    /// The watermark has come to where it ends.
    Ended(K, Time),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Stage {
    /// It closes, and ends later, if ever.
    Closes(Option<Time>),
    Ends,
}

/// The keys of one gate that wait for the watermark. Where the watermark is at the end of a time decides which
/// events of the next time are too late, so nothing can be admitted to what has closed.
#[derive(Serialize, Deserialize)]
#[serde(bound = "K: Key")]
struct Gate<K, X> {
    watermark: Time,
    waiting: BTreeMap<Time, BTreeSet<(K, Stage)>>,
    #[serde(skip)]
    payload: PhantomData<X>,
}

impl<K: Key, X: Payload> Agent for Gate<K, X> {
    type Key = u16;
    type Event = Heard<K, X>;
    type View = ();
    type Emit = Passed<K, X, X::Kept>;

    fn create(_gate: &u16) -> Self {
        Gate { watermark: 0, waiting: BTreeMap::new(), payload: PhantomData }
    }
    fn on_event(&mut self, heard: &Heard<K, X>, context: &mut Context<'_, Self>) {
        match heard {
            Heard::Arrival(_, arrival) if arrival.late_from <= self.watermark => {
                context.emit(Passed::Late(arrival.payload.clone()));
            }
            Heard::Arrival(_, Arrival { key, closes, ends, payload, .. }) => {
                let stage = (key.clone(), Stage::Closes(*ends));
                self.waiting.entry(*closes).or_default().insert(stage);
                context.emit(Passed::Admitted(key.clone(), payload.kept()));
            }
            Heard::Watermark(_, watermark) => {
                self.watermark = self.watermark.max(*watermark);
                while let Some(first) = self.waiting.first_entry()
                    && *first.key() <= self.watermark
                {
                    let (due, keys) = first.remove_entry();
                    for (key, stage) in keys {
                        match stage {
                            Stage::Closes(ends) => {
                                context.emit(Passed::Closed(key.clone(), due));
                                match ends {
                                    None => {}
                                    Some(ends) if ends <= self.watermark => {
                                        context.emit(Passed::Ended(key, ends));
                                    }
                                    Some(ends) => {
                                        self.waiting.entry(ends).or_default().insert((key, Stage::Ends));
                                    }
                                }
                            }
                            Stage::Ends => context.emit(Passed::Ended(key, due)),
                        }
                    }
                }
            }
        }
    }
    fn view(&self) -> Option<()> {
        None
    }
}

/// Lets arrivals through. The watermark is a multiple of `step`.
pub(crate) fn gate<'s, K: Key, X: Payload>(
    name: &str,
    arrivals: &Events<'s, Arrival<K, X>>,
    watermark: &Events<'s, Time>,
    step: Time,
) -> Events<'s, Passed<K, X, X::Kept>> {
    // The watermark comes to a time when it comes to the next step: so there are fewer times to wait for.
    let up = move |time: Time| time.div_ceil(step).saturating_mul(step);
    let arrivals = arrivals.map(move |arrival| {
        let gate = (fixed_hash(&arrival.key) >> 24) as u16 % GATES;
        Heard::Arrival(gate, Arrival { closes: up(arrival.closes), ends: arrival.ends.map(up), ..arrival })
    });
    let watermark = watermark.flat_map(|time| (0..GATES).map(move |gate| Heard::Watermark(gate, time)));
    let heard = arrivals.concat(&watermark);
    let of = |heard: &Heard<K, X>| match heard {
        Heard::Arrival(gate, _) | Heard::Watermark(gate, _) => *gate,
    };
    heard.agents::<Gate<K, X>>(&format!("{name} gate"), of).emitted()
}

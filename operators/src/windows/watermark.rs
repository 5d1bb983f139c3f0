//! Watermarks: up to which event time a stream is complete, as data.

use std::collections::BTreeMap;

use nekton_engine::connect::PartitionId;
use nekton_engine::{Agent, Block, Context, Events, Order, Time};
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;

/// How a stream's watermark follows from its events.
///
/// The watermark says that no event before it is waited for. It is the least, over all active partitions of the stream, of the
/// latest event time that came from the partition, less what its events may be [`behind`](Watermark::behind). It never goes
/// back. The events of a time of the dataflow are judged by the watermark of the time before, and move it together.
///
/// * It is data, kept by a root: it is in checkpoints, is the same when the events are replayed, and depends neither on the
///   number of workers nor on batching.
/// * A partition is *idle* once nothing came from it for [so long](Watermark::idle_after) of the dataflow's time; it
///   then holds nothing up. When all are idle, everything is taken to have come: the watermark goes past the latest event
///   time of all, by less than a step. The clock goes on while a job is down: choose more than a restart takes.
/// * A partition that nothing has come from so far is not known: tell how many are [expected](Watermark::partitions) where
///   the first events of one may be a long time after those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Watermark {
    behind: Time,
    idle: Option<Time>,
    partitions: u32,
    step: Time,
}

impl Watermark {
    /// Events of a partition come at most so many milliseconds of event time behind the latest one. It goes on in steps of
    /// 100 ms, a partition is idle after a minute, and one is expected.
    pub fn behind(disorder: Time) -> Self {
        Watermark { behind: disorder, idle: Some(60_000), partitions: 1, step: 100 }
    }
    /// A partition is idle when nothing came from it for so many milliseconds.
    pub fn idle_after(self, idle: Time) -> Self {
        Watermark { idle: Some(idle), ..self }
    }
    /// No partition is ever idle: one that is silent holds everything up.
    pub fn never_idle(self) -> Self {
        Watermark { idle: None, ..self }
    }
    /// There is no watermark until something came from so many partitions, or they have been idle since the first event.
    pub fn partitions(self, expected: u32) -> Self {
        Watermark { partitions: expected, ..self }
    }
    /// It goes on in steps of so many milliseconds (at least 1): it is rounded down to a multiple. Each step
    /// costs 256 small events in each operator that goes by it, one a gate.
    pub fn step(self, step: Time) -> Self {
        Watermark { step: step.max(1), ..self }
    }
}

/// A stream of one operator, or one of its two.
pub(crate) type Side = u8;

/// The watermarks of an operator's streams.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    sides: (Watermark, Option<Watermark>),
}

impl Settings {
    pub(crate) fn one(watermark: Watermark) -> Self {
        Settings { sides: (watermark, None) }
    }
    pub(crate) fn two(left: Watermark, right: Watermark) -> Self {
        Settings { sides: (left, Some(right)) }
    }
    fn of(&self, side: Side) -> Watermark {
        if side == 0 { self.sides.0 } else { self.sides.1.unwrap_or(self.sides.0) }
    }
    fn each(&self) -> impl Iterator<Item = (Side, Watermark)> {
        [(0, Some(self.sides.0)), (1, self.sides.1)].into_iter().filter_map(|(side, of)| Some((side, of?)))
    }
    /// What watermarks are multiples of.
    pub(crate) fn step(&self) -> Time {
        self.each().map(|(_, of)| of.step).max().unwrap_or(1)
    }
}

/// A partition of a side; or the side itself, of which it is known that something is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Part {
    Whole(Side),
    Partition(Side, u32, PartitionId),
}

impl Part {
    fn side(self) -> Side {
        match self {
            Part::Whole(side) | Part::Partition(side, ..) => side,
        }
    }
}

/// What a block says of its partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    part: Part,
    latest: Time,
    settings: Settings,
}

/// The order of a block among those of both sides: one topic may be both.
pub(crate) fn order_of(side: Side, order: Order) -> Order {
    Order { partition: order.partition.wrapping_mul(2) | u32::from(side), ..order }
}

/// The latest event time of each block.
pub(crate) fn seen<'s, E: Clone + 'static>(
    events: &Events<'s, (Time, E)>,
    side: Side,
    settings: Settings,
) -> Events<'s, Seen> {
    let blocks = events.blocks().flat_map(move |Block { order, events }| {
        let latest = events.iter().map(|(time, _)| *time).max()?;
        let whole = settings.each().map(|(side, _)| Part::Whole(side));
        let parts = whole.chain([Part::Partition(side, order.source, order.partition)]);
        let events = parts.map(|part| Seen { part, latest, settings }).collect();
        Some(Block { order: order_of(side, order), events })
    });
    events.flow().events_of(blocks)
}

/// The watermark of an operator, at each time at which it goes on.
pub(crate) fn watermark<'s>(name: &str, seen: &Events<'s, Seen>) -> Events<'s, Time> {
    let states = seen.agents::<Presence>(&format!("{name} partitions"), |seen| seen.part).emitted();
    // What is last of a time asks for the watermark. All of these are the same, so their order does not matter.
    let blocks = states.blocks().flat_map(|Block { order, events }| {
        let last = Order { partition: PartitionId::MAX, ..order };
        let states = Block { order, events: events.into_iter().map(Heard::State).collect() };
        [states, Block { order: last, events: vec![Heard::ThatIsAll] }]
    });
    let heard = states.flow().events_of(blocks);
    heard.agents::<Clock>(&format!("{name} watermark"), |_| ()).emitted()
}

/// Whether something came from a part lately.
#[derive(Serialize, Deserialize)]
struct Presence {
    last: Option<Seen>,
}

/// What became of a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    seen: Seen,
    idle: bool,
}

impl Agent for Presence {
    type Key = Part;
    type Event = Seen;
    type View = ();
    type Emit = State;

    fn create(_part: &Part) -> Self {
        Presence { last: None }
    }
    fn on_event(&mut self, seen: &Seen, context: &mut Context<'_, Self>) {
        let first = self.last.is_none();
        self.last = Some(seen.clone());
        // What is to come is waited for once, from the first event on.
        if first || !matches!(seen.part, Part::Whole(_)) {
            context.emit(State { seen: seen.clone(), idle: false });
            if let Some(idle) = seen.settings.of(seen.part.side()).idle {
                context.set_timer(context.time().saturating_add(idle));
            }
        }
    }
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        if let Some(seen) = self.last.clone() {
            context.emit(State { seen, idle: true });
        }
    }
    fn view(&self) -> Option<()> {
        None
    }
}

/// What the clock hears.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Heard {
    State(State),
    /// Everything of this time was heard.
    ThatIsAll,
}

/// The one agent that knows all parts.
#[derive(Serialize, Deserialize)]
struct Clock {
    /// The latest event time of each, and whether it is idle.
    parts: BTreeMap<Part, (Time, bool)>,
    settings: Option<Settings>,
    watermark: Time,
}

impl Clock {
    /// Before which event time everything is taken to have come.
    fn complete(&self) -> Option<Time> {
        let settings = self.settings?;
        let step = settings.step();
        let known = |side| {
            let of = |part: &&Part| matches!(part, Part::Partition(other, ..) if *other == side);
            self.parts.keys().filter(of).count()
        };
        for (side, of) in settings.each() {
            let awaited = self.parts.get(&Part::Whole(side)).is_none_or(|(_, idle)| !idle);
            if awaited && known(side) < of.partitions as usize {
                return None;
            }
        }
        let partitions = || self.parts.iter().filter(|(part, _)| matches!(part, Part::Partition(..)));
        let active = partitions().filter(|(_, (_, idle))| !idle);
        let complete =
            active.map(|(part, (latest, _))| latest.saturating_sub(settings.of(part.side()).behind));
        if let Some(complete) = complete.min() {
            return Some(complete / step * step);
        }
        let latest = partitions().map(|(_, (latest, _))| *latest).max()?;
        Some((latest / step).saturating_add(1).saturating_mul(step))
    }
}

impl Agent for Clock {
    type Key = ();
    type Event = Heard;
    type View = Time;
    type Emit = Time;

    fn create((): &()) -> Self {
        Clock { parts: BTreeMap::new(), settings: None, watermark: 0 }
    }
    fn on_event(&mut self, heard: &Heard, context: &mut Context<'_, Self>) {
        match heard {
            Heard::State(State { seen, idle }) => {
                self.settings = Some(seen.settings);
                let known = self.parts.entry(seen.part).or_insert((0, false));
                *known = (known.0.max(seen.latest), *idle);
            }
            Heard::ThatIsAll => {
                if let Some(complete) = self.complete()
                    && complete > self.watermark
                {
                    self.watermark = complete;
                    context.emit(complete);
                }
            }
        }
    }
    fn view(&self) -> Option<Time> {
        Some(self.watermark)
    }
}

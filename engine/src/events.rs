//! Streams of events: blocks of one partition, in order.
//!
//! Events are ephemeral: they can be mapped, filtered, split, written to a topic, or given to a root
//! ([agents](crate::agents), [tables](Events::table)), which turns them into a collection.

use differential_dataflow::VecCollection;
use serde::{Deserialize, Serialize};
use timely::ExchangeData;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::vec::{Filter, Map};

use crate::agents::{Agent, Agents, Key, Record};
use crate::connect::{PartitionId, Position};
use crate::flow::Flow;
use crate::table::{Row, TableRow};
use crate::time::Time;

/// Where a block stands among the blocks of its time: by source, partition and position of its first
/// event. Blocks of one partition do not overlap, so ordering blocks orders events.
///
/// ```
/// use nekton_engine::{Order, connect::Position};
///
/// let at = |source, partition, entry| Order { source, partition, position: Position { entry, ..Position::default() } };
/// assert!(at(0, 3, 800) < at(1, 0, 0), "the source that the program names first comes first");
/// assert!(at(0, 0, 800) < at(0, 1, 0) && at(0, 1, 0) < at(0, 1, 40));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order {
    /// The number of the source in the program: topics and roots in the order they are named.
    pub source: u32,
    /// The partition of a topic, or the segment of a root that emitted the events.
    pub partition: PartitionId,
    /// The position of the first event.
    pub position: Position,
}

/// Consecutive events of one partition that got the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block<E> {
    /// Where the block stands.
    pub order: Order,
    /// Its events.
    pub events: Vec<E>,
}

/// A stream of events of type `E`. Cloning it costs nothing; every consumer of a clone gets a copy
/// of the events.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(&[("readings", &["12", "64"])], |flow| {
/// let readings = flow.events::<i64>("readings"); // 12, 64
/// let hot = readings.filter(|celsius| *celsius > 60);
/// flow.sink("hot", &hot);
/// flow.sink("fahrenheit", &hot.map(|celsius| celsius * 9 / 5 + 32));
/// # });
/// assert_eq!(topics.lines("hot"), ["64"]);
/// assert_eq!(topics.lines("fahrenheit"), ["147"]);
/// ```
pub struct Events<'s, E: Clone + 'static> {
    pub(crate) blocks: StreamVec<'s, Time, Block<E>>,
    pub(crate) flow: Flow<'s>,
}

impl<E: Clone + 'static> Clone for Events<'_, E> {
    fn clone(&self) -> Self {
        Events { blocks: self.blocks.clone(), flow: self.flow.clone() }
    }
}

impl<'s, E: Clone + 'static> Events<'s, E> {
    fn with<D: Clone + 'static>(&self, blocks: StreamVec<'s, Time, Block<D>>) -> Events<'s, D> {
        Events { blocks, flow: self.flow.clone() }
    }

    /// The flow that they belong to: for operators that are made of several roots.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// fn largest_of_each_block<'s>(events: &Events<'s, i64>) -> Events<'s, i64> {
    ///     use timely::dataflow::operators::vec::Map;
    ///     let largest = events.blocks().map(|block| Block { order: block.order, events: block.events.into_iter().max().into_iter().collect() });
    ///     events.flow().events_of(largest)
    /// }
    /// # let topics = job(&[("readings", &["12", "64"])], |flow| {
    /// # let readings = flow.events::<i64>("readings");
    /// # flow.sink("largest", &largest_of_each_block(&readings));
    /// # });
    /// # assert_eq!(topics.lines("largest"), ["64"]);
    /// ```
    pub fn flow(&self) -> Flow<'s> {
        self.flow.clone()
    }

    /// A root: the agents of these events, one for each value of `key`. `name` is the root's own: its
    /// state is kept under it. Cost: about the lookup in a hash table an event, and a view before and
    /// after for each agent touched in an epoch.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// /// How many readings a sensor has sent.
    /// #[derive(Serialize, Deserialize)]
    /// struct Sensor { readings: u64 }
    ///
    /// impl Agent for Sensor {
    ///     type Key = String;
    ///     type Event = (String, i64);
    ///     type View = u64;
    ///     type Emit = ();
    ///     fn create(_sensor: &String) -> Self { Sensor { readings: 0 } }
    ///     fn on_event(&mut self, _reading: &(String, i64), _context: &mut Context<'_, Self>) { self.readings += 1; }
    ///     fn view(&self) -> Option<u64> { Some(self.readings) }
    /// }
    ///
    /// # let topics = job(&[("readings", &[r#"["k1",21]"#, r#"["c1",12]"#, r#"["k1",22]"#])], |flow| {
    /// let readings = flow.events::<(String, i64)>("readings"); // ["k1",21]  ["c1",12]  ["k1",22]
    /// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| sensor.clone());
    /// flow.sink("sent", diffs(&sensors.views()));
    /// # });
    /// # let sent = topics.lines("sent");
    /// assert!(sent[0].starts_with(r#"{"data":["c1",1],"#));
    /// assert!(sent[1].starts_with(r#"{"data":["k1",2],"#));
    /// ```
    pub fn agents<A: Agent<Event = E>>(
        &self,
        name: &str,
        key: impl Fn(&E) -> A::Key + 'static,
    ) -> Agents<'s, A> {
        self.flow.clone().agents(self, name, key)
    }

    /// The blocks as a timely stream.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// use timely::dataflow::operators::vec::Map;
    ///
    /// # let topics = job(&[("readings", &["12", "64"])], |flow| {
    /// let readings = flow.events::<i64>("readings"); // 12, 64
    /// let sums = readings.blocks().map(|block| Block { order: block.order, events: vec![block.events.iter().sum::<i64>()] });
    /// flow.sink("sums", &flow.events_of(sums));
    /// # });
    /// assert_eq!(topics.lines("sums"), ["76"]); // both came in one block
    /// ```
    pub fn blocks(&self) -> StreamVec<'s, Time, Block<E>> {
        self.blocks.clone()
    }

    /// Replaces each event by `logic` of it, keeping their order.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[("celsius", &["0", "100"])], |flow| {
    /// let celsius = flow.events::<i64>("celsius"); // 0, 100
    /// flow.sink("fahrenheit", &celsius.map(|degrees| degrees * 9 / 5 + 32));
    /// # });
    /// assert_eq!(topics.lines("fahrenheit"), ["32", "212"]);
    /// ```
    pub fn map<D: Clone + 'static>(&self, mut logic: impl FnMut(E) -> D + 'static) -> Events<'s, D> {
        let logic = move |block: Block<E>| Block {
            order: block.order,
            events: block.events.into_iter().map(&mut logic).collect(),
        };
        self.with(self.blocks().map(logic))
    }

    /// Keeps the events for which `condition` is true, in their order.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[("celsius", &["12", "64", "61"])], |flow| {
    /// let celsius = flow.events::<i64>("celsius"); // 12, 64, 61
    /// flow.sink("hot", &celsius.filter(|degrees| *degrees > 60));
    /// # });
    /// assert_eq!(topics.lines("hot"), ["64", "61"]);
    /// ```
    pub fn filter(&self, mut condition: impl FnMut(&E) -> bool + 'static) -> Self {
        let logic = move |mut block: Block<E>| {
            block.events.retain(|event| condition(event));
            block
        };
        self.with(self.blocks().map(logic).filter(|block| !block.events.is_empty()))
    }

    /// Replaces each event by any number of others, keeping their order.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[("reports", &[r#"{"k1":21,"k2":64}"#, "{}"])], |flow| {
    /// use std::collections::BTreeMap;
    ///
    /// let reports = flow.events::<BTreeMap<String, i64>>("reports"); // {"k1":21,"k2":64}  {}
    /// flow.sink("readings", &reports.flat_map(|report| report));
    /// # });
    /// assert_eq!(topics.lines("readings"), [r#"["k1",21]"#, r#"["k2",64]"#]);
    /// ```
    pub fn flat_map<I: IntoIterator>(&self, logic: impl FnMut(E) -> I + 'static) -> Events<'s, I::Item>
    where
        I::Item: Clone + 'static,
    {
        let mut logic = logic;
        let logic = move |block: Block<E>| Block {
            order: block.order,
            events: block.events.into_iter().flat_map(&mut logic).collect::<Vec<_>>(),
        };
        self.with(self.blocks().map(logic).filter(|block| !block.events.is_empty()))
    }

    /// All events of both streams. Within a time, the source named first in the program comes
    /// first. To concatenate two streams that stem from the same one, map and filter it once instead:
    /// their blocks would have the same [`Order`], and which comes first would not be defined.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[("upstairs", &["21"]), ("downstairs", &["12"])], |flow| {
    /// let upstairs = flow.events::<i64>("upstairs"); // 21
    /// let downstairs = flow.events::<i64>("downstairs"); // 12
    /// flow.sink("house", &upstairs.concat(&downstairs));
    /// # });
    /// # let mut house = topics.lines("house");
    /// # house.sort();
    /// assert_eq!(house, ["12", "21"]);
    /// ```
    pub fn concat(&self, other: &Self) -> Self {
        self.with(self.blocks().concat(other.blocks()))
    }

    /// Calls `logic` on each event as it passes, for looking on.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// use std::sync::atomic::{AtomicI64, Ordering};
    ///
    /// static HOTTEST: AtomicI64 = AtomicI64::new(i64::MIN);
    /// # let topics = job(&[("celsius", &["12", "64"])], |flow| {
    /// let celsius = flow.events::<i64>("celsius"); // 12, 64
    /// let celsius = celsius.inspect(|degrees| { HOTTEST.fetch_max(*degrees, Ordering::Relaxed); });
    /// flow.sink("copy", &celsius);
    /// # });
    /// assert_eq!(HOTTEST.load(Ordering::Relaxed), 64);
    /// assert_eq!(topics.lines("copy"), ["12", "64"]);
    /// ```
    pub fn inspect(&self, mut logic: impl FnMut(&E) + 'static) -> Self {
        let logic = move |block: Block<E>| {
            block.events.iter().for_each(&mut logic);
            block
        };
        self.with(self.blocks().map(logic))
    }
}

/// What an event must be able to do to go from worker to worker.
pub trait Event: ExchangeData + Clone {}
impl<E: ExchangeData + Clone> Event for E {}

impl<'s, K: Key, V: Record> Events<'s, Row<K, V>> {
    /// A table: the newest value of each key, as a collection. `None` deletes.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(&[], |flow| {
    /// # let rows = at(flow, [(1, vec![(17, Some(250))]), (2, vec![(17, Some(199)), (18, Some(99))]), (3, vec![(18, None)])]);
    /// // Prices by article: at 1, 17 => 250; at 2, 17 => 199 and 18 => 99; at 3, 18 is gone.
    /// let prices = rows.table("prices");
    /// flow.sink("prices-now", upsert(&prices));
    /// # });
    /// assert_eq!(topics.lines("prices-now"), [
    ///     r#"{"key":17,"value":250,"time":1}"#,
    ///     r#"{"key":17,"value":199,"time":2}"#,
    ///     r#"{"key":18,"value":99,"time":2}"#,
    ///     r#"{"key":18,"value":null,"time":3}"#,
    /// ]);
    /// ```
    pub fn table(&self, name: &str) -> VecCollection<'s, Time, (K, V), isize> {
        self.agents::<TableRow<K, V>>(name, |(key, _)| key.clone()).views()
    }
}

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

use crate::agents::{Agent, Agents, Key, Reads, Record};
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

    /// A root like [`Events::agents`], whose agents also read a collection: what it holds for their keys, at the
    /// millisecond after each change. See [`Reads`]. What they read may be made of other agents' views, but not of their own;
    /// for that there is [`Events::agents_in_loop`].
    ///
    /// Cost: what can be read is held once more, by key (about 80 bytes and the key, and the values), and 8 bytes an agent; a change
    /// costs a pass over all values of its key. Where many are linked to one agent, count or sum them up before, and let it
    /// read that.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// use nekton_engine::Reads;
    ///
    /// /// A door that is locked and unlocked by its events, and locks itself when nobody is at home.
    /// #[derive(Serialize, Deserialize)]
    /// struct Door { locked: bool }
    ///
    /// impl Agent for Door {
    ///     type Key = String;
    ///     type Event = (String, bool);
    ///     type View = bool;
    ///     type Emit = ();
    ///     fn create(_house: &String) -> Self { Door { locked: true } }
    ///     fn on_event(&mut self, &(_, locked): &(String, bool), _context: &mut Context<'_, Self>) { self.locked = locked; }
    ///     fn view(&self) -> Option<bool> { Some(self.locked) }
    /// }
    /// impl Reads for Door {
    ///     type Linked = u64; // who is at home
    ///     fn on_linked(&mut self, at_home: &[u64], _context: &mut Context<'_, Self>) {
    ///         self.locked |= at_home.is_empty();
    ///     }
    /// }
    ///
    /// # let topics = job(&[], |flow| {
    /// # let unlocked = flow.feed("doors", |_, _, _| Script::new([(5, vec![Block { order: Order { source: 0, partition: 0, position: Position::default() }, events: vec![("No. 9".to_owned(), false)] }])]));
    /// # let people = at(flow, [(1, vec![(7, Some("No. 9".to_owned()))]), (50, vec![(7, Some("No. 4".to_owned()))])]);
    /// let at_home = people.table("people").map(|(person, house)| (house, person)); // 7 is in No. 9, from 50 on in No. 4
    /// let doors = unlocked.agents_reading::<Door>("doors", |(house, _)| house.clone(), &at_home); // unlocked at 5
    /// flow.sink("doors", upsert(&doors.views()));
    /// # });
    /// assert_eq!(topics.lines("doors"), [
    ///     r#"{"key":"No. 9","value":false,"time":5}"#,
    ///     r#"{"key":"No. 9","value":true,"time":51}"#,
    /// ]);
    /// ```
    pub fn agents_reading<A: Reads<Event = E>>(
        &self,
        name: &str,
        key: impl Fn(&E) -> A::Key + 'static,
        linked: &VecCollection<'s, Time, (A::Key, A::Linked), isize>,
    ) -> Agents<'s, A> {
        self.flow.clone().agents_reading(self, name, key, linked)
    }

    /// A root like [`Events::agents_reading`], whose agents read what depends on their own views: `linked` makes that of them.
    /// Each round takes a millisecond of the dataflow's time: a view that changes at `t` is read at `t + 1`, and what changes
    /// by that is read at `t + 2`. An agent whose view does not change ends it.
    ///
    /// A loop that never settles goes round for as long as the job runs, and if a round takes longer than a
    /// millisecond, the job falls behind. When all inputs have ended, it goes on for about 1,000 rounds; what timers
    /// change later than that is not read any more.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// use nekton_engine::Reads;
    ///
    /// /// A person who believes the highest number heard so far, and tells the neighbours.
    /// #[derive(Serialize, Deserialize)]
    /// struct Person { highest: u64 }
    ///
    /// impl Agent for Person {
    ///     type Key = u64;
    ///     type Event = (u64, u64);
    ///     type View = u64;
    ///     type Emit = ();
    ///     fn create(_person: &u64) -> Self { Person { highest: 0 } }
    ///     fn on_event(&mut self, &(_, number): &(u64, u64), _context: &mut Context<'_, Self>) {
    ///         self.highest = self.highest.max(number);
    ///     }
    ///     fn view(&self) -> Option<u64> { Some(self.highest) }
    /// }
    /// impl Reads for Person {
    ///     type Linked = u64;
    ///     fn on_linked(&mut self, told: &[u64], _context: &mut Context<'_, Self>) {
    ///         self.highest = self.highest.max(told.last().copied().unwrap_or(0)); // they are sorted
    ///     }
    /// }
    ///
    /// # let topics = job(&[], |flow| {
    /// # let heard = at(flow, [(1, vec![(1, 17), (2, 4), (3, 4)]), (50, vec![(2, 20)])]);
    /// # let tells = [(1, 2), (2, 3)];
    /// # let tells = { use differential_dataflow::AsCollection; use timely::dataflow::operators::vec::ToStream; tells.map(|link| (link, 0, 1)).to_stream(flow.scope()).as_collection() };
    /// // 1 hears 17, 2 and 3 hear 4, at the time 1; 2 hears 20 at 50. 1 tells 2, and 2 tells 3.
    /// let people = heard.agents_in_loop::<Person>("people", |(person, _)| *person, |people| {
    ///     people.views().join(tells).map(|(_, (highest, listener))| (listener, highest))
    /// });
    /// flow.sink("people", upsert(&people.filter(|(person, _)| *person == 3)));
    /// # });
    /// assert_eq!(topics.lines("people"), [
    ///     r#"{"key":3,"value":4,"time":1}"#,
    ///     r#"{"key":3,"value":17,"time":3}"#, // told by 2, who was told by 1 at 2
    ///     r#"{"key":3,"value":20,"time":51}"#,
    /// ]);
    /// ```
    pub fn agents_in_loop<A: Reads<Event = E>>(
        &self,
        name: &str,
        key: impl Fn(&E) -> A::Key + 'static,
        linked: impl FnOnce(&Agents<'s, A>) -> VecCollection<'s, Time, (A::Key, A::Linked), isize>,
    ) -> Agents<'s, A> {
        self.flow.clone().agents_in_loop(self, name, key, linked)
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

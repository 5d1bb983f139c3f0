//! Output topics: what a program hands to [`Flow::sink`](crate::Flow::sink), and in which envelope it is written.

mod operator;
mod progress;
mod schema;

use std::collections::HashSet;
use std::rc::Rc;

use bytes::Bytes;
use differential_dataflow::VecCollection;
use differential_dataflow::consolidation::consolidate;
use serde::Serialize;

use crate::agents::{Agent, Agents, Key, Record};
use crate::connect::{Envelope, Message};
use crate::error::{Error, Kind, Result};
use crate::events::{Block, Event, Events, Order};
use crate::flow::Flow;
use crate::hash::{FixedState, fixed_hash};
use crate::time::Time;

pub(crate) use operator::{Encoder, sink};
pub(crate) use progress::last_times;

/// Something that can be written to a topic: a collection in one of the envelopes
/// ([`changes`], [`upsert`], [`diffs`]; a collection of pairs by itself is written as changes), or
/// events ([`keyed`], or a reference to [`Events`]).
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// /// Writes what is hot, and nothing else.
/// struct Hot<'s>(Events<'s, i64>);
///
/// impl<'s> Output<'s> for Hot<'s> {
///     fn write_to(self, flow: &mut Flow<'s>, topic: &str) {
///         flow.sink(topic, &self.0.filter(|celsius| *celsius > 60));
///     }
/// }
///
/// # let topics = job(&[("readings", &["12", "64"])], |flow| {
/// let readings = flow.events::<i64>("readings"); // 12, 64
/// flow.sink("hot", Hot(readings));
/// # });
/// assert_eq!(topics.lines("hot"), ["64"]);
/// ```
pub trait Output<'s> {
    /// Builds the operators that write it to `topic`.
    fn write_to(self, flow: &mut Flow<'s>, topic: &str);
}

/// A collection of `(key, value)` as its changes: `{"key":..,"before":..,"after":..,"time":..}`.
#[derive(Debug)]
pub struct Changes<C>(C);
/// A collection of `(key, value)` as each key's newest value; no value deletes.
#[derive(Debug)]
pub struct Upsert<C>(C);
/// A collection as a multiset: `{"data":..,"time":..,"diff":±n}`.
#[derive(Debug)]
pub struct Diffs<C>(C);
/// Events with a key, by which they are partitioned.
pub struct Keyed<'s, E: Clone + 'static, F> {
    events: Events<'s, E>,
    key: F,
}

/// Writes each change of a key's value, as Debezium's users know it. A key may have one value at a time.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(&[], |flow| {
/// # let readings = at(flow, [(1, vec![(7, 64)]), (2, vec![(7, 21)])]);
/// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 64; at 2, 7 => 21
/// flow.sink("celsius", changes(&sensors.views()));
/// # });
/// assert_eq!(topics.lines("celsius"), [
///     r#"{"key":7,"before":null,"after":64,"time":1}"#,
///     r#"{"key":7,"before":64,"after":21,"time":2}"#,
/// ]);
/// ```
pub fn changes<C>(collection: C) -> Changes<C> {
    Changes(collection)
}
/// Writes each key's newest value, or that it has none any more. A key may have one value at a time.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(&[], |flow| {
/// # let readings = at(flow, [(1, vec![(7, 64)]), (2, vec![(7, 21)])]);
/// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 64; at 2, 7 => 21
/// flow.sink("hot", upsert(&sensors.filter(|(_, celsius)| *celsius > 60)));
/// # });
/// assert_eq!(topics.lines("hot"), [r#"{"key":7,"value":64,"time":1}"#, r#"{"key":7,"value":null,"time":2}"#]);
/// ```
pub fn upsert<C>(collection: C) -> Upsert<C> {
    Upsert(collection)
}
/// Writes each record that came to the collection or left it, with its count.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(&[], |flow| {
/// # let readings = at(flow, [(1, vec![(7, 20), (8, 20)]), (2, vec![(8, 21)])]);
/// let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor); // at 1, 7 => 20, 8 => 20; at 2, 8 => 21
/// flow.sink("celsius", diffs(&sensors.map(|(_, celsius)| celsius)));
/// # });
/// assert_eq!(topics.lines("celsius"), [
///     r#"{"data":20,"time":1,"diff":2}"#,
///     r#"{"data":20,"time":2,"diff":-1}"#,
///     r#"{"data":21,"time":2,"diff":1}"#,
/// ]);
/// ```
pub fn diffs<C>(collection: C) -> Diffs<C> {
    Diffs(collection)
}
/// Writes events with a key: those of one key stay in order, in one partition.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(&[("orders", &[r#"["books",1200]"#, r#"["toys",80]"#])], |flow| {
/// let orders = flow.events::<(String, u64)>("orders"); // ["books",1200]  ["toys",80]
/// flow.sink("orders-by-shelf", keyed(&orders, |(shelf, _cents)| shelf.clone()));
/// # });
/// assert_eq!(topics.lines("orders-by-shelf"), [r#"["books",1200]"#, r#"["toys",80]"#]);
/// ```
pub fn keyed<'s, E: Clone, K, F: Fn(&E) -> K + 'static>(events: &Events<'s, E>, key: F) -> Keyed<'s, E, F> {
    Keyed { events: events.clone(), key }
}

/// A collection of keyed values.
type Pairs<'s, K, V> = VecCollection<'s, Time, (K, V), isize>;

impl<'s, K: Key, V: Record> Output<'s> for &Pairs<'s, K, V> {
    fn write_to(self, flow: &mut Flow<'s>, topic: &str) {
        changes(self).write_to(flow, topic);
    }
}
impl<'s, A: Agent> Output<'s> for &Agents<'s, A> {
    fn write_to(self, flow: &mut Flow<'s>, topic: &str) {
        changes(&self.views()).write_to(flow, topic);
    }
}
impl<'s, K: Key, V: Record> Output<'s> for Changes<&Pairs<'s, K, V>> {
    fn write_to(self, flow: &mut Flow<'s>, topic: &str) {
        pairs(flow, topic, self.0, Envelope::Changes, schema::changes::<K, V>());
    }
}
impl<'s, K: Key, V: Record> Output<'s> for Upsert<&Pairs<'s, K, V>> {
    fn write_to(self, flow: &mut Flow<'s>, topic: &str) {
        pairs(flow, topic, self.0, Envelope::Upsert, schema::of::<V>());
    }
}
impl<'s, D: Key> Output<'s> for Diffs<&VecCollection<'s, Time, D, isize>> {
    fn write_to(self, flow: &mut Flow<'s>, topic: &str) {
        let encoder = Encoder {
            envelope: Envelope::Diffs,
            schema: schema::diffs::<D>(),
            time: |(_, time, _), _| *time,
            place: Rc::new(|(data, _, _): &(D, Time, isize), partitions| place(fixed_hash(data), partitions)),
            encode: Box::new(|time, updates, messages| {
                let mut records: Vec<(D, isize)> = updates.into_iter().map(|(d, _, r)| (d, r)).collect();
                consolidate(&mut records);
                for (data, diff) in records {
                    messages.push(message(None, Some(&DiffLine { data: &data, time, diff }))?);
                }
                Ok(())
            }),
        };
        flow.write(topic, self.0.inner.clone(), encoder);
    }
}
impl<'s, E: Event> Output<'s> for &Events<'s, E> {
    fn write_to(self, flow: &mut Flow<'s>, topic: &str) {
        let encoder = Encoder {
            envelope: Envelope::Events,
            schema: schema::of::<E>(),
            time: |_, time| time,
            place: Rc::new(|block: &Block<E>, partitions| block.order.partition % partitions),
            encode: Box::new(|_, mut blocks: Vec<Block<E>>, messages| {
                blocks.sort_by_key(|block| block.order);
                for event in blocks.iter().flat_map(|block| &block.events) {
                    messages.push(message(None, Some(event))?);
                }
                Ok(())
            }),
        };
        flow.write(topic, self.blocks(), encoder);
    }
}
impl<'s, E: Event, K: Key, F: Fn(&E) -> K + 'static> Output<'s> for Keyed<'s, E, F> {
    fn write_to(self, flow: &mut Flow<'s>, topic: &str) {
        let key = self.key;
        let pairs = self.events.map(move |event| (key(&event), event));
        let encoder = Encoder {
            envelope: Envelope::Events,
            schema: schema::of::<E>(),
            time: |_, time| time,
            place: Rc::new(|(_, _, (key, _)): &Placed<K, E>, partitions| place(fixed_hash(key), partitions)),
            encode: Box::new(|_, mut events: Vec<Placed<K, E>>, messages| {
                events.sort_by_key(|(order, index, _)| (*order, *index));
                for (_, _, (key, event)) in &events {
                    messages.push(message(Some(json(key)?), Some(event))?);
                }
                Ok(())
            }),
        };
        flow.write(topic, spread(pairs), encoder);
    }
}

/// An event on its own, with the order of its block and its place there.
type Placed<K, E> = (Order, u32, (K, E));

fn spread<'s, D: Clone + 'static>(
    events: Events<'s, D>,
) -> timely::dataflow::StreamVec<'s, Time, (Order, u32, D)> {
    use timely::dataflow::operators::vec::Map;
    events.blocks().flat_map(|block| {
        (0..).zip(block.events).map(move |(index, event)| (block.order, index, event)).collect::<Vec<_>>()
    })
}

fn place(hash: u64, partitions: u32) -> u32 {
    ((hash >> 32) % u64::from(partitions)) as u32
}

/// Writes a collection of pairs, each key with one value at a time.
fn pairs<'s, K: Key, V: Record>(
    flow: &mut Flow<'s>,
    topic: &str,
    collection: &Pairs<'s, K, V>,
    envelope: Envelope,
    schema: Option<String>,
) {
    let mut present: HashSet<u64, FixedState> = HashSet::default();
    let name = topic.to_owned();
    let encoder = Encoder {
        envelope,
        schema,
        time: |(_, time, _), _| *time,
        place: Rc::new(|((key, _), _, _): &((K, V), Time, isize), partitions| {
            place(fixed_hash(key), partitions)
        }),
        encode: Box::new(move |time, updates, messages| {
            let mut records: Vec<((K, V), isize)> = updates.into_iter().map(|(d, _, r)| (d, r)).collect();
            consolidate(&mut records);
            for of_key in records.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
                let key = &of_key[0].0.0;
                let (before, after) = one_change(of_key, &mut present).ok_or_else(|| {
                    Error::new(
                        Kind::BadInput,
                        format!(
                            "the key {key:?} would have more than one value at a time in topic {name:?}, at time \
                             {time}. Reduce the collection to one value a key, or write it with diffs(..)"
                        ),
                    )
                })?;
                let text = json(key)?;
                messages.push(match envelope {
                    Envelope::Upsert => message(Some(text), after)?,
                    _ => message(Some(text), Some(&ChangeLine { key, before, after, time }))?,
                });
            }
            Ok(())
        }),
    };
    flow.write(topic, collection.inner.clone(), encoder);
}

/// The one change of a key at a time; `None` if the key would have several values.
fn one_change<'a, K: Key, V>(
    updates: &'a [((K, V), isize)],
    present: &mut HashSet<u64, FixedState>,
) -> Option<(Option<&'a V>, Option<&'a V>)> {
    let (mut before, mut after) = (None, None);
    for ((_, value), diff) in updates {
        let side = match diff {
            -1 => &mut before,
            1 => &mut after,
            _ => return None,
        };
        if side.replace(value).is_some() {
            return None;
        }
    }
    let hash = fixed_hash(&updates[0].0.0);
    // What was there must be what goes, and nothing may come on top of it.
    let fits = match (before.is_some(), after.is_some()) {
        (false, _) => present.insert(hash),
        (true, true) => present.contains(&hash),
        (true, false) => present.remove(&hash),
    };
    fits.then_some((before, after))
}

#[derive(Serialize)]
struct ChangeLine<'a, K, V> {
    key: &'a K,
    before: Option<&'a V>,
    after: Option<&'a V>,
    time: Time,
}

#[derive(Serialize)]
struct DiffLine<'a, D> {
    data: &'a D,
    time: Time,
    diff: isize,
}

fn json<T: Serialize>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        Error::new(
            Kind::BadInput,
            format!(
                "a value of type {} cannot be written as JSON: {error}. Change its type or how it is serialized",
                std::any::type_name::<T>()
            ),
        )
    })
}

fn message<T: Serialize>(key: Option<Bytes>, value: Option<&T>) -> Result<Message> {
    Ok(Message { key, value: value.map(json).transpose()? })
}

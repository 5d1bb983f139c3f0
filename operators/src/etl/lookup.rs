//! Lookups: events with what a collection says of them at their time.

use std::collections::{BTreeMap, HashMap};

use differential_dataflow::VecCollection;
use nekton_engine::agents::{Key, Record};
use nekton_engine::hash::{FixedState, fixed_hash};
use nekton_engine::{Block, Event, Events, Time};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// Lookups.
pub trait Lookup<'s, E: Event> {
    /// Each event with the value that a collection has for its key at the end of the same time of the dataflow: the newest one.
    /// A collection has one value a key here, as a table has; of several, the least counts.
    ///
    /// Nothing waits for a watermark, and nothing is remembered but the collection: an event never hears of what changes after
    /// it. To go by when events *happened*, use [`as_of`](crate::Timed::as_of). Events keep their order; they stay
    /// where they are, keys go to where the collection is, and values come back.
    ///
    /// **Cost**: a key and a value sent between workers, and a look-up in a hash table, an event; the latter for each change of the
    /// collection. **Memory**: the collection once, and some 40 bytes a record. None of it is stored: it is derived.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let prices = table(flow, "prices", [(1, vec![("tea", Some(4))]), (3, vec![("tea", Some(5))])]);
    /// # let orders = events(flow, "orders", [(1, vec![(("tea", 2), 0)]), (2, vec![(("tea", 1), 0), (("salt", 1), 0)]), (3, vec![(("tea", 7), 0)])]).map(|(order, _)| order);
    /// // tea costs 4, and 5 from the time 3 on; (what, how many): at 1, 2 tea; at 2, 1 tea and 1 salt; at 3, 7 tea
    /// let with_price = orders.lookup(&prices, |(what, _)| what.clone());
    /// flow.sink("with-price", &with_price);
    /// # });
    /// assert_eq!(topics.lines("with-price"), [
    ///     r#"[["tea",2],4]"#,
    ///     r#"[["tea",1],4]"#,
    ///     r#"[["salt",1],null]"#,
    ///     r#"[["tea",7],5]"#,
    /// ]);
    /// ```
    fn lookup<K: Key, V: Record>(
        &self,
        table: &VecCollection<'s, Time, (K, V), isize>,
        key: impl Fn(&E) -> K + 'static,
    ) -> Events<'s, (E, Option<V>)>;
}

impl<'s, E: Event> Lookup<'s, E> for Events<'s, E> {
    fn lookup<K: Key, V: Record>(
        &self,
        table: &VecCollection<'s, Time, (K, V), isize>,
        key: impl Fn(&E) -> K + 'static,
    ) -> Events<'s, (E, Option<V>)> {
        let (questions, blocks) = ask(self.blocks(), key);
        let answers = answer(questions, table);
        self.flow().events_of(put_together(blocks, answers))
    }
}

/// Which event of a worker is meant: its block, and its place there.
type Place = (u64, u32);
/// A worker, the event that it asks for, and the key.
type Question<K> = (u64, Place, K);
/// The same, and the value.
type Answer<V> = (u64, Place, Option<V>);
/// A block with the number by which its worker knows it.
type Numbered<E> = (u64, Block<E>);

/// The one time of a frontier; `None` where it is empty.
fn first(frontier: &MutableAntichain<Time>) -> Option<Time> {
    frontier.frontier().first().copied()
}

/// Numbers blocks, and asks for the key of each of their events.
fn ask<'s, E: Event, K: Key>(
    blocks: StreamVec<'s, Time, Block<E>>,
    key: impl Fn(&E) -> K + 'static,
) -> (StreamVec<'s, Time, Question<K>>, StreamVec<'s, Time, Numbered<E>>) {
    let scope = blocks.scope();
    let worker = scope.index() as u64;
    let mut builder = OperatorBuilder::new("Lookup: ask".to_owned(), scope);
    let mut input = builder.new_input(blocks, Pipeline);
    let (questions_output, questions) = builder.new_output::<Vec<Question<K>>>();
    let mut questions_output = OutputBuilder::from(questions_output);
    let (blocks_output, blocks) = builder.new_output::<Vec<Numbered<E>>>();
    let mut blocks_output = OutputBuilder::from(blocks_output);
    builder.build(move |_capabilities| {
        let mut number = 0;
        move |_frontiers| {
            let mut questions = questions_output.activate();
            let mut numbered = blocks_output.activate();
            input.for_each_time(|time, blocks| {
                let mut questions = questions.session(&time);
                let mut numbered = numbered.session(&time);
                for block in blocks.flat_map(|blocks| blocks.drain(..)) {
                    for (place, event) in (0..).zip(&block.events) {
                        questions.give((worker, (number, place), key(event)));
                    }
                    numbered.give((number, block));
                    number += 1;
                }
            });
        }
    });
    (questions, blocks)
}

/// Answers the questions of a time when all changes of it have come.
fn answer<'s, K: Key, V: Record>(
    questions: StreamVec<'s, Time, Question<K>>,
    table: &VecCollection<'s, Time, (K, V), isize>,
) -> StreamVec<'s, Time, Answer<V>> {
    let mut builder = OperatorBuilder::new("Lookup: answer".to_owned(), questions.scope());
    let mut questions =
        builder.new_input(questions, Exchange::new(|(_, _, key): &Question<K>| fixed_hash(key)));
    let by_key = Exchange::new(|((key, _), _, _): &((K, V), Time, isize)| fixed_hash(key));
    let mut changes = builder.new_input(table.inner.clone(), by_key);
    let (output, answers) = builder.new_output::<Vec<Answer<V>>>();
    let mut output = OutputBuilder::from(output);
    builder.build(move |_capabilities| {
        let mut rows: HashMap<K, Vec<(V, isize)>, FixedState> = HashMap::default();
        let mut changing: BTreeMap<Time, Vec<((K, V), isize)>> = BTreeMap::new();
        let mut asked: BTreeMap<Time, (Capability<Time>, Vec<Question<K>>)> = BTreeMap::new();
        move |frontiers| {
            questions.for_each(|capability, questions| {
                let time = *capability.time();
                let held = asked.entry(time).or_insert_with(|| (capability.retain(0), Vec::new()));
                held.1.append(questions);
            });
            changes.for_each(|_, changes| {
                for (row, time, diff) in changes.drain(..) {
                    changing.entry(time).or_default().push((row, diff));
                }
            });
            let closed = |time: Time| {
                frontiers.iter().all(|frontier| first(frontier).is_none_or(|frontier| time < frontier))
            };
            let mut output = output.activate();
            loop {
                let times =
                    [asked.first_key_value().map(|of| *of.0), changing.first_key_value().map(|of| *of.0)];
                let Some(time) = times.into_iter().flatten().min().filter(|time| closed(*time)) else {
                    break;
                };
                for ((key, value), diff) in changing.remove(&time).unwrap_or_default() {
                    change(&mut rows, key, value, diff);
                }
                if let Some((capability, questions)) = asked.remove(&time) {
                    let mut session = output.session(&capability);
                    for (worker, place, key) in questions {
                        let of = rows.get(&key).into_iter().flatten();
                        let value = of.filter(|(_, count)| *count > 0).map(|(value, _)| value).min();
                        session.give((worker, place, value.cloned()));
                    }
                }
            }
        }
    });
    answers
}

/// Counts a value of a key.
fn change<K: Key, V: Record>(
    rows: &mut HashMap<K, Vec<(V, isize)>, FixedState>,
    key: K,
    value: V,
    diff: isize,
) {
    use std::collections::hash_map::Entry;
    match rows.entry(key) {
        Entry::Vacant(entry) => drop(entry.insert(vec![(value, diff)])),
        Entry::Occupied(mut entry) => {
            let values = entry.get_mut();
            match values.iter().position(|(known, _)| *known == value) {
                None => values.push((value, diff)),
                Some(at) => {
                    values[at].1 += diff;
                    if values[at].1 == 0 {
                        values.swap_remove(at);
                    }
                }
            }
            if values.is_empty() {
                entry.remove();
            }
        }
    }
}

/// What is there of a time.
struct Pending<E, V> {
    capability: Capability<Time>,
    blocks: Vec<Numbered<E>>,
    answers: Vec<(Place, Option<V>)>,
}

/// Gives the events of a time with their answers, when all of those have come.
fn put_together<'s, E: Event, V: Record>(
    blocks: StreamVec<'s, Time, Numbered<E>>,
    answers: StreamVec<'s, Time, Answer<V>>,
) -> StreamVec<'s, Time, Block<(E, Option<V>)>> {
    let mut builder = OperatorBuilder::new("Lookup: put together".to_owned(), blocks.scope());
    let mut blocks = builder.new_input(blocks, Pipeline);
    let mut answers = builder.new_input(answers, Exchange::new(|(worker, _, _): &Answer<V>| *worker));
    let (output, together) = builder.new_output::<Vec<Block<(E, Option<V>)>>>();
    let mut output = OutputBuilder::from(output);
    builder.build(move |_capabilities| {
        let mut pending: BTreeMap<Time, Pending<E, V>> = BTreeMap::new();
        move |frontiers| {
            blocks.for_each(|capability, blocks| {
                let of_time = pending.entry(*capability.time()).or_insert_with(|| Pending {
                    capability: capability.retain(0),
                    blocks: Vec::new(),
                    answers: Vec::new(),
                });
                of_time.blocks.append(blocks);
            });
            answers.for_each(|capability, answers| {
                let of_time = pending.entry(*capability.time()).or_insert_with(|| Pending {
                    capability: capability.retain(0),
                    blocks: Vec::new(),
                    answers: Vec::new(),
                });
                of_time.answers.extend(answers.drain(..).map(|(_, place, value)| (place, value)));
            });
            let closed = frontiers.iter().filter_map(first).min();
            let mut output = output.activate();
            while let Some(entry) = pending.first_entry()
                && closed.is_none_or(|closed| *entry.key() < closed)
            {
                let Pending { capability, mut blocks, mut answers } = entry.remove();
                blocks.sort_unstable_by_key(|(number, _)| *number);
                answers.sort_unstable_by_key(|(place, _)| *place);
                // Every event was asked for once: they stand in the same order.
                let mut values = answers.into_iter().map(|(_, value)| value);
                let mut session = output.session(&capability);
                for (_, Block { order, events }) in blocks {
                    let events = events.into_iter().map(|event| (event, values.next().flatten())).collect();
                    session.give(Block { order, events });
                }
            }
        }
    });
    together
}

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

    /// A root: the agents of these events, one for each value of `key`. `name` is the root's own: its
    /// state is kept under it. Cost: about the lookup in a hash table an event, and a view before and
    /// after for each agent touched in an epoch.
    pub fn agents<A: Agent<Event = E>>(
        &self,
        name: &str,
        key: impl Fn(&E) -> A::Key + 'static,
    ) -> Agents<'s, A> {
        self.flow.clone().agents(self, name, key)
    }

    /// The blocks as a timely stream.
    pub fn blocks(&self) -> StreamVec<'s, Time, Block<E>> {
        self.blocks.clone()
    }

    /// Replaces each event by `logic` of it, keeping their order.
    pub fn map<D: Clone + 'static>(&self, mut logic: impl FnMut(E) -> D + 'static) -> Events<'s, D> {
        let logic = move |block: Block<E>| Block {
            order: block.order,
            events: block.events.into_iter().map(&mut logic).collect(),
        };
        self.with(self.blocks().map(logic))
    }

    /// Keeps the events for which `condition` is true, in their order.
    pub fn filter(&self, mut condition: impl FnMut(&E) -> bool + 'static) -> Self {
        let logic = move |mut block: Block<E>| {
            block.events.retain(|event| condition(event));
            block
        };
        self.with(self.blocks().map(logic).filter(|block| !block.events.is_empty()))
    }

    /// Replaces each event by any number of others, keeping their order.
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
    pub fn concat(&self, other: &Self) -> Self {
        self.with(self.blocks().concat(other.blocks()))
    }

    /// Calls `logic` on each event as it passes, for looking on.
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
    pub fn table(&self, name: &str) -> VecCollection<'s, Time, (K, V), isize> {
        self.agents::<TableRow<K, V>>(name, |(key, _)| key.clone()).views()
    }
}

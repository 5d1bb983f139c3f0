//! Events that went different ways, in one order again.

use std::collections::BTreeMap;

use nekton_engine::agents::Key;
use nekton_engine::connect::Position;
use nekton_engine::hash::{Segment, fixed_hash};
use nekton_engine::{Block, Event, Events, Order, Time};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Map;

/// What one worker gets of a block: each event with its segment.
type Share<E> = (u32, Order, Vec<(u32, E)>);

/// What came at a time that is not closed.
type Pending<E> = (Capability<Time>, Vec<Share<E>>);

/// Putting events in order.
pub trait InOrder<'s, E: Event> {
    /// The same events, where those of one time that have the same `key` come in the order of `by`; where `by` is the same, in
    /// the one in which they would have come.
    ///
    /// Events of one partition have an order, and agents see them in it. What agents make of them goes on in the order of the
    /// agents' keys, so that a second kind of agents, fed by both, would see the causes and effects of an epoch in the
    /// wrong order, and another one whenever epochs are cut otherwise. Let each event carry its place in the partition, say a
    /// number, and put them in order by it before they go to agents with the same `key`: these see what one partition had in
    /// its order, whatever way it came, on any number of workers. (What comes from several partitions has no such number:
    /// [`as_of`](crate::Timed::as_of) goes by event time.)
    ///
    /// Keeps nothing: what an agent makes of an event has the event's time, so all that belongs together is of one time. Do not
    /// `concat` two such streams that stem from the same source.
    ///
    /// **Cost**: a comparison sort of each time's events. **Memory**: the events of times that are not closed.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let log = at(flow, [(1, vec![(2, 'a', true), (0, 'b', false), (1, 'b', true)])]);
    /// // (number, door, open), of one time
    /// let in_order = log.in_order(|(_, door, _)| *door, |(number, _, _)| *number);
    /// flow.sink("doors", &in_order.map(|(_, door, open)| (door, open)));
    /// # });
    /// # let lines = topics.lines("doors");
    /// # let of_b: Vec<&String> = lines.iter().filter(|line| line.contains('b')).collect();
    /// assert_eq!(of_b, [r#"["b",false]"#, r#"["b",true]"#]);
    /// ```
    fn in_order<K: Key, B: Ord>(
        &self,
        key: impl Fn(&E) -> K + 'static,
        by: impl Fn(&E) -> B + 'static,
    ) -> Events<'s, E>;
}

impl<'s, E: Event> InOrder<'s, E> for Events<'s, E> {
    fn in_order<K: Key, B: Ord>(
        &self,
        key: impl Fn(&E) -> K + 'static,
        by: impl Fn(&E) -> B + 'static,
    ) -> Events<'s, E> {
        let flow = self.flow();
        let peers = flow.scope().peers();
        let shares = self.blocks().flat_map(move |block| divide(block, peers, &key));
        let route = Exchange::new(|(worker, ..): &Share<E>| u64::from(*worker));
        type Builder<E> = CapacityContainerBuilder<Vec<Block<E>>>;
        let blocks = shares.unary_frontier::<Builder<E>, _, _, _>(route, "In order", move |_, _| {
            let mut pending: BTreeMap<Time, Pending<E>> = BTreeMap::new();
            move |(input, frontier), output| {
                input.for_each(|capability, shares| {
                    let time = *capability.time();
                    let held = pending.entry(time);
                    held.or_insert_with(|| (capability.retain(0), Vec::new())).1.append(shares);
                });
                while let Some(first) = pending.first_entry() {
                    if frontier.less_equal(first.key()) {
                        break;
                    }
                    let (_, (capability, shares)) = first.remove_entry();
                    output.session_with_builder(&capability).give_iterator(sorted(shares, &by).into_iter());
                }
            }
        });
        flow.events_of(blocks)
    }
}

/// What each worker gets of a block.
fn divide<K: Key, E>(block: Block<E>, peers: usize, key: impl Fn(&E) -> K) -> Vec<Share<E>> {
    let mut shares: Vec<Share<E>> =
        (0..peers as u32).map(|worker| (worker, block.order, Vec::new())).collect();
    for event in block.events {
        let segment = Segment::of(fixed_hash(&key(&event)));
        shares[segment.worker(peers)].2.push((segment.index() as u32, event));
    }
    shares.retain(|(_, _, events)| !events.is_empty());
    shares
}

/// A block for each segment, as if its agents had emitted them.
fn sorted<E, B: Ord>(mut shares: Vec<Share<E>>, by: impl Fn(&E) -> B) -> Vec<Block<E>> {
    shares.sort_by_key(|(_, order, _)| *order);
    let mut events: Vec<(u32, E)> = shares.into_iter().flat_map(|(_, _, events)| events).collect();
    events.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| by(a).cmp(&by(b))));
    let mut blocks: Vec<Block<E>> = Vec::new();
    for (partition, event) in events {
        match blocks.last_mut() {
            Some(block) if block.order.partition == partition => block.events.push(event),
            _ => blocks.push(Block {
                order: Order { source: u32::MAX, partition, position: Position::default() },
                events: vec![event],
            }),
        }
    }
    blocks
}

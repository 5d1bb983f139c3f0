//! The operator behind all aggregates: a state for each key, which the changes of a closed time change.

use std::collections::BTreeMap;

use differential_dataflow::consolidation::consolidate;
use differential_dataflow::difference::Semigroup;
use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use nekton_engine::Time;
use nekton_engine::agents::{Key, Record};
use nekton_engine::hash::{FixedState, fixed_hash};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

/// What is done with the state of a key.
pub(crate) trait Keep<V, R> {
    /// Nothing has come, or all that came has gone, where it is the default.
    type State: Default;
    type Output: Record;
    fn update(&self, state: &mut Self::State, value: V, diff: R);
    fn output(&self, state: &Self::State) -> Option<Self::Output>;
    fn is_empty(&self, state: &Self::State) -> bool;
}

/// Changes of one time that are not closed yet.
type Pending<K, V, R> = (Capability<Time>, Vec<((K, V), R)>);

/// Keeps one state a key, and gives the output of each as a collection.
///
/// All changes of a time are consolidated and applied together when the time is closed; each key's output is
/// asked for before and after. So the collection never has two outputs of one key, and what comes and goes within a
/// time leaves no trace.
pub(crate) fn keyed<'s, K, V, R, A>(
    collection: VecCollection<'s, Time, (K, V), R>,
    name: &str,
    keep: A,
) -> VecCollection<'s, Time, (K, A::Output), isize>
where
    K: Key,
    V: ExchangeData,
    R: ExchangeData + Semigroup,
    A: Keep<V, R> + 'static,
{
    // Not the lowest bits, which the hash table needs, nor the highest.
    let route = Exchange::new(|update: &((K, V), Time, R)| fixed_hash(&update.0.0) >> 32);
    type Builder<D> = CapacityContainerBuilder<Vec<(D, Time, isize)>>;
    let updates = collection.inner.unary_frontier::<Builder<(K, A::Output)>, _, _, _>(route, name, |_, _| {
        let mut pending: BTreeMap<Time, Pending<K, V, R>> = BTreeMap::new();
        let mut states: HashMap<K, A::State, FixedState> = HashMap::default();
        move |(input, frontier), output| {
            input.for_each(|capability, updates| {
                for (pair, time, diff) in updates.drain(..) {
                    let held = pending.entry(time);
                    held.or_insert_with(|| (capability.delayed(&time, 0), Vec::new())).1.push((pair, diff));
                }
            });
            while let Some(first) = pending.first_entry() {
                if frontier.less_equal(first.key()) {
                    break;
                }
                let (time, (capability, mut changes)) = first.remove_entry();
                consolidate(&mut changes);
                let mut session = output.session_with_builder(&capability);
                let mut changes = changes.into_iter().peekable();
                while let Some(((key, value), diff)) = changes.next() {
                    let mut state = match states.entry(key) {
                        Entry::Occupied(state) => state,
                        Entry::Vacant(vacant) => vacant.insert_entry(A::State::default()),
                    };
                    let before = keep.output(state.get());
                    keep.update(state.get_mut(), value, diff);
                    while let Some(((_, value), diff)) = changes.next_if(|((key, _), _)| key == state.key()) {
                        keep.update(state.get_mut(), value, diff);
                    }
                    let after = keep.output(state.get());
                    if before != after {
                        for (shown, diff) in [(before, -1), (after, 1)] {
                            if let Some(shown) = shown {
                                session.give(((state.key().clone(), shown), time, diff));
                            }
                        }
                    }
                    if keep.is_empty(state.get()) {
                        state.remove();
                    }
                }
            }
        }
    });
    updates.as_collection()
}

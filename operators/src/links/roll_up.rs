//! Sums along the whole chain of links.

use std::marker::PhantomData;
use std::rc::Rc;

use differential_dataflow::VecCollection;
use differential_dataflow::difference::Semigroup;
use differential_dataflow::operators::iterate::Variable;
use nekton_engine::Time;
use nekton_engine::agents::{Key, Record};
use timely::order::Product;

use super::LinkCollection;
use super::cycles::cyclic;
use crate::aggregate::Group;
use crate::aggregate::keyed::{Keep, keyed};

/// The states are differences: a round of the loop carries the sum of what reached a node in so many steps to its parents, so a
/// link that moves carries one sum for each round in which something reached its child.
pub(crate) fn roll_up<'s, N: Key, V: Record, A: Group<V>>(
    links: LinkCollection<'s, N>,
    values: VecCollection<'s, Time, (N, V), isize>,
    aggregate: A,
) -> VecCollection<'s, Time, (N, A::Output), isize> {
    let outer = links.scope();
    // Arranged out here, a time's links are seen when all of them are known, with the cycles taken out: inside, a cycle
    // that is there for a moment only would turn for ever.
    let links = links.clone().concat(cyclic(links).negate()).arrange_by_key();
    let sums = OfSums { aggregate: Rc::new(aggregate), values: PhantomData };
    let values = sums.differences(values);
    let rolled = outer.iterative::<u64, _, _>(|inner| {
        let links = links.enter(inner);
        let (variable, below) = Variable::new(inner, Product::new(Time::default(), 1));
        let all = values.enter(inner).concat(below);
        let above = all.arrange_by_self().join_core(links, |_child, (), parent| Some(parent.clone()));
        variable.set(above.clone());
        above.leave(outer)
    });
    keyed(rolled.map(|node| (node, ())), "RollUp", sums)
}

/// The sums of a group, by node.
struct OfSums<V, A> {
    aggregate: Rc<A>,
    values: PhantomData<V>,
}

impl<V: Record, A: Group<V>> OfSums<V, A> {
    /// The values as differences of their nodes.
    fn differences<'s, N: Key>(
        &self,
        values: VecCollection<'s, Time, (N, V), isize>,
    ) -> VecCollection<'s, Time, N, A::State> {
        let aggregate = self.aggregate.clone();
        values.explode(move |(node, value)| Some((node, aggregate.difference(value))))
    }
}

impl<V: Record, A: Group<V>> Keep<(), A::State> for OfSums<V, A> {
    type State = A::State;
    type Output = A::Output;
    fn update(&self, state: &mut A::State, (): (), diff: A::State) {
        state.plus_equals(&diff);
    }
    fn output(&self, state: &A::State) -> Option<A::Output> {
        self.aggregate.output(state)
    }
    fn is_empty(&self, state: &A::State) -> bool {
        self.aggregate.is_empty(state)
    }
}

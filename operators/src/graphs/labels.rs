//! Communities, by the labels of neighbours.

use differential_dataflow::operators::iterate::Variable;
use differential_dataflow::{AsCollection, VecCollection};
use nekton_engine::Time;
use nekton_engine::agents::{Key, Record};
use timely::dataflow::operators::vec::Filter;
use timely::order::Product;

use crate::links::LinkCollection;

pub(crate) fn labels<'s, N: Key, L: Record>(
    links: LinkCollection<'s, N>,
    labels: VecCollection<'s, Time, (N, L), isize>,
    rounds: u64,
) -> VecCollection<'s, Time, (N, L), isize> {
    let outer = links.scope();
    let both = links.flat_map(|(one, other)| [(one.clone(), other.clone()), (other, one)]).distinct();
    // A node is no neighbour of its own, but has one vote.
    let voters = both.filter(|(one, other)| one != other).arrange_by_key();
    outer.iterative::<u64, _, _>(|inner| {
        let voters = voters.enter(inner);
        let labels = labels.enter(inner);
        let (variable, now) = Variable::new_from(labels, Product::new(Time::default(), 1));
        let votes = now.clone().join_core(voters, |_node, label, voter| Some((voter.clone(), label.clone())));
        let next = votes.concat(now).reduce(|_node, votes, label| {
            // In order of labels: the first of the most frequent ones.
            let most = votes.iter().rev().max_by_key(|(_, count)| *count);
            label.extend(most.map(|(most, _)| ((*most).clone(), 1)));
        });
        let next = next.inner.filter(move |(_, time, _)| time.inner < rounds).as_collection();
        variable.set(next.clone());
        next.leave(outer)
    })
}

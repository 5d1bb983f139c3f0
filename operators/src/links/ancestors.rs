//! Everything above a node, and aggregates of everything below one.

use differential_dataflow::VecCollection;
use differential_dataflow::operators::Iterate;
use nekton_engine::Time;
use nekton_engine::agents::{Key, Record};

use super::LinkCollection;
use crate::aggregate::{Aggregate, AggregateKeys};

pub(crate) fn ancestors<'s, N: Key>(links: LinkCollection<'s, N>) -> LinkCollection<'s, N> {
    let arranged = links.clone().arrange_by_key();
    links.clone().iterate(|scope, above| {
        let further = above
            .map(|(node, above)| (above, node))
            .join_core(arranged.enter(scope), |_, node, above| Some((node.clone(), above.clone())));
        further.concat(links.enter(scope)).distinct()
    })
}

pub(crate) fn gather<'s, N: Key, V: Record, A: Aggregate<V>>(
    links: LinkCollection<'s, N>,
    values: VecCollection<'s, Time, (N, V), isize>,
    aggregate: A,
) -> VecCollection<'s, Time, (N, A::Output), isize> {
    let above = ancestors(links).arrange_by_key();
    let values = values.arrange_by_key();
    above.join_core(values, |_node, above, value| Some((above.clone(), value.clone()))).aggregate(aggregate)
}

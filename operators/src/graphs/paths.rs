//! Shortest ways from the nearest of some sources.

use differential_dataflow::VecCollection;
use differential_dataflow::operators::iterate::Variable;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use nekton_engine::Time;
use nekton_engine::agents::Key;
use timely::order::Product;

/// In round i, each node has its best way of at most i links: so a way that is gone cannot hold itself up round a
/// circle.
pub(crate) fn shortest_paths<'s, N: Key>(
    links: VecCollection<'s, Time, (N, (N, u64)), isize>,
    sources: VecCollection<'s, Time, N, isize>,
) -> VecCollection<'s, Time, (N, (u64, N)), isize> {
    let outer = links.scope();
    let links = links.arrange_by_key();
    let starts = sources.map(|source| (source.clone(), (0, source)));
    outer.iterative::<u64, _, _>(|inner| {
        let links = links.enter(inner);
        let (variable, ways) = Variable::new(inner, Product::new(Time::default(), 1));
        let best = ways
            .concat(starts.enter(inner))
            .reduce_abelian::<_, ValBuilder<_, _, _, _>, ValSpine<_, _, _, _>>(
                "ShortestPaths",
                |_node, ways, best| best.push((ways[0].0.clone(), 1)),
            );
        let next = best.clone().join_core(links, |_node, (distance, source): &(u64, N), (to, length)| {
            Some((to.clone(), (distance.saturating_add(*length), source.clone())))
        });
        variable.set(next);
        best.as_collection(|node, way| (node.clone(), way.clone())).leave(outer)
    })
}

//! What is connected.

use differential_dataflow::algorithms::graphs::propagate::propagate_core;
use nekton_engine::agents::Key;
use nekton_engine::hash::fixed_hash;

use crate::links::LinkCollection;

/// The least label goes through a component. Labels are hashes with their nodes, and enter the loop by the number of their leading
/// zeros: nearly every node has met a less one before it would have sent its own.
pub(crate) fn components<'s, N: Key>(links: LinkCollection<'s, N>) -> LinkCollection<'s, N> {
    let both = links.flat_map(|(one, other)| [(one.clone(), other.clone()), (other, one)]).arrange_by_key();
    let nodes = both.clone().as_collection(|node, _| node.clone()).distinct();
    let labels = nodes.map(|node| {
        let label = (fixed_hash(&node), node.clone());
        (node, label)
    });
    propagate_core(both, labels, |label| label.0).map(|(node, (_, name))| (node, name))
}

//! Cycles among links: found by taking away, again and again, what cannot lie on one.

use differential_dataflow::operators::Iterate;
use nekton_engine::agents::Key;

use super::LinkCollection;

/// The links on cycles and between them.
///
/// First those go that have no link below them any more, until all that are left have a cycle below; in a hierarchy nothing is
/// left, and a link goes in the round of its height. So a change costs what it changes in heights, which are few
/// where many children have one parent. What is left is treated alike from above.
pub(crate) fn cyclic<'s, N: Key>(links: LinkCollection<'s, N>) -> LinkCollection<'s, N> {
    flipped(below_a_child(flipped(below_a_child(links))))
}

fn flipped<N: Key>(links: LinkCollection<'_, N>) -> LinkCollection<'_, N> {
    links.map(|(child, parent)| (parent, child))
}

/// The links whose first node is the second one of such a link.
fn below_a_child<'s, N: Key>(links: LinkCollection<'s, N>) -> LinkCollection<'s, N> {
    let arranged = links.clone().arrange_by_key();
    links.iterate(|scope, left| {
        let arranged = arranged.enter(scope);
        let parents = left.map(|(_, parent)| parent).distinct();
        arranged
            .join_core(parents.arrange_by_self(), |child, parent, ()| Some((child.clone(), parent.clone())))
    })
}

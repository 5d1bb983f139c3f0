//! What can be reached from somewhere.

use differential_dataflow::VecCollection;
use differential_dataflow::operators::Iterate;
use nekton_engine::Time;
use nekton_engine::agents::Key;

use crate::links::LinkCollection;

pub(crate) fn reachable<'s, N: Key>(
    links: LinkCollection<'s, N>,
    roots: VecCollection<'s, Time, N, isize>,
) -> VecCollection<'s, Time, N, isize> {
    let links = links.arrange_by_key();
    roots.clone().iterate(|scope, reached| {
        let further =
            reached.arrange_by_self().join_core(links.enter(scope), |_from, (), to| Some(to.clone()));
        further.concat(roots.enter(scope)).distinct()
    })
}

//! Rings: who can reach one another along links.

use differential_dataflow::algorithms::graphs::scc::strongly_connected;
use nekton_engine::agents::Key;

use super::Graph;
use crate::links::{LinkCollection, Links};

/// Strongly connected components. What cannot lie on a cycle is taken away first: that is cheap, and mostly all there is.
pub(crate) fn rings<'s, N: Key>(links: LinkCollection<'s, N>) -> LinkCollection<'s, N> {
    strongly_connected(links.distinct().cyclic()).components()
}

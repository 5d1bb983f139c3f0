//! Importance of nodes.

use differential_dataflow::operators::iterate::Variable;
use differential_dataflow::{AsCollection, VecCollection};
use nekton_engine::Time;
use nekton_engine::agents::Key;
use timely::dataflow::operators::vec::Filter;
use timely::order::Product;

use crate::aggregate::{AggregateKeys, Count};
use crate::links::LinkCollection;

/// The average rank, in units.
pub const ONE: i64 = 1_000_000;

/// How ranks are computed (Page, Brin, Motwani, Winograd, "The PageRank citation ranking", 1999): each node hands on a
/// share of its rank in equal parts to what its links lead to, and everyone has the rest of [`ONE`] from the start.
#[derive(Clone, Copy, Debug)]
pub struct PageRank {
    /// The share that is handed on, in thousandths: 850 if nothing else is said.
    pub damping: u16,
    /// How many rounds: 20 if nothing else is said, at least 1. Each brings ranks nearer to their limit by the damping.
    pub rounds: u64,
}

impl Default for PageRank {
    fn default() -> Self {
        PageRank { damping: 850, rounds: 20 }
    }
}

/// Ranks are differences: a node is there as many times as its rank says. So what reaches a node is summed up
/// where it is arranged.
pub(crate) fn page_rank<'s, N: Key>(
    links: LinkCollection<'s, N>,
    settings: PageRank,
) -> VecCollection<'s, Time, (N, i64), isize> {
    let outer = links.scope();
    let links = links.distinct();
    let damping = isize::from(settings.damping.min(1_000) as i16);
    let rounds = settings.rounds.max(1);
    let nodes = links.clone().flat_map(|(from, to)| [from, to]).distinct();
    let degrees = links.clone().aggregate(Count).arrange_by_key();
    let links = links.arrange_by_key();
    let ranks = outer.iterative::<u64, _, _>(|inner| {
        let (links, degrees, nodes) = (links.enter(inner), degrees.enter(inner), nodes.enter(inner));
        let start = nodes.clone().explode(|node| Some((node, ONE as isize)));
        let rest = nodes.explode(move |node| Some((node, ONE as isize / 1_000 * (1_000 - damping))));
        let (variable, ranks) = Variable::new_from(start, Product::new(Time::default(), 1));
        let parts = degrees
            .join_core(ranks.arrange_by_self(), |node, degree, ()| Some((node.clone(), *degree)))
            .threshold(move |(_node, degree), rank| rank * damping / (1_000 * degree))
            .map(|(node, _)| node);
        let next = parts
            .arrange_by_self()
            .join_core(links, |_node, (), to| Some(to.clone()))
            .concat(rest)
            .inner
            .filter(move |(_, time, _)| time.inner < rounds)
            .as_collection();
        variable.set(next.clone());
        next.leave(outer)
    });
    ranks.map(|node| (node, ())).aggregate(Count).map(|(node, rank)| (node, rank as i64))
}

//! Answers about graphs are those of a naive computation over all links, at every time.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Bag, Change, NONE, changes, check, once};
use nekton_engine::hash::fixed_hash;
use nekton_operators::{Graph, Lengths, ONE, PageRank};
use proptest::prelude::*;

type Link = (u8, u8);

const NODES: u8 = 9;

fn links() -> impl Strategy<Value = Vec<Change<Link>>> {
    changes((0..NODES, 0..NODES), 24)
}

fn neighbours(links: &Bag<Link>) -> BTreeMap<u8, BTreeSet<u8>> {
    let mut neighbours: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
    for &(one, other) in links.keys() {
        neighbours.entry(one).or_default().insert(other);
        neighbours.entry(other).or_default().insert(one);
    }
    neighbours
}

fn reachable(links: &Bag<Link>, roots: &Bag<u8>) -> BTreeSet<u8> {
    let mut reached: BTreeSet<u8> = roots.keys().copied().collect();
    while let Some(link) = links.keys().find(|link| reached.contains(&link.0) && !reached.contains(&link.1)) {
        reached.insert(link.1);
    }
    reached
}

/// Bellman and Ford's.
fn shortest(links: &Bag<(u8, (u8, u64))>, sources: &Bag<u8>) -> BTreeMap<u8, (u64, u8)> {
    let mut best: BTreeMap<u8, (u64, u8)> = sources.keys().map(|source| (*source, (0, *source))).collect();
    for _ in 0..=NODES {
        for (from, (to, length)) in links.keys() {
            if let Some(&(distance, source)) = best.get(from) {
                let way = (distance + length, source);
                let known = best.entry(*to).or_insert(way);
                *known = way.min(*known);
            }
        }
    }
    best
}

fn components(links: &Bag<Link>) -> BTreeMap<u8, u8> {
    let both: Bag<Link> =
        links.keys().flat_map(|&(one, other)| [((one, other), 1), ((other, one), 1)]).collect();
    let name = |node: u8| reachable(&both, &once([node])).into_iter().min_by_key(fixed_hash);
    neighbours(links).into_keys().filter_map(|node| Some((node, name(node)?))).collect()
}

fn rings(links: &Bag<Link>) -> Bag<(u8, u8)> {
    let from = |node: u8| {
        let next = links.keys().filter(|link| link.0 == node).map(|link| (link.1, 1)).collect();
        reachable(links, &next)
    };
    let ring =
        |node: u8| from(node).into_iter().filter(|other| from(*other).contains(&node)).min_by_key(fixed_hash);
    once((0..NODES).filter_map(|node| Some((node, ring(node)?))))
}

fn labels(links: &Bag<Link>, first: &Bag<(u8, u8)>, rounds: u64) -> Bag<(u8, u8)> {
    let neighbours = neighbours(links);
    let mut now = first.clone();
    for _ in 0..rounds {
        let mut votes: BTreeMap<u8, BTreeMap<u8, isize>> = BTreeMap::new();
        for (&(node, label), &count) in &now {
            let others = neighbours.get(&node).into_iter().flatten().copied().filter(|other| *other != node);
            for voted in others.chain([node]) {
                *votes.entry(voted).or_default().entry(label).or_default() += count;
            }
        }
        now = once(votes.into_iter().map(|(node, votes)| {
            let most = *votes.values().max().unwrap();
            (node, votes.into_iter().find(|(_, count)| *count == most).unwrap().0)
        }));
    }
    now
}

fn page_rank(links: &Bag<Link>, rounds: u64) -> Bag<(u8, i64)> {
    let nodes: BTreeSet<u8> = links.keys().flat_map(|&(from, to)| [from, to]).collect();
    let mut ranks: BTreeMap<u8, i64> = nodes.iter().map(|node| (*node, ONE)).collect();
    for _ in 0..rounds {
        let mut next: BTreeMap<u8, i64> = nodes.iter().map(|node| (*node, ONE * 15 / 100)).collect();
        for &(from, to) in links.keys() {
            let degree = links.keys().filter(|link| link.0 == from).count() as i64;
            *next.get_mut(&to).unwrap() += ranks[&from] * 850 / (1_000 * degree);
        }
        ranks = next;
    }
    once(ranks)
}

proptest! {
    #![proptest_config(common::cases(16))]

    #[test]
    fn reachable_is_what_a_search_finds(links in links(), roots in changes(0..NODES, 4), batch in 1..20_usize) {
        check(&links, &roots, batch, |links, roots| links.reachable(roots), |links, roots| once(reachable(links, roots)));
    }

    #[test]
    fn shortest_paths_are_those_of_bellman_and_ford(
        links in changes((0..NODES, (0..NODES, 0..9_u64)), 24),
        sources in changes(0..NODES, 4),
        batch in 1..20_usize,
    ) {
        check(&links, &sources, batch, |links, sources| links.shortest_paths(sources), |links, sources| {
            once(shortest(links, sources))
        });
    }

    #[test]
    fn components_are_what_is_connected(links in links(), batch in 1..20_usize) {
        check(&links, NONE, batch, |links, _| links.components(), |links, _| once(components(links)));
    }

    #[test]
    fn labels_are_those_of_a_vote_in_every_round(
        links in links(),
        first in changes((0..NODES, 0..4_u8), 12),
        rounds in 1..5_u64,
        batch in 1..20_usize,
    ) {
        check(&links, &first, batch, move |links, first| links.labels(first, rounds), move |links, first| {
            labels(links, first, rounds)
        });
    }

    #[test]
    fn ranks_are_those_of_every_round(links in links(), rounds in 1..6_u64, batch in 1..20_usize) {
        let settings = PageRank { rounds, ..PageRank::default() };
        check(&links, NONE, batch, move |links, _| links.page_rank(settings), move |links, _| page_rank(links, rounds));
    }
}

proptest! {
    // Loops within loops take their time.
    #![proptest_config(common::cases(4))]

    #[test]
    fn rings_are_those_who_reach_one_another(links in links(), batch in 1..20_usize) {
        check(&links, NONE, batch, |links, _| links.rings(), |links, _| rings(links));
    }
}

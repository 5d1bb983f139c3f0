//! Roll-ups, ancestors and computed links are what a naive computation over all links gives, at every time.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Bag, Change, NONE, by_key, changes, check, each, once};
use nekton_operators::{Count, Links, Max, Sum, correlated, sharing, sharing_at_least};
use proptest::prelude::*;

type Link = (u8, u8);

/// Mostly trees and the like, at times with cycles.
fn links() -> impl Strategy<Value = Vec<Change<Link>>> {
    let down = (1..9_u8, 0..8_u8).prop_map(|(child, parent)| (child, parent % child));
    let any = (0..9_u8, 0..9_u8);
    prop_oneof![
        2 => changes(down.clone(), 14),
        2 => changes(prop_oneof![6 => down, 1 => any.clone()], 20),
        1 => changes(any, 10),
    ]
}

fn values() -> impl Strategy<Value = Vec<Change<(u8, i64)>>> {
    changes((0..9_u8, -3..20_i64), 24)
}

/// Everything above each node, in one step or more.
fn above(links: &Bag<Link>) -> BTreeMap<u8, BTreeSet<u8>> {
    let above = |node: u8| {
        let mut found = BTreeSet::new();
        let mut next = vec![node];
        while let Some(node) = next.pop() {
            next.extend(
                links.keys().filter(|link| link.0 == node && found.insert(link.1)).map(|link| link.1),
            );
        }
        found
    };
    (0..9).map(|node| (node, above(node))).collect()
}

/// The links that have a cycle both below and above.
fn cyclic(links: &Bag<Link>) -> Bag<Link> {
    let above = above(links);
    let round: Vec<u8> = (0..9).filter(|node| above[node].contains(node)).collect();
    let to = |from: u8, to: u8| from == to || above[&from].contains(&to);
    let on = |&(child, parent): &Link| {
        round.iter().any(|node| to(*node, child)) && round.iter().any(|node| to(parent, *node))
    };
    links.iter().filter(|(link, _)| on(link)).map(|(link, count)| (*link, *count)).collect()
}

/// Count and sum of what reaches each node, step by step.
fn rolled_up(links: &Bag<Link>, values: &Bag<(u8, i64)>) -> Bag<(u8, (isize, i64))> {
    let cyclic = cyclic(links);
    let links: Vec<(Link, isize)> = links
        .iter()
        .filter(|(link, _)| !cyclic.contains_key(link))
        .map(|(link, count)| (*link, *count))
        .collect();
    let mut sums: BTreeMap<u8, (isize, i64)> = BTreeMap::new();
    let mut step: Vec<(u8, i64, isize)> =
        values.iter().map(|((node, value), count)| (*node, *value, *count)).collect();
    while !step.is_empty() {
        let further = |&(node, value, count): &(u8, i64, isize)| {
            let up = links.iter().filter(move |((child, _), _)| *child == node);
            up.map(move |((_, parent), times)| (*parent, value, count * times)).collect::<Vec<_>>()
        };
        step = step.iter().flat_map(further).collect();
        for (node, value, count) in &step {
            let sum = sums.entry(*node).or_default();
            *sum = (sum.0 + count, sum.1 + value * *count as i64);
        }
    }
    once(sums)
}

proptest! {
    #![proptest_config(common::cases(16))]

    #[test]
    fn roll_ups_are_sums_over_everything_below(links in links(), values in values(), batch in 1..20_usize) {
        check(&links, &values, batch, |links, values| links.roll_up(values, (Count, Sum)), rolled_up);
    }

    #[test]
    fn cycles_are_found_and_nothing_else(links in links(), batch in 1..20_usize) {
        check(&links, NONE, batch, |links, _| links.cyclic(), |links, _| cyclic(links));
    }

    #[test]
    fn ancestors_and_what_they_gather_are_everything_above(links in links(), values in values(), batch in 1..20_usize) {
        check(&links, NONE, batch, |links, _| links.ancestors(), |links, _| {
            once(above(links).into_iter().flat_map(|(node, all)| all.into_iter().map(move |above| (node, above))))
        });
        check(&links, &values, batch, |links, values| links.gather(values, Max), |links, values| {
            let above = above(links);
            let mut most: BTreeMap<u8, i64> = BTreeMap::new();
            for (node, value) in each(values) {
                for above in &above[&node] {
                    let most = most.entry(*above).or_insert(value);
                    *most = value.max(*most);
                }
            }
            once(most)
        });
    }

    #[test]
    fn who_shares_enough_is_linked(members in changes((0..4_u8, 0..6_u8), 24), batch in 1..20_usize) {
        fn shared(members: &Bag<(u8, u8)>, least: usize) -> Bag<(u8, u8)> {
            let of = |node: u8| members.keys().filter(|(_, member)| *member == node).map(|(key, _)| *key).collect::<BTreeSet<u8>>();
            let pairs = (0..6).flat_map(|one| (one + 1..6).map(move |other| (one, other)));
            once(pairs.filter(|(one, other)| of(*one).intersection(&of(*other)).count() >= least))
        }
        check(&members, NONE, batch, |members, _| sharing(members.distinct()), |members, _| shared(members, 1));
        check(&members, NONE, batch, |members, _| sharing_at_least(members.distinct(), 2), |members, _| shared(members, 2));
    }

    #[test]
    fn who_is_correlated_is_linked(series in changes((0..5_u8, (0..3_u8, -3..4_i64)), 40), batch in 1..20_usize) {
        check(&series, NONE, batch, |series, _| correlated(series, 0.8, 3), |series, _| {
            let moments = by_key(series);
            let linked = |one: u8, other: u8| {
                let of = |node: u8, values: &[(u8, i64)]| {
                    values.iter().filter(|(of, _)| *of == node).map(|(_, value)| *value as f64).collect::<Vec<_>>()
                };
                let pairs: Vec<(f64, f64)> = moments.values().flat_map(|values| {
                    let others = of(other, values);
                    of(one, values).into_iter().flat_map(move |x| others.clone().into_iter().map(move |y| (x, y)))
                }).collect();
                let count = pairs.len() as f64;
                let (x, y) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0 / count, sum.1 + pair.1 / count));
                let sum = |of: fn((f64, f64)) -> f64| pairs.iter().map(|pair| of((pair.0 - x, pair.1 - y))).sum::<f64>();
                let (xx, yy, xy) = (sum(|p| p.0 * p.0), sum(|p| p.1 * p.1), sum(|p| p.0 * p.1));
                // No pair of small whole numbers has a correlation that near to 0.8 but not on it.
                pairs.len() >= 3 && xx > 1e-9 && yy > 1e-9 && xy / (xx * yy).sqrt() > 0.8 - 1e-9
            };
            let pairs = (0..4).flat_map(|one| (one + 1..4).map(move |other| (one, other)));
            once(pairs.filter(|(one, other)| linked(*one, *other)))
        });
    }
}

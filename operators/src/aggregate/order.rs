//! Min, max and the first ones: aggregates that keep all values in order.

use std::hash::Hash;

use nekton_engine::agents::Record;

use super::tree::Tree;
use super::{Aggregate, Monoid};

/// A tree that is not summarized.
struct Bare;

impl<V> Monoid<V> for Bare {
    type Summary = ();
    fn one(&self, _value: &V, _count: usize) {}
    fn combine(&self, _left: (), _right: ()) {}
}

macro_rules! ordered {
    ($name:ident, $output:ty, |$aggregate:ident, $tree:ident| $show:expr) => {
        impl<V: Record + Hash> Aggregate<V> for $name {
            type State = Tree<V, ()>;
            type Output = $output;
            fn update(&self, state: &mut Tree<V, ()>, value: V, count: isize) {
                state.add(&Bare, value, count);
            }
            fn output(&self, $tree: &Tree<V, ()>) -> Option<$output> {
                let $aggregate = self;
                $show
            }
            fn is_empty(&self, state: &Tree<V, ()>) -> bool {
                state.is_empty()
            }
        }
    };
}

/// The smallest value. `O(log n)` a change; some 48 bytes and the value for each value that is there.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let offers = table(flow, "offers", [(1, vec![("a", Some(("tea", 4))), ("b", Some(("tea", 3)))]), (2, vec![("b", None)])]);
/// let cheapest = offers.map(|(_, (good, price))| (good, price)).aggregate(Min); // tea at 4 and 3; at 2, only at 4
/// flow.sink("cheapest", upsert(&cheapest));
/// # });
/// assert_eq!(topics.lines("cheapest"), [r#"{"key":"tea","value":3,"time":1}"#, r#"{"key":"tea","value":4,"time":2}"#]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Min;
ordered!(Min, V, |_min, tree| first(1, |each| tree.ascending(each)).pop());

/// The greatest value; otherwise as [`Min`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Max;
ordered!(Max, V, |_max, tree| first(1, |each| tree.descending(each)).pop());

/// The so many greatest values, the greatest first; a value that is there twice takes two places. `O(k + log n)` a
/// change; memory as of [`Min`].
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let row = |airport: &'static str, delay: i32| Some((airport, delay));
/// # let flights = table(flow, "flights", [
/// #     (1, vec![("UA1", row("JFK", 5)), ("UA2", row("JFK", 90)), ("B63", row("JFK", 40))]), (2, vec![("UA2", row("JFK", 0))]),
/// # ]);
/// // (flight, (airport, delay)): at 1, UA1 => 5, UA2 => 90, B63 => 40; at 2, UA2 => 0
/// let latest = flights.map(|(flight, (airport, delay))| (airport, (delay, flight))).aggregate(TopK(2));
/// flow.sink("latest", upsert(&latest));
/// # });
/// assert_eq!(topics.lines("latest"), [
///     r#"{"key":"JFK","value":[[90,"UA2"],[40,"B63"]],"time":1}"#,
///     r#"{"key":"JFK","value":[[40,"B63"],[5,"UA1"]],"time":2}"#,
/// ]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TopK(
    /// How many.
    pub usize,
);
ordered!(TopK, Vec<V>, |top, tree| some(first(top.0, |each| tree.descending(each))));

/// The so many smallest values, the smallest first; otherwise as [`TopK`].
#[derive(Clone, Copy, Debug)]
pub struct BottomK(
    /// How many.
    pub usize,
);
ordered!(BottomK, Vec<V>, |bottom, tree| some(first(bottom.0, |each| tree.ascending(each))));

fn some<V>(values: Vec<V>) -> Option<Vec<V>> {
    (!values.is_empty()).then_some(values)
}

/// The first `limit` of what is walked over, each as often as it is there.
fn first<V: Clone>(limit: usize, walk: impl FnOnce(&mut dyn FnMut(&V, isize) -> bool)) -> Vec<V> {
    let mut found = Vec::new();
    if limit > 0 {
        walk(&mut |value, count| {
            let more = (count as usize).min(limit - found.len());
            found.extend(std::iter::repeat_n(value, more).cloned());
            found.len() < limit
        });
    }
    found
}

//! Aggregates of one's own that cannot forget: a fold over all values, kept in a tree.

use std::fmt;
use std::hash::Hash;

use nekton_engine::agents::Record;

use super::Aggregate;
use super::tree::Tree;

/// How summaries of values are combined; it must be associative.
pub trait Monoid<V>: 'static {
    /// What is known of some values.
    type Summary: Clone + 'static;
    /// Of one value, which is there so many times, at least once.
    fn one(&self, value: &V, count: usize) -> Self::Summary;
    /// Of values `left` and of values `right`, all of which are greater.
    fn combine(&self, left: Self::Summary, right: Self::Summary) -> Self::Summary;
}

/// A fold over all values, in their order, with a [`Monoid`]. `O(log n)` combinations a change; for each value that is there
/// some 48 bytes, the value, and a summary.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// /// The widest gap between two neighbouring values: first, last, widest.
/// struct WidestGap;
///
/// impl Monoid<i32> for WidestGap {
///     type Summary = (i32, i32, i32);
///     fn one(&self, value: &i32, _count: usize) -> Self::Summary { (*value, *value, 0) }
///     fn combine(&self, left: Self::Summary, right: Self::Summary) -> Self::Summary {
///         (left.0, right.1, left.2.max(right.2).max(right.0 - left.1))
///     }
/// }
///
/// # let topics = job(|flow| {
/// # let buses = table(flow, "buses", [(1, vec![(1, Some(("M15", 0))), (2, Some(("M15", 4))), (3, Some(("M15", 9)))]), (2, vec![(2, None)])]);
/// // (bus, (line, kilometre)): at 1, buses of M15 at 0, 4 and 9; at 2, the one in the middle is gone
/// let gaps = buses.map(|(_, (line, kilometre))| (line, kilometre)).aggregate(Fold(WidestGap));
/// flow.sink("gaps", upsert(&gaps.map(|(line, (_, _, widest))| (line, widest))));
/// # });
/// assert_eq!(topics.lines("gaps"), [r#"{"key":"M15","value":5,"time":1}"#, r#"{"key":"M15","value":9,"time":2}"#]);
/// ```
#[derive(Clone, Copy)]
pub struct Fold<M>(
    /// How to combine.
    pub M,
);

impl<M> fmt::Debug for Fold<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fold")
    }
}

impl<V: Record + Hash, M: Monoid<V, Summary: Record>> Aggregate<V> for Fold<M> {
    type State = Tree<V, M::Summary>;
    type Output = M::Summary;
    fn update(&self, state: &mut Self::State, value: V, count: isize) {
        state.add(&self.0, value, count);
    }
    fn output(&self, state: &Self::State) -> Option<M::Summary> {
        state.summary().cloned()
    }
    fn is_empty(&self, state: &Self::State) -> bool {
        state.is_empty()
    }
}

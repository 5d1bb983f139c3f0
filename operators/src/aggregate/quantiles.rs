//! Quantiles: values by their rank.

use std::hash::Hash;

use nekton_engine::agents::Record;

use super::tree::Tree;
use super::{Aggregate, Monoid};

/// Quantiles, exact: for each q, the smallest value that at least the share q of all values does not exceed ("nearest
/// rank"). `O(log n)` a change and quantile; some 56 bytes and the value for each value that is there.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let calls = table(flow, "calls", [(1, (1..=100_u32).map(|n| (n, Some(("login", n)))).collect())]);
/// // (call, (service, milliseconds)): of login, one of each of 1 to 100
/// let services = calls.map(|(_, (service, millis))| (service, millis)).aggregate(Quantiles::new([0.5, 0.99]));
/// flow.sink("latency", upsert(&services));
/// # });
/// assert_eq!(topics.lines("latency"), [r#"{"key":"login","value":[50,99],"time":1}"#]);
/// ```
#[derive(Clone, Debug)]
pub struct Quantiles {
    /// In millionths, so that ranks are computed in whole numbers.
    shares: Vec<u64>,
}

const WHOLE: u128 = 1_000_000;

impl Quantiles {
    /// These, each between 0 (the smallest value) and 1 (the greatest), to the millionth.
    pub fn new(shares: impl IntoIterator<Item = f64>) -> Self {
        let millionths = |share: f64| (share.clamp(0.0, 1.0) * WHOLE as f64).round() as u64;
        Quantiles { shares: shares.into_iter().map(millionths).collect() }
    }
    /// The value in the middle; of two, the smaller one.
    pub fn median() -> Self {
        Self::new([0.5])
    }
}

/// How many values there are.
struct Weight;

impl<V> Monoid<V> for Weight {
    type Summary = usize;
    fn one(&self, _value: &V, count: usize) -> usize {
        count
    }
    fn combine(&self, left: usize, right: usize) -> usize {
        left + right
    }
}

impl<V: Record + Hash> Aggregate<V> for Quantiles {
    type State = Tree<V, usize>;
    type Output = Vec<V>;
    fn update(&self, state: &mut Tree<V, usize>, value: V, count: isize) {
        state.add(&Weight, value, count);
    }
    fn output(&self, state: &Tree<V, usize>) -> Option<Vec<V>> {
        let total = *state.summary()?;
        let rank = |share: &u64| {
            let through = (u128::from(*share) * total as u128).div_ceil(WHOLE) as usize;
            through.saturating_sub(1)
        };
        self.shares.iter().map(|share| state.of_rank(rank(share)).cloned()).collect()
    }
    fn is_empty(&self, state: &Tree<V, usize>) -> bool {
        state.is_empty()
    }
}

//! Correlation of pairs of values.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Multiply, Semigroup};
use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use super::{Aggregate, Exact, Group};

/// Pearson's correlation coefficient of pairs of values, -1 to 1; nothing for fewer than `samples` pairs, or where all values
/// of one side are equal. `O(1)` a change; 96 bytes.
///
/// Exact until the division at the very end, for values of up to 2^40 [units](Exact::UNIT) and up to a million
/// pairs.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let days = table(flow, "days", [(1, vec![(1, Some((20, 200))), (2, Some((25, 300))), (3, Some((30, 400)))])]);
/// // (day, (celsius, visitors)): (20, 200), (25, 300), (30, 400)
/// let pairs = days.map(|(_, both)| ("pool".to_owned(), both));
/// flow.sink("related", upsert(&pairs.aggregate(Correlation { samples: 3 })));
/// # });
/// assert_eq!(topics.lines("related"), [r#"{"key":"pool","value":1.0,"time":1}"#]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Correlation {
    /// How many pairs there must be.
    pub samples: usize,
}

/// Sums of the values of pairs, of their squares and of their products, wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Comoments {
    count: isize,
    /// x, y, x x, y y, x y
    sums: [i128; 5],
}

impl IsZero for Comoments {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}
impl Semigroup for Comoments {
    fn plus_equals(&mut self, other: &Self) {
        self.count += other.count;
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum = sum.wrapping_add(more);
        }
    }
}
impl Monoid for Comoments {
    fn zero() -> Self {
        Self::default()
    }
}
impl Abelian for Comoments {
    fn negate(&mut self) {
        *self = self.multiply(&-1);
    }
}
impl Multiply<isize> for Comoments {
    type Output = Self;
    fn multiply(self, times: &isize) -> Self {
        Comoments { count: self.count * times, sums: self.sums.map(|sum| sum.wrapping_mul(*times as i128)) }
    }
}

impl<V: Exact, W: Exact> Aggregate<(V, W)> for Correlation {
    type State = Comoments;
    type Output = OrderedFloat<f64>;
    fn update(&self, state: &mut Comoments, (x, y): (V, W), count: isize) {
        let (x, y) = (x.units(), y.units());
        let sums = [x, y, x.wrapping_mul(x), y.wrapping_mul(y), x.wrapping_mul(y)];
        state.plus_equals(&Comoments { count: 1, sums }.multiply(&count));
    }
    fn output(&self, state: &Comoments) -> Option<OrderedFloat<f64>> {
        if state.count < self.samples.max(2) as isize {
            return None;
        }
        let [x, y, xx, yy, xy] = state.sums;
        // n^2 times the covariance of two sides.
        let spread = |product: i128, one: i128, other: i128| {
            (state.count as i128).wrapping_mul(product).wrapping_sub(one.wrapping_mul(other))
        };
        let (of_x, of_y) = (spread(xx, x, x), spread(yy, y, y));
        (of_x > 0 && of_y > 0).then(|| {
            let correlation = spread(xy, x, y) as f64 / (of_x as f64 * of_y as f64).sqrt();
            OrderedFloat(correlation.clamp(-1.0, 1.0))
        })
    }
    fn is_empty(&self, state: &Comoments) -> bool {
        state.is_zero()
    }
}
impl<V: Exact, W: Exact> Group<(V, W)> for Correlation {}

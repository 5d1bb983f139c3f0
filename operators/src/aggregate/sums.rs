//! Count, sum, mean and variance: aggregates whose state is a sum of whole numbers.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Multiply, Semigroup};
use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use super::{Aggregate, Exact, Group};

/// How many values there are, each as often as it is there. `O(1)` a change; 8 bytes.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let phones = table(flow, "phones", [(1, vec![("p1", Some("cell-9")), ("p2", Some("cell-9"))]), (2, vec![("p1", None)])]);
/// let by_cell = phones.map(|(phone, cell)| (cell, phone)).aggregate(Count); // at 1, p1 and p2 in cell-9; at 2, p1 is gone
/// flow.sink("phones-by-cell", upsert(&by_cell));
/// # });
/// assert_eq!(topics.lines("phones-by-cell"), [r#"{"key":"cell-9","value":2,"time":1}"#, r#"{"key":"cell-9","value":1,"time":2}"#]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

impl<V> Aggregate<V> for Count {
    type State = isize;
    type Output = isize;
    fn update(&self, state: &mut isize, _value: V, count: isize) {
        *state += count;
    }
    fn output(&self, state: &isize) -> Option<isize> {
        (*state != 0).then_some(*state)
    }
    fn is_empty(&self, state: &isize) -> bool {
        *state == 0
    }
}
impl<V> Group<V> for Count {}

/// A count and a sum of units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Total {
    /// How many values.
    pub count: isize,
    /// Their sum in [units](Exact::UNIT), wrapping.
    pub sum: i128,
}

/// A count, a sum and a sum of squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moments {
    /// How many values.
    pub count: isize,
    /// Their sum in [units](Exact::UNIT), wrapping.
    pub sum: i128,
    /// The sum of the squares of their units, wrapping.
    pub squares: i128,
}

macro_rules! difference {
    ($state:ty: $($sum:ident)*) => {
        impl IsZero for $state {
            #[inline]
            fn is_zero(&self) -> bool { *self == Self::default() }
        }
        impl Semigroup for $state {
            #[inline]
            fn plus_equals(&mut self, other: &Self) {
                self.count += other.count;
                $(self.$sum = self.$sum.wrapping_add(other.$sum);)*
            }
        }
        impl Monoid for $state {
            fn zero() -> Self { Self::default() }
        }
        impl Abelian for $state {
            fn negate(&mut self) {
                self.count = -self.count;
                $(self.$sum = self.$sum.wrapping_neg();)*
            }
        }
        impl Multiply<isize> for $state {
            type Output = Self;
            #[inline]
            fn multiply(self, times: &isize) -> Self {
                Self { count: self.count * times, $($sum: self.$sum.wrapping_mul(*times as i128)),* }
            }
        }
    };
}
difference!(Total: sum);
difference!(Moments: sum squares);

/// The sum of the values: exact, see [the module](super). A sum that its type cannot show is shown as the type's
/// last value; the state is still right. `O(1)` a change; 32 bytes.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let cents = |units| Some(("alice", Decimal::<2>::from_units(units)));
/// # let transfers = table(flow, "transfers", [(1, vec![(1, cents(10)), (2, cents(20))]), (2, vec![(1, None)])]);
/// // (transfer, (account, amount)), amounts are Decimal<2>: at 1, 0.10 and 0.20 for alice; at 2, the first is called back
/// let balances = transfers.map(|(_, (account, amount))| (account, amount)).aggregate(Sum);
/// flow.sink("balances", upsert(&balances));
/// # });
/// assert_eq!(topics.lines("balances"), [r#"{"key":"alice","value":0.3,"time":1}"#, r#"{"key":"alice","value":0.2,"time":2}"#]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum;

fn add<V: Exact>(state: &mut Total, value: &V, count: isize) {
    state.plus_equals(&Total { count: 1, sum: value.units() }.multiply(&count));
}

impl<V: Exact> Aggregate<V> for Sum {
    type State = Total;
    type Output = V;
    fn update(&self, state: &mut Total, value: V, count: isize) {
        add(state, &value, count);
    }
    fn output(&self, state: &Total) -> Option<V> {
        (!state.is_zero()).then(|| V::of_units(state.sum))
    }
    fn is_empty(&self, state: &Total) -> bool {
        state.is_zero()
    }
}
impl<V: Exact> Group<V> for Sum {}

/// The arithmetic mean of the values, as the nearest `f64` or the one beside it. `O(1)` a change; 32 bytes.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let sensors = table(flow, "sensors", [(1, vec![(7, Some(("hall", 20))), (8, Some(("hall", 21)))])]);
/// let means = sensors.map(|(_, (room, celsius))| (room, celsius)).aggregate(Mean); // 20 and 21 in the hall
/// flow.sink("means", upsert(&means));
/// # });
/// assert_eq!(topics.lines("means"), [r#"{"key":"hall","value":20.5,"time":1}"#]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean;

impl<V: Exact> Aggregate<V> for Mean {
    type State = Total;
    type Output = OrderedFloat<f64>;
    fn update(&self, state: &mut Total, value: V, count: isize) {
        add(state, &value, count);
    }
    fn output(&self, state: &Total) -> Option<OrderedFloat<f64>> {
        (state.count > 0).then(|| OrderedFloat(mean(state.sum, state.count) * V::UNIT))
    }
    fn is_empty(&self, state: &Total) -> bool {
        state.is_zero()
    }
}
impl<V: Exact> Group<V> for Mean {}

/// The whole part and the rest apart, so that nothing is lost of the rest where the sum is great.
fn mean(sum: i128, count: isize) -> f64 {
    let count = count as i128;
    sum.div_euclid(count) as f64 + sum.rem_euclid(count) as f64 / count as f64
}

/// The variance of the values, in squares of their unit: of them all, or estimated from them as a sample. `O(1)` a
/// change; 48 bytes.
///
/// It is computed from whole numbers and is exact until it becomes an `f64` at the very end, as long as the
/// sum of the squares is below 2^126 [units](Exact::UNIT): a billion values of up to 2^48 units.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let sensors = table(flow, "sensors", [(1, vec![(7, Some(("hall", 20))), (8, Some(("hall", 21)))])]);
/// let by_room = sensors.map(|(_, (room, celsius))| (room, celsius)); // 20 and 21 in the hall
/// flow.sink("of-all", upsert(&by_room.clone().aggregate(Variance::Population)));
/// flow.sink("estimated", upsert(&by_room.aggregate(Variance::Sample)));
/// # });
/// assert_eq!(topics.lines("of-all"), [r#"{"key":"hall","value":0.25,"time":1}"#]);
/// assert_eq!(topics.lines("estimated"), [r#"{"key":"hall","value":0.5,"time":1}"#]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variance {
    /// The mean square of the distance from the mean.
    Population,
    /// The sum of these squares by the number of values less one; nothing where there is only one value.
    Sample,
}

impl<V: Exact> Aggregate<V> for Variance {
    type State = Moments;
    type Output = OrderedFloat<f64>;
    fn update(&self, state: &mut Moments, value: V, count: isize) {
        let units = value.units();
        let one = Moments { count: 1, sum: units, squares: units.wrapping_mul(units) };
        state.plus_equals(&one.multiply(&count));
    }
    fn output(&self, state: &Moments) -> Option<OrderedFloat<f64>> {
        let by = match self {
            Variance::Population => state.count,
            Variance::Sample => state.count - 1,
        };
        (state.count > 0 && by > 0).then(|| OrderedFloat(state.spread() / by as f64 * V::UNIT * V::UNIT))
    }
    fn is_empty(&self, state: &Moments) -> bool {
        state.is_zero()
    }
}
impl<V: Exact> Group<V> for Variance {}

impl Moments {
    /// The sum of the squares of the distances from the mean, of at least one value.
    ///
    /// With the mean's whole part m and the rest r = sum - n m: the distances from m have the sum of squares
    /// squares - m (sum + r), which is a whole number of moderate size; those from the mean r^2 / n less.
    fn spread(&self) -> f64 {
        let count = self.count as i128;
        let (whole, rest) = (self.sum.div_euclid(count), self.sum.rem_euclid(count));
        let around = self.squares.wrapping_sub(whole.wrapping_mul(self.sum.wrapping_add(rest)));
        // rest^2 / n, which is below n, as a whole part, rounded up, and what is too much of it.
        let less = rest * rest;
        let (whole, excess) = (less.div_euclid(count) + 1, count - less.rem_euclid(count));
        around.wrapping_sub(whole) as f64 + excess as f64 / count as f64
    }
}

//! Aggregates: what is to be said of all values of a key, or of all there are.
//!
//! `collection.aggregate(Mean)` makes of `(key, value)` a collection with one record a key that has values. It
//! holds a state for each key, which a change of a value changes: the cost of a change does not grow with the number
//! of values ([`Count`], [`Sum`], [`Mean`], [`Variance`], [`Distinct`], [`Histogram`]) or grows with its logarithm
//! ([`Min`], [`Max`], [`TopK`], [`BottomK`], [`Quantiles`], [`Fold`]), and it is the same whether values come or go.
//!
//! Several are taken at once as a tuple, and of a part of the value with [`of`]:
//!
//! ```
//! # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
//! # let topics = job(|flow| {
//! # let vehicles = table(flow, "vehicles", [
//! #     (1, vec![("v1", Some(("north", 90, 12))), ("v2", Some(("north", 118, 7)))]),
//! #     (2, vec![("v2", None)]),
//! # ]);
//! // (vehicle, (depot, engine_temp, load)): at 1, v1 => ("north", 90, 12) and v2 => ("north", 118, 7); at 2, v2 is gone
//! let by_depot = vehicles.map(|(_, (depot, temp, load))| (depot, (temp, load)));
//! let depots = by_depot.aggregate((Count, of(|v: &(i32, i32)| v.0, Max), of(|v: &(i32, i32)| v.1, Mean)));
//! flow.sink("depots", &depots);
//! # });
//! assert_eq!(topics.lines("depots"), [
//!     r#"{"key":"north","before":null,"after":[2,118,9.5],"time":1}"#,
//!     r#"{"key":"north","before":[2,118,9.5],"after":[1,90,12.0],"time":2}"#,
//! ]);
//! ```
//!
//! # What is exact
//! Everything. Sums are kept as whole numbers, wrapping, in 128 bits: whatever came and went, in whatever order and on
//! however many workers, the state is a function of the values that are there, to the bit. There is no sum of `f64`, whose
//! error depends on the order and stays when the values have gone: a [`Decimal`] is a number with a fixed number of
//! places. Means and variances become `f64` at the very end.
//!
//! # One's own
//! An [`Aggregate`] is a state, how a value that comes or goes changes it, and what it shows. Where a state cannot forget
//! a value (a product with zeros, the longest text), a [`Fold`] needs only how two parts are combined.

mod combine;
mod correlation;
mod exact;
mod fold;
mod histogram;
pub(crate) mod keyed;
mod order;
mod quantiles;
mod sums;
mod tree;

use differential_dataflow::difference::{Abelian, Multiply};
use differential_dataflow::{ExchangeData, VecCollection};
use nekton_engine::Time;
use nekton_engine::agents::{Key, Record};

pub use combine::{Of, of};
pub use correlation::{Comoments, Correlation};
pub use exact::{Decimal, Exact};
pub use fold::{Fold, Monoid};
pub use histogram::{Distinct, Histogram};
pub use order::{BottomK, Max, Min, TopK};
pub use quantiles::Quantiles;
pub use sums::{Count, Mean, Moments, Sum, Total, Variance};

use keyed::{Keep, keyed};

/// What is said of many values `V`.
///
/// The state must be a function of the values that are there and of how often each is: it must not depend on the
/// order in which they came, nor on what came and went. Then results are the same on every number of workers.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// /// Which of the days of the week there are.
/// struct Days;
///
/// impl Aggregate<u8> for Days {
///     type State = [isize; 7]; // how often each is there
///     type Output = String;
///     fn update(&self, state: &mut Self::State, day: u8, count: isize) {
///         state[usize::from(day % 7)] += count;
///     }
///     fn output(&self, state: &Self::State) -> Option<String> {
///         let days = "MTWTFSS".chars().zip(state).map(|(day, count)| if *count > 0 { day } else { '-' });
///         (!self.is_empty(state)).then(|| days.collect())
///     }
///     fn is_empty(&self, state: &Self::State) -> bool { state.iter().all(|count| *count == 0) }
/// }
///
/// # let topics = job(|flow| {
/// # let trains = table(flow, "trains", [(1, vec![(1, Some(("IC5", 0_u8))), (2, Some(("IC5", 4)))]), (2, vec![(1, None)])]);
/// // (train, (line, day)): at 1, IC5 on days 0 and 4; at 2, on day 4 alone
/// flow.sink("days", upsert(&trains.map(|(_, (line, day))| (line, day)).aggregate(Days)));
/// # });
/// assert_eq!(topics.lines("days"), [r#"{"key":"IC5","value":"M---F--","time":1}"#, r#"{"key":"IC5","value":"----F--","time":2}"#]);
/// ```
pub trait Aggregate<V>: 'static {
    /// What is kept of each key.
    type State: Default + 'static;
    /// What is shown of it.
    type Output: Record;
    /// `value` came `count` times or, where that is negative, went.
    fn update(&self, state: &mut Self::State, value: V, count: isize);
    /// What there is to show: `None` where there are no values.
    fn output(&self, state: &Self::State) -> Option<Self::Output>;
    /// Whether everything that came has gone, so that the state can be forgotten.
    fn is_empty(&self, state: &Self::State) -> bool;
}

/// A state that differential dataflow can add, negate and multiply.
pub trait Difference: ExchangeData + Abelian + Multiply<isize, Output = Self> {}
impl<R: ExchangeData + Abelian + Multiply<isize, Output = Self>> Difference for R {}

/// An aggregate whose state is a sum: what `count` values add to it is `count` times what one adds. [`Count`],
/// [`Sum`], [`Mean`], [`Variance`] and tuples of them are groups, and so can be
/// [rolled up](crate::Links::roll_up) along a chain of links.
pub trait Group<V>: Aggregate<V, State: Difference> {
    /// What one value adds.
    fn difference(&self, value: V) -> Self::State {
        let mut state = Self::State::default();
        self.update(&mut state, value, 1);
        state
    }
}

/// An aggregate over records.
struct OfRecords<A>(A);

impl<V, A: Aggregate<V>> Keep<V, isize> for OfRecords<A> {
    type State = A::State;
    type Output = A::Output;
    fn update(&self, state: &mut A::State, value: V, diff: isize) {
        self.0.update(state, value, diff);
    }
    fn output(&self, state: &A::State) -> Option<A::Output> {
        self.0.output(state)
    }
    fn is_empty(&self, state: &A::State) -> bool {
        self.0.is_empty(state)
    }
}

/// Aggregates of the values of each key.
pub trait AggregateKeys<'s, K: Key, V: Record> {
    /// The aggregate of each key that has values, see [the module](crate::aggregate).
    ///
    /// **Cost**: a change takes what the aggregate takes for it, twice what it takes to show a result, and
    /// a look-up in a hash table; sent to another worker once. **Memory**: the aggregate's state, and some 1.2 to 2.3
    /// times the size of key and state in the table.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let sensors = table(flow, "sensors", [
    /// #     (1, vec![(7, Some(("kitchen", 21))), (8, Some(("kitchen", 24)))]), (2, vec![(8, Some(("cellar", 12)))]),
    /// # ]);
    /// // (sensor, (room, celsius)): at 1, 7 => ("kitchen", 21), 8 => ("kitchen", 24); at 2, 8 => ("cellar", 12)
    /// let warmest = sensors.map(|(_, (room, celsius))| (room, celsius)).aggregate(Max);
    /// flow.sink("warmest", upsert(&warmest));
    /// # });
    /// assert_eq!(topics.lines("warmest"), [
    ///     r#"{"key":"kitchen","value":24,"time":1}"#,
    ///     r#"{"key":"cellar","value":12,"time":2}"#,
    ///     r#"{"key":"kitchen","value":21,"time":2}"#,
    /// ]);
    /// ```
    fn aggregate<A: Aggregate<V>>(self, aggregate: A) -> VecCollection<'s, Time, (K, A::Output), isize>;
}

impl<'s, K: Key, V: Record> AggregateKeys<'s, K, V> for VecCollection<'s, Time, (K, V), isize> {
    fn aggregate<A: Aggregate<V>>(self, aggregate: A) -> VecCollection<'s, Time, (K, A::Output), isize> {
        keyed(self, "Aggregate", OfRecords(aggregate))
    }
}

/// Aggregates of everything.
pub trait AggregateAll<'s, V: Record> {
    /// The aggregate of all values: one record, or none where there are no values.
    ///
    /// **Cost** and **memory** as of [`aggregate`](AggregateKeys::aggregate) with one key: one worker holds the state, and
    /// takes all changes.
    ///
    /// ```
    /// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
    /// # let topics = job(|flow| {
    /// # let sensors = table(flow, "sensors", [(1, vec![(7, Some(21)), (8, Some(24))]), (2, vec![(8, Some(12))])]);
    /// let hottest = sensors.map(|(_, celsius)| celsius).aggregate_all(Max); // at 1, 7 => 21, 8 => 24; at 2, 8 => 12
    /// flow.sink("hottest", diffs(&hottest));
    /// # });
    /// assert_eq!(topics.lines("hottest"), [
    ///     r#"{"data":24,"time":1,"diff":1}"#,
    ///     r#"{"data":21,"time":2,"diff":1}"#,
    ///     r#"{"data":24,"time":2,"diff":-1}"#,
    /// ]);
    /// ```
    fn aggregate_all<A: Aggregate<V>>(self, aggregate: A) -> VecCollection<'s, Time, A::Output, isize>;
}

impl<'s, V: Record> AggregateAll<'s, V> for VecCollection<'s, Time, V, isize> {
    fn aggregate_all<A: Aggregate<V>>(self, aggregate: A) -> VecCollection<'s, Time, A::Output, isize> {
        self.map(|value| ((), value)).aggregate(aggregate).map(|((), output)| output)
    }
}

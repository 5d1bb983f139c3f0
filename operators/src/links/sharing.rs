//! Computed links: between those who share something, or whose series are correlated.

use differential_dataflow::VecCollection;
use differential_dataflow::operators::ThresholdTotal;
use nekton_engine::Time;
use nekton_engine::agents::Key;

use super::LinkCollection;
use crate::aggregate::{AggregateKeys, Correlation, Exact};

/// Links between all who share a key: buses on a route, accounts behind an address. Each pair once, the smaller
/// one first.
///
/// **Cost**: who comes to a key or leaves it takes a step for everyone who is there. **Memory**: one record a membership
/// and one a pair: a key that a thousand share makes half a million pairs. Link each to the key instead
/// ([`Links`](crate::Links)) where that will do.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let buses = table(flow, "buses", [(1, vec![("b1", Some("M15")), ("b2", Some("M15")), ("b3", Some("M60"))]), (2, vec![("b3", Some("M15"))])]);
/// let by_route = buses.map(|(bus, route)| (route, bus)); // b1 and b2 on M15, b3 on M60 and from 2 on on M15
/// flow.sink("same-route", diffs(&sharing(by_route)));
/// # });
/// assert_eq!(topics.lines("same-route"), [
///     r#"{"data":["b1","b2"],"time":1,"diff":1}"#,
///     r#"{"data":["b1","b3"],"time":2,"diff":1}"#,
///     r#"{"data":["b2","b3"],"time":2,"diff":1}"#,
/// ]);
/// ```
pub fn sharing<'s, K: Key, N: Key>(members: VecCollection<'s, Time, (K, N), isize>) -> LinkCollection<'s, N> {
    sharing_at_least(members, 1)
}

/// Links between all who share so many keys; otherwise as [`sharing`]. A membership that is there twice counts four
/// times: let `members` be a set.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let at = |who: &'static str, shop: &'static str| ((who, shop), Some(()));
/// # let visits = table(flow, "visits", [
/// #     (1, vec![at("ann", "a"), at("ann", "b"), at("bob", "a"), at("bob", "b"), at("eve", "b")]),
/// # ]);
/// let by_shop = visits.map(|((who, shop), ())| (shop, who)); // ann and bob in a; ann, bob and eve in b
/// flow.sink("alike", diffs(&sharing_at_least(by_shop, 2)));
/// # });
/// assert_eq!(topics.lines("alike"), [r#"{"data":["ann","bob"],"time":1,"diff":1}"#]);
/// ```
pub fn sharing_at_least<'s, K: Key, N: Key>(
    members: VecCollection<'s, Time, (K, N), isize>,
    keys: usize,
) -> LinkCollection<'s, N> {
    let members = members.arrange_by_key();
    let pairs = members
        .clone()
        .join_core(members, |_key, one, other| (one < other).then(|| (one.clone(), other.clone())));
    pairs.threshold_total(move |_pair, shared| isize::from(*shared > 0 && *shared >= keys as isize))
}

/// Links between all whose series are correlated: whose values of the same moments have a
/// [`Correlation`] of at least `at_least` (-1 to 1) in at least `samples` moments. Each pair once, the
/// smaller one first. A moment is any key that tells which values belong together, such as a minute; to compare only within
/// groups, let it hold the group too.
///
/// **Cost**: a value takes a step for every other of its moment. **Memory**: one record a value that is there, and some
/// 150 bytes a pair, whether it is linked or not.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # let topics = job(|flow| {
/// # let rows = [("s1", [1, 2, 3]), ("s2", [10, 20, 30]), ("s3", [3, 2, 1])];
/// # let rows = rows.into_iter().flat_map(|(s, values)| (0_u32..).zip(values).map(move |(m, v)| ((m, s), Some(v))));
/// # let strains = table(flow, "strains", [(1, rows.collect())]);
/// // ((minute, sensor), strain): s1 measures 1, 2, 3; s2 10, 20, 30; s3 3, 2, 1
/// let series = strains.map(|((minute, sensor), strain)| (minute, (sensor, strain)));
/// flow.sink("alike", diffs(&correlated(series, 0.9, 3)));
/// # });
/// assert_eq!(topics.lines("alike"), [r#"{"data":["s1","s2"],"time":1,"diff":1}"#]);
/// ```
pub fn correlated<'s, M: Key, N: Key, V: Exact>(
    series: VecCollection<'s, Time, (M, (N, V)), isize>,
    at_least: f64,
    samples: usize,
) -> LinkCollection<'s, N> {
    let series = series.arrange_by_key();
    let pairs = series.clone().join_core(series, |_moment, (one, x), (other, y)| {
        (one < other).then(|| ((one.clone(), other.clone()), (x.clone(), y.clone())))
    });
    let correlations = pairs.aggregate(Correlation { samples });
    correlations.flat_map(move |(pair, correlation)| (correlation.0 >= at_least).then_some(pair))
}

//! Aggregates are what a naive computation over all values gives, at every time.

mod common;

use std::collections::BTreeSet;

use common::{Bag, Change, NONE, by_key, changes, check, each, once, run};
use nekton_operators::{
    Aggregate, AggregateAll, AggregateKeys, BottomK, Count, Decimal, Distinct, Fold, Histogram, Max, Mean,
    Min, Monoid, OrderedFloat, Quantiles, Sum, TopK, Variance, of,
};
use proptest::prelude::*;

type Pair = (u8, i64);

/// Few keys, and values that repeat.
fn pairs() -> impl Strategy<Value = Vec<Change<Pair>>> {
    let value = prop_oneof![3 => -5..10_i64, 1 => Just(i64::from(i32::MAX)), 1 => Just(-(1 << 40))];
    changes((0..3_u8, value), 60)
}

/// Checks an aggregate, keyed and of everything, against what `naive` says of all values of a group, in order.
fn aggregates<A: Aggregate<i64, Output: std::hash::Hash> + Clone + Send + Sync>(
    changes: &[Change<Pair>],
    batch: usize,
    aggregate: A,
    naive: impl Fn(&[i64]) -> Option<A::Output>,
) {
    let keyed = aggregate.clone();
    check(
        changes,
        NONE,
        batch,
        move |pairs, _| pairs.aggregate(keyed.clone()),
        |pairs, _| once(by_key(pairs).into_iter().filter_map(|(key, values)| Some((key, naive(&values)?)))),
    );
    let model = |pairs: &Bag<Pair>, _: &Bag<()>| {
        let mut values: Vec<i64> = each(pairs).map(|(_, value)| value).collect();
        values.sort();
        once(if values.is_empty() { None } else { naive(&values) })
    };
    check(
        changes,
        NONE,
        batch,
        move |pairs, _| pairs.map(|(_, value)| value).aggregate_all(aggregate.clone()),
        model,
    );
}

/// Another way to compute it: in rational numbers.
fn variance(values: &[i64], by: usize) -> Option<OrderedFloat<f64>> {
    let count = values.len() as i128;
    let sum: i128 = values.iter().map(|value| i128::from(*value)).sum();
    // Each distance from the mean, times the count, is a whole number.
    let squares: i128 = values.iter().map(|value| (i128::from(*value) * count - sum).pow(2)).sum();
    let (whole, rest) = (squares.div_euclid(count * count), squares.rem_euclid(count * count));
    (by > 0).then(|| OrderedFloat((whole as f64 + rest as f64 / (count * count) as f64) / by as f64))
}

/// The product modulo a prime: values cannot be taken out of it, since some are zero.
#[derive(Clone)]
struct Product;
const PRIME: i64 = 1_000_003;
impl Monoid<i64> for Product {
    type Summary = i64;
    fn one(&self, value: &i64, count: usize) -> i64 {
        (0..count).fold(1, |product, _| product * value.rem_euclid(PRIME) % PRIME)
    }
    fn combine(&self, left: i64, right: i64) -> i64 {
        left * right % PRIME
    }
}

/// A combination that does not commute: the values in their order.
#[derive(Clone)]
struct Digits;
impl Monoid<i64> for Digits {
    type Summary = Vec<i64>;
    fn one(&self, value: &i64, count: usize) -> Vec<i64> {
        vec![*value; count]
    }
    fn combine(&self, mut left: Vec<i64>, right: Vec<i64>) -> Vec<i64> {
        left.extend(right);
        left
    }
}

proptest! {
    #![proptest_config(common::cases(12))]

    #[test]
    fn counts_sums_and_means_are_those_of_the_values(changes in pairs(), batch in 1..20_usize) {
        aggregates(&changes, batch, Count, |values| Some(values.len() as isize));
        aggregates(&changes, batch, Sum, |values| Some(values.iter().sum()));
        aggregates(&changes, batch, Mean, |values| {
            let sum: i128 = values.iter().map(|value| i128::from(*value)).sum();
            let count = values.len() as i128;
            Some(OrderedFloat(sum.div_euclid(count) as f64 + sum.rem_euclid(count) as f64 / count as f64))
        });
    }

    #[test]
    fn variances_are_exact(changes in pairs(), batch in 1..20_usize) {
        check(
            &changes,
            NONE,
            batch,
            move |pairs, _| {
                let both = pairs.clone().aggregate(Variance::Population).map(move |(key, v)| (key, 0, v));
                both.concat(pairs.aggregate(Variance::Sample).map(move |(key, v)| (key, 1, v)))
            },
            |pairs, _| {
                let groups = by_key(pairs);
                let both = groups.iter().flat_map(|(key, values)| {
                    let of = |less| Some((*key, less as i32, variance(values, values.len() - less)?));
                    [of(0), of(1)].into_iter().flatten()
                });
                once(both)
            },
        );
    }

    #[test]
    fn first_values_are_those_of_the_values_in_order(changes in pairs(), batch in 1..20_usize) {
        aggregates(&changes, batch, (Min, Max), |values| Some((*values.first()?, *values.last()?)));
        aggregates(&changes, batch, TopK(3), |values| Some(values.iter().rev().take(3).copied().collect()));
        aggregates(&changes, batch, BottomK(3), |values| Some(values.iter().take(3).copied().collect()));
    }

    #[test]
    fn quantiles_are_values_of_their_rank(changes in pairs(), batch in 1..20_usize) {
        aggregates(&changes, batch, Quantiles::new([0.0, 0.07, 0.5, 0.9, 1.0]), |values| {
            let rank = |percent: usize| (percent * values.len()).div_ceil(100).max(1) - 1;
            Some([0, 7, 50, 90, 100].map(|percent| values[rank(percent)]).to_vec())
        });
    }

    #[test]
    fn distinct_values_and_ranges_are_counted(changes in pairs(), batch in 1..20_usize) {
        aggregates(&changes, batch, Distinct, |values| Some(BTreeSet::from_iter(values).len()));
        aggregates(&changes, batch, Histogram::new([5, -2, 0]), |values| {
            let within = |from, to| values.iter().filter(|value| (from..to).contains(*value)).count() as isize;
            Some(vec![within(i64::MIN, -2), within(-2, 0), within(0, 5), within(5, i64::MAX)])
        });
    }

    #[test]
    fn folds_and_parts_are_those_of_the_values(changes in pairs(), batch in 1..20_usize) {
        aggregates(&changes, batch, Fold(Product), |values| {
            Some(values.iter().fold(1, |product, value| product * value.rem_euclid(PRIME) % PRIME))
        });
        aggregates(&changes, batch, Fold(Digits), |values| Some(values.to_vec()));
        aggregates(&changes, batch, (Count, of(|value: &i64| value % 3, Max)), |values| {
            Some((values.len() as isize, values.iter().map(|value| value % 3).max()?))
        });
    }
}

/// The classic: in `f64`, 10^9 would leave an error behind when it has gone, and the order would show.
#[test]
fn a_great_value_that_went_leaves_no_trace() {
    let euro = |value: f64| Decimal::<2>::new(value).unwrap();
    let mut changes: Vec<Change<((), Decimal<2>)>> =
        (0..100).map(|cents| (((), euro(f64::from(cents) / 100.0)), 1, 1)).collect();
    changes.push((((), euro(1e15)), 2, 1));
    changes.push((((), euro(1e15)), 3, -1));
    for workers in 1..=3 {
        let seen =
            run(&changes, NONE, 7, workers, |values, _| values.aggregate((Sum, Mean, Variance::Population)));
        let at_1 = common::at(&seen, 1);
        assert_eq!(at_1, common::at(&seen, 3));
        let ((), (sum, mean, _)) = at_1.keys().next().unwrap();
        assert_eq!((sum.to_string().as_str(), mean.0), ("49.50", 0.495));
    }
}

/// A sum that has no place in its type shows its limit, and is right again when it has.
#[test]
fn a_sum_past_its_type_comes_back() {
    let changes = [(((), 200_u8), 1, 1), (((), 100_u8), 2, 1), (((), 200_u8), 3, -1)];
    let seen = run(&changes, NONE, 1, 1, |values, _| values.aggregate(Sum));
    let sums: Vec<u8> = (1..=3).map(|time| common::at(&seen, time).keys().next().unwrap().1).collect();
    assert_eq!(sums, [200, 255, 100]);
}

/// Nothing shows of what comes and goes within a time, nor of a change that does not change the result.
#[test]
fn only_changed_results_leave() {
    let changes = [(((), 9), 1, 1), (((), 5), 2, 1), (((), 12), 3, 1), (((), 12), 3, -1), (((), 5), 4, -1)];
    let seen = run(&changes, NONE, 1, 1, |values, _| values.aggregate(Max));
    assert_eq!(seen, [(((), 9), 1, 1)]);
}

//! Forecasts and anomaly scores against the formulas of their textbooks, computed anew over whole series; clusters
//! against Lloyd's condition. All go on to the same bit after being stored.

use nekton_operators::learn::{
    Clusters, FadingMean, FadingScore, HoltWinters, MedianScore, Model, Network, Says, Season, Smoothing,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// As in a checkpoint.
fn stored<T: Serialize + DeserializeOwned>(state: &T) -> T {
    let mut bytes = Vec::new();
    rmp_serde::encode::write_named(&mut bytes, state).unwrap();
    rmp_serde::from_slice(&bytes).unwrap()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Level, trend and season of all moments, as columns of a spreadsheet: without missing values. `None` where a ratio to
/// next to nothing or less would be taken, of which the textbook says nothing.
fn textbook(season: Season, m: usize, by: Smoothing, series: &[f64]) -> Option<impl Fn(usize) -> f64> {
    let additive = season == Season::Additive;
    let (one, two) = (average(&series[..m]), average(&series[m..2 * m]));
    let b0 = (two - one) / m as f64;
    // Columns begin before the first moment: the season by m places, level and trend by one.
    let (mut l, mut b) = (vec![one - b0], vec![b0]);
    let seasonal = |at: usize| match additive {
        true => ((series[at] - one) + (series[m + at] - two)) / 2.0,
        false => (series[at] / one + series[m + at] / two) / 2.0,
    };
    let mut s: Vec<f64> = (0..m).map(seasonal).collect();
    for (t, y) in series.iter().enumerate() {
        let carried = by.damping * b[t];
        if !additive && (l[t] + carried < 1.0 || s[t] < 0.01) {
            return None;
        }
        let (deseasoned, now) = match additive {
            true => (y - s[t], y - l[t] - carried),
            false => (y / s[t], y / (l[t] + carried)),
        };
        l.push(by.level * deseasoned + (1.0 - by.level) * (l[t] + carried));
        b.push(by.trend * (l[t + 1] - l[t]) + (1.0 - by.trend) * carried);
        s.push(by.season * now + (1.0 - by.season) * s[t]);
    }
    let (l, b, t) = (l[series.len()], b[series.len()], series.len());
    Some(move |h| {
        let damped: f64 = (1..=h).map(|i| by.damping.powi(i as i32)).sum();
        let s = s[t + (h - 1) % m];
        if additive { l + damped * b + s } else { (l + damped * b) * s }
    })
}

fn smoothing() -> impl Strategy<Value = Smoothing> {
    (0.0..1.0, 0.0..1.0, 0.0..1.0, 0.8..=1.0_f64).prop_map(|(level, trend, season, damping)| Smoothing {
        level,
        trend,
        season,
        damping,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn fading_means_are_those_of_all_values_weighed_by_their_age(
        values in prop::collection::vec((0..50_u64, -100.0..100.0_f64), 1..30), half_life in 1..20_u64, worth in 0.0..3.0_f64,
    ) {
        let mut mean = FadingMean::new(half_life);
        for (at, value) in &values {
            prop_assert!(mean.learn(*at, *value));
        }
        prop_assert!(!mean.learn(3, f64::NAN));
        for now in [50, 61] {
            let counts = |at: u64| 0.5_f64.powf((now - at) as f64 / half_life as f64);
            let weight: f64 = values.iter().map(|(at, _)| counts(*at)).sum();
            let sum: f64 = values.iter().map(|(at, value)| counts(*at) * value).sum();
            prop_assert!(close(mean.weight(now), weight));
            prop_assert!(close(mean.mean(now, 7.0, worth).unwrap(), (sum + 7.0 * worth) / (weight + worth)));
        }
    }

    #[test]
    fn forecasts_are_those_of_the_textbook(
        additive in any::<bool>(),
        length in 2_usize..6,
        by in smoothing(),
        series in prop::collection::vec(50.0..60.0_f64, 0..40),
    ) {
        let season = if additive { Season::Additive } else { Season::Multiplicative };
        let mut model = HoltWinters::new(season, length, by);
        for at in 0..series.len() {
            model.learn(Some(series[at]));
            if at + 1 < 2 * length {
                prop_assert_eq!(model.forecast(1), None);
                continue;
            }
            let Some(expected) = textbook(season, length, by, &series[..=at]) else { break };
            for steps in 1..2 * length + 2 {
                let (got, expected) = (model.forecast(steps).unwrap(), expected(steps));
                prop_assert!(close(got, expected), "{steps} after {at}: {got}, not {expected}");
            }
        }
    }

    #[test]
    fn a_missing_value_is_taken_to_be_what_was_forecast(
        by in smoothing(),
        series in prop::collection::vec(50.0..60.0_f64, 8..30),
        multiplicative in any::<bool>(),
    ) {
        let season = if multiplicative { Season::Multiplicative } else { Season::Additive };
        let mut missing = HoltWinters::new(season, 4, by);
        for value in &series {
            missing.learn(Some(*value));
        }
        let mut told = missing.clone();
        for steps in 0..9 {
            let forecast = told.forecast(1).unwrap();
            prop_assert!(close(missing.forecast(1).unwrap(), forecast), "{steps}");
            prop_assert!(!missing.learn(None));
            told.learn(Some(forecast));
        }
    }

    #[test]
    fn the_fading_mean_and_variance_weigh_values_by_their_age(
        values in prop::collection::vec(-10.0..10.0_f64, 1..50), part in 0.01..0.9_f64,
    ) {
        let mut score = FadingScore::new(part, 1e-6, 0);
        for value in &values {
            score.learn(*value);
        }
        let last = values.len() - 1;
        let weight = |at: usize| (1.0 - part).powi((last - at) as i32) * if at == 0 { 1.0 } else { part };
        let mean: f64 = values.iter().enumerate().map(|(at, x)| weight(at) * x).sum();
        let variance: f64 = values.iter().enumerate().map(|(at, x)| weight(at) * (x - mean).powi(2)).sum();
        prop_assert!(close(score.mean(), mean));
        prop_assert!((score.deviation() - variance.sqrt().max(1e-6)).abs() < 1e-6);
        let expected = (3.0 - mean) / score.deviation();
        prop_assert!(close(score.score(3.0).unwrap(), expected));
    }

    #[test]
    fn medians_are_those_of_the_last_values_in_order(
        values in prop::collection::vec((-5_i32..5).prop_map(|x| f64::from(x) / 2.0), 1..60), window in 3_usize..12,
    ) {
        fn median(mut values: Vec<f64>) -> f64 {
            values.sort_by(f64::total_cmp);
            let half = values.len() / 2;
            if values.len().is_multiple_of(2) { (values[half - 1] + values[half]) / 2.0 } else { values[half] }
        }
        let mut score = MedianScore::new(window, 0.25);
        for at in 0..values.len() {
            score.learn(values[at]);
            let last = values[(at + 1).saturating_sub(window)..=at].to_vec();
            let middle = median(last.clone());
            let deviation = median(last.iter().map(|x| (x - middle).abs()).collect());
            prop_assert_eq!(score.median(), Some(middle));
            prop_assert_eq!(score.deviation(), Some(deviation));
            let expected = 0.6745 * (7.0 - middle) / deviation.max(0.25);
            prop_assert_eq!(score.score(7.0), (at + 1 >= window).then_some(expected));
        }
    }

    #[test]
    fn clusters_come_to_rest_where_every_member_is_nearest_to_its_mean(
        moves in prop::collection::vec((0_u8..12, prop::option::weighted(0.8, (-20_i32..20, -20_i32..20))), 1..60),
        k in 1_usize..5,
    ) {
        let mut clusters = Clusters::<u8, 2>::new(k);
        let mut places = std::collections::BTreeMap::new();
        for (member, place) in &moves {
            match place {
                Some((x, y)) => {
                    let at = [f64::from(*x) / 4.0, f64::from(*y) / 4.0];
                    prop_assert!(clusters.place(*member, at).is_some());
                    places.insert(*member, at);
                }
                None => prop_assert_eq!(clusters.remove(member), places.remove(member).is_some()),
            }
        }
        let mut sweeps = 0;
        while clusters.settle(places.len()) > 0 {
            sweeps += 1;
            prop_assert!(sweeps < 1_000, "they never come to rest");
        }
        prop_assert_eq!(clusters.members().map(|(id, _)| *id).collect::<Vec<_>>(), places.keys().copied().collect::<Vec<_>>());
        let means = clusters.means();
        for (number, mean) in means.iter().enumerate() {
            let of: Vec<[f64; 2]> = places.iter().filter(|(id, _)| clusters.of(id) == Some(number)).map(|(_, at)| *at).collect();
            prop_assert_eq!(mean.is_none(), of.is_empty());
            let Some(mean) = mean else { continue };
            for along in 0..2 {
                prop_assert!(close(mean[along], average(&of.iter().map(|at| at[along]).collect::<Vec<_>>())));
            }
            let squares = |at: &[f64; 2], mean: &[f64; 2]| (at[0] - mean[0]).powi(2) + (at[1] - mean[1]).powi(2);
            for at in of {
                for other in means.iter().flatten() {
                    prop_assert!(squares(&at, mean) <= squares(&at, other) + 1e-9);
                }
            }
        }
        let different: std::collections::BTreeSet<String> = places.values().map(|at| format!("{at:?}")).collect();
        prop_assert_eq!(means.iter().flatten().count(), k.min(different.len()), "as many as there can be");
    }

    #[test]
    fn what_is_stored_goes_on_to_the_same_bit(values in prop::collection::vec(1.0..9.0_f64, 2..40), stop in 0_usize..40) {
        fn check<T: Clone + Serialize + DeserializeOwned>(state: T, values: &[f64], stop: usize, step: impl Fn(&mut T, f64, usize) -> Option<f64>) {
            let (mut whole, mut halves) = (state.clone(), state);
            for (at, value) in values.iter().enumerate() {
                if at == stop {
                    halves = stored(&halves);
                }
                let bits = |said: Option<f64>| said.map(f64::to_bits);
                assert_eq!(bits(step(&mut whole, *value, at)), bits(step(&mut halves, *value, at)));
            }
        }
        for season in [Season::Additive, Season::Multiplicative] {
            let model = HoltWinters::new(season, 3, Smoothing::default());
            check(model, &values, stop, |model, value, at| { model.learn((at % 5 != 4).then_some(value)); model.forecast(2) });
        }
        check(FadingScore::new(0.1, 0.1, 2), &values, stop, |s, value, _| { let score = s.score(value); s.learn(value); score });
        check(MedianScore::new(5, 0.1), &values, stop, |s, value, _| { let score = s.score(value); s.learn(value); score });
        check(FadingMean::new(3), &values, stop, |mean, value, at| { mean.learn(at as u64 * 2 % 9, value); mean.mean(at as u64 + 3, 0.0, 1.0) });
        for says in [Says::Number, Says::Median, Says::Probability] {
            let model = Network::<2>::new(&[5, 3], says, 7);
            check(model, &values, stop, |model, value, _| {
                let features = [value, 1.0 / value];
                model.learn(&features, if says != Says::Probability { value } else { f64::from(value > 5.0) });
                Some(model.predict(&features))
            });
        }
        check(Clusters::<usize, 1>::new(3), &values, stop, |clusters, value, at| {
            clusters.place(at % 7, [value]);
            clusters.means().last().copied().flatten().map(|mean| mean[0])
        });
    }
}

#[test]
fn seasons_with_gaps_begin_with_what_there_is() {
    let mut model = HoltWinters::new(Season::Additive, 4, Smoothing::default());
    // A season of nothing, one with a gap, and one that is whole.
    for value in [None; 4].into_iter().chain([10.0, 20.0, 30.0].map(Some)).chain([None]) {
        assert_eq!(model.learn(value), value.is_some());
        assert_eq!(model.forecast(1), None);
    }
    for value in [10.0, 20.0, 30.0, 40.0] {
        model.learn(Some(value));
    }
    let forecasts: Vec<f64> = (1..=4).map(|steps| model.forecast(steps).unwrap()).collect();
    assert!(forecasts.is_sorted() && (forecasts[3] - 40.0).abs() < 8.0, "{forecasts:?}");
}

#[test]
fn a_multiplicative_season_takes_nothing_below_zero() {
    let mut model = HoltWinters::new(Season::Multiplicative, 2, Smoothing::default());
    for value in [10.0, 20.0, 10.0, 20.0] {
        assert!(model.learn(Some(value)));
    }
    for wrong in [0.0, -5.0, f64::NAN, f64::INFINITY] {
        assert!(!model.learn(Some(wrong)));
    }
    assert!((model.forecast(1).unwrap() - 10.0).abs() < 1.0);
}

#[test]
fn an_outlier_hides_the_next_one_from_the_mean_and_not_from_the_median() {
    let (mut fading, mut median) = (FadingScore::new(0.1, 0.1, 10), MedianScore::new(20, 0.1));
    for at in 0..100 {
        let value = 20.0 + f64::from(at % 3);
        fading.learn(value);
        median.learn(value);
    }
    assert!(fading.score(100.0).unwrap() > 20.0 && median.score(100.0).unwrap() > 20.0);
    fading.learn(10_000.0);
    median.learn(10_000.0);
    assert!(fading.score(100.0).unwrap().abs() < 1.0 && median.score(100.0).unwrap() > 20.0);
    for score in [fading.score(f64::NAN), median.score(f64::INFINITY)] {
        assert_eq!(score, None);
    }
    assert!(!fading.learn(f64::NAN) && !median.learn(f64::NAN));
}

#[test]
fn a_network_finds_a_curve() {
    let mut network = Network::<1>::new(&[16], Says::Number, 3).with_step(0.01);
    let curve = |x: f64| (2.0 * x).sin();
    for at in 0..40_000_u32 {
        let x = f64::from(at.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24) * 4.0 - 2.0;
        network.learn(&[x], curve(x));
    }
    for at in -19..20 {
        let x = f64::from(at) / 10.0;
        assert!((network.predict(&[x]) - curve(x)).abs() < 0.15, "{x}: {}", network.predict(&[x]));
    }
    assert_ne!(Network::<1>::new(&[4], Says::Number, 1), Network::<1>::new(&[4], Says::Number, 2));
}

#[test]
fn a_network_of_the_median_does_not_follow_outliers_and_one_of_the_mean_does() {
    let mut models =
        [Says::Median, Says::Number].map(|says| Network::<1>::new(&[8], says, 3).with_step(0.002));
    for at in 0..40_000_u32 {
        let x = f64::from(at.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24) * 2.0 - 1.0;
        // One in four is far above the line.
        let y = x + if at % 4 == 0 { 4.0 } else { 0.0 };
        models.iter_mut().for_each(|model| assert!(model.learn(&[x], y)));
    }
    for x in [-0.8, -0.3, 0.2, 0.7] {
        let [median, mean] = [0, 1].map(|at: usize| models[at].predict(&[x]) - x);
        assert!(median.abs() < 0.2 && (mean - 1.0).abs() < 0.3, "at {x}: {median} and {mean}");
    }
}

//! Models against what they approach or equal, computed anew from all examples; their state survives being stored.

use nekton_operators::learn::{
    Gradient, Learner, LeastSquares, Logistic, Model, Network, Says, Scaled, Squeezed,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The example that a model has to find something in.
type Example = ([f64; 3], f64);

fn examples() -> impl Strategy<Value = Vec<Example>> {
    let example = (-5.0..5.0, -5.0..5.0, -10.0..10.0_f64).prop_map(|(a, b, y)| ([1.0, a, b], y));
    prop::collection::vec(example, 1..40)
}

/// As in a checkpoint.
fn stored<T: Serialize + DeserializeOwned>(state: &T) -> T {
    let mut bytes = Vec::new();
    rmp_serde::encode::write_named(&mut bytes, state).unwrap();
    rmp_serde::from_slice(&bytes).unwrap()
}

/// The weights that minimise the sum of `remembers^age (target - weights . features)^2` and of the ridge, by Gauss's
/// elimination of the normal equations.
fn batch(examples: &[Example], remembers: f64, ridge: f64) -> [f64; 3] {
    let mut rows = [[0.0; 4]; 3];
    for (age, (features, target)) in examples.iter().rev().enumerate() {
        let weight = remembers.powi(age as i32);
        for (row, x) in rows.iter_mut().zip(features) {
            for (cell, z) in row.iter_mut().zip(features.iter().chain([target])) {
                *cell += weight * x * z;
            }
        }
    }
    let fades = remembers.powi(examples.len() as i32);
    for (at, row) in rows.iter_mut().enumerate() {
        row[at] += ridge * fades;
    }
    for at in 0..3 {
        let best = (at..3).max_by(|a, b| rows[*a][at].abs().total_cmp(&rows[*b][at].abs())).unwrap();
        rows.swap(at, best);
        for other in (0..3).filter(|other| *other != at) {
            let pivot = rows[at];
            let times = rows[other][at] / pivot[at];
            for (cell, of_pivot) in rows[other].iter_mut().zip(pivot) {
                *cell -= times * of_pivot;
            }
        }
    }
    std::array::from_fn(|at| rows[at][3] / rows[at][at])
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn least_squares_are_those_of_all_examples_at_once(examples in examples()) {
        let mut model = LeastSquares::<3>::new(0.1);
        for (at, (features, target)) in examples.iter().enumerate() {
            prop_assert!(model.learn(features, *target));
            let expected = batch(&examples[..=at], 1.0, 0.1);
            for (weight, expected) in model.weights().iter().zip(expected) {
                prop_assert!(close(*weight, expected, 1e-7), "{:?}, not {expected:?}", model.weights());
            }
        }
    }

    #[test]
    fn least_squares_that_forget_weigh_examples_by_their_age(examples in examples()) {
        // With a ridge so small that it never holds the forgetting back.
        let varied: Vec<Example> = [[1.0, 2.0, 0.0], [1.0, -2.0, 1.0], [1.0, 0.0, -3.0]]
            .iter().map(|features| (*features, 1.0)).chain(examples).collect();
        let mut model = LeastSquares::<3>::new(1e-9).remembering(0.97);
        for (features, target) in &varied {
            model.learn(features, *target);
        }
        let expected = batch(&varied, 0.97, 0.0);
        for (features, _) in &varied {
            let expected: f64 = features.iter().zip(&expected).map(|(x, w)| x * w).sum();
            prop_assert!(close(model.predict(features), expected, 0.02), "{} not {expected}", model.predict(features));
        }
    }

    #[test]
    fn a_stored_model_goes_on_to_the_same_bit(examples in examples(), stop in 0_usize..40) {
        fn check<M: Model<3>>(model: M, examples: &[Example], stop: usize) {
            let bits = |model: &M| examples.iter().map(|(x, _)| model.predict(x).to_bits()).collect::<Vec<_>>();
            let (mut whole, mut halves) = (model.clone(), model);
            for (at, (features, target)) in examples.iter().enumerate() {
                if at == stop {
                    halves = stored(&halves);
                }
                assert_eq!(whole.learn(features, *target), halves.learn(features, *target));
                assert_eq!(bits(&whole), bits(&halves));
            }
        }
        check(LeastSquares::new(0.1).remembering(0.9), &examples, stop);
        check(Gradient::new(0.3), &examples, stop);
        check(Scaled::new(Gradient::new(0.3)).with_target(), &examples, stop);
        check(Squeezed::new(Gradient::new(0.3), 2.0), &examples, stop);
        let slowing = Network::new(&[3], Says::Median, 5).with_step(0.1).slowing_after(4.0);
        check(slowing, &examples, stop);
        let classes: Vec<Example> = examples.iter().map(|(x, y)| (*x, f64::from(*y > 0.0))).collect();
        check(Logistic::new(0.3).ridge(0.01), &classes, stop);
        check(Scaled::new(Logistic::new(0.3)), &classes, stop);
    }

    #[test]
    fn squeezed_targets_are_stretched_again_and_nothing_is_predicted_beyond_them(
        examples in examples(), unit in 0.1..100.0_f64,
    ) {
        let (mut squeezed, mut plain) = (Squeezed::new(LeastSquares::<3>::new(0.1), unit), LeastSquares::<3>::new(0.1));
        let (mut least, mut greatest) = (0.0_f64, 0.0_f64);
        for (features, target) in &examples {
            prop_assert!(squeezed.learn(features, *target) && plain.learn(features, (target / unit).asinh()));
            (least, greatest) = (least.min(*target), greatest.max(*target));
            let expected = (unit * plain.predict(features).sinh()).clamp(least, greatest);
            prop_assert!(close(squeezed.predict(features), expected, 1e-6));
        }
    }

    #[test]
    fn the_gradient_takes_its_part_of_each_error(examples in examples(), step in 0.1..1.0_f64) {
        let mut model = Gradient::<3>::new(step);
        for (features, target) in examples {
            let before = target - model.predict(&features);
            model.learn(&features, target);
            prop_assert!(close(target - model.predict(&features), (1.0 - step) * before, 1e-9));
        }
    }
}

/// Numbers that repeat.
fn numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[test]
fn logistic_regression_comes_near_the_odds_that_examples_have() {
    let mut number = numbers(3);
    let mut model = Logistic::<2>::new(0.5);
    for _ in 0..50_000 {
        let x = 4.0 * number() - 2.0;
        let likely = 1.0 / (1.0 + (-(0.5 + 1.5 * x)).exp());
        model.learn(&[1.0, x], f64::from(number() < likely));
    }
    let [intercept, slope] = *model.weights();
    assert!((intercept - 0.5).abs() < 0.1 && (slope - 1.5).abs() < 0.15, "{intercept} {slope}");
}

#[test]
fn forgetting_never_makes_least_squares_less_certain_than_at_first() {
    let mut model = LeastSquares::<2>::new(1.0).remembering(0.9);
    // Nothing is ever said of the second feature.
    for _ in 0..100_000 {
        assert!(model.learn(&[1.0, 0.0], 5.0));
    }
    assert!(model.learn(&[1.0, 1.0], 6.0));
    let [one, other] = *model.weights();
    assert!((one - 5.0).abs() < 0.5 && (0.0..1.5).contains(&other), "{one} {other}");
}

#[test]
fn what_is_not_a_number_is_not_learned() {
    fn check(mut model: impl Model<2> + PartialEq + std::fmt::Debug) {
        model.learn(&[1.0, 0.5], 1.0);
        let before = model.clone();
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert!(!model.learn(&[1.0, wrong], 1.0) && !model.learn(&[1.0, 0.5], wrong));
        }
        assert_eq!(model, before);
        model.learn(&[1e50, -1e50], 1.0);
        assert!(model.predict(&[1.0, 1.0]).is_finite());
    }
    check(LeastSquares::new(1e-6).remembering(0.9));
    check(Gradient::new(0.1));
    check(Logistic::new(0.1));
    check(Scaled::new(Logistic::new(0.1)));
    check(Scaled::new(Gradient::new(0.1)).with_target());
    check(Squeezed::new(Gradient::new(0.1), 1.0));
    check(Network::new(&[3], Says::Median, 1));
}

#[test]
fn a_checkpoint_with_another_number_of_features_is_refused() {
    let mut bytes = Vec::new();
    rmp_serde::encode::write_named(&mut bytes, &Gradient::<3>::new(0.5)).unwrap();
    assert!(rmp_serde::from_slice::<Gradient<3>>(&bytes).is_ok());
    assert!(rmp_serde::from_slice::<Gradient<2>>(&bytes).is_err());
    assert!(rmp_serde::from_slice::<Gradient<4>>(&bytes).is_err());
}

/// A model that has seen the target before it predicts knows it: here every target is a number of its own, which
/// nothing else tells. Whoever finds a way to be right has looked ahead.
#[test]
fn a_learner_cannot_look_ahead() {
    let mut number = numbers(11);
    let mut learner = Learner::new(Gradient::<1>::new(1.0), 8);
    let mut learned = Vec::new();
    for id in 0..500_u64 {
        let secret = 100.0 + number() * 1_000.0;
        let order = (number() * 4.0) as u32;
        if order == 0 {
            // It happens before anybody has said anything: nothing is learned, and it cannot be predicted any more.
            assert_eq!(learner.happened(&id, secret), None);
            assert_eq!(learner.predict(id, [1.0]), None);
            continue;
        }
        let said = learner.predict(id, [1.0]).unwrap();
        assert!(
            learned.last().is_none_or(|last: &f64| close(*last, said, 1e-9)),
            "it says what it has learned last"
        );
        // Features of later do not change what was said, nor what it learns.
        assert_eq!(learner.predict(id, [secret]), Some(said));
        let outcome = learner.happened(&id, secret).unwrap();
        assert_eq!((outcome.predicted, outcome.actual), (said, secret));
        assert_ne!(said, secret);
        learned.push(secret);
        // The second outcome of the same is none.
        assert_eq!(learner.happened(&id, 0.0), None);
        assert_eq!(learner.predict(id, [1.0]), None);
    }
    assert_eq!(learner.learned(), learned.len() as u64);
}

#[test]
fn open_predictions_are_bounded_and_the_oldest_goes() {
    let mut learner = Learner::new(Gradient::<1>::new(1.0), 3);
    for id in 0..5 {
        learner.predict(id, [1.0]);
    }
    assert_eq!((learner.predictions().open(), learner.predictions().forgotten()), (3, 2));
    assert_eq!(learner.happened(&1, 7.0), None);
    assert!(learner.happened(&2, 7.0).is_some());
    assert!(learner.withdraw(&3) && !learner.withdraw(&3));
    assert_eq!(learner.happened(&3, 7.0), None);
    assert_eq!(learner.learned(), 1);
}

//! Features brought to the same scale.

use serde::{Deserialize, Serialize};

use super::Model;
use super::vector::{Vector, all_sound, sound};

/// A model whose features, and if asked for whose target, are first brought to a mean of 0 and a deviation of 1: by
/// what was learned before, never by the example itself before it is predicted. Gradient descent and networks need it
/// where features have units. A feature that is always the same becomes 0, but for one that is always 1, which stays
/// (the intercept).
///
/// Mean and deviation are Welford's, *Note on a Method for Calculating Corrected Sums of Squares and Products* (1962).
///
/// **Cost**: 9 N floating-point operations and N square roots an update, 3 N and N a prediction, besides the model's.
/// **Memory**: 16 N + 40 bytes besides the model's.
///
/// ```
/// use nekton_operators::learn::{Gradient, Model, Scaled};
///
/// let mut model = Scaled::new(Gradient::<2>::new(0.2)).with_target();
/// for day in 0..2_000 {
///     let metres = f64::from(day % 10) * 100_000.0;
///     model.learn(&[1.0, metres], 500.0 + metres / 1_000.0);
/// }
/// assert!((model.predict(&[1.0, 450_000.0]) - 950.0).abs() < 1.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaled<M, const N: usize> {
    model: M,
    count: u64,
    means: Vector<N>,
    /// Sums of the squares of the distances from the mean.
    squares: Vector<N>,
    target: Option<(f64, f64)>,
}

impl<M: Model<N>, const N: usize> Scaled<M, N> {
    /// Scales the features.
    pub fn new(model: M) -> Self {
        Scaled { model, count: 0, means: Vector::ZERO, squares: Vector::ZERO, target: None }
    }

    /// Scales the target too, and the prediction back. Not for probabilities.
    #[must_use]
    pub fn with_target(self) -> Self {
        Scaled { target: Some((0.0, 0.0)), ..self }
    }

    fn deviation(&self, squares: f64) -> f64 {
        match self.count {
            0 | 1 => 0.0,
            count => (squares / (count - 1) as f64).sqrt(),
        }
    }

    fn scaled(&self, features: &[f64; N]) -> [f64; N] {
        let mut scaled = *features;
        for (at, feature) in scaled.iter_mut().enumerate() {
            let deviation = self.deviation(self.squares.0[at]);
            if deviation > 0.0 {
                *feature = (*feature - self.means.0[at]) / deviation;
            } else if *feature != 1.0 || (self.count > 0 && self.means.0[at] != 1.0) {
                *feature = 0.0;
            }
        }
        scaled
    }

    /// The mean and the deviation of targets, where they are scaled.
    fn of_target(&self) -> (f64, f64) {
        let Some((mean, squares)) = self.target else { return (0.0, 1.0) };
        let deviation = self.deviation(squares);
        (mean, if deviation > 0.0 { deviation } else { 1.0 })
    }
}

/// Adds a number to a mean and a sum of squares, of which it is the `count`-th.
fn add(mean: &mut f64, squares: &mut f64, number: f64, count: u64) {
    let before = number - *mean;
    *mean += before / count as f64;
    *squares += before * (number - *mean);
}

impl<M: Model<N>, const N: usize> Model<N> for Scaled<M, N> {
    fn predict(&self, features: &[f64; N]) -> f64 {
        let (mean, deviation) = self.of_target();
        mean + deviation * self.model.predict(&self.scaled(features))
    }

    fn learn(&mut self, features: &[f64; N], target: f64) -> bool {
        if !all_sound(features) || !sound(target) {
            return false;
        }
        let before = (self.count, self.means, self.squares, self.target);
        self.count += 1;
        for (at, feature) in features.iter().enumerate() {
            add(&mut self.means.0[at], &mut self.squares.0[at], *feature, self.count);
        }
        if let Some((mean, squares)) = &mut self.target {
            add(mean, squares, target, self.count);
        }
        let (mean, deviation) = self.of_target();
        let learned = self.model.learn(&self.scaled(features), (target - mean) / deviation);
        if !learned {
            (self.count, self.means, self.squares, self.target) = before;
        }
        learned
    }
}

//! Logistic regression: how likely something is.

use serde::{Deserialize, Serialize};

use super::Model;
use super::vector::{Vector, all_sound, within};

/// The logistic function, the same to the bit on every machine.
#[inline]
pub(crate) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// Logistic regression: predicts a probability, learns from 0 (it did not happen) and 1 (it did). One step of
/// gradient descent on the log loss for each example, with a step of its own for each weight.
///
/// The steps are those of Duchi, Hazan and Singer, *Adaptive Subgradient Methods for Online Learning and Stochastic
/// Optimization* (2011), "diagonal" (AdaGrad): long for what was seldom seen, ever shorter for what is well known.
/// There is no intercept: let one feature be always 1.
///
/// **Cost**: an update some 10 N floating-point operations and an exponential, a prediction 2 N and an exponential.
/// **Memory**: 16 N + 16 bytes, in the agent.
///
/// ```
/// use nekton_operators::learn::{Logistic, Model};
///
/// let mut late = Logistic::<2>::new(0.5);
/// for day in 0..500 {
///     let snow = f64::from(day % 2);
///     late.learn(&[1.0, snow], snow); // late whenever there is snow
/// }
/// assert!(late.predict(&[1.0, 1.0]) > 0.9 && late.predict(&[1.0, 0.0]) < 0.1);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logistic<const N: usize> {
    weights: Vector<N>,
    /// The sums of the squares of the gradients.
    squares: Vector<N>,
    step: f64,
    ridge: f64,
}

impl<const N: usize> Logistic<N> {
    /// The first steps are as long as `step`.
    ///
    /// # Panics
    /// If the step is not between 1e-9 and 100.
    pub fn new(step: f64) -> Self {
        let step = within("the step", step, 1e-9, 100.0);
        Logistic { weights: Vector::ZERO, squares: Vector::ZERO, step, ridge: 0.0 }
    }

    /// Pulls weights towards 0, so that they do not grow for ever where classes can be told apart without an error.
    ///
    /// # Panics
    /// If the ridge is not between 0 and 1.
    #[must_use]
    pub fn ridge(self, ridge: f64) -> Self {
        Logistic { ridge: within("the ridge", ridge, 0.0, 1.0), ..self }
    }

    /// The weights of the features: what each adds to the logarithm of the odds.
    pub fn weights(&self) -> &[f64; N] {
        &self.weights.0
    }
}

impl<const N: usize> Model<N> for Logistic<N> {
    fn predict(&self, features: &[f64; N]) -> f64 {
        logistic(self.weights.dot(features))
    }

    fn learn(&mut self, features: &[f64; N], target: f64) -> bool {
        if !all_sound(features) || !(0.0..=1.0).contains(&target) {
            return false;
        }
        let surprise = self.predict(features) - target;
        for (at, feature) in features.iter().enumerate() {
            let gradient = surprise * feature + self.ridge * self.weights.0[at];
            self.squares.0[at] += gradient * gradient;
            if gradient != 0.0 {
                self.weights.0[at] -= self.step * gradient / (1e-12 + self.squares.0[at].sqrt());
            }
        }
        true
    }
}

//! Linear regression by small steps.

use serde::{Deserialize, Serialize};

use super::Model;
use super::vector::{Vector, all_sound, sound, within};

/// Linear regression by stochastic gradient descent whose step is normalised: by the square of the features' length,
/// so that it neither creeps nor diverges whatever their scale. Far cheaper than
/// [`LeastSquares`](super::LeastSquares), follows a change at once, and needs more examples.
///
/// The step is the one in Haykin, *Adaptive Filter Theory*, "Normalized least-mean-square algorithm". There is no
/// intercept: let one feature be always 1.
///
/// **Cost**: an update 6 N floating-point operations, a prediction 2 N. **Memory**: 8 N + 8 bytes, in the agent.
///
/// ```
/// use nekton_operators::learn::{Gradient, Model};
///
/// let mut fuel = Gradient::<2>::new(0.5);
/// for trip in 0..2_000 {
///     let tens = f64::from(trip % 7); // of kilometres
///     fuel.learn(&[1.0, tens], 3.0 + 5.0 * tens);
/// }
/// assert!((fuel.predict(&[1.0, 10.0]) - 53.0).abs() < 0.001);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gradient<const N: usize> {
    weights: Vector<N>,
    step: f64,
}

impl<const N: usize> Gradient<N> {
    /// Each example takes away the part `step` of its own error: 1 is all of it, noise included; 0.05 is steady.
    ///
    /// # Panics
    /// If the step is not above 0 and below 2, where it would diverge.
    pub fn new(step: f64) -> Self {
        Gradient { weights: Vector::ZERO, step: within("the step", step, 1e-9, 1.999) }
    }

    /// The weights of the features.
    pub fn weights(&self) -> &[f64; N] {
        &self.weights.0
    }
}

impl<const N: usize> Model<N> for Gradient<N> {
    fn predict(&self, features: &[f64; N]) -> f64 {
        self.weights.dot(features)
    }

    fn learn(&mut self, features: &[f64; N], target: f64) -> bool {
        if !all_sound(features) || !sound(target) {
            return false;
        }
        let length = Vector(*features).dot(features);
        // Features of next to nothing say next to nothing.
        let step = self.step * (target - self.predict(features)) / (1e-12 + length);
        for (weight, feature) in self.weights.0.iter_mut().zip(features) {
            *weight += step * feature;
        }
        true
    }
}

//! Linear regression by recursive least squares.

use serde::{Deserialize, Serialize};

use super::Model;
use super::vector::{Vector, all_sound, array, sound, within};

/// Linear regression that has, after each example, the weights that least squares finds for all examples so far
/// (with a *ridge*, a small penalty on the squares of the weights), older ones counting less where it forgets.
///
/// The recursion is the one in Haykin, *Adaptive Filter Theory*, "The RLS algorithm" (exponentially weighted). Where
/// nothing new comes in some direction, forgetting would make it ever less certain there, until a small noise throws
/// it off: it forgets only while it is more certain than at the beginning, as measured by the trace of its matrix.
///
/// There is no intercept: let one feature be always 1.
///
/// **Cost**: an update some 5 N² floating-point operations, a prediction 2 N. **Memory**: 8 N² + 8 N + 24 bytes, in
/// the agent.
///
/// ```
/// use nekton_operators::learn::{LeastSquares, Model};
///
/// let mut fuel = LeastSquares::<2>::new(1e-6);
/// for kilometres in [10.0, 20.0, 40.0] {
///     fuel.learn(&[1.0, kilometres], 3.0 + 0.5 * kilometres);
/// }
/// assert!((fuel.predict(&[1.0, 100.0]) - 53.0).abs() < 0.001);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeastSquares<const N: usize> {
    weights: Vector<N>,
    /// The inverse of the weighted sum of squares of the features.
    #[serde(with = "array")]
    inverse: [Vector<N>; N],
    ridge: f64,
    remembers: f64,
}

impl<const N: usize> LeastSquares<N> {
    /// One that forgets nothing. The weights are pulled towards 0 by `ridge` (above 0): 1e-6 is next to nothing where
    /// features are around 1.
    ///
    /// # Panics
    /// If the ridge is not between 1e-12 and 1e12.
    pub fn new(ridge: f64) -> Self {
        let ridge = within("the ridge", ridge, 1e-12, 1e12);
        let mut inverse = [Vector::ZERO; N];
        for (at, row) in inverse.iter_mut().enumerate() {
            row.0[at] = 1.0 / ridge;
        }
        LeastSquares { weights: Vector::ZERO, inverse, ridge, remembers: 1.0 }
    }

    /// Lets an example count `remembers` times as much as the one after it: 0.99 remembers some hundred examples.
    ///
    /// # Panics
    /// If that is not between 0.5 and 1.
    #[must_use]
    pub fn remembering(self, remembers: f64) -> Self {
        LeastSquares { remembers: within("what is remembered", remembers, 0.5, 1.0), ..self }
    }

    /// The weights of the features.
    pub fn weights(&self) -> &[f64; N] {
        &self.weights.0
    }

    /// How little it knows of such features: the variance of what it says of them, in variances of the error of one example (where these
    /// are independent). Great where nothing like them was learned. This is the leverage of Hoaglin and Welsch, *The Hat Matrix in
    /// Regression and ANOVA* (1978), for features that may be new. 2 N² floating-point operations.
    ///
    /// ```
    /// use nekton_operators::learn::{LeastSquares, Model};
    ///
    /// let mut mean = LeastSquares::<1>::new(1e-6);
    /// for _ in 0..4 {
    ///     mean.learn(&[1.0], 20.0);
    /// }
    /// assert!((mean.leverage(&[1.0]) - 0.25).abs() < 1e-6); // a mean of four has a quarter of their variance
    /// assert!((mean.leverage(&[2.0]) - 1.0).abs() < 1e-5);
    /// ```
    pub fn leverage(&self, features: &[f64; N]) -> f64 {
        self.inverse.iter().zip(features).map(|(row, feature)| row.dot(features) * feature).sum()
    }
}

impl<const N: usize> Model<N> for LeastSquares<N> {
    fn predict(&self, features: &[f64; N]) -> f64 {
        self.weights.dot(features)
    }

    fn learn(&mut self, features: &[f64; N], target: f64) -> bool {
        if !all_sound(features) || !sound(target) {
            return false;
        }
        let mut gain = Vector::ZERO;
        for (gain, row) in gain.0.iter_mut().zip(&self.inverse) {
            *gain = row.dot(features);
        }
        let surprise = target - self.predict(features);
        let scale = self.remembers + gain.dot(features);
        // Rounding may have made the matrix say nonsense of an example as great as that.
        if scale.is_nan() || scale < self.remembers || scale.is_infinite() {
            return false;
        }
        let mut trace = 0.0;
        for at in 0..N {
            self.weights.0[at] += gain.0[at] / scale * surprise;
            // One half is computed, so that both are the same to the bit.
            for other in at..N {
                let changed = self.inverse[at].0[other] - gain.0[at] * gain.0[other] / scale;
                self.inverse[at].0[other] = changed;
                self.inverse[other].0[at] = changed;
            }
            trace += self.inverse[at].0[at];
        }
        if self.remembers < 1.0 && trace / self.remembers <= N as f64 / self.ridge {
            for row in &mut self.inverse {
                row.0.iter_mut().for_each(|element| *element /= self.remembers);
            }
        }
        true
    }
}

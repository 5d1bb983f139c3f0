//! Targets with long tails, squeezed.

use serde::{Deserialize, Serialize};

use super::Model;
use super::vector::{sound, within};

/// A model whose target is squeezed while it learns, and whose predictions are stretched again: by the inverse hyperbolic
/// sine, which leaves what is well within `unit` of 0 nearly as it is, and is a logarithm beyond, on both sides. For
/// delays, amounts and sizes, of which most are small and a few are a hundred times as large.
///
/// It predicts nothing beyond what it has learned (and 0): what is stretched would soon be out of all proportion.
///
/// What the model says is not the mean any more: let it learn the median ([`Says::Median`](super::Says::Median)), which
/// stays the median however numbers are squeezed.
///
/// **Cost**: a logarithm an update and two exponentials a prediction, besides the model's. **Memory**: 24 bytes besides the
/// model's.
///
/// ```
/// use nekton_operators::learn::{Model, Network, Says, Squeezed};
///
/// let network = Network::<1>::new(&[4], Says::Median, 7).with_step(0.01);
/// let mut delays = Squeezed::new(network, 10.0);
/// for flight in 0..9_000 {
///     delays.learn(&[1.0], [2.0, 5.0, 900.0][flight % 3]); // minutes
/// }
/// assert!((delays.predict(&[1.0]) - 5.0).abs() < 1.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Squeezed<M> {
    model: M,
    unit: f64,
    /// The least and the greatest target, squeezed.
    learned: (f64, f64),
}

impl<M> Squeezed<M> {
    /// Squeezes what is beyond `unit`.
    ///
    /// # Panics
    /// If the unit is not between 1e-6 and 1e6.
    pub fn new(model: M, unit: f64) -> Self {
        Squeezed { model, unit: within("the unit", unit, 1e-6, 1e6), learned: (0.0, 0.0) }
    }
}

impl<M: Model<N>, const N: usize> Model<N> for Squeezed<M> {
    fn predict(&self, features: &[f64; N]) -> f64 {
        let (least, greatest) = self.learned;
        self.unit * libm::sinh(self.model.predict(features).clamp(least, greatest))
    }

    fn learn(&mut self, features: &[f64; N], target: f64) -> bool {
        let squeezed = libm::asinh(target / self.unit);
        let learned = sound(target) && self.model.learn(features, squeezed);
        if learned {
            self.learned = (self.learned.0.min(squeezed), self.learned.1.max(squeezed));
        }
        learned
    }
}

//! A small neural network, trained by back-propagation on one example at a time.

use serde::{Deserialize, Serialize};

use super::Model;
use super::logistic::logistic;
use super::vector::{all_sound, sound, within};

/// The most units in a layer, so that nothing has to be allocated for a prediction.
const WIDEST: usize = 64;
/// The most hidden layers.
const DEEPEST: usize = 3;
/// Of Kingma and Ba: how long gradients and their squares are remembered.
const REMEMBERS: (f64, f64) = (0.9, 0.999);

/// What the last unit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Says {
    /// A number; learned by the square of its error, so that it is near the mean of what happens.
    Number,
    /// A number; learned by its absolute error, so that about half of what happens is below it (the median): it hardly
    /// follows outliers.
    Median,
    /// A probability; learned from 0 and 1 by its log loss.
    Probability,
}

/// A network of dense layers: `N` features, up to three hidden layers of up to 64 units (tanh), one number or
/// probability. Trained by back-propagation on each example as it comes.
///
/// Back-propagation as in Goodfellow, Bengio and Courville, *Deep Learning*, "Back-Propagation and Other
/// Differentiation Algorithms"; steps as in Kingma and Ba, *Adam: A Method for Stochastic Optimization*, Algorithm 1;
/// first weights as in Glorot and Bengio, *Understanding the Difficulty of Training Deep Feedforward Neural
/// Networks*, "normalized initialization", from a seed. Features, and a target that is a number, should be around 1:
/// see [`Scaled`](super::Scaled). A network that comes from a checkpoint has the layers that it had.
///
/// **Cost**, with W weights (of 4 features and 8 hidden units: 49): a prediction 2 W floating-point operations and a
/// tanh for each hidden unit; an update some 20 W and W square roots. **Memory**: 24 W + 120 bytes.
///
/// ```
/// use nekton_operators::learn::{Model, Network, Says};
///
/// // Either, but not both: what no linear model can say.
/// let mut either = Network::<2>::new(&[8], Says::Probability, 7).with_step(0.02);
/// for example in 0..4_000 {
///     let (a, b) = (f64::from(example % 2), f64::from(example / 2 % 2));
///     either.learn(&[a, b], f64::from(a != b));
/// }
/// assert!(either.predict(&[1.0, 0.0]) > 0.9 && either.predict(&[1.0, 1.0]) < 0.1);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network<const N: usize> {
    /// Units of each layer: the features, the hidden ones, 1.
    layers: Vec<usize>,
    says: Says,
    step: f64,
    /// After so many examples steps are shorter by the root of 2.
    slows: f64,
    learned: u64,
    /// By layer and unit: a weight for each unit before, and a bias.
    weights: Vec<f64>,
    /// Means of gradients and of their squares, fading.
    gradients: Vec<f64>,
    squares: Vec<f64>,
    /// What the means lack because they began with 0: powers of [`REMEMBERS`].
    lacks: (f64, f64),
}

/// What all hidden units said.
type Said = [[f64; WIDEST]; DEEPEST];

/// The next of a sequence of even numbers between -1 and 1 (Steele, Lea and Flood, *Fast Splittable Pseudorandom
/// Number Generators*, `SplitMix64`).
fn next(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

impl<const N: usize> Network<N> {
    /// A network with hidden layers of so many units. Where each agent has its own, give each a seed of its own, such
    /// as its key's hash, or the same to all.
    ///
    /// # Panics
    /// If there are no hidden layers or more than three, or one has no unit or more than 64.
    pub fn new(hidden: &[usize], says: Says, seed: u64) -> Self {
        assert!(
            (1..=DEEPEST).contains(&hidden.len()) && hidden.iter().all(|units| (1..=WIDEST).contains(units)),
            "hidden layers of {hidden:?} units: let there be 1 to {DEEPEST} of 1 to {WIDEST} units"
        );
        let layers: Vec<usize> = [N].into_iter().chain(hidden.iter().copied()).chain([1]).collect();
        let mut weights = Vec::new();
        let mut state = seed;
        for pair in layers.windows(2) {
            let (before, units) = (pair[0], pair[1]);
            let limit = (6.0 / (before + units) as f64).sqrt();
            for _ in 0..units {
                weights.extend((0..before).map(|_| limit * next(&mut state)));
                weights.push(0.0);
            }
        }
        let (gradients, squares) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
        let (step, slows) = (0.001, f64::MAX);
        Network { layers, says, step, slows, learned: 0, weights, gradients, squares, lacks: (1.0, 1.0) }
    }

    /// Changes no weight by much more than `step` at an example; 0.001 unless this is called.
    ///
    /// # Panics
    /// If the step is not between 1e-9 and 1.
    #[must_use]
    pub fn with_step(self, step: f64) -> Self {
        Network { step: within("the step", step, 1e-9, 1.0), ..self }
    }

    /// Lets steps become shorter the more it has learned: after `examples` by the root of 2, after 99 times as many to a
    /// tenth. So it learns fast at first, and noise moves it less later. They stay as long unless this is called.
    ///
    /// # Panics
    /// If that is not between 1 and 1e18.
    #[must_use]
    pub fn slowing_after(self, examples: f64) -> Self {
        Network { slows: within("the examples after which it slows", examples, 1.0, 1e18), ..self }
    }

    /// How many weights there are, with biases.
    pub fn weights(&self) -> usize {
        self.weights.len()
    }

    /// What the last unit says, and what the hidden ones say on the way.
    fn forward(&self, features: &[f64; N], said: &mut Said) -> f64 {
        let mut weights = self.weights.as_slice();
        let mut sum = 0.0;
        for layer in 1..self.layers.len() {
            let (before, here) = match layer {
                1 => (&features[..], said.first_mut()),
                _ => {
                    let (before, here) = said.split_at_mut(layer - 1);
                    (&before[layer - 2][..self.layers[layer - 1]], here.first_mut())
                }
            };
            let mut here = here.filter(|_| layer + 1 < self.layers.len());
            for unit in 0..self.layers[layer] {
                let (of_unit, rest) = weights.split_at(before.len() + 1);
                weights = rest;
                sum = of_unit[before.len()];
                for (weight, x) in of_unit.iter().zip(before) {
                    sum += weight * x;
                }
                if let Some(here) = &mut here {
                    here[unit] = libm::tanh(sum);
                }
            }
        }
        match self.says {
            Says::Number | Says::Median => sum,
            Says::Probability => logistic(sum),
        }
    }

    /// Gives the gradient of the loss (half the square of the error, the absolute error, or the log loss) by each
    /// weight, from the last to the first.
    fn backward(&self, features: &[f64; N], target: f64, mut give: impl FnMut(usize, f64)) {
        let mut said = [[0.0; WIDEST]; DEEPEST];
        // By the sum of each unit of the layer above; of the square and of the log loss the same for the last one.
        let mut above = [0.0; WIDEST];
        let error = self.forward(features, &mut said) - target;
        above[0] = if self.says == Says::Median && error != 0.0 { error.signum() } else { error };
        let mut end = self.weights.len();
        for layer in (1..self.layers.len()).rev() {
            let (inputs, units) = (self.layers[layer - 1], self.layers[layer]);
            let before = if layer == 1 { &features[..] } else { &said[layer - 2][..inputs] };
            let mut below = [0.0; WIDEST];
            for unit in (0..units).rev() {
                let begin = end - inputs - 1;
                give(end - 1, above[unit]);
                for input in (0..inputs).rev() {
                    if layer > 1 {
                        below[input] += above[unit] * self.weights[begin + input];
                    }
                    give(begin + input, above[unit] * before[input]);
                }
                end = begin;
            }
            if layer > 1 {
                for (by_sum, x) in below.iter_mut().zip(before) {
                    *by_sum *= 1.0 - x * x;
                }
            }
            above = below;
        }
    }
}

impl<const N: usize> Model<N> for Network<N> {
    fn predict(&self, features: &[f64; N]) -> f64 {
        self.forward(features, &mut [[0.0; WIDEST]; DEEPEST])
    }

    fn learn(&mut self, features: &[f64; N], target: f64) -> bool {
        let fits = self.says != Says::Probability || (0.0..=1.0).contains(&target);
        if !all_sound(features) || !sound(target) || !fits {
            return false;
        }
        let (mut gradients, mut squares) =
            (std::mem::take(&mut self.gradients), std::mem::take(&mut self.squares));
        let (of_gradients, of_squares) = REMEMBERS;
        self.backward(features, target, |at, gradient| {
            gradients[at] = of_gradients * gradients[at] + (1.0 - of_gradients) * gradient;
            squares[at] = of_squares * squares[at] + (1.0 - of_squares) * gradient * gradient;
        });
        self.lacks.0 *= of_gradients;
        self.lacks.1 *= of_squares;
        let slowed = (self.slows / (self.slows + self.learned as f64)).sqrt();
        self.learned += 1;
        let step = self.step * slowed / (1.0 - self.lacks.0);
        for ((weight, gradient), square) in self.weights.iter_mut().zip(&gradients).zip(&squares) {
            *weight -= step * gradient / ((square / (1.0 - self.lacks.1)).sqrt() + 1e-8);
        }
        (self.gradients, self.squares) = (gradients, squares);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss<const N: usize>(network: &Network<N>, features: &[f64; N], target: f64) -> f64 {
        let said = network.predict(features);
        match network.says {
            Says::Number => (said - target) * (said - target) / 2.0,
            Says::Median => (said - target).abs(),
            Says::Probability => -(target * said.ln() + (1.0 - target) * (1.0 - said).ln()),
        }
    }

    #[test]
    fn gradients_are_the_differences_that_small_changes_make() {
        for (hidden, says, seed) in [
            (&[5][..], Says::Number, 1),
            (&[4, 3], Says::Number, 2),
            (&[4, 3], Says::Median, 2),
            (&[3, 7, 2], Says::Probability, 3),
            (&[64, 64, 64], Says::Probability, 4),
        ] {
            let mut network = Network::<3>::new(hidden, says, seed);
            let (features, target) = ([0.3, -1.2, 2.0], 1.0);
            // Biases of 0 would hide mistakes with them.
            let mut state = 99;
            network.weights.iter_mut().for_each(|weight| *weight += 0.1 * next(&mut state));
            let mut gradients = vec![f64::NAN; network.weights()];
            network.backward(&features, target, |at, gradient| gradients[at] = gradient);
            for at in (0..network.weights()).step_by(network.weights().div_ceil(200)) {
                let mut moved = |by: f64| {
                    let before = network.weights[at];
                    network.weights[at] = before + by;
                    let loss = loss(&network, &features, target);
                    network.weights[at] = before;
                    loss
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let got = gradients[at];
                assert!(
                    (got - expected).abs() < 1e-7 * (1.0 + got.abs()),
                    "{hidden:?} {at}: {got}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn the_first_step_of_adam_goes_against_the_gradient_by_the_step() {
        let mut network = Network::<2>::new(&[3], Says::Number, 5).with_step(0.01);
        let before = network.clone();
        let mut gradients = vec![0.0; network.weights()];
        before.backward(&[1.0, 2.0], 3.0, |at, gradient| gradients[at] = gradient);
        network.learn(&[1.0, 2.0], 3.0);
        for ((now, was), gradient) in network.weights.iter().zip(&before.weights).zip(gradients) {
            assert!((now - was + 0.01 * gradient.signum()).abs() < 1e-6, "{was} to {now} at {gradient}");
        }
    }
}

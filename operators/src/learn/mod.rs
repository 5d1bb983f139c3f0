//! Learning and prediction inside agents.
//!
//! A model is a value: a field of an agent's state. It learns from the agent's own events, one at a time, goes into
//! checkpoints with it, and goes on after a crash as if there had been none.
//!
//! | model | predicts |
//! |---|---|
//! | [`LeastSquares`], [`Gradient`] | a number, from features |
//! | [`Logistic`] | a probability, from features |
//! | [`Network`] | either, where a line will not do |
//! | [`HoltWinters`] | what a series with a season does next |
//!
//! [`FadingScore`] and [`MedianScore`] say how unusual a value is, [`Clusters`] who is alike, [`FadingMean`] how things have
//! been of late. [`Scored`] outcomes
//! become a live [`scoreboard`](Scoreboards::scoreboard) of models, with a champion.
//!
//! * **The same to the bit.** A model is a function of what it has learned, in order: no clock, no random numbers but
//!   those of a seed kept in the state, sums always in the same order, exponentials and logarithms from `libm`. So it
//!   is the same on every number of workers, after a restart, and on another machine.
//! * **Bounded.** No model grows with what it has learned.
//! * **No look-ahead.** A [`Learner`] fixes each prediction when it is made, and learns only from what it has
//!   predicted.
//! * **Numbers are numbers.** A model does not learn from a NaN, an infinity or a number beyond ±10⁵⁰, and says so.

mod anomaly;
mod clusters;
mod fading_mean;
mod gradient;
mod judge;
mod least_squares;
mod logistic;
mod network;
mod predictions;
mod scaled;
mod scoreboard;
mod seasonal;
mod squeezed;
mod tally;
mod vector;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use anomaly::{FadingScore, MedianScore};
pub use clusters::Clusters;
pub use fading_mean::FadingMean;
pub use gradient::Gradient;
pub use judge::{Case, Claim, Judge};
pub use least_squares::LeastSquares;
pub use logistic::Logistic;
pub use network::{Network, Says};
pub use predictions::{Learner, Outcome, Predictions};
pub use scaled::Scaled;
pub use scoreboard::{Board, Crowned, Ruled, Rules, Scoreboard, Scoreboards, Scored, Standing};
pub use seasonal::{HoltWinters, Season, Smoothing};
pub use squeezed::Squeezed;
pub use tally::{Bin, Measure, Score};
pub use vector::Vector;

/// What predicts a number from `N` features, and learns from what it should have said.
///
/// ```
/// use nekton_operators::learn::Model;
/// use serde::{Deserialize, Serialize};
///
/// /// A baseline: the mean of all there was.
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Average { count: u64, mean: f64 }
///
/// impl Model<0> for Average {
///     fn predict(&self, _: &[f64; 0]) -> f64 { self.mean }
///     fn learn(&mut self, _: &[f64; 0], target: f64) -> bool {
///         self.count += 1;
///         self.mean += (target - self.mean) / self.count as f64;
///         true
///     }
/// }
///
/// let mut average = Average::default();
/// average.learn(&[], 10.0);
/// average.learn(&[], 20.0);
/// assert_eq!(average.predict(&[]), 15.0);
/// ```
pub trait Model<const N: usize>: Clone + Serialize + DeserializeOwned {
    /// What it says of these features. The same state says the same.
    fn predict(&self, features: &[f64; N]) -> f64;
    /// Learns that this is what it should have said. `false` if it does not take the example, and is as it was.
    fn learn(&mut self, features: &[f64; N], target: f64) -> bool;
}

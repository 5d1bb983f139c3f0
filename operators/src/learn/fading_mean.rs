//! The mean of late: of values that have times.

use serde::{Deserialize, Serialize};

use super::vector::{sound, within};

/// The mean of values that happened at times of their own, where what is older counts less: half as much with each
/// half-life. Unlike a mean over the last so many, it knows a quiet night from a busy hour, and how much it knows at all.
///
/// A feature for models: how late have departures been within the last hour or so, as of now?
///
/// **Cost**: a power of 2 each time it learns or is asked. **Memory**: 32 bytes, in the agent.
///
/// ```
/// use nekton_operators::learn::FadingMean;
///
/// let mut delays = FadingMean::new(60); // minutes
/// delays.learn(0, 40.0);
/// delays.learn(60, 10.0); // the 40 of an hour ago counts half
/// assert_eq!(delays.mean(60, 0.0, 0.0), Some(20.0)); // (40 / 2 + 10) / (1 / 2 + 1)
/// assert_eq!(delays.weight(120), 0.75); // 1 / 4 + 1 / 2
/// // Where little is known, beside what one would say otherwise: 5, which counts as much as a value of now.
/// assert_eq!(delays.mean(600_000, 5.0, 1.0), Some(5.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FadingMean {
    half_life: f64,
    /// The latest time, up to which what follows has faded.
    at: u64,
    sum: f64,
    weight: f64,
}

impl FadingMean {
    /// What is a half-life older counts half. In the unit of the times.
    ///
    /// # Panics
    /// If the half-life is 0.
    pub fn new(half_life: u64) -> Self {
        let half_life = within("the half-life", half_life as f64, 1.0, f64::MAX);
        FadingMean { half_life, at: 0, sum: 0.0, weight: 0.0 }
    }

    /// Learns a value that happened at `at`, which may be earlier than the last. `false` if it is no number.
    pub fn learn(&mut self, at: u64, value: f64) -> bool {
        if !sound(value) {
            return false;
        }
        if at > self.at {
            let left = self.left(at - self.at);
            (self.at, self.sum, self.weight) = (at, self.sum * left, self.weight * left);
        }
        let counts = self.left(self.at - at);
        self.sum += counts * value;
        self.weight += counts;
        true
    }

    /// The mean as of `at`, together with a value `otherwise` that counts as much as `worth` values of that moment.
    /// `None` where nothing counts.
    pub fn mean(&self, at: u64, otherwise: f64, worth: f64) -> Option<f64> {
        let left = self.left(at.saturating_sub(self.at));
        let weight = self.weight * left + worth;
        (weight > 0.0).then(|| (self.sum * left + otherwise * worth) / weight)
    }

    /// How many values of that moment count as much as all there have been.
    pub fn weight(&self, at: u64) -> f64 {
        self.weight * self.left(at.saturating_sub(self.at))
    }

    /// What is left of a value that is so old.
    fn left(&self, age: u64) -> f64 {
        libm::exp2(-(age as f64 / self.half_life))
    }
}

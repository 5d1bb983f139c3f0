//! What predicts, and what its predictions are compared by.

use nekton::operators::learn::Model;
use nekton::prelude::*;

/// A rule of thumb, which is the first of the features, corrected by what it was wrong by so far. Knows something before it has
/// learned anything.
#[derive(Clone, Serialize, Deserialize)]
pub struct Corrected<const N: usize>(LeastSquares<N>);

impl<const N: usize> Corrected<N> {
    /// Of which at most so many predictions are open.
    pub fn learner(open: usize) -> Learner<Self, u64, N> {
        Learner::new(Corrected(LeastSquares::new(30.0).remembering(0.999)), open)
    }
}

impl<const N: usize> Model<N> for Corrected<N> {
    /// Neither times nor queues are less than nothing.
    fn predict(&self, features: &[f64; N]) -> f64 {
        (features[0] + self.0.predict(features)).max(0.0)
    }
    fn learn(&mut self, features: &[f64; N], target: f64) -> bool {
        self.0.learn(features, target - features[0])
    }
}

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// For how many seconds the light stays green.
    Green,
    /// How many cars will wait on a leg.
    Queue,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// The intersection, from what it knows of itself.
    Alone,
    /// From that and from what its neighbours sent.
    Neighbours,
    /// As it was the last time, or as it is.
    Last,
    /// As it was on the average so far.
    Mean,
}

/// A prediction, when it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    pub what: What,
    pub intersection: u32,
    /// Of a queue: on which leg.
    pub leg: Option<u8>,
    pub made: Time,
    /// What each says: alone, neighbours, last, mean.
    pub alone: f64,
    pub neighbours: Option<f64>,
    pub last: f64,
    pub mean: f64,
}

/// A prediction beside what happened.
pub fn scored(board: What, model: Who, predicted: f64, actual: f64) -> Scored<What, Who> {
    Scored { board, model, outcome: Outcome { predicted, actual } }
}

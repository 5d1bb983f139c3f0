//! Predictions that are fixed when they are made, and models that learn only from what they have predicted.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Model, Vector};

/// A prediction and what happened.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was predicted: a number, or the probability that it happens.
    pub predicted: f64,
    /// What happened: a number; 0 or 1 where a probability was predicted.
    pub actual: f64,
}

impl Outcome {
    /// By how much the prediction was too great.
    pub fn error(&self) -> f64 {
        self.predicted - self.actual
    }
}

/// A prediction that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open<I, W> {
    id: I,
    predicted: f64,
    with: W,
}

/// Predictions of what has not happened yet, each under a name (of a flight, of an hour) and with whatever belongs to
/// it.
///
/// * **Fixed when made.** A second prediction under a name that is open is not taken: the first one stands.
/// * **Not of the past.** What has happened cannot be predicted any more.
/// * **Bounded.** At most so many are open, and so many names of what has happened are remembered: beyond, the oldest
///   is forgotten, and [counted](Self::forgotten) where it was still open.
///
/// **Cost**: a look through all that are open and remembered, from the newest on: some 1 ns each. **Memory**: the
/// open ones and the names remembered.
///
/// ```
/// use nekton_operators::learn::Predictions;
///
/// let mut hours = Predictions::<u64, ()>::new(24);
/// assert_eq!(hours.predict(17, 250.0, ()), Some(250.0));
/// assert_eq!(hours.predict(17, 999.0, ()), Some(250.0)); // it stands
/// let (outcome, ()) = hours.happened(&17, 240.0).expect("17 was predicted");
/// assert_eq!(outcome.error(), 10.0);
/// assert_eq!(hours.predict(17, 240.0, ()), None); // too late
/// assert_eq!(hours.happened(&18, 300.0), None); // nobody said so
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predictions<I, W> {
    open: VecDeque<Open<I, W>>,
    happened: VecDeque<I>,
    most: usize,
    forgotten: u64,
}

impl<I: PartialEq + Clone, W> Predictions<I, W> {
    /// At most `most` of either.
    ///
    /// # Panics
    /// If that is 0.
    pub fn new(most: usize) -> Self {
        assert!(most > 0, "no prediction may be open: at least one must");
        Predictions { open: VecDeque::new(), happened: VecDeque::new(), most, forgotten: 0 }
    }

    /// Makes a prediction, unless there is one already; returns the one that stands, or `None` if it has happened.
    pub fn predict(&mut self, id: I, predicted: f64, with: W) -> Option<f64> {
        self.predict_by(id, || (predicted, with))
    }

    /// As [`predict`](Self::predict), and computes the prediction only where it is needed.
    pub fn predict_by(&mut self, id: I, by: impl FnOnce() -> (f64, W)) -> Option<f64> {
        if let Some(standing) = self.standing(&id) {
            return Some(standing);
        }
        if self.happened.iter().rev().any(|happened| *happened == id) {
            return None;
        }
        if self.open.len() >= self.most {
            self.open.pop_front();
            self.forgotten += 1;
        }
        let (predicted, with) = by();
        self.open.push_back(Open { id, predicted, with });
        Some(predicted)
    }

    /// What is predicted under that name.
    pub fn standing(&self, id: &I) -> Option<f64> {
        self.open.iter().rev().find(|open| open.id == *id).map(|open| open.predicted)
    }

    /// It happened. Returns the prediction beside it and what was given with it; `None` if there was no prediction,
    /// or if it has happened already: the first outcome counts.
    pub fn happened(&mut self, id: &I, actual: f64) -> Option<(Outcome, W)> {
        let at = self.open.iter().rposition(|open| open.id == *id);
        if at.is_some() || !self.happened.contains(id) {
            if self.happened.len() >= self.most {
                self.happened.pop_front();
            }
            self.happened.push_back(id.clone());
        }
        let Open { predicted, with, .. } = self.open.remove(at?)?;
        Some((Outcome { predicted, actual }, with))
    }

    /// Takes a prediction back: it will never happen (a flight that is cancelled). Returns whether there was one.
    pub fn withdraw(&mut self, id: &I) -> bool {
        let at = self.open.iter().rposition(|open| open.id == *id);
        at.and_then(|at| self.open.remove(at)).is_some()
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many had to go before they happened.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

/// A model that cannot look ahead. The only way to teach it is [`happened`](Self::happened), which takes what it has
/// predicted before and the features as they were then; the only way to a prediction that is scored is
/// [`predict`](Self::predict), which fixes it.
///
/// **Cost** and **memory**: the model's and those of [`Predictions`], with 8 bytes a feature for each that is open.
///
/// ```
/// use nekton_operators::learn::{LeastSquares, Learner};
///
/// let mut delays = Learner::new(LeastSquares::<2>::new(1.0), 100);
/// delays.predict("UA 17", [1.0, 30.0]); // an intercept, and how late the inbound plane is
/// delays.predict("UA 18", [1.0, 0.0]);
/// let outcome = delays.happened(&"UA 17", 25.0).expect("it was predicted");
/// assert_eq!((outcome.predicted, outcome.actual), (0.0, 25.0)); // nothing was known then
/// assert!(delays.predict("UA 19", [1.0, 30.0]).expect("it has not left") > 20.0);
/// assert_eq!(delays.predict("UA 18", [1.0, 30.0]), Some(0.0)); // said before, and it stands
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learner<M, I, const N: usize> {
    model: M,
    predictions: Predictions<I, Vector<N>>,
    learned: u64,
}

impl<M: Model<N>, I: PartialEq + Clone, const N: usize> Learner<M, I, N> {
    /// A model that has at most `most` predictions open.
    ///
    /// # Panics
    /// If that is 0.
    pub fn new(model: M, most: usize) -> Self {
        Learner { model, predictions: Predictions::new(most), learned: 0 }
    }

    /// Predicts; returns the prediction that stands under that name, or `None` if it has happened.
    pub fn predict(&mut self, id: I, features: [f64; N]) -> Option<f64> {
        let model = &self.model;
        self.predictions.predict_by(id, || (model.predict(&features), Vector(features)))
    }

    /// It happened: the model learns from it, and the prediction is returned beside it. `None` where nothing was
    /// predicted; then nothing is learned either.
    pub fn happened(&mut self, id: &I, actual: f64) -> Option<Outcome> {
        let (outcome, features) = self.predictions.happened(id, actual)?;
        self.learned += u64::from(self.model.learn(&features.0, actual));
        Some(outcome)
    }

    /// The model as it is, to ask it what it would say; that is not scored.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// From how many outcomes it has learned.
    pub fn learned(&self) -> u64 {
        self.learned
    }

    /// Takes a prediction back, see [`Predictions::withdraw`]; nothing is learned.
    pub fn withdraw(&mut self, id: &I) -> bool {
        self.predictions.withdraw(id)
    }

    /// What is open.
    pub fn predictions(&self) -> &Predictions<I, Vector<N>> {
        &self.predictions
    }
}

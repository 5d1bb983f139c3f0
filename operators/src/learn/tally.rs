//! How good predictions were: sums that do not depend on the order of outcomes, and a mean of the recent ones.

use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use super::Outcome;
use super::vector::sound;

/// How much a prediction lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// The distance from what happened.
    Absolute,
    /// Its square: great errors count more.
    Squared,
    /// Of a probability: minus the logarithm of what was given to what happened (natural, and at most 34.5:
    /// probabilities are taken to be 1e-15 from 0 and 1).
    LogLoss,
}

impl Measure {
    /// What an outcome loses.
    pub fn of(self, outcome: &Outcome) -> f64 {
        let error = outcome.error();
        match self {
            Measure::Absolute => error.abs(),
            Measure::Squared => error * error,
            Measure::LogLoss => {
                let likely = outcome.predicted.clamp(1e-15, 1.0 - 1e-15);
                -(outcome.actual * libm::log(likely) + (1.0 - outcome.actual) * libm::log(1.0 - likely))
            }
        }
    }
}

/// How good a model's predictions were.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Score {
    /// How many outcomes there were.
    pub count: u64,
    /// The mean error: above 0 where too much is predicted.
    pub bias: OrderedFloat<f64>,
    /// The mean absolute error.
    pub mean_absolute: OrderedFloat<f64>,
    /// The root of the mean of the squares of the errors.
    pub root_mean_square: OrderedFloat<f64>,
    /// The mean of what the rules measure, recent outcomes counting more.
    pub recent: OrderedFloat<f64>,
    /// The mean log loss; `None` unless all were probabilities of what happened or did not.
    pub log_loss: Option<OrderedFloat<f64>>,
    /// Of probabilities: for each tenth that was predicted, how often it happened.
    pub calibration: Vec<Bin>,
}

/// The outcomes of what was predicted with about the same probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bin {
    /// How many there were.
    pub count: u64,
    /// The mean of the probabilities that were predicted.
    pub predicted: OrderedFloat<f64>,
    /// How often it happened; as often as predicted where the model is well calibrated.
    pub happened: OrderedFloat<f64>,
}

const BINS: usize = 10;
/// Of the sums: errors to the billionth, exact in any order.
const UNITS: f64 = 1e9;

fn units(number: f64) -> i128 {
    (number * UNITS).round() as i128
}

/// The sums behind a [`Score`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    errors: i128,
    absolutes: i128,
    squares: i128,
    log_losses: i128,
    /// How many outcomes were of probabilities.
    likely: u64,
    /// By tenth: how many, how often it happened, the sum of what was predicted.
    bins: Vec<(u64, u64, i128)>,
    /// A fading sum of losses, and what it would be of ones.
    fading: (f64, f64),
}

impl Tally {
    /// Whether an outcome can be judged.
    pub(crate) fn takes(outcome: &Outcome, measure: Measure) -> bool {
        let likely = (0.0..=1.0).contains(&outcome.predicted) && (0.0..=1.0).contains(&outcome.actual);
        sound(outcome.predicted) && sound(outcome.actual) && (likely || measure != Measure::LogLoss)
    }

    pub(crate) fn add(&mut self, outcome: &Outcome, measure: Measure, part: f64) {
        let error = outcome.error();
        self.count += 1;
        self.errors = self.errors.saturating_add(units(error));
        self.absolutes = self.absolutes.saturating_add(units(error.abs()));
        self.squares = self.squares.saturating_add(units(error * error));
        let happened = outcome.actual == 1.0;
        if (happened || outcome.actual == 0.0) && (0.0..=1.0).contains(&outcome.predicted) {
            self.likely += 1;
            self.log_losses = self.log_losses.saturating_add(units(Measure::LogLoss.of(outcome)));
            self.bins.resize(BINS, (0, 0, 0));
            let bin = &mut self.bins[((outcome.predicted * BINS as f64) as usize).min(BINS - 1)];
            *bin = (bin.0 + 1, bin.1 + u64::from(happened), bin.2 + units(outcome.predicted));
        }
        let (losses, ones) = self.fading;
        self.fading = ((1.0 - part) * losses + part * measure.of(outcome), (1.0 - part) * ones + part);
    }

    pub(crate) fn recent(&self) -> f64 {
        let (losses, ones) = self.fading;
        if ones > 0.0 { losses / ones } else { 0.0 }
    }

    pub(crate) fn score(&self) -> Score {
        let mean = |sum: i128, count: u64| match count {
            0 => 0.0,
            count => sum as f64 / UNITS / count as f64,
        };
        let all_likely = self.likely == self.count && self.count > 0;
        let bin = |&(count, happened, predicted): &(u64, u64, i128)| Bin {
            count,
            predicted: OrderedFloat(mean(predicted, count)),
            happened: OrderedFloat(if count > 0 { happened as f64 / count as f64 } else { 0.0 }),
        };
        Score {
            count: self.count,
            bias: OrderedFloat(mean(self.errors, self.count)),
            mean_absolute: OrderedFloat(mean(self.absolutes, self.count)),
            root_mean_square: OrderedFloat(mean(self.squares, self.count).sqrt()),
            recent: OrderedFloat(self.recent()),
            log_loss: all_likely.then(|| OrderedFloat(mean(self.log_losses, self.count))),
            calibration: if all_likely { self.bins.iter().map(bin).collect() } else { Vec::new() },
        }
    }
}

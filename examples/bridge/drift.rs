//! Whether a level drifts: days, each against what the first ones were.
//!
//! This is a two-sided cumulative sum (CUSUM): Page, *Continuous Inspection Schemes*, Biometrika 41 (1954), in the tabular form
//! of Montgomery, *Introduction to Statistical Quality Control*, "The Tabular or Algorithmic CUSUM". What a day is above the
//! first ones, in deviations, less [`SLACK`], is added up, never below 0; where the sum is above [`LIMIT`], there is a drift. The same
//! below. What may be an error of the correction is not counted as a shift: [`ERRORS`] of its standard errors.
//!
//! How often that is wrong, Siegmund has approximated (*Sequential Analysis*, 1985; in Montgomery, "The ARL Performance of
//! CUSUM"): with b = `LIMIT` + 1.166 and d = -`SLACK`, once in (exp(-2 d b) + 2 d b - 1) / (2 d²) days on each side, for scores that are
//! normal and independent. That is 63,000 years for both sides together. The first days do not tell the level exactly: where it is a
//! third of a deviation beside them, it is some 600 years on that side.

use serde::{Deserialize, Serialize};

/// So many days say what is usual.
pub const FIRST: usize = 56;
/// So many deviations a day are not added up: the test is for what is greater than that.
pub const SLACK: f64 = 1.0;
/// From such a sum on, it is a drift.
pub const LIMIT: f64 = 8.0;
/// So many standard errors of a correction may explain a shift.
const ERRORS: f64 = 2.0;
/// A sum does not grow beyond this, so that an alarm ends some two weeks after what it was raised for.
const MOST: f64 = 16.0;
/// No level is known better than this, in micrometres a metre.
const LEAST: f64 = 0.5;

/// How many numbers the strain may depend on.
pub const FEATURES: usize = 3;

/// A strain, and what it may depend on: of one moment, or the mean of many.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Moment {
    pub strain: f64,
    pub features: [f64; FEATURES],
}

impl Moment {
    /// The mean of some moments.
    pub fn mean(moments: &[Moment]) -> Moment {
        let mut mean = Moment::default();
        let share = 1.0 / moments.len().max(1) as f64;
        for moment in moments {
            mean.strain += share * moment.strain;
            for (mean, feature) in mean.features.iter_mut().zip(&moment.features) {
                *mean += share * feature;
            }
        }
        mean
    }
    /// By how much it differs from another.
    pub fn from(&self, other: &Moment) -> Moment {
        let mut difference = *self;
        difference.strain -= other.strain;
        difference.features.iter_mut().zip(&other.features).for_each(|(own, other)| *own -= other);
        difference
    }
    /// The strain without what such weights of the features explain.
    pub fn corrected(&self, weights: &[f64; FEATURES]) -> f64 {
        self.strain - self.features.iter().zip(weights).map(|(feature, weight)| feature * weight).sum::<f64>()
    }
}

/// What was usual at first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Usual {
    mean: Moment,
    deviation: f64,
}

impl Usual {
    fn of(days: &[Moment], weights: &[f64; FEATURES]) -> Usual {
        let mean = Moment::mean(days);
        let squares: f64 = days.iter().map(|day| day.from(&mean).corrected(weights).powi(2)).sum();
        Usual { mean, deviation: (squares / (days.len() - 1) as f64).sqrt().max(LEAST) }
    }
}

/// The test of one level.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Drift {
    first: Vec<Moment>,
    usual: Option<Usual>,
    shift: f64,
    up: f64,
    down: f64,
    drifts: bool,
}

impl Drift {
    /// Another day, corrected by such weights; `error` is the standard error of what they say of features. Says whether an alarm is
    /// raised or withdrawn.
    ///
    /// The weights of today correct the first days too: what is learned later makes these better.
    pub fn day(
        &mut self,
        day: &Moment,
        weights: &[f64; FEATURES],
        error: impl Fn(&[f64; FEATURES]) -> f64,
    ) -> Option<bool> {
        let Some(usual) = &self.usual else {
            self.first.push(*day);
            if self.first.len() == FIRST {
                self.usual = Some(Usual::of(&self.first, weights));
                self.first = Vec::new();
            }
            return None;
        };
        let difference = day.from(&usual.mean);
        self.shift = difference.corrected(weights);
        let explained = ERRORS * error(&difference.features);
        let add =
            |sum: f64, shift: f64| (sum + (shift - explained) / usual.deviation - SLACK).clamp(0.0, MOST);
        (self.up, self.down) = (add(self.up, self.shift), add(self.down, -self.shift));
        let sum = self.up.max(self.down);
        let drifts = sum > if self.drifts { 0.0 } else { LIMIT };
        (std::mem::replace(&mut self.drifts, drifts) != drifts).then_some(drifts)
    }
    /// Whether the first days are over.
    pub fn knows(&self) -> bool {
        self.usual.is_some()
    }
    pub fn drifts(&self) -> bool {
        self.drifts
    }
    /// How far the last day is from the first ones, in micrometres a metre.
    pub fn shift(&self) -> f64 {
        self.shift
    }
}

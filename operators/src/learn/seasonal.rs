//! Forecasts of a series with a level, a trend and a season.

use serde::{Deserialize, Serialize};

use super::vector::{sound, within};

/// How the season meets the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Season {
    /// So much more on Mondays.
    Additive,
    /// So many times as much on Mondays. For series above 0 alone; where level and trend together fall below 0
    /// nevertheless, as smoothings near 1 may let them, a ratio to them is taken to be 1.
    Multiplicative,
}

/// How fast what is known gives way to what is new.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Smoothing {
    /// Of the level: 0 never changes, 1 knows only the last value.
    pub level: f64,
    /// Of the trend.
    pub trend: f64,
    /// Of the season.
    pub season: f64,
    /// What is left of the trend at the next step: 1 goes on for ever, 0.9 flattens out.
    pub damping: f64,
}

impl Default for Smoothing {
    /// Steady ones: 0.2, 0.05, 0.1, damped by 0.98.
    fn default() -> Self {
        Smoothing { level: 0.2, trend: 0.05, season: 0.1, damping: 0.98 }
    }
}

/// Holt and Winters' method: forecasts of a series that comes at equal intervals, such as passengers by hour.
///
/// The equations are those of Hyndman and Athanasopoulos, *Forecasting: Principles and Practice* (3rd edition),
/// "Methods with seasonality"; with a damped trend in both forms. Level, trend and season begin as what the first two
/// seasons say: the mean of the first, the difference of their means, and the means of the distances from (or ratios
/// to) each season's mean. Until then there is no forecast. Where a value is missing, the series is taken to have
/// done what was forecast.
///
/// **Cost**: an update 20 floating-point operations; a forecast 2 for each step ahead. **Memory**: 16 bytes a moment
/// of the season (twice that until the first two are through), and 120 bytes.
///
/// ```
/// use nekton_operators::learn::{HoltWinters, Season, Smoothing};
///
/// let mut passengers = HoltWinters::new(Season::Additive, 4, Smoothing::default());
/// for quarter in 0..400 {
///     let value = 100.0 + f64::from(quarter) + [0.0, 30.0, 50.0, 10.0][quarter as usize % 4];
///     passengers.learn(Some(value));
/// }
/// let next = passengers.forecast(2).expect("two years have passed"); // the second quarter to come
/// assert!((next - (100.0 + 401.0 + 30.0)).abs() < 3.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoltWinters {
    season: Season,
    smoothing: Smoothing,
    level: f64,
    trend: f64,
    /// The first two seasons, or the last value of each moment of the season.
    seasonal: Vec<Option<f64>>,
    length: usize,
    /// How many moments there were.
    moments: u64,
    begun: bool,
}

/// The longest season: minutes of a week, with some room.
const LONGEST: usize = 1 << 14;

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut count, mut sum) = (0_u64, 0.0);
    for value in values {
        count += 1;
        sum += value;
    }
    (count > 0).then(|| sum / count as f64)
}

impl HoltWinters {
    /// A series with a season of `length` moments: 24 for hours of the day.
    ///
    /// # Panics
    /// If the length is not between 2 and 16,384, or a smoothing not between 0 and 1.
    pub fn new(season: Season, length: usize, smoothing: Smoothing) -> Self {
        assert!((2..=LONGEST).contains(&length), "a season of {length}: it must be between 2 and {LONGEST}");
        within("the smoothing of the level", smoothing.level, 0.0, 1.0);
        within("the smoothing of the trend", smoothing.trend, 0.0, 1.0);
        within("the smoothing of the season", smoothing.season, 0.0, 1.0);
        within("the damping", smoothing.damping, 0.0, 1.0);
        let seasonal = Vec::new();
        HoltWinters { season, smoothing, level: 0.0, trend: 0.0, seasonal, length, moments: 0, begun: false }
    }

    /// What comes `steps` moments after the last one; 1 is the next. `None` until two seasons are through.
    pub fn forecast(&self, steps: usize) -> Option<f64> {
        if !self.begun || steps == 0 {
            return None;
        }
        let mut trend = 0.0;
        let mut remains = 1.0;
        for _ in 0..steps {
            remains *= self.smoothing.damping;
            // What is left does not change the sum any more.
            if remains == 0.0 {
                break;
            }
            trend += remains * self.trend;
        }
        let seasonal = self.of_moment(self.moments + steps as u64 - 1);
        let level = self.level + trend;
        Some(match self.season {
            Season::Additive => level + seasonal,
            Season::Multiplicative => level * seasonal,
        })
    }

    fn of_moment(&self, moment: u64) -> f64 {
        let none = if self.season == Season::Additive { 0.0 } else { 1.0 };
        self.seasonal.get((moment % self.length as u64) as usize).copied().flatten().unwrap_or(none)
    }

    /// The value of the next moment, or that it is missing. Returns whether there was one to learn from: a value that
    /// is no number, or not above 0 where the season is multiplicative, is missing.
    pub fn learn(&mut self, value: Option<f64>) -> bool {
        let fits = |value: &f64| sound(*value) && (self.season == Season::Additive || *value > 1e-50);
        let value = value.filter(fits);
        if !self.begun {
            self.seasonal.push(value);
            if self.seasonal.len() == 2 * self.length {
                self.begin();
            }
            return value.is_some();
        }
        let Smoothing { level: alpha, trend: beta, season: gamma, damping } = self.smoothing;
        let carried = damping * self.trend;
        let expected = self.level + carried;
        let seasonal = self.of_moment(self.moments);
        match value {
            None => (self.level, self.trend) = (expected, carried),
            Some(value) => {
                let (of_level, of_season) = match self.season {
                    Season::Additive => (value - seasonal, value - expected),
                    Season::Multiplicative => (ratio(value, seasonal), ratio(value, expected)),
                };
                let level = alpha * of_level + (1.0 - alpha) * expected;
                self.trend = beta * (level - self.level) + (1.0 - beta) * carried;
                self.level = level;
                let at = (self.moments % self.length as u64) as usize;
                self.seasonal[at] = Some(gamma * of_season + (1.0 - gamma) * seasonal);
            }
        }
        self.moments += 1;
        value.is_some()
    }

    /// Takes level, trend and season from two seasons. Where one of them has nothing, the second becomes the first.
    fn begin(&mut self) {
        let (first, second) = self.seasonal.split_at(self.length);
        let means = (mean(first.iter().flatten().copied()), mean(second.iter().flatten().copied()));
        let (Some(of_first), Some(of_second)) = means else {
            self.seasonal.drain(..self.length);
            return;
        };
        let distance = |value: f64, mean: f64| match self.season {
            Season::Additive => value - mean,
            Season::Multiplicative => ratio(value, mean),
        };
        let seasonal = first.iter().zip(second).map(|(one, two)| {
            let one = one.map(|value| distance(value, of_first));
            let two = two.map(|value| distance(value, of_second));
            mean(one.into_iter().chain(two))
        });
        let seasonal = seasonal.collect();
        self.trend = (of_second - of_first) / self.length as f64;
        // Before the first moment, as the equations want it; then what has come is gone through.
        self.level = of_first - self.trend;
        let values = std::mem::replace(&mut self.seasonal, seasonal);
        self.begun = true;
        for value in values {
            self.learn(value);
        }
    }
}

/// A ratio that stays a number. Of nothing or less it is 1: see [`Season::Multiplicative`].
fn ratio(value: f64, to: f64) -> f64 {
    if to > 1e-50 { (value / to).min(1e50) } else { 1.0 }
}

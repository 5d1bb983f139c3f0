//! How unusual a value is, given those before it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::vector::{sound, within};

/// How many deviations a value lies from the mean of those before it, which fade: older ones count less.
///
/// Mean and variance are those of Finch, *Incremental calculation of weighted mean and variance* (2009),
/// "Exponentially-weighted mean and variance". A great outlier widens the deviation and hides the next one:
/// [`MedianScore`] does not mind.
///
/// **Cost**: 10 floating-point operations and a square root. **Memory**: 48 bytes, in the agent.
///
/// ```
/// use nekton_operators::learn::FadingScore;
///
/// let mut strain = FadingScore::new(0.05, 0.1, 20);
/// for minute in 0..100 {
///     strain.learn(20.0 + f64::from(minute % 3));
/// }
/// assert!(strain.score(21.0).expect("enough is known") < 1.0);
/// assert!(strain.score(40.0).expect("enough is known") > 10.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FadingScore {
    part: f64,
    least: f64,
    after: u64,
    count: u64,
    mean: f64,
    variance: f64,
}

impl FadingScore {
    /// A new value is `part` of the mean (0.05: some twenty values count); deviations are taken to be at least
    /// `least`, in the values' unit, so that a series that has stood still is not alarmed by anything at all; there
    /// are scores after so many values.
    ///
    /// # Panics
    /// If the part is not between 1e-9 and 1, or the least deviation not between 1e-50 and 1e50.
    pub fn new(part: f64, least: f64, after: u64) -> Self {
        let part = within("the part", part, 1e-9, 1.0);
        let least = within("the least deviation", least, 1e-50, 1e50);
        FadingScore { part, least, after, count: 0, mean: 0.0, variance: 0.0 }
    }

    /// How many deviations a value lies above (or, negative, below) the mean; `None` where too little is known. Ask
    /// before [learning](Self::learn) it.
    pub fn score(&self, value: f64) -> Option<f64> {
        let known = sound(value) && self.count > 0 && self.count >= self.after;
        known.then(|| (value - self.mean) / self.deviation())
    }

    /// Learns a value. `false` if it is no number, and nothing is learned.
    pub fn learn(&mut self, value: f64) -> bool {
        if !sound(value) {
            return false;
        }
        self.count += 1;
        if self.count == 1 {
            self.mean = value;
            return true;
        }
        let distance = value - self.mean;
        let change = self.part * distance;
        self.mean += change;
        self.variance = (1.0 - self.part) * (self.variance + distance * change);
        true
    }

    /// The mean of the values, fading.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// How far values lie from it, fading.
    pub fn deviation(&self) -> f64 {
        self.variance.sqrt().max(self.least)
    }
}

/// How unusual a value is among the last ones, by their median: up to half of them may be outliers before it is misled.
///
/// This is the modified z-score of Iglewicz and Hoaglin, *How to Detect and Handle Outliers* (1993), "Outlier
/// labeling": the distance from the median, in median absolute deviations, times 0.6745, so that it is as
/// [`FadingScore`]'s where values are normal. They suggest to look at those above 3.5.
///
/// **Cost**, with a window of W values: an update a search and some W moves of 8 bytes; a score W / 2 steps.
/// **Memory**: 16 W and 80 bytes.
///
/// ```
/// use nekton_operators::learn::MedianScore;
///
/// let mut strain = MedianScore::new(21, 0.1);
/// for minute in 0..100 {
///     strain.learn(if minute % 3 == 0 { 900.0 } else { 20.0 + f64::from(minute % 2) }); // a third is wrong
/// }
/// assert!(strain.score(21.0).expect("the window is full") < 1.0);
/// assert!(strain.score(40.0).expect("the window is full") > 10.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MedianScore {
    window: usize,
    least: f64,
    /// As they came.
    values: VecDeque<f64>,
    /// In order.
    sorted: Vec<f64>,
}

/// The most values in a window.
const WIDEST: usize = 1 << 12;

impl MedianScore {
    /// Looks at the last `window` values; there are scores when there are so many. The deviation is taken to be at
    /// least `least`, in the values' unit.
    ///
    /// # Panics
    /// If the window is not between 3 and 4,096, or the least deviation not between 1e-50 and 1e50.
    pub fn new(window: usize, least: f64) -> Self {
        assert!((3..=WIDEST).contains(&window), "a window of {window}: it must be between 3 and {WIDEST}");
        let least = within("the least deviation", least, 1e-50, 1e50);
        MedianScore { window, least, values: VecDeque::new(), sorted: Vec::new() }
    }

    /// How many deviations a value lies above (or, negative, below) the median; `None` where too little is known. Ask
    /// before [learning](Self::learn) it.
    pub fn score(&self, value: f64) -> Option<f64> {
        if !sound(value) || self.values.len() < self.window {
            return None;
        }
        Some(0.6745 * (value - self.median()?) / self.deviation()?.max(self.least))
    }

    /// Learns a value, and forgets the oldest of more than the window holds. `false` if it is no number, and nothing
    /// is learned.
    pub fn learn(&mut self, value: f64) -> bool {
        if !sound(value) {
            return false;
        }
        if self.values.len() >= self.window
            && let Some(oldest) = self.values.pop_front()
        {
            let at = self.sorted.partition_point(|other| other.total_cmp(&oldest).is_lt());
            if at < self.sorted.len() {
                self.sorted.remove(at);
            }
        }
        let at = self.sorted.partition_point(|other| other.total_cmp(&value).is_lt());
        self.sorted.insert(at, value);
        self.values.push_back(value);
        true
    }

    /// The median of the window; of an even number, the mean of the two in the middle.
    pub fn median(&self) -> Option<f64> {
        let upper = *self.sorted.get(self.sorted.len() / 2)?;
        Some(match self.sorted.len() % 2 {
            0 => (self.sorted[self.sorted.len() / 2 - 1] + upper) / 2.0,
            _ => upper,
        })
    }

    /// The median of the distances from the median.
    pub fn deviation(&self) -> Option<f64> {
        let median = self.median()?;
        // Distances grow on both ways from the middle: the two are merged until half is through.
        let right_from = self.sorted.partition_point(|value| *value < median);
        let (mut left, mut right) =
            (self.sorted[..right_from].iter().rev(), self.sorted[right_from..].iter());
        let (mut next_left, mut next_right) = (left.next(), right.next());
        let (mut before, mut last) = (0.0, 0.0);
        for _ in 0..=self.sorted.len() / 2 {
            before = last;
            let (to_left, to_right) = (next_left.map(|x| median - x), next_right.map(|x| x - median));
            if to_right.is_none_or(|to_right| to_left.is_some_and(|to_left| to_left < to_right)) {
                last = to_left?;
                next_left = left.next();
            } else {
                last = to_right?;
                next_right = right.next();
            }
        }
        Some(if self.sorted.len().is_multiple_of(2) { (before + last) / 2.0 } else { last })
    }
}

//! How long things have taken, counted in ranges.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the ranges, in milliseconds; what is longer is in one of its own.
pub const BOUNDS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// Durations that any thread may add to. Cost: two atomic additions each.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

/// The durations so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many were at most as long as each of [`BOUNDS`] and longer than the one before; the last, how many were longer than all.
    pub counts: [u64; BOUNDS.len() + 1],
    /// All of them together, in milliseconds.
    pub sum: u64,
}

impl Histogram {
    pub(crate) fn add(&self, millis: u64) {
        let range = BOUNDS.partition_point(|bound| *bound < millis);
        self.counts[range].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Durations {
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        Durations { counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_range_that_it_fits_in() {
        let histogram = Histogram::default();
        [0, 1, 2, 3, 10_000, 10_001, 99_999].iter().for_each(|millis| histogram.add(*millis));
        let Durations { counts, sum } = histogram.read();
        assert_eq!((counts[..4].to_vec(), counts[12], counts[13]), (vec![2, 1, 1, 0], 1, 2));
        assert_eq!(sum, 120_006);
    }
}

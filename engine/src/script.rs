//! A feed that brings its own times: for tests, examples and measurements that say exactly what
//! happens when.

use std::collections::VecDeque;

use crate::connect::Polled;
use crate::error::Result;
use crate::events::Block;
use crate::source::{Feed, Reading};
use crate::time::Time;

/// Blocks of events by time; times rise.
#[derive(Clone, Debug)]
pub struct Script<E> {
    readings: VecDeque<(Time, Vec<Block<E>>)>,
}

impl<E> Script<E> {
    /// A script of these readings.
    ///
    /// # Panics
    /// If the times do not rise.
    pub fn new(readings: impl IntoIterator<Item = (Time, Vec<Block<E>>)>) -> Self {
        let readings: VecDeque<_> = readings.into_iter().collect();
        assert!(
            readings.iter().map(|(time, _)| time).is_sorted_by(|a, b| a < b),
            "the times of a script rise"
        );
        Script { readings }
    }
}

impl<E: 'static> Feed<E> for Script<E> {
    fn poll(&mut self, _budget: usize, into: &mut Reading<E>) -> Result<Polled> {
        if let Some((_, blocks)) = self.readings.pop_front() {
            into.blocks.extend(blocks);
        }
        Ok(if self.readings.is_empty() { Polled::End } else { Polled::More })
    }
    fn next_time(&self) -> Option<Time> {
        Some(self.readings.front().map_or(Time::MAX - 1, |&(time, _)| time))
    }
}

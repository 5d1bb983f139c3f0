//! A feed that brings its own times: for tests, examples and measurements that say exactly what
//! happens when.

use std::collections::VecDeque;

use crate::connect::Polled;
use crate::error::Result;
use crate::events::Block;
use crate::source::{Feed, Reading};
use crate::time::Time;

/// Blocks of events by time; times rise.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// let block = |entry, events: &[i64]| Block {
///     order: Order { source: 0, partition: 0, position: Position { entry, ..Position::default() } },
///     events: events.to_vec(),
/// };
/// let script = Script::new([(1, vec![block(0, &[64, 12])]), (60_000, vec![block(2, &[21])])]);
///
/// # let topics = job(&[], move |flow| {
/// // With more than one worker, each gets its own share of the partitions.
/// let readings = flow.feed("readings", |_worker, _workers, _waker| script.clone());
/// let newest = readings.map(|celsius| ("newest".to_owned(), Some(celsius))).table("newest");
/// flow.sink("newest", upsert(&newest));
/// # });
/// assert_eq!(topics.lines("newest"), [
///     r#"{"key":"newest","value":12,"time":1}"#,
///     r#"{"key":"newest","value":21,"time":60000}"#,
/// ]);
/// ```
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

//! Reading a topic: the partitions that a worker owns, decoded into events.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::connect::{PartitionId, PartitionReader, Polled, Position, RawRecord, Source, Waker};
use crate::dead_letter::DeadLetter;
use crate::error::{Error, Kind, Result};
use crate::events::{Block, Order};
use crate::job::{OnBadInput, Shared};
use crate::source::{Feed, Reading};
use crate::time::Time;

/// The share of a topic that one worker reads: every `peers`-th partition.
pub(crate) struct TopicFeed<D> {
    name: String,
    source: Arc<dyn Source>,
    decode: D,
    worker: usize,
    peers: usize,
    shared: Arc<Shared>,
    waker: Waker,
    partitions: Vec<Partition>,
    /// How many partitions of the topic have been looked at.
    seen: PartitionId,
    /// Where to go on, so that every partition has its turn.
    next: usize,
    records: Vec<RawRecord>,
    /// Whether something was still being published at the last look.
    held_open: bool,
}

struct Partition {
    number: PartitionId,
    reader: Box<dyn PartitionReader>,
    ended: bool,
    /// The last position read at each time that has not arrived yet.
    bound: VecDeque<(Time, Position)>,
    /// The last position of the present reading.
    last: Option<Position>,
}

impl<D> TopicFeed<D> {
    pub(crate) fn new(
        name: &str,
        source: Arc<dyn Source>,
        decode: D,
        (worker, peers): (usize, usize),
        shared: Arc<Shared>,
        waker: Waker,
    ) -> Self {
        source.watch(waker.clone());
        TopicFeed {
            name: name.to_owned(),
            source,
            decode,
            worker,
            peers,
            shared,
            waker,
            partitions: Vec::new(),
            seen: 0,
            next: 0,
            records: Vec::new(),
            held_open: true,
        }
    }

    fn open_new_partitions(&mut self) -> Result<()> {
        while self.seen < self.source.partitions() {
            let number = self.seen;
            self.seen += 1;
            if number as usize % self.peers == self.worker {
                let reader = self.source.open(number, self.shared.config.start, self.waker.clone())?;
                self.partitions.push(Partition {
                    number,
                    reader,
                    ended: false,
                    bound: VecDeque::new(),
                    last: None,
                });
            }
        }
        Ok(())
    }
}

impl<E, D> Feed<E> for TopicFeed<D>
where
    E: 'static,
    D: FnMut(&RawRecord) -> Result<E, String> + 'static,
{
    fn poll(&mut self, budget: usize, into: &mut Reading<E>) -> Result<Polled> {
        self.open_new_partitions()?;
        if std::mem::replace(&mut self.held_open, self.shared.held_open()) && !self.held_open {
            // What was published last may not have come yet.
            self.partitions.iter_mut().for_each(|partition| partition.reader.recheck());
        }
        let mut left = budget;
        let mut more = false;
        for turn in 0..self.partitions.len() {
            let index = (self.next + turn) % self.partitions.len();
            // Every partition has its share, what one does not need goes to those behind it.
            let share = left.div_ceil(self.partitions.len() - turn);
            let partition = &mut self.partitions[index];
            match partition.reader.poll(share, &mut self.records)? {
                Polled::More => (more, partition.ended) = (true, false),
                Polled::Idle => partition.ended = false,
                Polled::End => partition.ended = true,
            }
            let Some((first, last)) = self.records.first().zip(self.records.last()) else { continue };
            let order = Order { source: 0, partition: partition.number, position: first.position };
            partition.last = Some(last.position);
            let mut events = Vec::with_capacity(self.records.len());
            let mut dead_letters = Vec::new();
            for record in self.records.drain(..) {
                left = left.saturating_sub(record.payload.len());
                let decoded = match &record.defect {
                    Some(defect) => Err(defect.clone()),
                    None => (self.decode)(&record),
                };
                match decoded {
                    Ok(event) => events.push(event),
                    Err(reason) if self.shared.config.on_bad_input == OnBadInput::Fail => {
                        return Err(Error::new(
                            Kind::BadInput,
                            format!(
                                "{} partition {} has a record at {} that cannot be read: {reason}. Correct the \
                                 input, or run with --on-bad-input dead-letter to set such records aside",
                                self.source.describe(),
                                partition.number,
                                record.position,
                            ),
                        ));
                    }
                    Err(reason) => {
                        tracing::debug!(topic = self.name, %reason, "dead letter");
                        dead_letters.push(DeadLetter::new(
                            &self.source.describe(),
                            partition.number,
                            &record,
                            reason,
                        ));
                    }
                }
            }
            if !events.is_empty() {
                into.blocks.push(Block { order, events });
            }
            if !dead_letters.is_empty() {
                into.dead_letters.push(Block { order, events: dead_letters });
            }
        }
        if !self.partitions.is_empty() {
            self.next = (self.next + 1) % self.partitions.len();
        }
        let ended = self.shared.config.until_end && self.partitions.iter().all(|p| p.ended);
        if !more && ended && !self.shared.held_open() && self.seen == self.source.partitions() {
            return Ok(Polled::End);
        }
        Ok(if more { Polled::More } else { Polled::Idle })
    }

    fn stamped(&mut self, time: Time) {
        for partition in &mut self.partitions {
            if let Some(position) = partition.last.take() {
                partition.bound.push_back((time, position));
            }
        }
    }

    fn arrived(&mut self, arrived: Time) {
        for partition in &mut self.partitions {
            let mut done = None;
            while partition.bound.front().is_some_and(|&(time, _)| time < arrived) {
                done = partition.bound.pop_front();
            }
            if let Some((_, position)) = done {
                partition.reader.release(position);
            }
        }
    }
}

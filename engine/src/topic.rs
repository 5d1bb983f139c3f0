//! Reading a topic: the partitions that a worker owns, decoded into events.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::connect::{PartitionId, PartitionReader, Polled, Position, RawRecord, Source, Start, Waker};
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
    /// When the first of what was read last was published, where that is known.
    published: Option<Time>,
    /// Whether something was still being published at the last look.
    held_open: bool,
    /// The time that was last read again.
    at: Option<Time>,
    /// Why the first partitions could not be opened.
    failed: Option<Error>,
}

struct Partition {
    number: PartitionId,
    reader: Box<dyn PartitionReader>,
    ended: bool,
    /// The last record that its reader has handed over.
    delivered: Option<Position>,
    /// The last position read at each time that has not arrived yet.
    bound: VecDeque<(Time, Position)>,
    /// The first and last position of the present reading.
    read: Option<(Position, Position)>,
    /// What an earlier run has read at which time, and is read again: up to where, and from where.
    replay: VecDeque<(Time, Position, Position)>,
    /// Records that came with those of an earlier time.
    held: VecDeque<RawRecord>,
    /// Whether the first record of what is being read again has come, and whether no record may be before that.
    begun: bool,
    exact: bool,
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
        let mut feed = TopicFeed {
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
            published: None,
            held_open: true,
            at: None,
            failed: None,
        };
        // What is read again must be known before anything is read.
        feed.failed = feed.open_new_partitions().err();
        feed
    }

    fn open_new_partitions(&mut self) -> Result<()> {
        while self.seen < self.source.partitions() {
            let number = self.seen;
            self.seen += 1;
            if number as usize % self.peers == self.worker {
                let (after, replay) = self.shared.goes_on(&self.name, number);
                let start = after.map_or(self.shared.config.start, Start::After);
                // Without a checkpoint, what was read is found by its positions.
                let start = if after.is_none() && !replay.is_empty() { Start::Earliest } else { start };
                let reader = self.source.open(number, start, self.waker.clone())?;
                self.partitions.push(Partition {
                    number,
                    reader,
                    ended: false,
                    delivered: after,
                    bound: replay.iter().map(|&(time, _, last)| (time, last)).collect(),
                    read: None,
                    replay,
                    held: VecDeque::new(),
                    begun: false,
                    exact: after.is_some(),
                });
            }
        }
        Ok(())
    }
}

impl Partition {
    /// Leaves out records that were delivered before: a connector may repeat itself after a reconnect.
    fn leave_out_known(&mut self, records: &mut Vec<RawRecord>) {
        let Some(newest) = records.last().map(|record| record.position) else { return };
        let delivered = self.delivered;
        if delivered.is_some_and(|delivered| records[0].position <= delivered) {
            records.retain(|record| delivered.is_none_or(|delivered| record.position > delivered));
        }
        self.delivered = self.delivered.max(Some(newest));
    }

    /// Leaves of `records` those that were read at the next time that is replayed, and holds the rest back;
    /// whether there is a rest.
    fn replay_of(&mut self, records: &mut Vec<RawRecord>, source: &dyn Source) -> Result<bool> {
        let Some(&(_, first, last)) = self.replay.front() else { return Ok(false) };
        if !self.exact {
            records.retain(|record| record.position >= first);
        }
        if !self.begun
            && let Some(record) = records.first()
        {
            if record.position != first {
                return Err(self.lost(first, source));
            }
            (self.begun, self.exact) = (true, true);
        }
        let end = records.partition_point(|record| record.position <= last);
        self.held.extend(records.drain(end..));
        let reached = records.last().is_some_and(|record| record.position == last);
        if reached {
            self.replay.pop_front();
            self.begun = false;
        } else if !self.held.is_empty() || self.ended {
            return Err(self.lost(last, source));
        }
        Ok(!self.held.is_empty())
    }

    /// What was read before must be there again, and nothing else.
    fn lost(&self, position: Position, source: &dyn Source) -> Error {
        Error::new(
            Kind::Lost,
            format!(
                "{} partition {} does not have the record at {position} any more, or others before it, which an earlier run \
                 of this job has read: it cannot be gone on with exactly. Restore the topic, or begin anew under another name",
                source.describe(),
                self.number
            ),
        )
    }
}

impl<E, D> Feed<E> for TopicFeed<D>
where
    E: 'static,
    D: FnMut(&RawRecord) -> Result<E, String> + 'static,
{
    fn poll(&mut self, budget: usize, into: &mut Reading<E>) -> Result<Polled> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.open_new_partitions()?;
        if std::mem::replace(&mut self.held_open, self.shared.held_open()) && !self.held_open {
            // What was published last may not have come yet.
            self.partitions.iter_mut().for_each(|partition| partition.reader.recheck());
        }
        let replaying = self.next_time();
        self.at = replaying;
        let mut left = budget;
        let mut more = false;
        for turn in 0..self.partitions.len() {
            let index = (self.next + turn) % self.partitions.len();
            // Every partition has its share, what one does not need goes to those behind it.
            let share = left.div_ceil(self.partitions.len() - turn);
            let partition = &mut self.partitions[index];
            if replaying.is_some_and(|time| partition.replay.front().is_none_or(|next| next.0 != time)) {
                // It has its turn at a later time.
                continue;
            }
            more |= !partition.held.is_empty();
            self.records.extend(partition.held.drain(..));
            if self.records.is_empty() {
                match partition.reader.poll(share, &mut self.records)? {
                    Polled::More => (more, partition.ended) = (true, false),
                    Polled::Idle => partition.ended = false,
                    Polled::End => partition.ended = true,
                }
                partition.leave_out_known(&mut self.records);
            }
            if replaying.is_some() {
                more |= partition.replay_of(&mut self.records, &*self.source)?;
            }
            let Some((first, last)) = self.records.first().zip(self.records.last()) else { continue };
            if replaying.is_none() && first.published > 0 {
                self.published = Some(first.published);
            }
            let order = Order { source: 0, partition: partition.number, position: first.position };
            let begun = partition.read.map_or(first.position, |(begun, _)| begun);
            partition.read = Some((begun, last.position));
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
        let ended = self.next_time().is_none()
            && self.shared.config.until_end
            // One that had no turn at the last time that was replayed may hold what follows.
            && self.partitions.iter().all(|p| p.ended && p.held.is_empty());
        if !more && ended && !self.shared.held_open() && self.seen == self.source.partitions() {
            return Ok(Polled::End);
        }
        Ok(if more { Polled::More } else { Polled::Idle })
    }

    fn stamped(&mut self, time: Time) {
        if let Some(published) = self.published.take() {
            self.shared.counters.reading.add(time.saturating_sub(published));
        }
        for partition in &mut self.partitions {
            // What is read again is bound already.
            if let Some((_, position)) = partition.read
                && partition.bound.back().is_none_or(|&(bound, _)| bound < time)
            {
                partition.bound.push_back((time, position));
            } else if let Some((_, position)) = partition.read
                && let Some(newest) = partition.bound.back_mut().filter(|newest| newest.0 == time)
            {
                newest.1 = newest.1.max(position);
            }
        }
    }

    fn bounds(&mut self, into: &mut Vec<(PartitionId, Position, Position)>) {
        for partition in &mut self.partitions {
            if let Some((first, last)) = partition.read.take() {
                into.push((partition.number, first, last));
            }
        }
    }

    fn next_time(&self) -> Option<Time> {
        self.partitions.iter().filter_map(|partition| Some(partition.replay.front()?.0)).min()
    }

    fn whole(&self) -> bool {
        self.at.is_none_or(|at| self.next_time() != Some(at))
    }

    fn replays(&self) -> bool {
        true
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

//! Reading several output topics as of one time.
//!
//! A job writes each partition of each topic on its own: a reader that takes messages as they come sees one topic
//! ahead of another. With `--progress-marks` a job says in every partition up to which time it is whole, and a
//! [`ConsistentReader`] hands over what all partitions of all topics have up to one time, and nothing beyond.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nekton_engine::connect::{PartitionId, PartitionReader, Polled, RawRecord, Source, Start, Waker};
use nekton_engine::{Error, Kind, Result, Time};
use serde::Deserialize;

use crate::topics::{Access, open_source};

/// How much is read from a partition at a time.
const BUDGET: usize = 256 << 10;
/// What a change costs in memory beside its bytes.
const CHANGE: usize = 128;
/// How long it waits to be woken before it looks all the same.
const LOOK: Duration = Duration::from_secs(1);

/// A message of an output topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The time that it belongs to.
    pub time: Time,
    /// The partition that it was in.
    pub partition: PartitionId,
    /// The message's key, where the topic's messages have one beside their values.
    pub key: Option<Bytes>,
    /// The message: JSON.
    pub value: Bytes,
}

/// All that changed up to a time, since the last such time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// All changes of this time and before have been handed over, of all topics, and none of later times.
    pub time: Time,
    /// By topic, in the order in which these were named; of a topic, in the order of times, and of a time, of partitions.
    pub changes: Vec<Vec<Change>>,
}

/// Reads topics that one job writes with `--progress-marks`, and hands over what is consistent.
///
/// Their messages must have a `time`, as [`changes`](crate::changes()) and [`diffs`](crate::diffs()) have it (in files,
/// [`upsert`](crate::upsert()) too).
///
/// Of memory it takes no more than [its room](ConsistentReader::room) and a read of each partition. What is ahead of the others
/// waits in its topic; if what belongs between two marks takes more than the room, that is an error.
///
/// ```
/// use nekton::read::ConsistentReader;
/// use nekton::topics::Access;
///
/// # use clap::Parser;
/// # #[derive(Parser)]
/// # struct Flags { #[command(flatten)] access: Access }
/// # let access = Flags::parse_from(["look"]).access;
/// # let folder = tempfile::tempdir()?;
/// # for (topic, lines) in [
/// #     ("sums", "{\"key\":7,\"before\":null,\"after\":3,\"time\":5}\n{\"nekton.closed\":5}\n{\"key\":7,\"before\":3,\"after\":4,\"time\":8}\n{\"nekton.closed\":8}\n"),
/// #     ("totals", "{\"key\":\"all\",\"before\":null,\"after\":3,\"time\":5}\n{\"nekton.closed\":5}\n"),
/// # ] {
/// #     std::fs::create_dir(folder.path().join(topic))?;
/// #     std::fs::write(folder.path().join(topic).join("0.jsonl"), lines)?;
/// # }
/// # let url = |topic: &str| format!("file:{}", folder.path().join(topic).display());
/// // sums: a change at 5, closed up to 5, a change at 8, closed up to 8. totals: a change at 5, closed up to 5.
/// let mut reader = ConsistentReader::open(&[url("sums"), url("totals")], true, &access)?;
/// let closed = reader.next()?.expect("there is a time that is closed in both");
/// assert_eq!((closed.time, closed.changes[0].len(), closed.changes[1].len()), (5, 1, 1));
/// assert_eq!(reader.next()?, None); // of 8, nobody knows yet what it makes of the totals
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ConsistentReader {
    topics: Vec<Topic>,
    /// Up to where changes were handed over.
    handed_over: Option<Time>,
    after: Option<Time>,
    room: usize,
    /// Bytes of all changes that wait.
    waiting: usize,
    waker: Waker,
    woken: Receiver<()>,
    until_end: bool,
    ended: bool,
}

struct Topic {
    source: Arc<dyn Source>,
    partitions: Vec<Partition>,
}

struct Partition {
    reader: Box<dyn PartitionReader>,
    /// Changes that are not handed over, in order.
    changes: VecDeque<Change>,
    closed: Option<Time>,
    ended: bool,
}

impl std::fmt::Debug for ConsistentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let topics: Vec<_> = self.topics.iter().map(|topic| topic.source.describe()).collect();
        f.debug_struct("ConsistentReader")
            .field("topics", &topics)
            .field("handed_over", &self.handed_over)
            .finish_non_exhaustive()
    }
}

impl ConsistentReader {
    /// Opens topics by their URLs. With `until_end` it ends where they end, otherwise it follows them.
    ///
    /// # Errors
    /// As [`open_source`] has them.
    pub fn open<U: AsRef<str>>(urls: &[U], until_end: bool, access: &Access) -> Result<Self> {
        let open = |url: &U| open_source(url.as_ref(), until_end, access);
        Ok(Self::new(urls.iter().map(open).collect::<Result<_>>()?, until_end))
    }

    /// Reads topics that are open. `until_end` says how they were opened: whether they tell of their end.
    pub fn new(sources: Vec<Arc<dyn Source>>, until_end: bool) -> Self {
        // What rings while nobody waits is heard at the next wait.
        let (sender, woken) = sync_channel(1);
        let waker: Waker = Arc::new(move || {
            let _ = sender.try_send(());
        });
        let topic = |source: Arc<dyn Source>| {
            source.watch(waker.clone());
            Topic { source, partitions: Vec::new() }
        };
        ConsistentReader {
            topics: sources.into_iter().map(topic).collect(),
            handed_over: None,
            after: None,
            room: 256 << 20,
            waiting: 0,
            waker,
            woken,
            until_end,
            ended: false,
        }
    }

    /// Leaves out what is of this time or before: whoever keeps what was handed over, with its time, goes on behind it.
    #[must_use]
    pub fn after(mut self, time: Time) -> Self {
        self.after = Some(time);
        self
    }

    /// How many bytes of changes may wait for other partitions; 256 MiB if nothing is said.
    #[must_use]
    pub fn room(mut self, bytes: usize) -> Self {
        self.room = bytes;
        self
    }

    /// The next time that is closed in all partitions of all topics, with all that changed since the last one. Waits
    /// for it; `None` at the end.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if a message has no time or stands behind a mark that closed its time, [`Kind::Config`] if what
    /// waits takes more than [the room](ConsistentReader::room); and whatever reading fails with.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot fail once")]
    pub fn next(&mut self) -> Result<Option<Closed>> {
        loop {
            let closed = self.next_within(LOOK)?;
            if closed.is_some() || self.ended {
                return Ok(closed);
            }
        }
    }

    /// As [`ConsistentReader::next`], but `None` as well if nothing was closed within this time.
    ///
    /// # Errors
    /// As [`ConsistentReader::next`].
    pub fn next_within(&mut self, wait: Duration) -> Result<Option<Closed>> {
        let until = Instant::now() + wait;
        loop {
            let more = self.read()?;
            if let Some(time) = self.closed().filter(|time| self.handed_over < Some(*time)) {
                self.handed_over = Some(time);
                let closed = self.take(time);
                if self.after < Some(time) {
                    return Ok(Some(closed));
                }
                continue;
            }
            let mut partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
            self.ended = self.until_end && partitions.all(|partition| partition.ended);
            let left = until.saturating_duration_since(Instant::now());
            if self.ended || left.is_zero() {
                return Ok(None);
            }
            if !more && self.woken.recv_timeout(left.min(LOOK)) == Err(RecvTimeoutError::Disconnected) {
                return Ok(None);
            }
        }
    }

    /// Whether all topics have ended, and all that is closed was handed over.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// How many changes have been read of times that are not closed everywhere.
    pub fn waiting(&self) -> usize {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| partition.changes.len()).sum()
    }

    /// Up to where every partition is whole, if all say so.
    fn closed(&self) -> Option<Time> {
        if self.topics.iter().any(|topic| topic.partitions.is_empty()) {
            return None;
        }
        let mut least = None;
        for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
            let closed = partition.closed?;
            least = Some(least.map_or(closed, |least: Time| least.min(closed)));
        }
        least
    }

    /// Reads on where it is needed, and elsewhere if there is room. Whether there is more.
    fn read(&mut self) -> Result<bool> {
        let mut more = false;
        let least = self.closed();
        let mut records = Vec::new();
        for topic in &mut self.topics {
            while topic.partitions.len() < topic.source.partitions() as usize {
                let number = topic.partitions.len() as PartitionId;
                let reader = topic.source.open(number, Start::Earliest, self.waker.clone())?;
                let changes = VecDeque::new();
                topic.partitions.push(Partition { reader, changes, closed: None, ended: false });
            }
            for (number, partition) in (0..).zip(&mut topic.partitions) {
                let needed = partition.closed <= least;
                if !needed && self.waiting > self.room / 2 {
                    continue;
                }
                let polled = partition.reader.poll(BUDGET, &mut records)?;
                partition.ended = polled == Polled::End;
                more |= polled == Polled::More;
                let at = || format!("{} partition {number}", topic.source.describe());
                if let Some(last) = records.last() {
                    partition.reader.release(last.position);
                }
                let mut marks = partition.reader.marks().iter().peekable();
                for record in records.drain(..) {
                    while let Some((_, time)) = marks.next_if(|mark| mark.0 < record.position) {
                        partition.closed = partition.closed.max(Some(*time));
                    }
                    let change = change(number, record, &at)?;
                    if partition.closed >= Some(change.time) {
                        return Err(Error::new(
                            Kind::BadInput,
                            format!(
                                "{} has a message of time {} behind the mark that closes it: something else than one job \
                                 writes there",
                                at(),
                                change.time
                            ),
                        ));
                    }
                    if self.after < Some(change.time) {
                        self.waiting += size(&change);
                        partition.changes.push_back(change);
                    }
                }
                for (_, time) in marks {
                    partition.closed = partition.closed.max(Some(*time));
                }
                if self.waiting > self.room && partition.closed <= least {
                    let closed = partition.closed.map_or("has no mark yet".to_owned(), |time| {
                        format!("has no mark behind time {time} yet")
                    });
                    return Err(Error::new(
                        Kind::Config,
                        format!(
                            "more than {} bytes wait to be consistent: {} {closed}. Run the job with --progress-marks, \
                             with a shorter interval, or give the reader more room",
                            self.room,
                            at()
                        ),
                    ));
                }
            }
        }
        Ok(more)
    }

    /// Takes what is of `time` and before.
    fn take(&mut self, time: Time) -> Closed {
        let mut changes = Vec::new();
        for topic in &mut self.topics {
            let mut of: Vec<Change> = Vec::new();
            for partition in &mut topic.partitions {
                let count = partition.changes.partition_point(|change| change.time <= time);
                of.extend(partition.changes.drain(..count));
            }
            self.waiting -= of.iter().map(size).sum::<usize>();
            // Those of one partition stay in their order.
            of.sort_by_key(|change| (change.time, change.partition));
            changes.push(of);
        }
        Closed { time, changes }
    }
}

fn size(change: &Change) -> usize {
    change.value.len() + change.key.as_ref().map_or(0, Bytes::len) + CHANGE
}

fn change(partition: PartitionId, record: RawRecord, at: &dyn Fn() -> String) -> Result<Change> {
    #[derive(Deserialize)]
    struct Timed {
        time: Time,
    }
    let unusable = |why: &str| {
        let hint = "write the topic with changes(..) or diffs(..), and read nothing else";
        Error::new(
            Kind::BadInput,
            format!("{} has a message at {} without a time ({why}): {hint}", at(), record.position),
        )
    };
    if let Some(defect) = &record.defect {
        return Err(unusable(defect));
    }
    let timed: Timed =
        serde_json::from_slice(&record.payload).map_err(|error| unusable(&error.to_string()))?;
    // A copy: the record may keep much more in memory than itself.
    let value = Bytes::copy_from_slice(&record.payload);
    Ok(Change { time: timed.time, partition, key: record.key, value })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nekton_connectors::file::{self, FileSettings};

    use super::*;

    fn reader(folder: &Path, topics: &[(&str, &[&str])]) -> ConsistentReader {
        let settings = FileSettings { until_end: true, ..FileSettings::default() };
        let open = |(topic, partitions): &(&str, &[&str])| {
            let path = folder.join(topic);
            std::fs::create_dir_all(&path).unwrap();
            for (number, lines) in partitions.iter().enumerate() {
                std::fs::write(path.join(format!("{number}.jsonl")), lines.replace(' ', "\n") + "\n")
                    .unwrap();
            }
            file::open_source(&path, &settings).unwrap()
        };
        ConsistentReader::new(topics.iter().map(open).collect(), true)
    }

    /// Closed times, each with the changes of every topic.
    fn read(mut reader: ConsistentReader) -> Result<Vec<(Time, Vec<String>)>> {
        let mut read = Vec::new();
        while let Some(closed) = reader.next()? {
            let text = |change: &Change| String::from_utf8(change.value.to_vec()).unwrap();
            let of = |changes: &Vec<Change>| changes.iter().map(text).collect::<Vec<_>>().join(" ");
            read.push((closed.time, closed.changes.iter().map(of).collect()));
        }
        Ok(read)
    }

    const TWO: [&str; 2] = [
        r#"{"time":1} {"nekton.closed":3} {"time":5} {"nekton.closed":9}"#,
        r#"{"time":2} {"time":4} {"nekton.closed":4}"#,
    ];

    #[test]
    fn what_is_not_closed_in_every_partition_is_not_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let reader = reader(folder.path(), &[("a", &TWO), ("b", &[r#"{"nekton.closed":7}"#])]);
        let read = read(reader).unwrap();
        let all: Vec<_> = read.iter().map(|(_, changes)| changes[0].as_str()).collect();
        assert_eq!(all.join(" ").trim(), r#"{"time":1} {"time":2} {"time":4}"#);
        assert_eq!(read.last().unwrap().0, 4);
    }

    #[test]
    fn what_was_handed_over_before_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let read = read(reader(folder.path(), &[("a", &TWO)]).after(2)).unwrap();
        let all: Vec<_> = read.iter().map(|(_, changes)| changes[0].as_str()).collect();
        assert_eq!(all.join(" ").trim(), r#"{"time":4}"#);
    }

    #[test]
    fn what_cannot_be_put_together_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let error = |name: &str, lines: &str, room: usize| {
            let reader = reader(folder.path(), &[(name, &[lines])]).room(room);
            read(reader).unwrap_err().to_string()
        };
        assert!(error("a", r#"{"x":1}"#, 1_000).contains("without a time"));
        assert!(
            error("b", r#"{"nekton.closed":3} {"time":3}"#, 1_000).contains("behind the mark that closes it")
        );
        assert!(error("c", r#"{"time":3} {"time":4}"#, 200).contains("has no mark yet"));
    }
}

//! Publishing events to a topic from a program of one's own.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use nekton_engine::connect::{Envelope, Message, PartitionWriter, Sink, SinkSettings, Topics, WriteBatch};
use nekton_engine::hash::fixed_hash;
use nekton_engine::{Error, Kind, Result, Time};
use serde::Serialize;

use crate::Runner;

/// A batch is handed to the connector when it has this many bytes.
const BATCH: usize = 64 << 10;

/// How many bytes of one partition may be on their way before publishing waits.
const ON_ITS_WAY: usize = 1 << 20;

/// How often a connector is asked again that has not called its waker.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Publishes events to a topic, wherever the runner's flags put it.
///
/// An event goes to the partition that the fixed hash of its key names, so that the events of one key
/// stay in order. Events are handed over in batches of 64 KiB, or when [`send`](Publisher::send) or
/// [`flush`](Publisher::flush) says so. What is on its way is bounded: with more than about 1 MiB unwritten
/// in a partition, [`publish`](Publisher::publish) waits. A topic in files has one writer: while a publisher is
/// open, nobody else can write the topic, and who reads it until its end sees none. On Pulsar others may
/// publish as well.
///
/// ```
/// use nekton::Publisher;
///
/// # use clap::Parser;
/// # #[derive(Parser)]
/// # struct Flags { #[command(flatten)] runner: nekton::Runner }
/// # let topics = tempfile::tempdir()?;
/// # let runner = &Flags::parse_from(["house", "--topics", &format!("file:{}", topics.path().display())]).runner;
/// let mut publisher = Publisher::open(runner, "readings", 4)?; // 4 partitions, if it does not exist
/// publisher.publish("k1", &serde_json::json!({"sensor": "k1", "celsius": 21}))?;
/// publisher.publish("k1", &serde_json::json!({"sensor": "k1", "celsius": 64}))?;
/// assert_eq!(publisher.published(), 2);
/// publisher.close()?;
/// # let written = (0..4).map(|n| std::fs::read_to_string(topics.path().join(format!("readings/{n}.jsonl"))));
/// # let written: Vec<usize> = written.map(|lines| lines.map_or(0, |lines| lines.lines().count())).collect();
/// # assert!(written.contains(&2), "{written:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Publisher {
    topic: String,
    sink: Arc<dyn Sink>,
    partitions: Vec<Partition>,
    woken: Arc<Woken>,
    published: u64,
}

struct Partition {
    writer: Box<dyn PartitionWriter>,
    messages: Vec<Message>,
    /// The bytes of `messages`.
    bytes: usize,
    /// The time of the last batch.
    last: Time,
    /// Batches on their way, with their bytes.
    on_its_way: VecDeque<(Time, usize)>,
    bytes_on_their_way: usize,
}

/// Says that a connector has called its waker since it was last asked.
#[derive(Default)]
struct Woken {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("topic", &self.topic)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// Opens a topic by its logical name, creating it with `partitions` partitions where it does not exist.
    ///
    /// # Errors
    /// If the topic cannot be opened, or somebody else is writing it ([`Kind::Conflict`]).
    pub fn open(runner: &Runner, topic: &str, partitions: u32) -> Result<Self> {
        if runner.checks() {
            return Err(Error::config(format!(
                "nekton check changes nothing, and this program publishes to {topic:?} before its job starts: give it \
                 flags with which it does not"
            )));
        }
        // Its own name, since the job of the same program may be a writer too.
        Self::open_at(&runner.topics_of("publisher")?.shared(), topic, partitions)
    }

    pub(crate) fn open_at(topics: &dyn Topics, topic: &str, partitions: u32) -> Result<Self> {
        let settings = SinkSettings { envelope: Envelope::Events, schema: None, partitions };
        let sink = topics.sink(topic, &settings)?;
        let woken = Arc::new(Woken::default());
        let open = |number| {
            let woken = woken.clone();
            let writer = sink.open(number, Arc::new(move || woken.set()))?;
            let last = writer.last_time().unwrap_or(0);
            Ok(Partition {
                writer,
                messages: Vec::new(),
                bytes: 0,
                last,
                on_its_way: VecDeque::new(),
                bytes_on_their_way: 0,
            })
        };
        let partitions =
            (0..sink.partitions().max(1)).map(open).collect::<Result<_>>().map_err(|e| in_topic(topic, e))?;
        Ok(Publisher { topic: topic.to_owned(), sink, partitions, woken, published: 0 })
    }

    /// Publishes an event under a key. Returns when it is in a batch, which may be before it is written; waits
    /// while too much is on its way.
    ///
    /// # Errors
    /// If the event or its key cannot be written as JSON, or the topic cannot be written any more.
    pub fn publish<K, E>(&mut self, key: &K, event: &E) -> Result<()>
    where
        K: Serialize + Hash + ?Sized,
        E: Serialize + ?Sized,
    {
        let event = json(&self.topic, event)?;
        self.publish_json(key, event)
    }

    /// The same of an event that is JSON already.
    pub(crate) fn publish_json<K: Serialize + Hash + ?Sized>(&mut self, key: &K, event: Bytes) -> Result<()> {
        let message = Message { key: Some(json(&self.topic, key)?), value: Some(event) };
        let number = (fixed_hash(key) >> 32) % self.partitions.len() as u64;
        let partition = &mut self.partitions[number as usize];
        partition.bytes += size(&message);
        partition.messages.push(message);
        self.published += 1;
        if partition.bytes < BATCH {
            return Ok(());
        }
        let sent = partition.send(now()).and_then(|()| partition.wait(ON_ITS_WAY, &self.woken));
        sent.map_err(|error| in_topic(&self.topic, error))
    }

    /// How many events were published so far.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The topic as a person would write it: its URL.
    pub fn describe(&self) -> String {
        self.sink.describe()
    }

    /// Hands over what is in unfinished batches. Waits only while too much is on its way.
    ///
    /// # Errors
    /// If the topic cannot be written any more.
    pub fn send(&mut self) -> Result<()> {
        self.each(ON_ITS_WAY)
    }

    /// Hands over what is in unfinished batches and waits until everything is written.
    ///
    /// # Errors
    /// If the topic cannot be written any more.
    pub fn flush(&mut self) -> Result<()> {
        self.each(0)
    }

    /// Writes everything and lets go of the topic. What was not flushed when a publisher is dropped without
    /// closing it may be lost.
    ///
    /// # Errors
    /// If the topic cannot be written any more.
    pub fn close(mut self) -> Result<()> {
        self.flush()?;
        for partition in self.partitions {
            partition.writer.close().map_err(|error| in_topic(&self.topic, error))?;
        }
        Ok(())
    }

    fn each(&mut self, most: usize) -> Result<()> {
        // First all are handed over, then all are waited for: they are written at the same time.
        let now = now();
        let mut sent = self.partitions.iter_mut().try_for_each(|partition| partition.send(now));
        if sent.is_ok() {
            sent = self.partitions.iter_mut().try_for_each(|partition| partition.wait(most, &self.woken));
        }
        sent.map_err(|error| in_topic(&self.topic, error))
    }
}

impl Partition {
    fn send(&mut self, now: Time) -> Result<()> {
        if self.messages.is_empty() {
            return Ok(());
        }
        // Times only grow, whatever the clock does.
        let time = now.max(self.last + 1);
        self.last = time;
        self.on_its_way.push_back((time, self.bytes));
        self.bytes_on_their_way += self.bytes;
        self.bytes = 0;
        self.writer.write(WriteBatch { time, first: 0, messages: std::mem::take(&mut self.messages) })
    }

    /// Waits until at most `most` bytes are on their way.
    fn wait(&mut self, most: usize, woken: &Woken) -> Result<()> {
        loop {
            let written = self.writer.written()?;
            while let Some(&(time, bytes)) = self.on_its_way.front()
                && written.is_some_and(|written| time <= written)
            {
                self.on_its_way.pop_front();
                self.bytes_on_their_way -= bytes;
            }
            if self.bytes_on_their_way <= most {
                return Ok(());
            }
            woken.wait();
        }
    }
}

impl Woken {
    fn set(&self) {
        *self.flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let flag = self.flag.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut flag, _) = self
            .changed
            .wait_timeout_while(flag, ASK_AGAIN, |woken| !*woken)
            .unwrap_or_else(PoisonError::into_inner);
        *flag = false;
    }
}

fn size(message: &Message) -> usize {
    message.key.as_ref().map_or(0, Bytes::len) + message.value.as_ref().map_or(0, Bytes::len)
}

fn now() -> Time {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Time)
}

fn in_topic(topic: &str, error: Error) -> Error {
    error.context(format!("publishing to topic {topic:?}"))
}

fn json<T: Serialize + ?Sized>(topic: &str, value: &T) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        let what = std::any::type_name::<T>();
        Error::new(
            Kind::BadInput,
            format!(
                "a value of type {what} for topic {topic:?} cannot be written as JSON: {error}. Change how it is \
                 serialized"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nekton_connectors::file::FileSettings;
    use nekton_connectors::pulsar::PulsarSettings;
    use nekton_engine::connect::{PartitionId, Source, Waker};

    use super::*;
    use crate::topics::ByUrl;

    fn files(folder: &std::path::Path) -> ByUrl {
        let base = format!("file:{}", folder.display());
        ByUrl::new(base, BTreeMap::new(), FileSettings::default(), PulsarSettings::new("test"))
    }

    #[test]
    fn events_of_one_key_are_in_one_partition_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut publisher = Publisher::open_at(&files(folder.path()), "readings", 3).unwrap();
        for event in 0..300_u64 {
            publisher.publish(&(event % 10), &(event % 10, event)).unwrap();
        }
        assert_eq!(publisher.published(), 300);
        publisher.close().unwrap();
        let mut seen: BTreeMap<u64, (usize, Vec<u64>)> = BTreeMap::new();
        for partition in 0..3 {
            let text = std::fs::read_to_string(folder.path().join(format!("readings/{partition}.jsonl")));
            for line in text.unwrap().lines() {
                let (key, event): (u64, u64) = serde_json::from_str(line).unwrap();
                let (of_key, events) = seen.entry(key).or_insert((partition, Vec::new()));
                assert_eq!(*of_key, partition);
                events.push(event);
            }
        }
        for (key, (_, events)) in &seen {
            assert_eq!(events, &(0..30).map(|n| n * 10 + key).collect::<Vec<_>>());
        }
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn a_topic_has_one_publisher() {
        let folder = tempfile::tempdir().unwrap();
        let topics = files(folder.path());
        let first = Publisher::open_at(&topics, "readings", 1).unwrap();
        let refused = Publisher::open_at(&topics, "readings", 1).unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict);
        assert!(refused.to_string().contains("readings"), "{refused}");
        drop(first);
        Publisher::open_at(&topics, "readings", 1).unwrap();
    }

    /// A topic whose writer takes batches over and writes one each time it is asked.
    #[derive(Clone, Default)]
    struct Slow {
        taken: Arc<Mutex<VecDeque<(Time, usize)>>>,
        most: Arc<AtomicU64>,
    }

    impl Topics for Slow {
        fn source(&self, _name: &str) -> Result<Arc<dyn Source>> {
            Err(Error::config("only for writing"))
        }
        fn sink(&self, _name: &str, _settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
            Ok(Arc::new(self.clone()))
        }
    }
    impl Sink for Slow {
        fn partitions(&self) -> PartitionId {
            1
        }
        fn open(&self, _partition: PartitionId, _waker: Waker) -> Result<Box<dyn PartitionWriter>> {
            Ok(Box::new(self.clone()))
        }
        fn describe(&self) -> String {
            "slow".to_owned()
        }
    }
    impl PartitionWriter for Slow {
        fn write(&mut self, batch: WriteBatch) -> Result<()> {
            let mut taken = self.taken.lock().unwrap();
            assert!(taken.back().is_none_or(|(time, _)| *time < batch.time), "times only grow");
            taken.push_back((batch.time, batch.messages.iter().map(size).sum()));
            let held: usize = taken.iter().map(|(_, bytes)| bytes).sum();
            self.most.fetch_max(held as u64, Ordering::Relaxed);
            Ok(())
        }
        fn written(&mut self) -> Result<Option<Time>> {
            Ok(self.taken.lock().unwrap().pop_front().map(|(time, _)| time))
        }
        fn close(self: Box<Self>) -> Result<()> {
            assert!(self.taken.lock().unwrap().is_empty(), "everything is written before the end");
            Ok(())
        }
    }

    #[test]
    fn a_slow_topic_slows_its_publisher() {
        let topics = Slow::default();
        let mut publisher = Publisher::open_at(&topics, "slow", 1).unwrap();
        let event = "x".repeat(100_000);
        for _ in 0..100 {
            publisher.publish("key", &event).unwrap();
        }
        publisher.close().unwrap();
        let most = topics.most.load(Ordering::Relaxed) as usize;
        assert!((100_000..=ON_ITS_WAY + 200_000).contains(&most), "{most} bytes were on their way");
    }
}

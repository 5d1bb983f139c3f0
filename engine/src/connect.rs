//! What a connector implements: topics that are read and written by partition.
//!
//! The engine knows no broker and no file format. It asks a [`Topics`] for the [`Source`] or the
//! [`Sink`] behind a topic's logical name, opens the partitions that a worker owns, and from then
//! on calls only methods that never block: a connector does its input and output on threads of its
//! own, bounds what it holds in bytes, and calls the [`Waker`] it was given when there is something new.
//!
//! A whole connector, of topics in memory. The examples of this crate run on it:
//!
//! ```
#![doc = include_str!("../doc/memory.rs")]
//! # fn main() {
//! let topics = Memory::default();
//! topics.publish("readings", &["12", "64"]);
//! # let opened = topics.clone();
//! let config = nekton_engine::JobConfig { until_end: true, ..nekton_engine::JobConfig::new("copy") };
//! nekton_engine::run(config, Arc::new(opened), |flow| {
//!     let readings = flow.events::<i64>("readings");
//!     flow.sink("copy", &readings);
//! }).unwrap();
//! assert_eq!(topics.lines("copy"), ["12", "64"]);
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Time;
use crate::error::Result;

/// Wakes the worker that owns a reader or writer. May be called from any thread, any number of times.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The number of a topic's partition, from 0.
pub type PartitionId = u32;

/// Where a record stands in its partition; ordered as the partition is.
///
/// Files: `entry` is the byte offset of the record in the (decompressed) file.
/// Pulsar: `ledger`, `entry`, and the record's `index` in its batch.
///
/// ```
/// use nekton_engine::connect::Position;
///
/// let first = Position { ledger: 4, entry: 17, index: 0 };
/// assert!(first < Position { index: 1, ..first } && first < Position { entry: 18, ..first });
/// assert_eq!(first.to_string(), "4:17:0");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The ledger, 0 where the topic has none.
    pub ledger: u64,
    /// The entry in the ledger, or the byte offset in the file.
    pub entry: u64,
    /// The record's index in its entry.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.ledger, self.entry, self.index)
    }
}

/// One record as a connector read it, not yet decoded.
#[derive(Clone, Debug)]
pub struct RawRecord {
    /// Where it stands.
    pub position: Position,
    /// Its key, where the topic's messages have one: text as it was published.
    pub key: Option<Bytes>,
    /// Its bytes: a line of a file, a message's payload. Empty for a tombstone.
    pub payload: Bytes,
    /// When it was published, in milliseconds since 1970; 0 where unknown.
    pub published: u64,
    /// A reason why the connector itself already knows the record to be unreadable (a bad checksum,
    /// more than the permitted bytes): it goes to the dead-letter topic without being decoded, with
    /// the first bytes of it in `payload`.
    pub defect: Option<String>,
}

/// What [`PartitionReader::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// More records are waiting, poll again at once.
    More,
    /// Nothing more now; the waker will be called.
    Idle,
    /// At the end of what there is, and nobody known is writing more. Asked again later, there may
    /// be more all the same; an engine that reads "until the end" stops when every partition says so.
    End,
}

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is kept.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// At the first record published at this time or later, in milliseconds since 1970.
    PublishedAt(u64),
    /// Behind this record, which must still be there: if records between it and the oldest kept one
    /// are gone, reading fails with [`crate::Kind::Lost`].
    After(Position),
}

/// A topic opened for reading.
pub trait Source: Send + Sync {
    /// How many partitions are known now. It may grow while a job runs (the connector looks from
    /// time to time); it never shrinks. Does not block.
    fn partitions(&self) -> u32;
    /// The waker of a worker, to be called when [`Source::partitions`] has grown. Every worker says
    /// this once, also one that owns no partition yet.
    fn watch(&self, waker: Waker) {
        let _ = waker;
    }
    /// Opens one partition. `Ok` may come before the connection stands.
    fn open(&self, partition: PartitionId, start: Start, waker: Waker) -> Result<Box<dyn PartitionReader>>;
    /// Whether the values in its records have no types of their own (the cells of CSV): JSON objects
    /// then, whose values are read as whatever the program's type wants there.
    fn untyped(&self) -> bool {
        false
    }
    /// The topic as a person would write it, for messages: its URL.
    fn describe(&self) -> String;
}

/// One partition being read. Used by one worker thread at a time.
pub trait PartitionReader: Send {
    /// Appends waiting records to `out`, in order, until about `budget` bytes are there. Never
    /// blocks. What was handed over makes room for more in the connector's bounded queue; a record that is handed
    /// over again, at the same position, is left out.
    fn poll(&mut self, budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled>;
    /// Everything up to and including `position` is done with: its effects have left on the sinks.
    /// Never goes back. A broker may be told, a file has nothing to do.
    fn release(&mut self, position: Position) {
        let _ = position;
    }
    /// What was the end may not be any more: something was being published until now. An [`Polled::End`] from now on
    /// is one that was found after this.
    fn recheck(&mut self) {}
    /// How many records (bytes for files) are between what was read and the end, where known.
    fn lag(&self) -> Option<u64> {
        None
    }
}

/// How the messages of an output topic are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Envelope {
    /// Plain events, one a message.
    Events,
    /// `{"key":..,"before":..,"after":..,"time":..}`: each change of a key's value.
    Changes,
    /// Key and newest value; no value deletes. Compacts.
    Upsert,
    /// `{"data":..,"time":..,"diff":±n}`: each change of a multiset.
    Diffs,
}

/// One message to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The key as JSON text (`"UA"`, `17`, `["a",1]`), none for events without a key.
    pub key: Option<Bytes>,
    /// The value: JSON text under the built-in codec. `None` is a tombstone (upsert only).
    pub value: Option<Bytes>,
}

/// All messages of one time for one partition of an output topic, in order. A message's position
/// is (time, `first` and its index here).
#[derive(Clone, Debug)]
pub struct WriteBatch {
    /// The time whose changes these are.
    pub time: Time,
    /// The index of the first message: how many of this time the partition holds already.
    pub first: u64,
    /// The messages, in their order.
    pub messages: Vec<Message>,
}

/// What an output topic needs to know beforehand.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// How its messages are to be read.
    pub envelope: Envelope,
    /// The shape of a message's value as an Avro schema in JSON, where it is known.
    pub schema: Option<String>,
    /// How many partitions to create if the topic does not exist yet.
    pub partitions: u32,
}

/// A topic opened for writing.
pub trait Sink: Send + Sync {
    /// How many partitions the topic has; fixed while the sink is open.
    fn partitions(&self) -> u32;
    /// Opens one partition for the only writer it may have.
    fn open(&self, partition: PartitionId, waker: Waker) -> Result<Box<dyn PartitionWriter>>;
    /// The topic as a person would write it, for messages: its URL.
    fn describe(&self) -> String;
}

/// One partition being written. Used by one worker thread at a time.
pub trait PartitionWriter: Send {
    /// Takes over a batch; times only grow. Never blocks: the engine bounds what is outstanding by
    /// the epochs in flight.
    fn write(&mut self, batch: WriteBatch) -> Result<()>;
    /// The greatest time all of whose messages, and those of all before, are safely out (received
    /// by the broker, handed to the operating system). The waker is called when it grows.
    fn written(&mut self) -> Result<Option<Time>>;
    /// How many messages of [`PartitionWriter::last_time`] the partition already held when it was opened. They are
    /// the first ones of that time.
    fn last_count(&self) -> u64 {
        0
    }
    /// The time of the last message that the partition already held when it was opened, as far as
    /// is known by now. New times start after it.
    fn last_time(&self) -> Option<Time> {
        None
    }
    /// Waits until everything is out and closes. Called once at a clean end; may block.
    fn close(self: Box<Self>) -> Result<()>;
}

/// A small log of records that are durable one after the other: which records got which time.
pub trait Log: Send {
    /// What it holds, oldest first. Called once, before anything is appended.
    fn read(&mut self) -> Result<Vec<Bytes>>;
    /// Appends a record. Never blocks.
    fn append(&mut self, record: Bytes) -> Result<()>;
    /// How many of the records that were appended are durable. The waker is called when it grows.
    fn durable(&mut self) -> Result<u64>;
    /// The next `count` records, oldest first, read or appended, are not needed any more.
    fn trim(&mut self, count: u64) -> Result<()>;
}

/// Objects by name: where checkpoints are kept. All of it may block.
pub trait Store: Send + Sync {
    /// Stores an object, whole or not at all.
    fn put(&self, name: &str, content: Bytes) -> Result<()>;
    /// Stores an object unless there is one of this name: whether it did.
    fn create(&self, name: &str, content: Bytes) -> Result<bool>;
    /// An object's content, if there is one.
    fn get(&self, name: &str) -> Result<Option<Bytes>>;
    /// The names that begin so, in any order.
    fn list(&self, prefix: &str) -> Result<Vec<String>>;
    /// Deletes an object. That it is not there is no error.
    fn delete(&self, name: &str) -> Result<()>;
    /// The store as a person would write it, for messages: its URL.
    fn describe(&self) -> String;
}

/// Finds the topic behind a logical name. Implemented where flags are read.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// use nekton_engine::connect::{Sink, SinkSettings, Source, Topics};
/// use std::sync::Arc;
///
/// /// Topics of which one job sees only those that begin with its name.
/// struct Under(&'static str, Memory);
///
/// impl Topics for Under {
///     fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
///         self.1.source(&format!("{}/{name}", self.0))
///     }
///     fn sink(&self, name: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
///         self.1.sink(&format!("{}/{name}", self.0), settings)
///     }
/// }
///
/// # let memory = Memory::default();
/// # memory.publish("house/readings", &["12", "64"]);
/// # let topics = Arc::new(Under("house", memory.clone()));
/// # let config = JobConfig { until_end: true, ..JobConfig::new("house") };
/// run(config, topics, |flow| {
///     let readings = flow.events::<i64>("readings"); // 12, 64, of `house/readings`
///     flow.sink("hot", &readings.filter(|celsius| *celsius > 60));
/// })?;
/// assert_eq!(memory.lines("house/hot"), ["64"]);
/// # Ok::<(), Error>(())
/// ```
pub trait Topics: Send + Sync {
    /// Opens `name` for reading. `until_end` asks for the end of the input to be reported.
    fn source(&self, name: &str) -> Result<Arc<dyn Source>>;
    /// Opens `name` for writing, creating it where it does not exist.
    fn sink(&self, name: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>>;
    /// Opens the log of a job's bindings, and takes it over from a run that may still be there. `waker` is
    /// called when [`Log::durable`] grows.
    fn log(&self, job: &str, waker: Waker) -> Result<Box<dyn Log>> {
        let _ = waker;
        Err(crate::Error::config(format!(
            "job {job:?} cannot have checkpoints: its topics have no place for a log"
        )))
    }
    /// Called when the program has named all its topics: the moment to refuse settings for others.
    fn built(&self) -> Result<()> {
        Ok(())
    }
}

//! Topics whose input can be read again, as checkpoints need it: a record follows from its number. Reading
//! costs as little as it can, so that what is measured is the engine: records have no payload, and their
//! sample stands where the time of publishing would. The log of bindings is in files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use nekton::connect::{
    Log, PartitionId, PartitionReader, PartitionWriter, Polled, Position, RawRecord, Sink, SinkSettings,
    Source, Start, Topics, Waker, WriteBatch,
};
use nekton::{Result, Time};
use nekton_connectors::file::open_log;

/// An agent and a value below 100.
pub type Sample = (u64, u32);

/// The sample of a record of [`Again`].
pub fn sample(record: &RawRecord) -> Result<Sample, String> {
    Ok((record.published / 100, (record.published % 100) as u32))
}

/// A partition of the input: so many samples, each by its number.
#[derive(Clone)]
pub struct Input {
    /// How many there are.
    pub count: usize,
    /// The sample of a number.
    pub at: Arc<dyn Fn(usize) -> Sample + Send + Sync>,
}

/// The one input topic, which ends, and whatever is written.
#[derive(Clone)]
pub struct Again(Arc<Contents>);

struct Contents {
    inputs: Vec<Input>,
    folder: PathBuf,
    messages: AtomicU64,
    /// When the first message was written.
    first: Mutex<Option<Instant>>,
}

impl Again {
    /// Topics with an input of these partitions. The log is kept in `folder`.
    pub fn new(inputs: Vec<Input>, folder: PathBuf) -> Self {
        let (messages, first) = (AtomicU64::new(0), Mutex::new(None));
        Again(Arc::new(Contents { inputs, folder, messages, first }))
    }
    /// How many messages have been written.
    pub fn messages(&self) -> u64 {
        self.0.messages.load(Ordering::Relaxed)
    }
    /// When the first message was written.
    pub fn first(&self) -> Option<Instant> {
        *self.0.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topics for Again {
    fn source(&self, _name: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.clone()))
    }
    fn sink(&self, _name: &str, _settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(self.clone()))
    }
    fn log(&self, job: &str, waker: Waker) -> Result<Box<dyn Log>> {
        open_log(&self.0.folder.join(job), waker)
    }
}

impl Source for Again {
    fn partitions(&self) -> PartitionId {
        self.0.inputs.len() as PartitionId
    }
    fn open(&self, partition: PartitionId, start: Start, _waker: Waker) -> Result<Box<dyn PartitionReader>> {
        let next = match start {
            Start::After(position) => position.entry as usize + 1,
            _ => 0,
        };
        Ok(Box::new(Reader { input: self.0.inputs[partition as usize].clone(), next }))
    }
    fn describe(&self) -> String {
        "memory:input".to_owned()
    }
}

struct Reader {
    input: Input,
    next: usize,
}

/// Readings are cut to this, as those of a connector are.
const BLOCK: usize = 10_000;

impl PartitionReader for Reader {
    fn poll(&mut self, budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        let left = self.input.count.saturating_sub(self.next);
        let count = (budget / size_of::<Sample>()).clamp(1, BLOCK).min(left);
        out.extend((self.next..self.next + count).map(|number| {
            let (agent, value) = (self.input.at)(number);
            RawRecord {
                position: Position { entry: number as u64, ..Position::default() },
                key: None,
                payload: Bytes::new(),
                published: agent * 100 + u64::from(value),
                defect: None,
            }
        }));
        self.next += count;
        Ok(if count == left { Polled::End } else { Polled::More })
    }
}

impl Sink for Again {
    fn partitions(&self) -> PartitionId {
        1
    }
    fn open(&self, _partition: PartitionId, _waker: Waker) -> Result<Box<dyn PartitionWriter>> {
        Ok(Box::new(Writer { topics: self.clone(), last: None }))
    }
    fn describe(&self) -> String {
        "memory:output".to_owned()
    }
}

struct Writer {
    topics: Again,
    last: Option<Time>,
}

impl PartitionWriter for Writer {
    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        let contents = &self.topics.0;
        contents.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        contents.messages.fetch_add(batch.messages.len() as u64, Ordering::Relaxed);
        self.last = Some(batch.time);
        Ok(())
    }
    fn written(&mut self) -> Result<Option<Time>> {
        Ok(self.last)
    }
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

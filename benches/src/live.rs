//! Topics in memory, for a generator on the one side and a clock on the other: a real source and a real sink of the
//! engine, as far as the engine can tell.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use nekton::connect::{
    Log, PartitionId, PartitionReader, PartitionWriter, Polled, Position, RawRecord, Sink, SinkSettings,
    Source, Start, Topics, Waker, WriteBatch,
};
use nekton::{Error, Result, Time};
use nekton_connectors::file::open_log;

/// The one input topic and whatever is written.
#[derive(Clone)]
pub struct Live(Arc<Contents>);

struct Contents {
    inputs: Vec<Mutex<Input>>,
    /// What was written, with when it came.
    received: Mutex<Vec<(Instant, WriteBatch)>>,
    /// Where the log of bindings is kept.
    log: Option<PathBuf>,
}

#[derive(Default)]
struct Input {
    waiting: Vec<RawRecord>,
    /// Records published so far.
    published: u64,
    waker: Option<Waker>,
    ended: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Empty topics, the input with so many partitions.
    pub fn new(partitions: usize) -> Self {
        Live::with_log(partitions, None)
    }
    /// The same, with a folder for the log of bindings. What was read is not kept: a job can have checkpoints, but not
    /// go on from them.
    pub fn with_log(partitions: usize, log: Option<PathBuf>) -> Self {
        let inputs = (0..partitions).map(|_| Mutex::default()).collect();
        Live(Arc::new(Contents { inputs, received: Mutex::default(), log }))
    }
    /// Appends records to a partition of the input and wakes its reader.
    pub fn publish(&self, partition: usize, payloads: impl Iterator<Item = Bytes>) {
        let mut input = lock(&self.0.inputs[partition]);
        for payload in payloads {
            let position = Position { entry: input.published, ..Position::default() };
            input.published += 1;
            input.waiting.push(RawRecord { position, key: None, payload, published: 0, defect: None });
        }
        let waker = input.waker.clone();
        drop(input);
        if let Some(waker) = waker {
            waker();
        }
    }
    /// Ends the input.
    pub fn end(&self) {
        for input in &self.0.inputs {
            let mut input = lock(input);
            input.ended = true;
            if let Some(waker) = &input.waker {
                waker();
            }
        }
    }
    /// Whether every partition of the input is being read.
    pub fn is_read(&self) -> bool {
        self.0.inputs.iter().all(|input| lock(input).waker.is_some())
    }
    /// How many batches have been written.
    pub fn batches(&self) -> usize {
        lock(&self.0.received).len()
    }
    /// Takes what was written.
    pub fn take(&self) -> Vec<(Instant, WriteBatch)> {
        std::mem::take(&mut lock(&self.0.received))
    }
}

impl Topics for Live {
    fn source(&self, _name: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.clone()))
    }
    fn sink(&self, _name: &str, _settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(self.clone()))
    }
    fn log(&self, job: &str, waker: Waker) -> Result<Box<dyn Log>> {
        let folder = self.0.log.as_ref().ok_or_else(|| Error::config("these topics have no log"))?;
        open_log(&folder.join(job), waker)
    }
}

impl Source for Live {
    fn partitions(&self) -> PartitionId {
        self.0.inputs.len() as PartitionId
    }
    fn open(&self, partition: PartitionId, _start: Start, waker: Waker) -> Result<Box<dyn PartitionReader>> {
        lock(&self.0.inputs[partition as usize]).waker = Some(waker);
        Ok(Box::new(Reader { live: self.clone(), partition }))
    }
    fn describe(&self) -> String {
        "memory:input".to_owned()
    }
}

struct Reader {
    live: Live,
    partition: PartitionId,
}

impl PartitionReader for Reader {
    fn poll(&mut self, budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        let mut input = lock(&self.live.0.inputs[self.partition as usize]);
        let mut bytes = 0;
        let fits = input.waiting.iter().take_while(|record| {
            let before = bytes;
            bytes += record.payload.len();
            before < budget
        });
        let count = fits.count();
        out.extend(input.waiting.drain(..count));
        Ok(match (input.waiting.is_empty(), input.ended) {
            (false, _) => Polled::More,
            (true, true) => Polled::End,
            (true, false) => Polled::Idle,
        })
    }
}

impl Sink for Live {
    fn partitions(&self) -> PartitionId {
        1
    }
    fn open(&self, _partition: PartitionId, _waker: Waker) -> Result<Box<dyn PartitionWriter>> {
        Ok(Box::new(Writer { live: self.clone(), last: None }))
    }
    fn describe(&self) -> String {
        "memory:output".to_owned()
    }
}

struct Writer {
    live: Live,
    last: Option<Time>,
}

impl PartitionWriter for Writer {
    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        let now = Instant::now();
        self.last = Some(batch.time);
        lock(&self.live.0.received).push((now, batch));
        Ok(())
    }
    fn written(&mut self) -> Result<Option<Time>> {
        Ok(self.last)
    }
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

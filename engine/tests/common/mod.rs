//! Topics in memory: a real source and a real sink of the engine, as far as the engine can tell, whose
//! contents a test sets and reads.
#![allow(dead_code, reason = "each test uses its share")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nekton_engine::connect::{
    Message, PartitionId, PartitionReader, PartitionWriter, Polled, Position, RawRecord, Sink, SinkSettings,
    Source, Start, Topics, Waker, WriteBatch,
};
use nekton_engine::{Error, Kind, Result, Time};

/// All topics of a test.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    inputs: HashMap<String, Vec<Input>>,
    outputs: BTreeMap<String, Vec<Vec<WriteBatch>>>,
    new_partitions: PartitionId,
    /// Batches that slow sinks hold back; `None`: sinks are not slow.
    held: Option<VecDeque<Waker>>,
    outstanding: usize,
    most_outstanding: usize,
    released: HashMap<(String, PartitionId), Position>,
}

#[derive(Default)]
struct Input {
    records: Vec<(Bytes, Option<String>)>,
    wakers: Vec<Waker>,
    open: bool,
    read: usize,
}

impl Memory {
    /// A topic to be read, with the lines of each partition; it has ended.
    pub fn input(&self, name: &str, partitions: &[&[&str]]) {
        let inputs = partitions.iter().map(|lines| Input {
            records: lines.iter().map(|line| (Bytes::copy_from_slice(line.as_bytes()), None)).collect(),
            ..Input::default()
        });
        self.0.lock().unwrap().inputs.insert(name.to_owned(), inputs.collect());
    }
    /// Appends a line to a topic that stays open, and wakes its reader.
    pub fn push(&self, name: &str, partition: usize, line: &str) {
        let mut contents = self.0.lock().unwrap();
        let input = &mut contents.inputs.get_mut(name).expect("the topic exists")[partition];
        input.records.push((Bytes::copy_from_slice(line.as_bytes()), None));
        for waker in &input.wakers {
            waker();
        }
    }
    /// Appends a record that the connector knows to be unreadable.
    pub fn push_defect(&self, name: &str, partition: usize, bytes: &[u8], defect: &str) {
        let mut contents = self.0.lock().unwrap();
        let input = &mut contents.inputs.get_mut(name).expect("the topic exists")[partition];
        input.records.push((Bytes::copy_from_slice(bytes), Some(defect.to_owned())));
    }
    /// Keeps a topic open for more.
    pub fn keep_open(&self, name: &str) {
        for input in self.0.lock().unwrap().inputs.get_mut(name).expect("the topic exists") {
            input.open = true;
        }
    }
    /// How many partitions new output topics get.
    pub fn new_partitions(&self, count: PartitionId) {
        self.0.lock().unwrap().new_partitions = count;
    }
    /// From now on sinks say "written" only when [`Memory::let_go`] is called.
    pub fn hold_sinks(&self) {
        self.0.lock().unwrap().held = Some(VecDeque::new());
    }
    /// Lets sinks write again.
    pub fn let_go(&self) {
        let wakers = self.0.lock().unwrap().held.take();
        for waker in wakers.into_iter().flatten() {
            waker();
        }
    }
    /// How many records of a partition were read.
    pub fn read(&self, name: &str, partition: usize) -> usize {
        self.0.lock().unwrap().inputs[name][partition].read
    }
    /// What was written to a topic, by partition: batches in their order.
    pub fn output(&self, name: &str) -> Vec<Vec<WriteBatch>> {
        self.0.lock().unwrap().outputs.get(name).cloned().unwrap_or_default()
    }
    /// Up to where the source of a partition was told that all is done.
    pub fn released(&self, name: &str, partition: PartitionId) -> Option<Position> {
        self.0.lock().unwrap().released.get(&(name.to_owned(), partition)).copied()
    }
    /// All messages of a topic with their times, as text.
    pub fn lines(&self, name: &str) -> Vec<(Time, Option<String>, Option<String>)> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8");
        let mut lines = Vec::new();
        for batch in self.output(name).into_iter().flatten() {
            for Message { key, value } in batch.messages {
                lines.push((batch.time, key.map(text), value.map(text)));
            }
        }
        lines
    }
}

impl Topics for Memory {
    fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
        if !self.0.lock().unwrap().inputs.contains_key(name) {
            return Err(Error::new(Kind::Missing, format!("there is no topic {name}")));
        }
        Ok(Arc::new(MemorySource { memory: self.clone(), name: name.to_owned() }))
    }
    fn sink(&self, name: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        let mut contents = self.0.lock().unwrap();
        let partitions = contents.new_partitions.max(settings.partitions);
        contents.outputs.entry(name.to_owned()).or_insert_with(|| vec![Vec::new(); partitions as usize]);
        Ok(Arc::new(MemorySink { memory: self.clone(), name: name.to_owned(), partitions }))
    }
}

struct MemorySource {
    memory: Memory,
    name: String,
}

impl Source for MemorySource {
    fn partitions(&self) -> PartitionId {
        self.memory.0.lock().unwrap().inputs[&self.name].len() as PartitionId
    }
    fn open(&self, partition: PartitionId, _start: Start, waker: Waker) -> Result<Box<dyn PartitionReader>> {
        let mut contents = self.memory.0.lock().unwrap();
        contents.inputs.get_mut(&self.name).unwrap()[partition as usize].wakers.push(waker);
        Ok(Box::new(MemoryReader { memory: self.memory.clone(), name: self.name.clone(), partition, at: 0 }))
    }
    fn describe(&self) -> String {
        format!("memory:{}", self.name)
    }
}

struct MemoryReader {
    memory: Memory,
    name: String,
    partition: PartitionId,
    at: usize,
}

impl PartitionReader for MemoryReader {
    fn poll(&mut self, budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        let mut contents = self.memory.0.lock().unwrap();
        let input = &mut contents.inputs.get_mut(&self.name).unwrap()[self.partition as usize];
        let mut left = budget as isize;
        while left > 0 && self.at < input.records.len() {
            let (payload, defect) = input.records[self.at].clone();
            left -= payload.len() as isize + 1;
            let position = Position { entry: self.at as u64, ..Position::default() };
            out.push(RawRecord { position, key: None, payload, published: 0, defect });
            self.at += 1;
        }
        input.read = self.at;
        Ok(match (self.at < input.records.len(), input.open) {
            (true, _) => Polled::More,
            (false, true) => Polled::Idle,
            (false, false) => Polled::End,
        })
    }
    fn release(&mut self, position: Position) {
        let mut contents = self.memory.0.lock().unwrap();
        let before = contents.released.insert((self.name.clone(), self.partition), position);
        assert!(before.is_none_or(|before| before <= position), "what is done with never goes back");
    }
}

struct MemorySink {
    memory: Memory,
    name: String,
    partitions: PartitionId,
}

impl Sink for MemorySink {
    fn partitions(&self) -> PartitionId {
        self.partitions
    }
    fn open(&self, partition: PartitionId, waker: Waker) -> Result<Box<dyn PartitionWriter>> {
        let (memory, name) = (self.memory.clone(), self.name.clone());
        Ok(Box::new(MemoryWriter { memory, name, partition, waker, last: None }))
    }
    fn describe(&self) -> String {
        format!("memory:{}", self.name)
    }
}

struct MemoryWriter {
    memory: Memory,
    name: String,
    partition: PartitionId,
    waker: Waker,
    last: Option<Time>,
}

impl PartitionWriter for MemoryWriter {
    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        assert!(self.last.is_none_or(|last| last < batch.time), "times only grow");
        self.last = Some(batch.time);
        let mut contents = self.memory.0.lock().unwrap();
        contents.outstanding += 1;
        contents.most_outstanding = contents.most_outstanding.max(contents.outstanding);
        contents.outputs.get_mut(&self.name).unwrap()[self.partition as usize].push(batch);
        if let Some(held) = &mut contents.held {
            held.push_back(self.waker.clone());
        }
        Ok(())
    }
    fn written(&mut self) -> Result<Option<Time>> {
        let contents = self.memory.0.lock().unwrap();
        Ok(if contents.held.is_some() { None } else { self.last })
    }
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Waits for a condition, for half a minute at most.
#[allow(clippy::disallowed_methods, reason = "a deadline for a real job")]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

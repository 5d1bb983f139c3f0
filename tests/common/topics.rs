//! Reading and writing topics on a real broker, without an engine around it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nekton::connect::{
    Envelope, Message, PartitionReader, PartitionWriter, Polled, Position, RawRecord, SinkSettings, Source,
    Start, Waker, WriteBatch,
};
use nekton_connectors::pulsar::Pulsar;

use super::job::PATIENCE;

/// A waker, and what it wakes.
pub fn waker() -> (Waker, Receiver<()>) {
    let (sender, receiver): (Sender<()>, _) = channel();
    let sender = Mutex::new(sender);
    let waker: Waker = Arc::new(move || {
        let _ = sender.lock().unwrap().send(());
    });
    (waker, receiver)
}

pub fn settings(partitions: u32) -> SinkSettings {
    SinkSettings { envelope: Envelope::Events, schema: None, partitions }
}

pub fn message(value: impl Into<String>) -> Message {
    Message { key: None, value: Some(value.into().into_bytes().into()) }
}

/// One partition's writer, and how to wait for it.
pub struct Writer {
    pub inner: Box<dyn PartitionWriter>,
    woken: Receiver<()>,
    pub time: u64,
}

impl Writer {
    pub fn open(pulsar: &Pulsar, url: &str, partition: u32, partitions: u32) -> nekton::Result<Self> {
        let (waker, woken) = waker();
        let inner = pulsar.sink(url, &settings(partitions))?.open(partition, waker)?;
        let time = inner.last_time().unwrap_or(0);
        Ok(Writer { inner, woken, time })
    }

    /// Writes these as the next time's.
    pub fn write(&mut self, messages: Vec<Message>) -> nekton::Result<()> {
        self.time += 1;
        self.inner.write(WriteBatch { time: self.time, first: 0, messages })
    }

    /// Waits until all but the last `lag` times are out.
    pub fn wait(&mut self, lag: u64) -> nekton::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.inner.written()?.unwrap_or(0) + lag < self.time {
            assert!(Instant::now() < deadline, "what was written is not confirmed");
            let _ = self.woken.recv_timeout(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// Writes lines to one partition and closes it.
pub fn publish(pulsar: &Pulsar, url: &str, lines: impl IntoIterator<Item = String>) {
    let mut writer = Writer::open(pulsar, url, 0, 1).unwrap();
    writer.write(lines.into_iter().map(message).collect()).unwrap();
    writer.inner.close().unwrap();
}

/// A topic's partitions being read.
pub struct Reading {
    source: Arc<dyn Source>,
    start: Start,
    waker: Waker,
    woken: Receiver<()>,
    pub partitions: Vec<Box<dyn PartitionReader>>,
    pub last: BTreeMap<u32, Position>,
}

impl Reading {
    pub fn open(pulsar: &Pulsar, url: &str, start: Start) -> nekton::Result<Self> {
        let source = pulsar.source(url)?;
        let (waker, woken) = waker();
        source.watch(waker.clone());
        let mut reading =
            Reading { source, start, waker, woken, partitions: Vec::new(), last: BTreeMap::new() };
        reading.open_new()?;
        Ok(reading)
    }

    fn open_new(&mut self) -> nekton::Result<()> {
        while self.partitions.len() < self.source.partitions() as usize {
            self.partitions.push(self.source.open(
                self.partitions.len() as u32,
                self.start,
                self.waker.clone(),
            )?);
        }
        Ok(())
    }

    /// What has come since; whether every partition is at its end.
    pub fn poll(&mut self, into: &mut Vec<(u32, RawRecord)>) -> nekton::Result<bool> {
        self.open_new()?;
        let mut ended = true;
        let mut records = Vec::new();
        for (number, partition) in self.partitions.iter_mut().enumerate() {
            ended &= partition.poll(1 << 20, &mut records)? == Polled::End;
            for record in records.drain(..) {
                let last = self.last.insert(number as u32, record.position);
                assert!(last.is_none_or(|last| last < record.position), "in order, and none twice");
                into.push((number as u32, record));
            }
        }
        Ok(ended)
    }

    /// Takes what waits of one partition at this moment; whether there was something.
    pub fn poll_one(&mut self, partition: u32, into: &mut Vec<(u32, RawRecord)>) -> bool {
        let mut records = Vec::new();
        let polled = self.partitions[partition as usize].poll(usize::MAX, &mut records).unwrap();
        into.extend(records.into_iter().map(|record| (partition, record)));
        polled == Polled::More
    }

    /// Reads until `enough`, waiting for it.
    pub fn until(
        &mut self,
        mut enough: impl FnMut(&[(u32, RawRecord)], bool) -> bool,
    ) -> nekton::Result<Vec<(u32, RawRecord)>> {
        let deadline = Instant::now() + PATIENCE;
        let mut records = Vec::new();
        loop {
            let ended = self.poll(&mut records)?;
            if enough(&records, ended) {
                return Ok(records);
            }
            assert!(Instant::now() < deadline, "{} records came, and no more", records.len());
            let _ = self.woken.recv_timeout(Duration::from_millis(100));
        }
    }

    /// Everything there is.
    pub fn read_to_the_end(&mut self) -> nekton::Result<Vec<(u32, RawRecord)>> {
        self.until(|_, ended| ended)
    }

    pub fn count(&mut self, count: usize) -> nekton::Result<Vec<(u32, RawRecord)>> {
        self.until(|records, _| records.len() >= count)
    }

    /// Says that all that was read is done with.
    pub fn release(&mut self) {
        for (partition, position) in &self.last {
            self.partitions[*partition as usize].release(*position);
        }
    }
}

pub fn text(record: &RawRecord) -> &str {
    std::str::from_utf8(&record.payload).unwrap()
}

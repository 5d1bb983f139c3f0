//! A log in a topic: written by an exclusive producer, so that an earlier run can write nothing more; kept and
//! trimmed by a durable subscription, which is acknowledged behind what is still needed.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nekton_engine::connect::{
    Envelope, Log, Message, PartitionReader, PartitionWriter, Polled, Position, SinkSettings, Start, Waker,
    WriteBatch,
};
use nekton_engine::{Error, Kind, Result};

use super::Pulsar;

/// How long the log may take to be read.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct PulsarLog {
    writer: Box<dyn PartitionWriter>,
    content: Content,
    /// The number that the writer knows a record by: its time.
    number: u64,
    /// The writer's number before the first record of this run.
    before: u64,
    /// Records that are not needed, and have not been read back.
    obsolete: u64,
}

impl PulsarLog {
    pub(super) fn open(writing: &Pulsar, reading: &Pulsar, url: &str, waker: Waker) -> Result<Self> {
        let settings = SinkSettings { envelope: Envelope::Events, schema: None, partitions: 1 };
        // Its reader keeps what is needed of it.
        let sink = writing.anchored_sink(url, &settings, false)?;
        // From here on, no earlier run writes.
        let writer = sink.open(0, waker)?;
        let number = writer.last_time().unwrap_or(0).max(super::now());
        let content = Content::open(reading, url)?;
        Ok(PulsarLog { writer, content, number, before: number, obsolete: 0 })
    }
}

/// What a log holds.
pub(super) struct Content {
    url: String,
    reader: Box<dyn PartitionReader>,
    rung: Arc<(Mutex<bool>, Condvar)>,
    /// Where records stand that are still needed, oldest first, as far as they have been read back.
    positions: VecDeque<Position>,
}

impl Content {
    pub(super) fn open(reading: &Pulsar, url: &str) -> Result<Self> {
        let rung: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let bell = rung.clone();
        let waker: Waker = Arc::new(move || {
            *bell.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            bell.1.notify_all();
        });
        let reader = reading.source(url)?.open(0, Start::Earliest, waker)?;
        Ok(Content { url: url.to_owned(), reader, rung, positions: VecDeque::new() })
    }

    /// Takes in what has come back; whether that is all.
    fn take(&mut self, records: &mut Vec<Bytes>) -> Result<bool> {
        let mut read = Vec::new();
        let polled = self.reader.poll(1 << 20, &mut read)?;
        for record in read {
            if let Some(defect) = record.defect {
                let why = format!("{} has an unreadable record at {}: {defect}", self.url, record.position);
                return Err(Error::new(Kind::Lost, why));
            }
            self.positions.push_back(record.position);
            records.push(record.payload);
        }
        Ok(polled == Polled::End)
    }

    /// Reads it to its end.
    pub(super) fn read(&mut self) -> Result<Vec<Bytes>> {
        let begun = Instant::now();
        let mut records = Vec::new();
        while !self.take(&mut records)? {
            if begun.elapsed() > PATIENCE {
                return Err(Error::new(
                    Kind::Unavailable,
                    format!("{} could not be read to its end", self.url),
                ));
            }
            let rung = self.rung.0.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.rung.1.wait_timeout_while(rung, Duration::from_millis(50), |rung| !*rung);
            *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
        }
        Ok(records)
    }
}

impl Log for PulsarLog {
    fn read(&mut self) -> Result<Vec<Bytes>> {
        self.content.read()
    }

    fn append(&mut self, record: Bytes) -> Result<()> {
        self.number += 1;
        let message = Message { key: None, value: Some(record) };
        self.writer.write(WriteBatch { time: self.number, first: 0, messages: vec![message] })
    }

    fn durable(&mut self) -> Result<u64> {
        Ok(self.writer.written()?.map_or(0, |written| written - self.before))
    }

    fn trim(&mut self, count: u64) -> Result<()> {
        self.obsolete += count;
        let mut back = Vec::new();
        while !self.content.positions.is_empty() || self.obsolete > 0 {
            let before = self.content.positions.len();
            self.content.take(&mut back)?;
            back.clear();
            if self.content.positions.len() == before {
                break;
            }
        }
        let mut last = None;
        while self.obsolete > 0
            && let Some(position) = self.content.positions.pop_front()
        {
            self.obsolete -= 1;
            last = Some(position);
        }
        if let Some(last) = last {
            self.content.reader.release(last);
        }
        Ok(())
    }
}

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use nekton_engine::connect::{
    Envelope, PartitionReader, PartitionWriter, Polled, Position, RawRecord, Sink, SinkSettings, Source,
    Start, Topics, Waker, WriteBatch,
};
use nekton_engine::{Error, Kind, Result, Time};

/// Topics of one partition each.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<String, Vec<String>>>>);

impl Memory {
    pub fn publish(&self, topic: &str, lines: &[&str]) {
        let mut topics = self.0.lock().unwrap();
        topics.entry(topic.to_owned()).or_default().extend(lines.iter().map(|&line| line.to_owned()));
    }
    pub fn lines(&self, topic: &str) -> Vec<String> {
        self.0.lock().unwrap().get(topic).cloned().unwrap_or_default()
    }
}

impl Topics for Memory {
    fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
        if !self.0.lock().unwrap().contains_key(name) {
            return Err(Error::new(
                Kind::Missing,
                format!("there is no topic {name:?}: publish to it first"),
            ));
        }
        Ok(Arc::new(Topic { topics: self.clone(), name: name.to_owned(), envelope: Envelope::Events }))
    }
    fn sink(&self, name: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        self.publish(name, &[]);
        Ok(Arc::new(Topic { topics: self.clone(), name: name.to_owned(), envelope: settings.envelope }))
    }
}

#[derive(Clone)]
struct Topic {
    topics: Memory,
    name: String,
    envelope: Envelope,
}

impl Source for Topic {
    fn partitions(&self) -> u32 {
        1
    }
    fn open(&self, _partition: u32, start: Start, _waker: Waker) -> Result<Box<dyn PartitionReader>> {
        let next = match start {
            Start::Latest => self.topics.lines(&self.name).len(),
            Start::After(position) => position.entry as usize + 1,
            Start::Earliest | Start::PublishedAt(_) => 0,
        };
        Ok(Box::new(Reader { topic: self.clone(), next }))
    }
    fn describe(&self) -> String {
        format!("memory:{}", self.name)
    }
}

struct Reader {
    topic: Topic,
    next: usize,
}

impl PartitionReader for Reader {
    fn poll(&mut self, mut budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        for line in self.topic.topics.lines(&self.topic.name).split_off(self.next) {
            if budget == 0 {
                return Ok(Polled::More);
            }
            budget = budget.saturating_sub(line.len());
            let position = Position { entry: self.next as u64, ..Position::default() };
            out.push(RawRecord { position, key: None, payload: line.into(), published: 0, defect: None });
            self.next += 1;
        }
        Ok(Polled::End) // what is published later is not waited for
    }
}

impl Sink for Topic {
    fn partitions(&self) -> u32 {
        1
    }
    fn open(&self, _partition: u32, _waker: Waker) -> Result<Box<dyn PartitionWriter>> {
        Ok(Box::new(Writer { topic: self.clone(), written: None }))
    }
    fn describe(&self) -> String {
        format!("memory:{}", self.name)
    }
}

struct Writer {
    topic: Topic,
    written: Option<Time>,
}

impl PartitionWriter for Writer {
    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        for message in batch.messages {
            let text = |bytes: Option<bytes::Bytes>| {
                bytes.map_or("null".to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            let value = text(message.value);
            let line = match self.topic.envelope {
                Envelope::Upsert => {
                    format!(r#"{{"key":{},"value":{value},"time":{}}}"#, text(message.key), batch.time)
                }
                _ => value,
            };
            self.topic.topics.publish(&self.topic.name, &[&line]);
        }
        self.written = Some(batch.time);
        Ok(())
    }
    fn written(&mut self) -> Result<Option<Time>> {
        Ok(self.written)
    }
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

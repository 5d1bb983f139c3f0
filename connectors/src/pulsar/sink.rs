//! A topic on Pulsar being written.

use std::sync::Arc;
use std::time::Duration;

use nekton_engine::connect::{PartitionId, PartitionWriter, Sink, SinkSettings, Waker, WriteBatch};
use nekton_engine::{Error, Kind, Result, Time};
use pulsar::message::proto::{self, schema};
use tokio::sync::mpsc;

use super::anchor::Anchor;
use super::client::{Backoff, Client};
use super::producer::{Given, Producer, Told};
use super::tail::tail;
use super::topic::TopicUrl;
use super::window::Window;
use super::{PATIENCE, Shared, partition_name};

/// How long what was written may take to be confirmed when a job ends.
const CLOSING: Duration = Duration::from_secs(120);
/// How long the anchor may then take to follow.
const ANCHORING: Duration = Duration::from_secs(3);

pub(super) struct PulsarSink {
    shared: Arc<Shared>,
    client: Arc<Client>,
    url: TopicUrl,
    /// 0: a plain topic.
    partitions: u32,
    schema: Option<proto::Schema>,
    keep_last: bool,
}

impl PulsarSink {
    pub(super) fn new(
        shared: Arc<Shared>,
        client: Arc<Client>,
        url: TopicUrl,
        partitions: u32,
        settings: &SinkSettings,
        keep_last: bool,
    ) -> Self {
        let schema = settings.schema.as_ref().map(|avro| proto::Schema {
            name: url.topic.clone(),
            schema_data: avro.clone().into_bytes(),
            r#type: schema::Type::Json as i32,
            properties: Vec::new(),
        });
        PulsarSink { shared, client, url, partitions, schema, keep_last }
    }
}

impl Sink for PulsarSink {
    fn partitions(&self) -> u32 {
        self.partitions.max(1)
    }

    fn open(&self, partition: PartitionId, waker: Waker) -> Result<Box<dyn PartitionWriter>> {
        let settings = &self.shared.settings;
        let name =
            settings.exclusive.then(|| format!("nekton-{}-{}-{partition}", settings.job, self.url.topic));
        let told = Arc::new(Told::new(waker));
        let mut producer = Producer {
            client: self.client.clone(),
            topic: partition_name(&self.url, self.partitions == 0, partition),
            name,
            schema: self.schema.clone(),
            window: Window::new(settings.compression),
            epoch: None,
            told: told.clone(),
            given: None,
            last: None,
        };
        let exclusive = producer.name.is_some();
        let mut anchor = None;
        if exclusive && self.keep_last {
            let (of, last) = Anchor::new(self.client.clone(), producer.topic.clone(), &settings.job);
            (anchor, producer.last) = (Some(of), Some(last));
        }
        let mut anchored = None;
        let mut held = None;
        let granted = self.shared.runtime().block_on(async {
            let mut backoff = Backoff::default();
            let begun = std::time::Instant::now();
            loop {
                let mut opened = producer.open().await;
                // Only now can nobody else write: the end is the end.
                if let (Ok(_), Some(anchor)) = (&opened, &anchor) {
                    // What stands in the topic now stays.
                    match anchor.open().await {
                        Ok(granted) => anchored = Some(granted),
                        Err(error) => opened = Err(error),
                    }
                }
                if opened.is_ok() && exclusive {
                    match tail(&self.client, &producer.topic).await {
                        Ok(tail) => held = tail,
                        Err(error) => opened = Err(error),
                    }
                }
                match opened {
                    Err(error) if error.kind() == Kind::Unavailable && begun.elapsed() < PATIENCE => {
                        backoff.pause().await;
                    }
                    answer => return answer,
                }
            }
        })?;
        if let Some(tail) = held {
            producer.window.holds(tail.highest_sequence_id);
            producer.last.iter_mut().for_each(|last| last.stored(tail.at));
        }
        // An empty topic may have been trimmed: then the broker's memory counts.
        let held = held.map(|tail| (tail.time, tail.count)).or(producer.window.last()).filter(|_| exclusive);
        let (batches, taken) = mpsc::unbounded_channel();
        let task = self.shared.runtime().spawn(producer.run(granted, taken));
        let anchor =
            anchor.zip(anchored).map(|(anchor, granted)| self.shared.runtime().spawn(anchor.run(granted)));
        Ok(Box::new(Writer {
            batches: Some(batches),
            told,
            held,
            task,
            anchor,
            shared: self.shared.clone(),
            url: self.url.clone(),
        }))
    }

    fn describe(&self) -> String {
        self.url.to_string()
    }
}

struct Writer {
    /// Taken when it closes.
    batches: Option<mpsc::UnboundedSender<Given>>,
    told: Arc<Told>,
    /// The last time that the partition held when it was opened, and how many messages of it.
    held: Option<(Time, u64)>,
    task: tokio::task::JoinHandle<()>,
    /// Ends by itself behind the task.
    anchor: Option<tokio::task::JoinHandle<()>>,
    shared: Arc<Shared>,
    url: TopicUrl,
}

impl Writer {
    fn give(&self, given: Given) -> Result<()> {
        let sent = self.batches.as_ref().is_some_and(|batches| batches.send(given).is_ok());
        if !sent {
            self.told.written()?;
            return Err(Error::new(Kind::Internal, format!("{} is closed", self.url)));
        }
        Ok(())
    }
}

impl PartitionWriter for Writer {
    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        self.give(Given::Batch(batch))
    }

    fn mark(&mut self, time: Time) -> Result<()> {
        self.give(Given::Mark(time))
    }

    fn written(&mut self) -> Result<Option<Time>> {
        self.told.written()
    }

    fn last_time(&self) -> Option<Time> {
        self.held.map(|(time, _)| time)
    }

    fn last_count(&self) -> u64 {
        self.held.map_or(0, |(_, count)| count)
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        self.batches = None;
        let task = &mut self.task;
        let ended = self
            .shared
            .runtime
            .as_ref()
            .map(|runtime| runtime.block_on(async { tokio::time::timeout(CLOSING, task).await }));
        self.told.written()?;
        match ended {
            Some(Ok(Ok(()))) => {
                if let (Some(runtime), Some(anchor)) = (&self.shared.runtime, &mut self.anchor) {
                    // Were it late, a few more entries than the last would be kept.
                    let _ = runtime.block_on(async { tokio::time::timeout(ANCHORING, anchor).await });
                }
                Ok(())
            }
            _ => Err(Error::new(
                Kind::Unavailable,
                format!(
                    "{}: what was written last is not confirmed after {} seconds",
                    self.url,
                    CLOSING.as_secs()
                ),
            )),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After a clean end the task is over; after a failure nothing more may be written.
        self.task.abort();
    }
}

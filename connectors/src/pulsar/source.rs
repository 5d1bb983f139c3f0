//! A topic on Pulsar being read.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nekton_engine::connect::{
    PartitionId, PartitionReader, Polled, Position, RawRecord, Source, Start, Waker,
};
use nekton_engine::{Error, Kind, Result, Time};

use super::Shared;
use super::client::Client;
use super::consumer::Consumer;
use super::queue::Queue;
use super::topic::TopicUrl;

pub(super) struct PulsarSource {
    shared: Arc<Shared>,
    client: Arc<Client>,
    url: TopicUrl,
    plain: bool,
    /// How many partitions there were when the topic was opened.
    at_first: u32,
    known: Arc<Known>,
    /// Looks for new partitions.
    task: Option<tokio::task::JoinHandle<()>>,
}

struct Known {
    partitions: AtomicU32,
    wakers: Mutex<Vec<Waker>>,
}

impl PulsarSource {
    pub(super) fn new(shared: Arc<Shared>, client: Arc<Client>, url: TopicUrl, partitions: u32) -> Self {
        let plain = partitions == 0;
        let at_first = partitions.max(1);
        let known = Arc::new(Known { partitions: AtomicU32::new(at_first), wakers: Mutex::default() });
        let task = (!plain).then(|| {
            let look = look(client.clone(), url.full(), known.clone(), shared.settings.look_every);
            shared.runtime().spawn(look)
        });
        PulsarSource { shared, client, url, plain, at_first, known, task }
    }
}

/// Notices partitions that are added.
async fn look(client: Arc<Client>, topic: String, known: Arc<Known>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match client.partitions(&topic).await {
            Ok(partitions) if partitions > known.partitions.load(Ordering::Relaxed) => {
                tracing::info!(topic, partitions, "partitions were added");
                known.partitions.store(partitions, Ordering::Relaxed);
                known.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|waker| waker());
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(topic, %error, "the number of partitions is not known"),
        }
    }
}

impl Drop for PulsarSource {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Source for PulsarSource {
    fn partitions(&self) -> u32 {
        self.known.partitions.load(Ordering::Relaxed)
    }

    fn watch(&self, waker: Waker) {
        self.known.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    fn open(&self, partition: PartitionId, start: Start, waker: Waker) -> Result<Box<dyn PartitionReader>> {
        if partition >= self.partitions() {
            return Err(Error::new(Kind::Missing, format!("{} has no partition {partition}", self.url)));
        }
        // What stands in a partition that was added came after this job's start.
        let start = match start {
            Start::Latest if partition >= self.at_first => Start::Earliest,
            start => start,
        };
        let settings = self.shared.settings.clone();
        let queue = Arc::new(Queue::new(settings.queue_bytes, waker));
        let of = (!self.plain).then_some(partition);
        let consumer =
            Consumer::new(self.client.clone(), settings, self.url.clone(), of, start, queue.clone());
        let task = self.shared.runtime().spawn(consumer.run());
        Ok(Box::new(Reader { queue, task, shared: self.shared.clone(), marks: Vec::new() }))
    }

    fn describe(&self) -> String {
        self.url.to_string()
    }
}

struct Reader {
    queue: Arc<Queue>,
    task: tokio::task::JoinHandle<()>,
    shared: Arc<Shared>,
    /// Those among the records of the last poll.
    marks: Vec<(Position, Time)>,
}

impl PartitionReader for Reader {
    fn poll(&mut self, budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        self.marks.clear();
        Ok(match self.queue.take(budget, out, &mut self.marks)? {
            (true, _) => Polled::More,
            (false, true) => Polled::End,
            (false, false) => Polled::Idle,
        })
    }

    fn marks(&self) -> &[(Position, Time)] {
        &self.marks
    }

    fn release(&mut self, position: Position) {
        self.queue.release(position);
    }

    fn recheck(&mut self) {
        self.queue.recheck();
    }

    fn lag(&self) -> Option<u64> {
        self.queue.lag()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.queue.close();
        // The last acknowledgement should reach the broker; if it cannot, some is read again.
        if let Some(runtime) = self.shared.runtime.as_ref() {
            let task = &mut self.task;
            let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(3), task).await });
            if ended.is_err() {
                self.task.abort();
            }
        }
    }
}

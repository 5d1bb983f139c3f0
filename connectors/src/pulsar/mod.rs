//! Topics on Apache Pulsar, read and written by a thin protocol layer of our own.
//!
//! Input partitions are read with a durable, exclusive subscription named after the job, which is also the anchor
//! that keeps the broker from deleting what is not done with: it is acknowledged, cumulatively, up to what
//! was released. Output partitions are written by an exclusive producer that is named after the job, with
//! sequence ids from (time, index); the last entry of each, which says how far the job has come, can be kept by an
//! anchor as well. Frames, entries, a partition's progress and a producer's window are pure;
//! sockets and timers are at the edge.

mod admin;
mod anchor;
mod batch;
mod client;
mod connection;
mod consumer;
mod frame;
mod granted;
mod log;
mod producer;
mod progress;
mod queue;
mod sink;
mod source;
mod subscription;
mod tail;
mod topic;
mod window;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nekton_engine::connect::{Log, Sink, SinkSettings, Source, Waker};
use nekton_engine::{Error, Kind, Result};

pub use batch::Compression;
use client::{Client, Purpose, patiently};
use topic::TopicUrl;

/// How long a broker that is starting or moving topics is waited for when a topic is opened.
const PATIENCE: Duration = Duration::from_secs(30);

/// How topics on Pulsar are read and written.
///
/// ```
/// use nekton_connectors::pulsar::{Compression, PulsarSettings};
///
/// let settings = PulsarSettings {
///     ca_file: Some("ca.pem".into()),
///     compression: Compression::Zstd,
///     ..PulsarSettings::new("fleet") // the subscription and the producers are `nekton-fleet`
/// };
/// assert!(settings.durable && settings.exclusive);
/// ```
#[derive(Clone, Debug)]
pub struct PulsarSettings {
    /// Names the subscriptions and producers: `nekton-<job>`.
    pub job: String,
    /// A token to authenticate with.
    pub token: Option<String>,
    /// Certificates of the authorities to trust, in PEM; without, the public ones.
    pub ca_file: Option<PathBuf>,
    /// The broker's administration interface; without, at the broker's host and the usual port (8080, or 8443
    /// with TLS). Used to create partitioned topics, and to start at a time.
    pub admin_url: Option<String>,
    /// How what is written is compressed.
    pub compression: Compression,
    /// Report the end of a partition instead of following it for ever.
    pub until_end: bool,
    /// Read with a durable subscription. Without, nothing is left behind on the broker, and nothing is
    /// remembered: for looking at topics.
    pub durable: bool,
    /// Write as the only producer, with a name and sequence ids of our own. Without, others may write as well.
    pub exclusive: bool,
    /// Keep the last entry of each partition that is written exclusively, by a durable subscription
    /// `nekton-<job>:last`: by that entry, a job that is started again knows what it has written.
    pub keep_last: bool,
    /// The most bytes of a partition that wait in memory to be taken.
    pub queue_bytes: usize,
    /// The most bytes of a record; a longer one is handed on as unreadable.
    pub max_record_bytes: usize,
    /// How often it is looked for partitions that were added.
    pub look_every: Duration,
    /// After how much silence a partition is checked for records that should have come.
    pub silence: Duration,
}

impl PulsarSettings {
    /// The settings of a job without flags.
    pub fn new(job: impl Into<String>) -> Self {
        PulsarSettings {
            job: job.into(),
            token: None,
            ca_file: None,
            admin_url: None,
            compression: Compression::default(),
            until_end: false,
            durable: true,
            exclusive: true,
            keep_last: false,
            queue_bytes: 16 << 20,
            max_record_bytes: 5 << 20,
            look_every: Duration::from_secs(30),
            silence: Duration::from_secs(30),
        }
    }
}

/// Everything this process has to do with Pulsar: its threads and connections. Cheap to clone.
///
/// ```no_run
/// use nekton_connectors::pulsar::{Pulsar, PulsarSettings};
///
/// let pulsar = Pulsar::new(PulsarSettings::new("fleet"))?;
/// let telemetry = pulsar.source("pulsar://127.0.0.1:6650/public/default/telemetry")?;
/// println!("{} has {} partitions", telemetry.describe(), telemetry.partitions());
/// # Ok::<(), nekton_engine::Error>(())
/// ```
#[derive(Clone)]
pub struct Pulsar {
    shared: Arc<Shared>,
}

struct Shared {
    settings: PulsarSettings,
    /// Taken on drop only.
    runtime: Option<tokio::runtime::Runtime>,
    clients: Mutex<HashMap<String, Arc<Client>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Readers and writers have waited for what had to be waited for.
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().expect("it is there until all is dropped")
    }

    fn client(&self, url: &TopicUrl) -> Result<Arc<Client>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&url.service()) {
            return Ok(client.clone());
        }
        let client = Arc::new(Client::new(url.tls, url.brokers.clone(), &self.settings)?);
        clients.insert(url.service(), client.clone());
        Ok(client)
    }
}

impl Pulsar {
    /// Starts the threads that everything on Pulsar runs on; connects to nothing yet.
    ///
    /// # Errors
    /// If the machine has no threads left.
    pub fn new(settings: PulsarSettings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("pulsar")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Error::io("starting the threads for Pulsar", &error))?;
        let clients = Mutex::default();
        Ok(Pulsar { shared: Arc::new(Shared { settings, runtime: Some(runtime), clients }) })
    }

    /// Opens a topic for reading: `pulsar://host:port/tenant/namespace/topic`, or `pulsar+ssl://..`.
    ///
    /// # Errors
    /// [`Kind::Config`] for a wrong URL, [`Kind::Unavailable`] if no broker can be reached, [`Kind::Denied`]
    /// if it refuses us, [`Kind::Missing`] if the topic does not exist.
    ///
    /// ```no_run
    /// use nekton_connectors::pulsar::{Pulsar, PulsarSettings};
    /// use nekton_engine::connect::{Polled, Start, Waker};
    /// use std::sync::{Arc, mpsc};
    ///
    /// let pulsar = Pulsar::new(PulsarSettings { until_end: true, ..PulsarSettings::new("fleet") })?;
    /// let telemetry = pulsar.source("pulsar://127.0.0.1:6650/public/default/telemetry")?;
    /// let (sender, woken) = mpsc::channel();
    /// let waker: Waker = Arc::new(move || { let _ = sender.send(()); });
    /// let mut partition = telemetry.open(0, Start::Earliest, waker)?;
    /// let mut records = Vec::new();
    /// loop {
    ///     match partition.poll(1 << 20, &mut records)? {
    ///         Polled::More => {}
    ///         Polled::Idle => woken.recv()?,
    ///         Polled::End => break,
    ///     }
    ///     for record in records.drain(..) {
    ///         println!("{}: {} bytes", record.position, record.payload.len());
    ///         partition.release(record.position); // acknowledged: a job of this name goes on behind it
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn source(&self, url: &str) -> Result<Arc<dyn Source>> {
        let url = TopicUrl::parse(url)?;
        let client = self.shared.client(&url)?;
        let (partitions, there) = self.shared.runtime().block_on(self.look(&client, &url))?;
        if partitions == 0 && !there {
            return Err(Error::new(
                Kind::Missing,
                format!("there is no topic {url}: create it, or correct --topics or --topic"),
            ));
        }
        Ok(Arc::new(source::PulsarSource::new(self.shared.clone(), client, url, partitions)))
    }

    /// Opens a topic for writing, creating it where it does not exist: with the partitions asked for, or as
    /// a plain topic if that is one.
    ///
    /// # Errors
    /// As [`Pulsar::source`]; and [`Kind::Unavailable`] if partitions must be created and the broker's
    /// administration cannot be reached.
    ///
    /// ```no_run
    /// use nekton_connectors::pulsar::{Pulsar, PulsarSettings};
    /// use nekton_engine::connect::{Envelope, Message, SinkSettings, WriteBatch};
    /// use std::sync::Arc;
    ///
    /// let pulsar = Pulsar::new(PulsarSettings::new("fleet"))?;
    /// let settings = SinkSettings { envelope: Envelope::Upsert, schema: None, partitions: 4 };
    /// let sink = pulsar.sink("pulsar://127.0.0.1:6650/public/default/hot-by-depot", &settings)?;
    /// let mut partition = sink.open(0, Arc::new(|| {}))?;
    /// let north = Message { key: Some("\"north\"".into()), value: Some("2".into()) };
    /// let after = partition.last_time().unwrap_or(0); // of what the topic holds already
    /// partition.write(WriteBatch { time: after + 1, first: 0, messages: vec![north] })?;
    /// partition.close()?; // waits until the broker has it
    /// # Ok::<(), nekton_engine::Error>(())
    /// ```
    pub fn sink(&self, url: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        self.anchored_sink(url, settings, self.shared.settings.keep_last)
    }

    fn anchored_sink(&self, url: &str, settings: &SinkSettings, keep_last: bool) -> Result<Arc<dyn Sink>> {
        let url = TopicUrl::parse(url)?;
        let client = self.shared.client(&url)?;
        let looked = self.shared.runtime().block_on(self.look(&client, &url));
        let (mut partitions, there) = match looked {
            // Where brokers create no topics by themselves, one that is not there is an error to them.
            Err(error) if error.kind() == Kind::Missing && settings.partitions > 1 => (0, false),
            looked => looked?,
        };
        if partitions == 0 && !there && settings.partitions > 1 {
            admin::Admin::new(&url, &self.shared.settings)?.create(&url, settings.partitions)?;
            let full = url.full();
            // Not every broker knows at once: to take it for a plain topic would make one.
            let known = || async {
                match client.partitions(&full).await? {
                    0 => Err(Error::new(
                        Kind::Unavailable,
                        format!("the partitions of {full} are not known yet"),
                    )),
                    partitions => Ok(partitions),
                }
            };
            partitions = self.shared.runtime().block_on(patiently(PATIENCE, known))?;
        }
        Ok(Arc::new(sink::PulsarSink::new(self.shared.clone(), client, url, partitions, settings, keep_last)))
    }

    /// Opens the log of a job's bindings: the topic `nekton-<job>-bindings` in the namespace at `url`.
    ///
    /// # Errors
    /// As [`Pulsar::sink`].
    pub fn log(&self, url: &str, waker: Waker) -> Result<Box<dyn Log>> {
        let settings = PulsarSettings { until_end: true, ..self.shared.settings.clone() };
        let reading = Pulsar::new(settings)?;
        Ok(Box::new(log::PulsarLog::open(self, &reading, url, waker)?))
    }

    /// Reads a log that another program may be writing, leaving nothing behind.
    ///
    /// # Errors
    /// As [`Pulsar::source`].
    pub fn read_log(&self, url: &str) -> Result<Vec<bytes::Bytes>> {
        let settings = PulsarSettings { until_end: true, durable: false, ..self.shared.settings.clone() };
        log::Content::open(&Pulsar::new(settings)?, url)?.read()
    }

    /// The number of partitions (0: a plain topic), and whether the topic is there.
    async fn look(&self, client: &Client, url: &TopicUrl) -> Result<(u32, bool)> {
        // A broker that cannot be reached is a wrong URL more often than one that is just starting.
        client.service(Purpose::Reading).await?;
        let full = url.full();
        let partitions = patiently(PATIENCE, || client.partitions(&full)).await?;
        let there = partitions > 0 || patiently(PATIENCE, || client.exists(&url.namespace, &full)).await?;
        Ok((partitions, there))
    }
}

/// The name of a partition; of a plain topic, its own.
fn partition_name(url: &TopicUrl, plain: bool, partition: u32) -> String {
    if plain { url.full() } else { format!("{}-partition-{partition}", url.full()) }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

//! What a job is told before it starts, what its workers share while it runs, what it says at its end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::connect::{PartitionId, Position, Sink, SinkSettings, Source, Start, Topics, Waker};
use crate::durable::check::Built;
use crate::durable::replay::Checkpoint;
use crate::durable::{Checkpoints, Durable};
use crate::error::{Error, Kind, Result};
use crate::gauges::Gauges;
use crate::histogram::Histogram;
use crate::live::{Counted, InFlight, Live};
use crate::machine::Machine;
use crate::simulator::Simulator;
use crate::time::Time;

/// What becomes of a record that cannot be read as an event.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # use std::sync::Arc;
/// # let topics = Memory::default();
/// # topics.publish("readings", &["hot"]);
/// // `readings` has one line: hot
/// let config = JobConfig { until_end: true, on_bad_input: OnBadInput::Fail, ..JobConfig::new("house") };
/// let ended = run(config, Arc::new(topics), |flow| {
///     flow.events::<i64>("readings");
/// });
/// assert_eq!(ended.unwrap_err().kind(), Kind::BadInput);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadInput {
    /// It goes to the topic `<topic>.dead-letter`, with its position and the reason, and is counted.
    #[default]
    DeadLetter,
    /// The job stops with an error.
    Fail,
}

/// What a job is told before it starts.
///
/// ```
/// use nekton_engine::{JobConfig, OnBadInput, connect::Start};
///
/// // Two workers, from now on, until the inputs end; a bad record ends it at once.
/// let config = JobConfig {
///     workers: 2,
///     start: Start::Latest,
///     until_end: true,
///     on_bad_input: OnBadInput::Fail,
///     ..JobConfig::new("fleet")
/// };
/// assert_eq!(config.new_topic_partitions, 1);
/// ```
#[derive(Clone, Debug)]
pub struct JobConfig {
    /// The job's name: of its subscriptions, producers and (later) checkpoints.
    pub name: String,
    /// Worker threads in each process, at least 1.
    pub workers: usize,
    /// The number of this process, below `hosts.len()`.
    pub process: usize,
    /// One `address:port` a process; empty for a single process.
    pub hosts: Vec<String>,
    /// How these processes trust and watch one another.
    pub cluster: Cluster,
    /// Where to begin in topics that this job has not read before.
    pub start: Start,
    /// Finish when every input has ended, instead of following it.
    pub until_end: bool,
    /// While this is true, `until_end` does not end: something is still being published.
    pub hold_end: Option<Arc<AtomicBool>>,
    /// What becomes of a record that cannot be read.
    pub on_bad_input: OnBadInput,
    /// How many partitions an output topic gets that does not exist yet.
    pub new_topic_partitions: u32,
    /// The most records a view keeps.
    pub view_limit: usize,
    /// Ends the job cleanly on request.
    pub stop: Stop,
    /// Where and how often state is made durable; `None`: a restart begins anew.
    pub checkpoints: Option<Checkpoints>,
    /// How many checkpoints are kept, at least 1: from each, what follows can be replayed. Sources keep what the oldest one
    /// needs, and so does the log of bindings.
    pub checkpoints_kept: usize,
    /// Replays what follows a checkpoint of this job, up to [`JobConfig::until`] or as far as it has gone, with the same
    /// outputs at the same times, and ends. Its topics must be others; nothing is taken from the job, which may be running.
    pub replay_from: Option<Checkpoint>,
    /// The last time: the job ends when it is over.
    pub until: Option<Time>,
    /// How often output partitions are marked at most with the time up to which they are whole, so that a reader can
    /// put several of them together; `None`: never. See [`PartitionWriter::mark`](crate::connect::PartitionWriter::mark).
    pub progress_marks: Option<Duration>,
    /// What a restart may do to outputs; only with checkpoints.
    pub delivery: Delivery,
    /// Who is told what people want to know of a start.
    pub notes: Notes,
    /// Shows the job from outside while it runs.
    pub live: Live,
    /// A simulated machine to run on, for tests; `None`: this one.
    pub simulator: Option<Simulator>,
}

/// What a restart of a job with checkpoints may do to its outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Each change is in its output partition once, whatever happens: outputs wait until it is durable which records
    /// got their time.
    #[default]
    ExactlyOnce,
    /// No change is lost. Outputs wait for no log; after a crash, those since the last checkpoint may come again, at
    /// other times, and put together in another way.
    AtLeastOnce,
}

/// Who is told, in a sentence each, what people want to know of a start: from where it goes on, what has changed.
#[derive(Clone, Default)]
pub struct Notes(Option<Arc<dyn Fn(&str) + Send + Sync>>);

impl Notes {
    /// Calls `told` with each.
    pub fn to(told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Notes(Some(Arc::new(told)))
    }
    pub(crate) fn say(&self, note: &str) {
        tracing::info!("{note}");
        if let Some(told) = &self.0 {
            told(note);
        }
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Notes").field(&self.0.is_some()).finish()
    }
}

impl JobConfig {
    /// One worker in one process, from the earliest record on, following its inputs.
    pub fn new(name: impl Into<String>) -> Self {
        JobConfig {
            name: name.into(),
            workers: 1,
            process: 0,
            hosts: Vec::new(),
            cluster: Cluster::default(),
            start: Start::Earliest,
            until_end: false,
            hold_end: None,
            on_bad_input: OnBadInput::default(),
            new_topic_partitions: 1,
            view_limit: 1_000_000,
            stop: Stop::default(),
            checkpoints: None,
            checkpoints_kept: 3,
            replay_from: None,
            until: None,
            progress_marks: None,
            delivery: Delivery::default(),
            notes: Notes::default(),
            live: Live::default(),
            simulator: None,
        }
    }

    /// The machine that it runs on.
    pub(crate) fn machine(&self) -> Machine {
        Machine::new(self.simulator.clone())
    }
}

/// A request for a clean end: sources stop reading, what was read is worked through, sinks are
/// flushed and closed. Timers that are not due yet do not fire.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// /// Counts for ever.
/// struct Counter(u64);
///
/// impl Feed<u64> for Counter {
///     fn poll(&mut self, _budget: usize, into: &mut Reading<u64>) -> Result<connect::Polled> {
/// #       let position = Position { entry: self.0, ..Position::default() };
/// #       let order = Order { source: 0, partition: 0, position };
///         into.blocks.push(Block { order, events: vec![self.0] });
///         self.0 += 1;
///         Ok(connect::Polled::More)
///     }
/// }
///
/// # let topics = Memory::default();
/// let config = JobConfig::new("counting");
/// let stop = config.stop.clone();
/// run(config, Arc::new(topics), move |flow| {
///     let stop = stop.clone();
///     flow.feed("numbers", |_, _, _| Counter(0)).inspect(move |number| if *number == 100 { stop.request() });
/// })?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Default)]
struct StopState {
    requested: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Stop {
    /// Asks for the end. May be called from any thread, at any time, also from a signal handler's thread.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        self.wake_all();
    }
    /// Whether the end was asked for.
    pub fn requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }
    pub(crate) fn add_waker(&self, waker: Waker) {
        self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }
    pub(crate) fn wake_all(&self) {
        for waker in self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            waker();
        }
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.requested()).finish()
    }
}

/// What a job did, as it is known in this process.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # use std::sync::Arc;
/// # let topics = Memory::default();
/// # topics.publish("readings", &["12", "hot"]);
/// # let config = JobConfig { until_end: true, ..JobConfig::new("house") };
/// // `readings` has two lines: 12, hot
/// let summary = run(config, Arc::new(topics), |flow| {
///     flow.events::<i64>("readings");
/// })?;
/// assert_eq!((summary.events, summary.dead_letters), (1, 1));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events read.
    pub events: u64,
    /// Records that could not be read.
    pub dead_letters: u64,
    /// Messages handed to output topics.
    pub messages: u64,
    /// Epochs opened.
    pub epochs: u64,
    /// From the start of the workers to their end.
    pub elapsed: Duration,
}

/// Counters that workers add to.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) events: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) epochs: AtomicU64,
    /// All before this time has arrived everywhere.
    pub(crate) before: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    /// All before this time is in a checkpoint.
    pub(crate) committed: AtomicU64,
    /// How long the newest checkpoint took, in milliseconds, and how many bytes it refers to.
    pub(crate) checkpoint_took: AtomicU64,
    pub(crate) checkpoint_bytes: AtomicU64,
    /// Bytes that writers have and have not said to be out.
    pub(crate) unwritten: AtomicU64,
    /// From when an epoch was begun until it had arrived everywhere; from when a record was published until it was read.
    pub(crate) arriving: Histogram,
    pub(crate) reading: Histogram,
    by_name: Mutex<BTreeMap<(Counted, String), Arc<AtomicU64>>>,
    /// The last time that an earlier run has bound.
    pub(crate) replays: AtomicU64,
    /// A worker each.
    pub(crate) in_flight: Box<[InFlight]>,
}

impl Counters {
    /// A number of one topic or root. What is added may be below zero, as it wraps around.
    pub(crate) fn named(&self, what: Counted, name: &str) -> Arc<AtomicU64> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.entry((what, name.to_owned())).or_default().clone()
    }

    pub(crate) fn by_name(&self) -> Vec<(Counted, String, u64)> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let each = by_name.iter();
        each.map(|((what, name), count)| (*what, name.clone(), count.load(Ordering::Relaxed))).collect()
    }
}

/// Sources that have been opened, by name.
pub(crate) type Sources = HashMap<String, Result<Arc<dyn Source>>>;

/// What the workers of one process share.
pub(crate) struct Shared {
    pub(crate) config: JobConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) machine: Machine,
    topics: Arc<dyn Topics>,
    sources: Mutex<Sources>,
    sinks: Mutex<HashMap<String, Result<Arc<dyn Sink>>>>,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
    durable: Option<Arc<Durable>>,
    /// What a program has, where it is only built to find that out.
    rehearsal: Option<Mutex<Built>>,
}

impl Shared {
    pub(crate) fn new(config: JobConfig, topics: Arc<dyn Topics>, durable: Option<Durable>) -> Self {
        Shared {
            machine: config.machine(),
            counters: Arc::new(Counters {
                in_flight: (0..config.workers).map(|_| InFlight::default()).collect(),
                ..Counters::default()
            }),
            gauges: Arc::new(Gauges::new(config.workers)),
            config,
            topics,
            sources: Mutex::default(),
            sinks: Mutex::default(),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
            durable: durable.map(Arc::new),
            rehearsal: None,
        }
    }

    /// For a program that is built once to see what it has, with nothing opened for writing.
    pub(crate) fn rehearsing(config: JobConfig, topics: Arc<dyn Topics>) -> Self {
        Shared { rehearsal: Some(Mutex::default()), ..Shared::new(config, topics, None) }
    }

    /// Notes what a program has, if that is all it is built for; whether it is.
    pub(crate) fn rehearse(&self, has: impl FnOnce(&mut Built)) -> bool {
        let Some(built) = &self.rehearsal else { return false };
        has(&mut built.lock().unwrap_or_else(PoisonError::into_inner));
        true
    }

    /// What the program has, and the sources that have been opened on the way.
    pub(crate) fn rehearsed(&self) -> (Built, Sources) {
        let take =
            |built: &Mutex<Built>| std::mem::take(&mut *built.lock().unwrap_or_else(PoisonError::into_inner));
        let sources = std::mem::take(&mut *self.sources.lock().unwrap_or_else(PoisonError::into_inner));
        (self.rehearsal.as_ref().map(take).unwrap_or_default(), sources)
    }

    /// Has these sources opened already.
    pub(crate) fn with_sources(self, sources: Sources) -> Self {
        Shared { sources: Mutex::new(sources), ..self }
    }

    /// What a job with checkpoints has.
    pub(crate) fn durable(&self) -> Option<&Arc<Durable>> {
        self.durable.as_ref()
    }

    /// The same, unless it only replays: of a job that binds times and takes checkpoints.
    pub(crate) fn keeps(&self) -> Option<&Arc<Durable>> {
        self.durable.as_ref().filter(|durable| durable.plan.replay_until.is_none())
    }

    /// The last time, if there is one, and whether only what was bound up to there is read.
    pub(crate) fn until(&self) -> Option<(Time, bool)> {
        let replay = self.durable.as_ref().and_then(|durable| durable.plan.replay_until);
        replay.map(|until| (until, true)).or(self.config.until.map(|until| (until, false)))
    }

    /// Behind which record a partition is read on, and at which times an earlier run has read which records
    /// behind that: time, first and last.
    pub(crate) fn goes_on(
        &self,
        source: &str,
        partition: PartitionId,
    ) -> (Option<Position>, VecDeque<(Time, Position, Position)>) {
        let Some(durable) = &self.durable else { return Default::default() };
        let at = durable.plan.positions().get(&(source.to_owned(), partition)).copied();
        let bounds = durable.plan.bindings.iter().flat_map(|binding| {
            let of = binding.bounds.iter().filter(|b| b.source == source && b.partition == partition);
            of.map(|bound| (binding.time, bound.first, bound.last))
        });
        (at, bounds.collect())
    }

    /// The source behind a name, opened once a process.
    pub(crate) fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.entry(name.to_owned()).or_insert_with(|| self.topics.source(name)).clone()
    }

    /// The sink behind a name, opened once a process.
    pub(crate) fn sink(&self, name: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || {
            let sink = self.topics.sink(name, settings)?;
            let replayed = self.durable.as_ref().filter(|durable| durable.plan.replay_until.is_some());
            let manifest = replayed.and_then(|durable| durable.plan.manifest.as_ref());
            if manifest.is_some_and(|manifest| manifest.places.contains(&sink.identity())) {
                return Err(Error::config(format!(
                    "{} is an output of the job whose past is to be replayed: write elsewhere, with --outputs URL or \
                     --topic {name}=URL",
                    sink.describe()
                )));
            }
            Ok(sink)
        };
        sinks.entry(name.to_owned()).or_insert_with(open).clone()
    }

    /// Where the topics are that are written.
    pub(crate) fn places(&self) -> Vec<String> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places: Vec<_> = sinks.values().flatten().map(|sink| sink.identity()).collect();
        places.sort();
        places
    }

    pub(crate) fn built(&self) -> Result<()> {
        self.topics.built()
    }

    /// Ends the job with `error`; the first one wins.
    pub(crate) fn fail(&self, error: Error) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            tracing::debug!(%error, "the job fails");
            *slot = Some(error);
        }
        drop(slot);
        self.failed.store(true, Ordering::SeqCst);
        self.config.stop.wake_all();
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Why it has failed.
    pub(crate) fn why(&self) -> String {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.as_ref().map_or_else(|| "the job failed".to_owned(), Error::to_string)
    }

    pub(crate) fn take_error(&self) -> Option<Error> {
        let taken = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.or_else(|| self.failed().then(|| Error::new(Kind::Internal, "the job failed")))
    }

    pub(crate) fn held_open(&self) -> bool {
        self.config.hold_end.as_ref().is_some_and(|held| held.load(Ordering::SeqCst))
    }
}

//! What can be seen of a job from outside while it runs: its views by name, and its figures.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dataflow::Dataflow;
use crate::gauges::Gauges;
use crate::histogram::Durations;
use crate::job::{Counters, Stop};
use crate::time::Time;
use crate::watched::Watched;

/// A handle on a job that runs, or will, or has: [`JobConfig::live`](crate::JobConfig::live). May be used from any thread.
///
/// Its views and figures are those of the process that it is used in; views are in the first process only.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// # use std::sync::Arc;
/// # let topics = Memory::default();
/// # topics.publish("readings", &["12", "64"]);
/// let config = JobConfig { until_end: true, ..JobConfig::new("house") };
/// let live = config.live.clone();
/// assert!(!live.figures().ready);
/// run(config, Arc::new(topics), |flow| {
///     flow.events::<i64>("readings"); // 12  64
/// })?;
/// assert_eq!((live.figures().events, live.figures().before), (2, Time::MAX));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Live(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    counters: Arc<Counters>,
    gauges: Arc<Gauges>,
    /// Wakes the workers.
    stop: Stop,
    begun: bool,
    at_begin: Vec<Box<dyn FnOnce() + Send>>,
    views: Vec<Arc<dyn Watched>>,
    commands: Option<String>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

/// What a job has done so far, and how far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events read in this process.
    pub events: u64,
    /// Records that could not be read.
    pub dead_letters: u64,
    /// Messages handed to output topics.
    pub messages: u64,
    /// Epochs opened.
    pub epochs: u64,
    /// All before this time has arrived at every root, sink and view of the job; `Time::MAX` after its end.
    pub before: Time,
    /// The time of the oldest epoch of this process that is on its way; `None` when all that was read has arrived.
    pub oldest: Option<Time>,
    /// How many epochs of this process are on their way.
    pub in_flight: u64,
    /// Checkpoints committed since the start.
    pub checkpoints: u64,
    /// All before this time is in a checkpoint of this run; 0 before the first.
    pub committed: Time,
    /// How long the newest checkpoint took from its time on, in milliseconds, and how many bytes it refers to.
    pub checkpoint_took: u64,
    /// See `checkpoint_took`.
    pub checkpoint_bytes: u64,
    /// Bytes of messages that have been handed to connectors, which have not said yet that these are out.
    pub unwritten: u64,
    /// How long epochs took from their beginning until they had arrived at every root, sink and view.
    pub arriving: Durations,
    /// How long it took from when a record was published until it was read, of one record in each batch, where topics
    /// say when that was.
    pub reading: Durations,
    /// Whether it runs, and has read again what an earlier run had read since its last checkpoint.
    pub ready: bool,
}

/// What is counted of each topic and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// Agents that a root has now, in this process.
    Agents,
    /// Events read from a topic.
    Read,
    /// Messages handed to a topic.
    Written,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The views that the program has in this process, in its order.
    pub fn views(&self) -> Vec<Arc<dyn Watched>> {
        self.lock().views.clone()
    }

    /// What the job has done. A few atomic reads.
    pub fn figures(&self) -> Figures {
        let running = self.lock();
        let (counters, begun) = (running.counters.clone(), running.begun);
        drop(running);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let before = of(&counters.before);
        let in_flight = counters.in_flight.iter().map(|worker| of(&worker.epochs)).sum();
        let oldest = counters.in_flight.iter().filter(|worker| of(&worker.epochs) > 0);
        Figures {
            events: of(&counters.events),
            dead_letters: of(&counters.dead_letters),
            messages: of(&counters.messages),
            epochs: of(&counters.epochs),
            before,
            oldest: oldest.map(|worker| of(&worker.oldest)).min(),
            in_flight,
            checkpoints: of(&counters.checkpoints),
            committed: of(&counters.committed),
            checkpoint_took: of(&counters.checkpoint_took),
            checkpoint_bytes: of(&counters.checkpoint_bytes),
            unwritten: of(&counters.unwritten),
            arriving: counters.arriving.read(),
            reading: counters.reading.read(),
            // An earlier run has bound times up to the one that is replayed to.
            ready: begun && (of(&counters.replays) == 0 || before > of(&counters.replays)),
        }
    }

    /// What is counted of each topic and root in this process, by name.
    pub fn by_name(&self) -> Vec<(Counted, String, u64)> {
        let counters = self.lock().counters.clone();
        counters.by_name()
    }

    /// The topic that the program reads commands from, if it does.
    pub fn commands(&self) -> Option<String> {
        self.lock().commands.clone()
    }

    /// Calls `then` once the program is built and its workers run; at once if they do already.
    pub fn when_begun(&self, then: impl FnOnce() + Send + 'static) {
        let mut running = self.lock();
        if running.begun {
            drop(running);
            return then();
        }
        running.at_begin.push(Box::new(then));
    }

    /// Asks the workers for what [`Live::dataflow`] says. They are woken, and tell it in between two steps.
    pub fn look(&self) {
        let running = self.lock();
        let (gauges, stop) = (running.gauges.clone(), running.stop.clone());
        drop(running);
        gauges.ask();
        stop.wake_all();
    }

    /// The dataflow as its workers told it last: some milliseconds after [`Live::look`] this is new. Empty before the job runs. Cost:
    /// a copy of a few numbers an operator; nothing for the workers.
    pub fn dataflow(&self) -> Dataflow {
        let gauges = self.lock().gauges.clone();
        gauges.read()
    }

    pub(crate) fn attach(&self, counters: Arc<Counters>, gauges: Arc<Gauges>, stop: Stop) {
        let mut running = self.lock();
        *running = Running {
            counters,
            gauges,
            stop,
            at_begin: std::mem::take(&mut running.at_begin),
            ..Running::default()
        };
    }

    pub(crate) fn begin(&self) {
        let mut running = self.lock();
        running.begun = true;
        let told = std::mem::take(&mut running.at_begin);
        drop(running);
        told.into_iter().for_each(|then| then());
    }

    /// Notes the topic of commands; whether there is no other one.
    pub(crate) fn take_commands(&self, topic: &str) -> bool {
        self.lock().commands.get_or_insert_with(|| topic.to_owned()) == topic
    }

    /// Adds a view; the workers of a process have the same one.
    pub(crate) fn add(&self, view: impl Watched + 'static) {
        let mut running = self.lock();
        if running.views.iter().all(|other| other.name() != view.name()) {
            running.views.push(Arc::new(view));
        }
    }
}

/// The epochs of one worker that are on their way.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    epochs: AtomicU64,
    oldest: AtomicU64,
}

impl InFlight {
    pub(crate) fn set(&self, epochs: usize, oldest: Time) {
        self.oldest.store(oldest, Ordering::Relaxed);
        self.epochs.store(epochs as u64, Ordering::Relaxed);
    }
}

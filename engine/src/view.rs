//! Views: collections that are kept in memory to be looked at, at one consistent time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::agents::Record;
use crate::error::{Error, Kind, Result};
use crate::hash::fixed_hash;
use crate::look::Look;
use crate::pace::first;
use crate::time::Time;

/// A collection that can be looked at from any thread of the first process while the job runs.
///
/// It holds each record with its count at the greatest time that is closed on all workers: a
/// [`snapshot`](View::snapshot) never mixes times. Cost: a record and about 40 bytes each, a search in a tree a change,
/// one lock an epoch and worker. Workers never wait for who reads: what closes meanwhile is put aside. It is bounded: past
/// the job's `view_limit`, its memory is given back and snapshots say so, while the job goes on.
///
/// ```
/// # mod setup { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/setup.rs")); } use setup::*;
/// use std::sync::mpsc::channel;
///
/// // The program runs on the job's workers, so it hands the view out.
/// let (handed, handle) = channel();
/// # let topics = Memory::default();
/// # topics.publish("readings", &["[7,64]", "[8,12]"]);
/// # let topics = std::sync::Arc::new(topics);
/// let job = std::thread::spawn(move || {
///     let config = JobConfig { until_end: true, ..JobConfig::new("house") };
///     run(config, topics, move |flow| {
///         let readings = flow.events::<(u64, i64)>("readings"); // [7,64]  [8,12]
///         let sensors = readings.agents::<Sensor>("sensors", |(sensor, _)| *sensor);
///         handed.send(flow.view("sensors", &sensors)).expect("somebody waits for it");
///     })
/// });
/// let view = handle.recv()?;
/// // At any moment, a snapshot is of one time: here, of that before both or after both.
/// assert!([0, 2].contains(&view.snapshot()?.records.len()));
/// job.join().expect("the job does not panic")?;
/// assert_eq!(view.snapshot()?, Snapshot { before: Time::MAX, records: vec![((7, 64), 1), ((8, 12), 1)] });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct View<D>(pub(crate) Arc<Kept<D>>);

impl<D> Clone for View<D> {
    fn clone(&self) -> Self {
        View(self.0.clone())
    }
}

impl<D> fmt::Debug for View<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

impl<D> View<D> {
    pub(crate) fn looking(self, change: impl FnOnce(&mut Look)) -> Self {
        change(&mut lock(&self.0.look));
        self
    }

    pub(crate) fn look(&self) -> Look {
        lock(&self.0.look).clone()
    }
}

/// The contents of a view at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot<D> {
    /// All changes at times below this one are in it, none of this time or later. `Time::MAX` after
    /// the end of all inputs.
    pub before: Time,
    /// The records in their order, with their counts.
    pub records: Vec<(D, isize)>,
}

/// A record's change at a time.
type Update<D> = (D, Time, isize);

pub(crate) struct Kept<D> {
    pub(crate) name: String,
    limit: usize,
    /// What workers have told and is not in `contents` yet: locked for moments only.
    shards: Mutex<Vec<Shard<D>>>,
    /// Locked as long as somebody reads. Workers only try.
    contents: Mutex<Contents<D>>,
    /// Of `contents`, for who does not want to wait for its lock.
    before: AtomicU64,
    pub(crate) size: AtomicUsize,
    /// How the program wants it shown.
    look: Mutex<Look>,
}

pub(crate) struct Contents<D> {
    pub(crate) overflowed: bool,
    /// All below this time is in `records`.
    pub(crate) before: Time,
    pub(crate) records: BTreeMap<D, isize>,
    /// While somebody watches: the last changes.
    pub(crate) log: Option<Log<D>>,
}

/// What has changed since a time, in the order of times.
pub(crate) struct Log<D> {
    pub(crate) since: Time,
    pub(crate) updates: VecDeque<Update<D>>,
}

/// The most changes that are kept for who watches a view. Past it they are dropped: who watches reads everything anew.
pub(crate) const LOG: usize = 1 << 18;

/// What one worker has told so far.
struct Shard<D> {
    frontier: Time,
    closed: VecDeque<Update<D>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds changes to the counts of records.
fn take_in<D: Ord>(records: &mut BTreeMap<D, isize>, updates: Vec<Update<D>>) {
    for (data, _, diff) in updates {
        match records.entry(data) {
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += diff;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(diff);
            }
        }
    }
}

impl<D: Record> Kept<D> {
    /// Takes what a worker has closed, in the order of times, below its frontier.
    pub(crate) fn tell(&self, worker: usize, closed: impl Iterator<Item = Update<D>>, frontier: Time) {
        let mut shards = lock(&self.shards);
        let shard = &mut shards[worker];
        shard.closed.extend(closed);
        if shard.frontier >= frontier {
            return;
        }
        shard.frontier = frontier;
        drop(shards);
        // Who reads at this moment takes in the rest, now or next time.
        match self.contents.try_lock() {
            Ok(mut contents) => self.fold(&mut contents),
            Err(TryLockError::Poisoned(contents)) => self.fold(&mut contents.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// Takes in what is closed on all workers.
    pub(crate) fn fold(&self, contents: &mut Contents<D>) {
        let mut shards = lock(&self.shards);
        let before = shards.iter().map(|shard| shard.frontier).min().unwrap_or(0);
        if before <= contents.before {
            return;
        }
        let mut updates = Vec::new();
        let several = shards.len() > 1;
        for shard in &mut *shards {
            let closed = shard.closed.partition_point(|&(_, time, _)| time < before);
            updates.extend(shard.closed.drain(..closed));
        }
        drop(shards);
        contents.before = before;
        if !contents.overflowed {
            let Contents { records, log, .. } = contents;
            if let Some(log) = log.as_mut().filter(|log| log.updates.len() + updates.len() > LOG) {
                *log = Log { since: before, updates: VecDeque::new() };
                take_in(records, updates);
            } else if let Some(log) = log {
                if several {
                    updates.sort_by_key(|&(_, time, _)| time);
                }
                // Only what is new is copied.
                for (data, time, diff) in updates {
                    match records.get_mut(&data) {
                        Some(count) if *count + diff == 0 => drop(records.remove(&data)),
                        Some(count) => *count += diff,
                        None => drop(records.insert(data.clone(), diff)),
                    }
                    log.updates.push_back((data, time, diff));
                }
            } else {
                take_in(records, updates);
            }
        }
        if contents.records.len() > self.limit {
            tracing::warn!(
                view = self.name,
                limit = self.limit,
                "the view has too many records and is not kept any longer"
            );
            *contents =
                Contents { overflowed: true, before, records: BTreeMap::new(), log: contents.log.take() };
            if let Some(log) = &mut contents.log {
                *log = Log { since: before, updates: VecDeque::new() };
            }
        }
        self.size.store(contents.records.len(), Ordering::Relaxed);
        self.before.store(before, Ordering::Relaxed);
    }

    /// The contents with all that is closed.
    pub(crate) fn read(&self) -> MutexGuard<'_, Contents<D>> {
        let mut contents = lock(&self.contents);
        self.fold(&mut contents);
        contents
    }

    pub(crate) fn write(&self, data: &D, into: &mut Vec<u8>) -> Result<()> {
        into.clear();
        serde_json::to_writer(into, data).map_err(|error| {
            let why = format!("a record of view {:?} cannot be written as JSON: {error}", self.name);
            Error::new(Kind::Config, why)
        })
    }

    pub(crate) fn overflow(&self) -> Error {
        Error::new(
            Kind::Config,
            format!(
                "view {:?} has more than {} records and is not kept: raise the limit of views, or keep a \
                 smaller collection",
                self.name, self.limit
            ),
        )
    }
}

impl<D: Record> View<D> {
    /// A view to be fed by `workers` workers.
    pub(crate) fn new(name: &str, workers: usize, limit: usize) -> Self {
        let shards = (0..workers).map(|_| Shard { frontier: 0, closed: VecDeque::new() }).collect();
        let contents = Contents { overflowed: false, before: 0, records: BTreeMap::new(), log: None };
        View(Arc::new(Kept {
            name: name.to_owned(),
            limit,
            shards: Mutex::new(shards),
            contents: Mutex::new(contents),
            before: AtomicU64::new(0),
            size: AtomicUsize::new(0),
            look: Mutex::default(),
        }))
    }

    /// The contents at the last closed time. Copies them: cost proportional to their number.
    ///
    /// # Errors
    /// [`Kind::Config`] when the view has outgrown the job's `view_limit`.
    pub fn snapshot(&self) -> Result<Snapshot<D>> {
        let contents = self.0.read();
        if contents.overflowed {
            return Err(self.0.overflow());
        }
        Ok(Snapshot {
            before: contents.before,
            records: contents.records.iter().map(|(data, count)| (data.clone(), *count)).collect(),
        })
    }

    /// Builds the operator that feeds it; returns a stream that carries its progress. Records go to
    /// the workers of the first process.
    pub(crate) fn feed<'s>(
        &self,
        updates: StreamVec<'s, Time, Update<D>>,
        (worker, workers): (usize, usize),
    ) -> StreamVec<'s, Time, ()>
    where
        D: std::hash::Hash,
    {
        let mut builder = OperatorBuilder::new(format!("View: {}", self.0.name), updates.scope());
        let mut input = builder.new_input(
            updates,
            Exchange::new(move |(data, _, _): &Update<D>| (fixed_hash(data) >> 32) % workers as u64),
        );
        let (progress_output, progress) = builder.new_output::<Vec<()>>();
        let view = (worker < workers).then(|| self.clone());
        builder.build(move |_capabilities| {
            let mut pending: BTreeMap<Time, Vec<Update<D>>> = BTreeMap::new();
            let progress_output = Rc::new(progress_output);
            move |frontiers| {
                // Keeps the port, which never carries data.
                let _ = &progress_output;
                input.for_each(|capability, updates| {
                    // Differential's operators may send the updates of several times under the earliest of them.
                    if updates.iter().all(|(_, time, _)| time == capability.time()) {
                        pending.entry(*capability.time()).or_default().append(updates);
                    }
                    for update in updates.drain(..) {
                        pending.entry(update.1).or_default().push(update);
                    }
                });
                let Some(view) = &view else { return };
                let frontier = first(&frontiers[0]).unwrap_or(Time::MAX);
                let later = pending.split_off(&frontier);
                let closed = std::mem::replace(&mut pending, later);
                view.0.tell(worker, closed.into_values().flatten(), frontier);
            }
        });
        progress
    }
}

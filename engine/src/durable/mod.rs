//! Durability: what outlives a process, and how a job goes on where it was.
//!
//! Three things are kept. **Bindings** say which records got which time; a binding is durable before any
//! output of its time leaves, so that a run that comes later gives the same records the same times, and with them
//! the same outputs in the same order. **Checkpoints** hold the state of the roots as it was before a time, and how
//! far each partition had been read. And the **output topics** themselves know the last message they hold.
//!
//! So after a crash: the roots are restored as of a checkpoint, the records behind it are read again at their
//! bound times, and the sinks leave out what their topics hold already.
//!
//! * `ledger.rs` writes bindings, on worker 0 for all workers.
//! * `marks.rs` decides when a checkpoint is taken: worker 0 sends a mark with a time to all roots.
//! * `snapshot.rs` collects the copy of a root's state, which its agents make page by page while they go on.
//! * `replay.rs` finds a stretch of the past that is to be replayed: a plan for a run that keeps nothing itself.
//! * `compact.rs` says which segments are to be stored again, so that objects do not become many.
//! * `check.rs` compares a program with a checkpoint before anything starts, by the `shape.rs` of its roots.
//! * `commit.rs` puts the parts together, on worker 0: a checkpoint counts once its manifest is stored.

pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod compact;
pub(crate) mod ledger;
pub(crate) mod marks;
pub(crate) mod replay;
mod shape;
pub(crate) mod snapshot;

pub(crate) use shape::Shape;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::connect::{Log, PartitionId, Position, Store};
use crate::error::{Error, Kind, Result};
use crate::job::{Delivery, JobConfig};
use crate::machine::Io;
use crate::time::Time;

/// Where checkpoints are kept, and how often they are taken.
#[derive(Clone)]
pub struct Checkpoints {
    /// Where they are kept.
    pub store: Arc<dyn Store>,
    /// The time between two of them, if anything happens.
    pub every: Duration,
}

impl std::fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints")
            .field("store", &self.store.describe())
            .field("every", &self.every)
            .finish()
    }
}

/// The version of what is stored.
const VERSION: u32 = 1;

/// A partition's records from `first` to `last` got a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) source: String,
    pub(crate) partition: PartitionId,
    pub(crate) first: Position,
    pub(crate) last: Position,
}

/// All that got a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) time: Time,
    pub(crate) bounds: Vec<Bound>,
    /// A run has begun that binds nothing: what was bound before counts no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) void: bool,
    /// A checkpoint of this time had been committed when this was written. The log always has the last one, since what is
    /// older is cut off it: a manifest that has gone is noticed, and topics that are not those of the checkpoint.
    #[serde(default)]
    pub(crate) since: Time,
}

/// Up to where partitions were read.
pub(crate) type Positions = BTreeMap<(String, PartitionId), Position>;

/// What a checkpoint consists of. A root's segment is in the part that is named last for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    pub(crate) job: String,
    /// All times below are contained, none from it on.
    pub(crate) time: Time,
    /// By root: its parts, and which segments are in each.
    pub(crate) roots: BTreeMap<String, Vec<Part>>,
    pub(crate) positions: Vec<(String, PartitionId, Position)>,
    /// The topics that were written.
    pub(crate) sinks: Vec<String>,
    /// Where they are: a replay must not write there.
    #[serde(default)]
    pub(crate) places: Vec<String>,
    /// By root: the shapes of its key and state.
    #[serde(default)]
    pub(crate) shapes: BTreeMap<String, Shape>,
}

impl Manifest {
    /// The names of its parts' objects.
    fn objects(&self) -> Vec<String> {
        self.roots.values().flatten().map(|part| part.object.clone()).collect()
    }
}

/// An object that holds segments of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) object: String,
    pub(crate) segments: Vec<u16>,
    /// The object's size.
    #[serde(default)]
    pub(crate) bytes: u64,
}

/// A manifest that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    /// `None` before the first checkpoint.
    pub(crate) time: Option<Time>,
    /// What it needs.
    pub(crate) objects: Vec<String>,
}

impl Kept {
    fn new(number: u64, manifest: Option<&Manifest>) -> Self {
        let time = manifest.map(|manifest| manifest.time);
        Kept { number, time, objects: manifest.map(Manifest::objects).unwrap_or_default() }
    }
}

/// Takes out of `kept`, which is in order, what is not kept any more. What stays: the newest manifest, and that of each of
/// the last `checkpoints` times, since a run that begins stores the one it found anew.
pub(crate) fn drop_old(kept: &mut Vec<Kept>, checkpoints: usize) -> Vec<Kept> {
    let mut times = BTreeSet::new();
    let mut keep = vec![false; kept.len()];
    keep.last_mut().into_iter().for_each(|newest| *newest = true);
    for (of, keep) in kept.iter().zip(&mut keep).rev() {
        *keep |= times.len() < checkpoints && of.time.is_some_and(|time| times.insert(time));
    }
    let mut keep = keep.into_iter();
    kept.extract_if(.., |_| keep.next() == Some(false)).collect()
}

/// The time of the oldest checkpoint of these: what is needed from there on is kept.
pub(crate) fn oldest(kept: &[Kept]) -> Option<Time> {
    kept.iter().filter_map(|kept| kept.time).min()
}

/// From where a job goes on: the same for all of its processes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The number of the newest manifest.
    pub(crate) number: u64,
    pub(crate) manifest: Option<Manifest>,
    /// The last manifests, by number.
    pub(crate) kept: Vec<Kept>,
    /// In the order of their times; all since the checkpoint.
    pub(crate) bindings: Vec<Binding>,
    /// The times of all records of the log, also of those that only older checkpoints need.
    #[serde(skip)]
    pub(crate) logged: Vec<Time>,
    /// Of a replay: its last time.
    pub(crate) replay_until: Option<Time>,
    /// What the log is told first; before that is durable, what is older must not be cut off.
    opening: Option<Binding>,
    /// So many records of the log are not needed any more.
    obsolete: u64,
}

impl Plan {
    /// All times below are in the restored state.
    pub(crate) fn restored(&self) -> Option<Time> {
        self.manifest.as_ref().map(|manifest| manifest.time)
    }

    /// The last time that anything was bound to, or that is contained.
    pub(crate) fn last_time(&self) -> Time {
        let bound = self.bindings.last().map_or(0, |binding| binding.time);
        bound.max(self.restored().unwrap_or(0).saturating_sub(1))
    }

    pub(crate) fn positions(&self) -> Positions {
        let of_manifest = self.manifest.iter().flat_map(|manifest| &manifest.positions);
        of_manifest.map(|(source, partition, at)| ((source.clone(), *partition), *at)).collect()
    }
}

/// What a job with checkpoints has, once a process.
pub(crate) struct Durable {
    pub(crate) job: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) every: Duration,
    pub(crate) plan: Plan,
    /// Taken by the ledger of worker 0.
    pub(crate) log: Mutex<Option<Box<dyn Log>>>,
    /// Calls the ledger's operator.
    pub(crate) log_waker: Arc<LateWaker>,
    pub(crate) io: Io,
    /// How many checkpoints are kept.
    pub(crate) kept: usize,
}

impl Durable {
    /// For a process that has no log, and the receiver that is told when all that the store was asked for is done.
    pub(crate) fn new(
        config: &JobConfig,
        checkpoints: Checkpoints,
        plan: Plan,
    ) -> Result<(Self, Receiver<()>)> {
        let Checkpoints { store, every } = checkpoints;
        let (io, done) = Io::new(&config.machine())?;
        let (job, kept) = (config.name.clone(), config.checkpoints_kept);
        let (log, log_waker) = (Mutex::default(), Arc::default());
        Ok((Durable { job, store, every, plan, log, log_waker, io, kept }, done))
    }

    /// Whether a run that came later has taken the job over.
    pub(crate) fn is_taken_over(&self) -> Result<bool> {
        Ok(numbers(&self.job, &*self.store)?.last().is_some_and(|&newest| newest > self.plan.number))
    }
}

/// A waker for somebody who is built later.
#[derive(Default)]
pub(crate) struct LateWaker(Mutex<Option<crate::connect::Waker>>);

impl LateWaker {
    pub(crate) fn set(&self, waker: crate::connect::Waker) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }
    pub(crate) fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker();
        }
    }
}

fn manifest_name(job: &str, number: u64) -> String {
    format!("{job}/manifests/{number:016}")
}

/// The numbers of the manifests that are there, in order.
pub(crate) fn numbers(job: &str, store: &dyn Store) -> Result<Vec<u64>> {
    let names = store.list(&format!("{job}/manifests/"))?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| name.rsplit('/').next()?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The newest manifest and its number, if the job has stored any. Changes nothing.
pub(crate) fn newest(job: &str, store: &dyn Store) -> Result<Option<(u64, Manifest)>> {
    let Some(number) = numbers(job, store)?.last().copied() else { return Ok(None) };
    Ok(read_manifest(job, number, store)?.map(|manifest| (number, manifest)))
}

/// The name of a part's object. The number of a run's first manifest tells the runs of a job apart.
fn part_name(job: &str, time: Time, run: u64, worker: usize, root: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let mut plain: String = root.chars().map(plain).collect();
    // Two names must not become one.
    if plain != root {
        plain += &format!("-{:08x}", crate::hash::fixed_hash(root) as u32);
    }
    format!("{job}/parts/{time:016}-{run}-{worker}-{plain}")
}

/// The run that has stored a part.
fn run_of(part: &str) -> Option<u64> {
    part.rsplit('/').next()?.split('-').nth(1)?.parse().ok()
}

/// Finds out from where to go on, and takes the job over from a run that may still be there: that one can
/// commit nothing any more.
pub(crate) fn take_over(
    job: &str,
    checkpoints: usize,
    store: &dyn Store,
    log: &mut dyn Log,
    delivery: Delivery,
) -> Result<Plan> {
    let bindings = log.read()?;
    let numbers = numbers(job, store)?;
    let newest = numbers.last().copied();
    let mut kept = Vec::new();
    let mut manifest = None;
    for &number in &numbers {
        // Only the newest must be good.
        match read_manifest(job, number, store) {
            Ok(read) => {
                kept.push(Kept::new(number, read.as_ref()));
                manifest = read;
            }
            Err(error) if Some(number) == newest => return Err(error),
            Err(error) => tracing::warn!(%error, "an older checkpoint"),
        }
    }
    let mut bindings = parse(job, &bindings)?;
    if let Some(manifest) = &manifest {
        belongs(job, store, manifest, &bindings)?;
    }
    let number = newest.map_or(0, |number| number + 1);
    let content =
        serde_json::to_vec(&manifest).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
    if !store.create(&manifest_name(job, number), sealed(content))? {
        return Err(taken_over(job));
    }
    kept.push(Kept::new(number, manifest.as_ref()));
    drop_old(&mut kept, checkpoints);
    tidy(job, store, number, &kept, &numbers);
    let since = manifest.as_ref().map_or(0, |manifest| manifest.time);
    let oldest = oldest(&kept).unwrap_or(0);
    let void = delivery == Delivery::AtLeastOnce;
    let last_void = bindings.iter().rposition(|binding| binding.void);
    // The last record that says that nothing is bound stays, for those who want to replay what was before.
    let cut = if void { bindings.len() } else { last_void.unwrap_or(0) };
    let is_old = |(number, binding): &(usize, &Binding)| *number < cut || binding.time < oldest;
    let obsolete = bindings.iter().enumerate().take_while(is_old).count();
    let logged = bindings[obsolete..].iter().map(|binding| binding.time).collect();
    let last = bindings.last().map_or(since, |binding| binding.time.max(since));
    bindings.drain(..if void { bindings.len() } else { last_void.map_or(0, |at| at + 1) });
    bindings.retain(|binding| binding.time >= since && !binding.bounds.is_empty());
    let opening = Some(Binding { time: last, bounds: Vec::new(), void, since });
    let obsolete = obsolete as u64;
    Ok(Plan { number, manifest, kept, bindings, logged, opening, obsolete, replay_until: None })
}

/// Reads the records of a log.
fn parse(job: &str, records: &[Bytes]) -> Result<Vec<Binding>> {
    let parsed = records.iter().map(|bytes| serde_json::from_slice::<Binding>(bytes));
    parsed.collect::<Result<Vec<_>, _>>().map_err(|error| {
        let why = format!("the log of bindings of job {job:?} has an unreadable record: {error}");
        Error::new(Kind::Lost, why)
    })
}

/// Whether a log goes with the newest manifest: is of the same topics, and not cut beyond it.
fn belongs(job: &str, store: &dyn Store, manifest: &Manifest, bindings: &[Binding]) -> Result<()> {
    let place = store.describe();
    if bindings.is_empty() {
        let why = "the topics have been made anew since. Delete its checkpoints to begin anew, or give others with --checkpoints";
        return Err(Error::new(
            Kind::Lost,
            format!(
                "job {job:?} has checkpoints in {place}, but nothing is known of it where its topics are: {why}"
            ),
        ));
    }
    let bound = bindings.iter().rposition(|binding| binding.void).map_or(bindings, |at| &bindings[at..]);
    let Some(since) = bound.iter().map(|binding| binding.since).max().filter(|since| *since > manifest.time)
    else {
        return Ok(());
    };
    let hint = "and an older one cannot be gone on with. Restore the folder or bucket, or begin anew with another --checkpoints";
    Err(Error::new(
        Kind::Lost,
        format!(
            "the newest checkpoint of job {job:?} in {place} is of the time {}, but there was one of {since}: it has gone, {hint}",
            manifest.time
        ),
    ))
}

pub(crate) fn read_manifest(job: &str, number: u64, store: &dyn Store) -> Result<Option<Manifest>> {
    let name = manifest_name(job, number);
    let bytes = store.get(&name)?.ok_or_else(|| damaged(store, &name, "it is gone"))?;
    let content = unsealed(&bytes).ok_or_else(|| damaged(store, &name, "its checksum is wrong"))?;
    let manifest: Option<Manifest> =
        serde_json::from_slice(content).map_err(|error| damaged(store, &name, &error.to_string()))?;
    match &manifest {
        Some(manifest) if manifest.version != VERSION => {
            Err(damaged(store, &name, "another version of nekton has written it"))
        }
        _ => Ok(manifest),
    }
}

/// Deletes what earlier runs have left: manifests that are not kept, and parts that none of those kept names.
fn tidy(job: &str, store: &dyn Store, number: u64, kept: &[Kept], numbers: &[u64]) {
    let needed: BTreeSet<&String> = kept.iter().flat_map(|kept| &kept.objects).collect();
    let old = numbers.iter().filter(|number| kept.iter().all(|kept| kept.number != **number));
    let old = old.map(|&number| manifest_name(job, number));
    let parts = store.list(&format!("{job}/parts/")).unwrap_or_default();
    // If yet another run has come meanwhile, its parts are none of this one's business.
    let before = |part: &String| run_of(part).is_some_and(|run| run < number);
    let orphans = parts.into_iter().filter(|part| before(part) && !needed.contains(part));
    for name in old.chain(orphans) {
        if let Err(error) = store.delete(&name) {
            tracing::warn!(%error, name, "an old checkpoint object was not deleted");
        }
    }
}

pub(crate) fn taken_over(job: &str) -> Error {
    let why = "another run of it has taken over: end one of the two, or give one another name";
    Error::new(Kind::Conflict, format!("job {job:?} cannot go on: {why}"))
}

/// An object of a checkpoint that is not what was stored. There is no way back to an older checkpoint: what was bound after
/// that is not kept, and brokers have let go of it.
pub(crate) fn damaged(store: &dyn Store, name: &str, why: &str) -> Error {
    let hint = "restore it from a copy, or begin anew with another --checkpoints; `nekton checkpoint verify` says what else is damaged";
    Error::new(
        Kind::Lost,
        format!("the checkpoint object {name} in {} cannot be used: {why}; {hint}", store.describe()),
    )
}

/// The size of a checksum.
const CHECKSUM: usize = 8;

/// Content with its checksum in front. Best with room for it, or all is moved elsewhere.
pub(crate) fn sealed(mut content: Vec<u8>) -> Bytes {
    let checksum = checksum(&content).to_le_bytes();
    content.splice(..0, checksum);
    content.into()
}

/// The content, if its checksum is right.
pub(crate) fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (said, content) = bytes.split_first_chunk::<CHECKSUM>()?;
    (u64::from_le_bytes(*said) == checksum(content)).then_some(content)
}

/// Notices damage, not malice.
fn checksum(content: &[u8]) -> u64 {
    crate::hash::fixed_hash(content)
}

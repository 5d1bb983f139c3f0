//! A simulated world: topics, a log and a store that outlive the jobs that use them, slow and faulty as a seed says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use nekton_engine::connect::{
    Log, Message, PartitionId, PartitionReader, PartitionWriter, Polled, Position, RawRecord, Sink,
    SinkSettings, Source, Start, Store, Topics, Waker, WriteBatch,
};
use nekton_engine::{Checkpoints, Error, JobConfig, Kind, Result, Simulator, Time};

/// The most steps that a run takes which nothing stops: beyond, it hangs.
pub const HANGS: u64 = 2_000_000;

/// What a world may do wrong, as a broken engine, broker or disk would: the oracle must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Bindings are said to be durable, and are not.
    BindingsAreLost,
    /// Input is let go of as soon as it was read.
    InputIsLetGoEarly,
    /// A checkpoint's manifest leaves out a segment.
    ASegmentIsForgotten,
    /// A partition does not know what it holds.
    OutputsForget,
    /// A run of before may still write.
    NobodyIsFenced,
    /// Input is delivered in another order after a restart.
    InputIsReordered,
}

/// What outlives the runs.
#[derive(Default)]
pub struct Kept {
    /// By partition: all that was ever published.
    pub inputs: Vec<Vec<Bytes>>,
    /// By partition: how many of the first records are not kept any more.
    pub released: Vec<u64>,
    /// By topic and partition.
    pub outputs: BTreeMap<String, Vec<Written>>,
    log: Vec<Bytes>,
    log_owner: u64,
    pub objects: BTreeMap<String, Bytes>,
}

/// A progress mark among messages, which are JSON.
pub const MARK: &[u8] = b"closed";

/// An output partition.
#[derive(Default)]
pub struct Written {
    /// Times and messages, and times and [`MARK`]s.
    pub messages: Vec<(Time, Bytes)>,
    owner: u64,
}

/// The world as one run sees it.
#[derive(Clone)]
pub struct World {
    kept: Arc<Mutex<Kept>>,
    run: u64,
    alive: Arc<AtomicBool>,
    pub simulator: Simulator,
    lie: Option<Lie>,
}

impl World {
    pub fn new(seed: u64, lie: Option<Lie>) -> Self {
        World {
            kept: Arc::default(),
            run: 0,
            alive: Arc::new(AtomicBool::new(true)),
            simulator: Simulator::new(seed),
            lie,
        }
    }

    /// The same world with an input of so many partitions.
    pub fn with_inputs(self, partitions: usize) -> Self {
        let mut kept = self.kept();
        kept.inputs = vec![Vec::new(); partitions];
        kept.released = vec![0; partitions];
        drop(kept);
        self
    }

    /// A job in this world that runs to its end, with checkpoints.
    pub fn config(&self, workers: usize, name: &str) -> JobConfig {
        let store: Arc<dyn Store> = Arc::new(self.clone());
        JobConfig {
            workers,
            until_end: true,
            new_topic_partitions: 2,
            checkpoints: Some(Checkpoints { store, every: Duration::from_millis(4) }),
            simulator: Some(self.simulator.clone()),
            ..JobConfig::new(name)
        }
    }

    /// The same world for the next run, which is alive, on a machine of its own whose clock goes on, `ahead`
    /// milliseconds off.
    pub fn next_run(&mut self, seed: u64, ahead: i64) -> World {
        let simulator = Simulator::new(seed);
        let passed = self.simulator.now() as i64 - simulator.now() as i64;
        simulator.set_clock(passed + ahead);
        self.run += 1;
        self.simulator = simulator;
        self.alive = Arc::new(AtomicBool::new(true));
        self.clone()
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From now on nothing that this run does has any effect.
    pub fn crash(&self) {
        self.alive.store(false, Ordering::SeqCst);
    }

    /// Crashes at a step, unless the run ends before.
    pub fn crash_at(&self, at: u64) {
        let crashing = self.clone();
        self.simulator.at_each_step(move |step| {
            if step == at {
                crashing.crash();
            }
            assert!(step < HANGS, "the run hangs");
        });
    }

    fn alive(&self) -> Result<()> {
        match self.alive.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(Error::new(Kind::Io, "crashed")),
        }
    }

    /// Before and after everything that has an effect: here a run may stand still, or end.
    fn moment(&self) -> Result<()> {
        self.simulator.step();
        self.alive()
    }

    /// Does something that outlives the run. It may end before that, or right behind it.
    fn act<T>(&self, what: impl FnOnce(&mut Kept) -> Result<T>) -> Result<T> {
        self.moment()?;
        let done = what(&mut self.kept())?;
        self.moment()?;
        Ok(done)
    }

    fn delay(&self, most_micros: u64) -> Duration {
        Duration::from_micros(self.simulator.below(most_micros))
    }

    fn lies(&self, lie: Lie) -> bool {
        self.lie == Some(lie)
    }
}

fn taken_over(what: &str) -> Error {
    Error::new(Kind::Conflict, format!("another run writes {what}"))
}

impl Topics for World {
    fn source(&self, _name: &str) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.clone()))
    }
    fn sink(&self, name: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        let mut kept = self.kept();
        let topic = kept
            .outputs
            .entry(name.to_owned())
            .or_insert_with(|| (0..settings.partitions).map(|_| Written::default()).collect());
        let partitions = topic.len() as PartitionId;
        Ok(Arc::new(Output { world: self.clone(), topic: name.to_owned(), partitions }))
    }
    fn log(&self, _job: &str, waker: Waker) -> Result<Box<dyn Log>> {
        self.act(|kept| {
            kept.log_owner = self.run;
            Ok(())
        })?;
        let world = self.clone();
        Ok(Box::new(WorldLog { world, waker, state: Arc::default() }))
    }
}

// --- Inputs --------------------------------------------------------------------------------------

impl Source for World {
    fn partitions(&self) -> PartitionId {
        self.kept().inputs.len() as PartitionId
    }
    fn open(&self, partition: PartitionId, start: Start, waker: Waker) -> Result<Box<dyn PartitionReader>> {
        let released = self.kept().released[partition as usize];
        let at = match start {
            Start::After(position) => position.entry + 1,
            _ => released,
        };
        if at < released {
            return Err(Error::new(Kind::Lost, format!("records {at} to {released} are gone")));
        }
        let mut order = None;
        if self.lies(Lie::InputIsReordered) {
            order = Some(self.run);
        }
        Ok(Box::new(Reader { world: self.clone(), partition, at: at as usize, order, waker }))
    }
    fn describe(&self) -> String {
        "world:input".to_owned()
    }
}

struct Reader {
    world: World,
    partition: PartitionId,
    at: usize,
    order: Option<u64>,
    waker: Waker,
}

impl PartitionReader for Reader {
    fn poll(&mut self, _budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        let simulator = &self.world.simulator;
        let count = simulator.below(8) as usize;
        // A broker may deliver again what it has delivered.
        let again = if simulator.below(10) == 0 { simulator.below(4) as usize } else { 0 };
        let mut kept = self.world.kept();
        let floor = kept.released[self.partition as usize] as usize;
        let all = &kept.inputs[self.partition as usize];
        let from = self.at.saturating_sub(again).max(floor).min(self.at);
        for at in from..(self.at + count).min(all.len()) {
            let of = match self.order {
                Some(run) if run % 2 == 1 => at ^ 1,
                _ => at,
            };
            let payload = all.get(of).unwrap_or(&all[at]).clone();
            let position = Position { entry: at as u64, ..Position::default() };
            out.push(RawRecord { position, key: None, payload, published: 0, defect: None });
            self.at = at + 1;
        }
        let ended = self.at == all.len();
        if self.world.lies(Lie::InputIsLetGoEarly) && self.world.alive().is_ok() {
            kept.released[self.partition as usize] = self.at as u64;
        }
        drop(kept);
        if ended {
            return Ok(Polled::End);
        }
        let waker = self.waker.clone();
        simulator.after(self.world.delay(3_000), move || waker());
        Ok(Polled::Idle)
    }
    fn release(&mut self, position: Position) {
        // A crash may come before the broker hears of it.
        let _ = self.world.act(|kept| {
            let released = &mut kept.released[self.partition as usize];
            *released = (*released).max(position.entry + 1);
            Ok(())
        });
    }
}

// --- Outputs -------------------------------------------------------------------------------------

struct Output {
    world: World,
    topic: String,
    partitions: PartitionId,
}

impl Sink for Output {
    fn partitions(&self) -> PartitionId {
        self.partitions
    }
    fn open(&self, partition: PartitionId, waker: Waker) -> Result<Box<dyn PartitionWriter>> {
        let held = self.world.act(|kept| {
            let written = written(kept, &self.topic, partition);
            written.owner = self.world.run;
            let Some((last, message)) = written.messages.last() else { return Ok(None) };
            let count = written.messages.iter().rev().take_while(|(time, _)| time == last).count();
            Ok(Some((*last, if message == MARK { u64::MAX } else { count as u64 })))
        })?;
        let held = held.filter(|_| !self.world.lies(Lie::OutputsForget));
        // Most are quick, some are slow.
        let slowness = [300, 300, 2_000, 30_000][self.world.simulator.below(4) as usize];
        let (world, topic) = (self.world.clone(), self.topic.clone());
        Ok(Box::new(Writer { world, topic, partition, held, slowness, waker, state: Arc::default() }))
    }
    fn describe(&self) -> String {
        format!("world:{}", self.topic)
    }
}

fn written<'k>(kept: &'k mut Kept, topic: &str, partition: PartitionId) -> &'k mut Written {
    &mut kept.outputs.get_mut(topic).unwrap()[partition as usize]
}

struct Writer {
    world: World,
    topic: String,
    partition: PartitionId,
    held: Option<(Time, u64)>,
    slowness: u64,
    waker: Waker,
    state: Arc<Mutex<Writing>>,
}

#[derive(Default)]
struct Writing {
    queue: VecDeque<(Time, Vec<Bytes>)>,
    written: Option<Time>,
    failed: Option<Error>,
}

impl Writer {
    /// Writes what has been waiting longest.
    fn deliver(world: &World, topic: &str, partition: PartitionId, state: &Mutex<Writing>) {
        let Some((time, messages)) = state.lock().unwrap().queue.pop_front() else { return };
        for message in messages {
            let wrote = world.act(|kept| {
                let written = written(kept, topic, partition);
                if written.owner != world.run && !world.lies(Lie::NobodyIsFenced) {
                    return Err(taken_over(topic));
                }
                written.messages.push((time, message));
                Ok(())
            });
            if let Err(error) = wrote {
                state.lock().unwrap().failed = Some(error);
                return;
            }
        }
        let mut state = state.lock().unwrap();
        if state.failed.is_none() {
            state.written = Some(time);
        }
    }

    /// The last time that is out.
    fn so_far(&self) -> Result<Option<Time>> {
        let state = self.state.lock().unwrap();
        state.failed.clone().map_or(Ok(state.written), Err)
    }

    /// Will write something.
    fn ask(&mut self, time: Time, messages: Vec<Bytes>) {
        self.state.lock().unwrap().queue.push_back((time, messages));
        let (world, topic, partition) = (self.world.clone(), self.topic.clone(), self.partition);
        let (state, waker) = (self.state.clone(), self.waker.clone());
        self.world.simulator.after(self.world.delay(self.slowness), move || {
            if state.lock().unwrap().failed.is_none() {
                Writer::deliver(&world, &topic, partition, &state);
            }
            waker();
        });
    }
}

impl PartitionWriter for Writer {
    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        let value = |message: Message| message.value.unwrap_or_default();
        self.ask(batch.time, batch.messages.into_iter().map(value).collect());
        Ok(())
    }
    fn mark(&mut self, time: Time) -> Result<()> {
        self.ask(time, vec![Bytes::from_static(MARK)]);
        Ok(())
    }
    fn written(&mut self) -> Result<Option<Time>> {
        self.so_far()
    }
    fn last_time(&self) -> Option<Time> {
        self.held.map(|(time, _)| time)
    }
    fn last_count(&self) -> u64 {
        self.held.map_or(0, |(_, count)| count)
    }
    fn close(self: Box<Self>) -> Result<()> {
        while !self.state.lock().unwrap().queue.is_empty() {
            Writer::deliver(&self.world, &self.topic, self.partition, &self.state);
            self.so_far()?;
        }
        Ok(())
    }
}

// --- The log and the store -----------------------------------------------------------------------

struct WorldLog {
    world: World,
    waker: Waker,
    state: Arc<Mutex<Appending>>,
}

#[derive(Default)]
struct Appending {
    queue: VecDeque<Bytes>,
    durable: u64,
    failed: Option<Error>,
}

impl Log for WorldLog {
    fn read(&mut self) -> Result<Vec<Bytes>> {
        Ok(self.world.kept().log.clone())
    }
    fn append(&mut self, record: Bytes) -> Result<()> {
        self.state.lock().unwrap().queue.push_back(record);
        let (world, state, waker) = (self.world.clone(), self.state.clone(), self.waker.clone());
        self.world.simulator.after(self.world.delay(1_500), move || {
            let Some(record) = state.lock().unwrap().queue.pop_front() else { return };
            if state.lock().unwrap().failed.is_some() {
                return;
            }
            let appended = world.act(|kept| {
                if kept.log_owner != world.run && !world.lies(Lie::NobodyIsFenced) {
                    return Err(taken_over("the log"));
                }
                // A record without any would be missed by the engine itself.
                let binds = !record.windows(11).any(|text| text == b"\"bounds\":[]");
                if !(binds && world.lies(Lie::BindingsAreLost)) {
                    kept.log.push(record);
                }
                Ok(())
            });
            match appended {
                Ok(()) => state.lock().unwrap().durable += 1,
                Err(error) => state.lock().unwrap().failed = Some(error),
            }
            waker();
        });
        Ok(())
    }
    fn durable(&mut self) -> Result<u64> {
        let state = self.state.lock().unwrap();
        state.failed.clone().map_or(Ok(state.durable), Err)
    }
    fn trim(&mut self, count: u64) -> Result<()> {
        self.world.act(|kept| {
            if kept.log_owner != self.world.run {
                return Err(taken_over("the log"));
            }
            let count = kept.log.len().min(count as usize);
            kept.log.drain(..count);
            Ok(())
        })
    }
}

impl World {
    /// A store may be out of reach for a moment.
    fn reach(&self) -> Result<()> {
        match self.simulator.below(400) {
            0 => Err(Error::new(Kind::Unavailable, "the store cannot be reached")),
            _ => Ok(()),
        }
    }
}

impl Store for World {
    fn put(&self, name: &str, content: Bytes) -> Result<()> {
        self.reach()?;
        self.act(|kept| {
            kept.objects.insert(name.to_owned(), content);
            Ok(())
        })
    }
    fn create(&self, name: &str, content: Bytes) -> Result<bool> {
        self.reach()?;
        let content = if self.lies(Lie::ASegmentIsForgotten) { forgetting(&content) } else { content };
        self.act(|kept| {
            let there = kept.objects.contains_key(name) && !self.lies(Lie::NobodyIsFenced);
            if !there {
                kept.objects.insert(name.to_owned(), content);
            }
            Ok(!there)
        })
    }
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.reach()?;
        Ok(self.kept().objects.get(name).cloned())
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.reach()?;
        Ok(self.kept().objects.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.act(|kept| {
            kept.objects.remove(name);
            Ok(())
        })
    }
    fn describe(&self) -> String {
        "world:objects".to_owned()
    }
}

/// A manifest that says nothing of one segment which it has.
fn forgetting(manifest: &Bytes) -> Bytes {
    let mut value: serde_json::Value = serde_json::from_slice(&manifest[8..]).unwrap();
    if value.is_null() {
        return manifest.clone();
    }
    let parts = value["roots"].as_object_mut().into_iter().flat_map(|roots| roots.values_mut());
    for part in parts.filter_map(|parts| parts.get_mut(0)) {
        part["segments"].as_array_mut().unwrap().pop();
    }
    let content = serde_json::to_vec(&value).unwrap();
    let mut sealed = nekton_engine::hash::fixed_hash(content.as_slice()).to_le_bytes().to_vec();
    sealed.extend_from_slice(&content);
    sealed.into()
}

/// All of it, for comparing runs.
pub fn print_of(kept: &Kept) -> u64 {
    let topics: Vec<_> = (kept.outputs.iter())
        .map(|(topic, partitions)| (topic, partitions.iter().flat_map(|of| &of.messages).collect::<Vec<_>>()))
        .collect();
    let objects: Vec<_> = kept.objects.iter().collect();
    nekton_engine::hash::fixed_hash(format!("{topics:?}{objects:?}{:?}", kept.log).as_bytes())
}

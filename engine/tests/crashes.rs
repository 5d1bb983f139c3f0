//! Jobs that crash at any write, in the middle of a batch, of the log, of a checkpoint, and are started again with
//! any number of workers: every output partition holds each change once, in order, and the outputs agree with one
//! another at every time and with a naive model in the end.
//!
//! `NEKTON_SEEDS=1000 cargo test -p nekton-engine --test crashes` runs more, `NEKTON_SEED=17` one alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use nekton_engine::connect::{
    Log, Message, PartitionId, PartitionReader, PartitionWriter, Polled, Position, RawRecord, Sink,
    SinkSettings, Source, Start, Store, Topics, Waker, WriteBatch,
};
use nekton_engine::{Agent, Checkpoints, Context, Error, JobConfig, Kind, Result, Time, changes, keyed, run};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Numbers that a seed makes.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A progress mark among messages, which are JSON.
const MARK: &[u8] = b"closed";

// --- A world that outlives its jobs --------------------------------------------------------------

#[derive(Default)]
struct Kept {
    inputs: Vec<Vec<Bytes>>,
    /// By topic and partition: times and messages, and times and [`MARK`]s.
    outputs: HashMap<String, Vec<Vec<(Time, Bytes)>>>,
    log: Vec<Bytes>,
    objects: BTreeMap<String, Bytes>,
}

/// What a job sees of it: until the fuse has burnt down, writes succeed; afterwards, none does.
#[derive(Clone)]
struct World {
    kept: Arc<Mutex<Kept>>,
    fuse: Arc<AtomicU64>,
    random: Arc<Mutex<Random>>,
}

impl World {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }
    /// Called before every single write.
    fn burn(&self) -> Result<()> {
        let burnt = |left: u64| left.checked_sub(1);
        match self.fuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, burnt) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(Kind::Io, "crashed")),
        }
    }
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
            .or_insert_with(|| vec![Vec::new(); settings.partitions as usize]);
        let partitions = topic.len() as PartitionId;
        Ok(Arc::new(Output { world: self.clone(), topic: name.to_owned(), partitions }))
    }
    fn log(&self, _job: &str, waker: Waker) -> Result<Box<dyn Log>> {
        Ok(Box::new(WorldLog { world: self.clone(), appended: 0, waker }))
    }
}

impl Source for World {
    fn partitions(&self) -> PartitionId {
        self.kept().inputs.len() as PartitionId
    }
    fn open(&self, partition: PartitionId, start: Start, waker: Waker) -> Result<Box<dyn PartitionReader>> {
        let at = match start {
            Start::After(position) => position.entry as usize + 1,
            _ => 0,
        };
        Ok(Box::new(Reader { world: self.clone(), partition, at, waker }))
    }
    fn describe(&self) -> String {
        "world:input".to_owned()
    }
}

struct Reader {
    world: World,
    partition: PartitionId,
    at: usize,
    waker: Waker,
}

impl PartitionReader for Reader {
    fn poll(&mut self, _budget: usize, out: &mut Vec<RawRecord>) -> Result<Polled> {
        let count = self.world.random.lock().unwrap().below(12) as usize;
        let kept = self.world.kept();
        let all = &kept.inputs[self.partition as usize];
        for payload in all.iter().skip(self.at).take(count) {
            let position = Position { entry: self.at as u64, ..Position::default() };
            out.push(RawRecord { position, key: None, payload: payload.clone(), published: 0, defect: None });
            self.at += 1;
        }
        (self.waker)();
        Ok(if self.at == all.len() { Polled::End } else { Polled::Idle })
    }
}

struct Output {
    world: World,
    topic: String,
    partitions: PartitionId,
}

impl Sink for Output {
    fn partitions(&self) -> PartitionId {
        self.partitions
    }
    fn open(&self, partition: PartitionId, _waker: Waker) -> Result<Box<dyn PartitionWriter>> {
        let kept = self.world.kept();
        let messages = &kept.outputs[&self.topic][partition as usize];
        let marked = messages.last().is_some_and(|(_, message)| message == MARK);
        let held = messages.last().map(|(last, _)| {
            let of_it = messages.iter().rev().take_while(|(time, _)| time == last).count() as u64;
            (*last, if marked { u64::MAX } else { of_it })
        });
        let (world, topic) = (self.world.clone(), self.topic.clone());
        Ok(Box::new(Writer { world, topic, partition, held, written: None }))
    }
    fn describe(&self) -> String {
        format!("world:{}", self.topic)
    }
}

struct Writer {
    world: World,
    topic: String,
    partition: PartitionId,
    held: Option<(Time, u64)>,
    written: Option<Time>,
}

impl PartitionWriter for Writer {
    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        for Message { value, .. } in batch.messages {
            self.world.burn()?;
            let mut kept = self.world.kept();
            let partition = &mut kept.outputs.get_mut(&self.topic).unwrap()[self.partition as usize];
            partition.push((batch.time, value.unwrap_or_default()));
        }
        self.written = Some(batch.time);
        Ok(())
    }
    fn mark(&mut self, time: Time) -> Result<()> {
        self.world.burn()?;
        let mut kept = self.world.kept();
        let partition = &mut kept.outputs.get_mut(&self.topic).unwrap()[self.partition as usize];
        partition.push((time, MARK.into()));
        Ok(())
    }
    fn written(&mut self) -> Result<Option<Time>> {
        Ok(self.written)
    }
    fn last_time(&self) -> Option<Time> {
        self.held.map(|(time, _)| time)
    }
    fn last_count(&self) -> u64 {
        self.held.map_or(0, |(_, count)| count)
    }
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct WorldLog {
    world: World,
    appended: u64,
    waker: Waker,
}

impl Log for WorldLog {
    fn read(&mut self) -> Result<Vec<Bytes>> {
        Ok(self.world.kept().log.clone())
    }
    fn append(&mut self, record: Bytes) -> Result<()> {
        self.world.burn()?;
        self.world.kept().log.push(record);
        self.appended += 1;
        (self.waker)();
        Ok(())
    }
    fn durable(&mut self) -> Result<u64> {
        Ok(self.appended)
    }
    fn trim(&mut self, count: u64) -> Result<()> {
        self.world.kept().log.drain(..count as usize);
        Ok(())
    }
}

impl Store for World {
    fn put(&self, name: &str, content: Bytes) -> Result<()> {
        self.burn()?;
        self.kept().objects.insert(name.to_owned(), content);
        Ok(())
    }
    fn create(&self, name: &str, content: Bytes) -> Result<bool> {
        self.burn()?;
        let mut kept = self.kept();
        let there = kept.objects.contains_key(name);
        kept.objects.entry(name.to_owned()).or_insert(content);
        Ok(!there)
    }
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.kept().objects.get(name).cloned())
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.kept().objects.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.burn()?;
        self.kept().objects.remove(name);
        Ok(())
    }
    fn describe(&self) -> String {
        "world:objects".to_owned()
    }
}

// --- The job -------------------------------------------------------------------------------------

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: u64,
    depot: u64,
    value: i64,
}

#[derive(Default, Serialize, Deserialize)]
struct Sensor {
    depot: u64,
    count: i64,
    sum: i64,
}

impl Agent for Sensor {
    type Key = u64;
    type Event = Reading;
    type View = (u64, i64, i64);
    type Emit = ();
    fn create(_sensor: &u64) -> Self {
        Sensor::default()
    }
    fn on_event(&mut self, reading: &Reading, context: &mut Context<'_, Self>) {
        *self = Sensor { depot: reading.depot, count: self.count + 1, sum: self.sum + reading.value };
        if self.count % 5 == 4 {
            context.set_timer(context.time() + 2);
        }
        if reading.value == 13 {
            context.leave();
        }
    }
    fn on_timer(&mut self, _context: &mut Context<'_, Self>) {
        self.sum += 1_000;
    }
    fn view(&self) -> Option<(u64, i64, i64)> {
        Some((self.depot, self.count, self.sum))
    }
}

/// Whether the job came to its end, or crashed.
fn job(world: &World, workers: usize) -> bool {
    let marks = [None, Some(Duration::ZERO), Some(Duration::from_millis(2))];
    let marks = marks[world.random.lock().unwrap().below(3) as usize];
    marked_job(world, workers, marks)
}

fn marked_job(world: &World, workers: usize, progress_marks: Option<Duration>) -> bool {
    let store: Arc<dyn Store> = Arc::new(world.clone());
    let config = JobConfig {
        workers,
        until_end: true,
        new_topic_partitions: 2,
        checkpoints: Some(Checkpoints { store, every: Duration::from_millis(3) }),
        progress_marks,
        ..JobConfig::new("crashes")
    };
    let outcome = run(config, Arc::new(world.clone()), |flow| {
        let readings = flow.events::<Reading>("readings");
        let sensors = readings.agents::<Sensor>("sensors", |reading| reading.sensor);
        let by_depot = sensors.views().explode(|(_, (depot, _, sum))| Some((depot, sum as isize))).count();
        flow.sink("echo", &readings);
        flow.sink("by-sensor", keyed(&readings, |reading| reading.sensor));
        flow.sink("sums", changes(&sensors.views()));
        flow.sink("by-depot", changes(&by_depot));
    });
    match outcome {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Io, "{error}");
            false
        }
    }
}

/// A topic's partitions, each in its order: times and values.
fn read(world: &World, topic: &str) -> Vec<Vec<(Time, Value)>> {
    let kept = world.kept();
    let parse = |(time, value): &(Time, Bytes)| (*time, serde_json::from_slice(value).unwrap());
    let messages = |partition: &Vec<(Time, Bytes)>| {
        partition.iter().filter(|(_, message)| message != MARK).map(parse).collect()
    };
    kept.outputs[topic].iter().map(messages).collect()
}

/// What marks say is true, and in the end they have said it of everything.
fn check_marks(world: &World, seed: u64) {
    let kept = world.kept();
    let mut last = 0;
    let mut closed = Time::MAX;
    for (topic, partitions) in &kept.outputs {
        for partition in partitions {
            let mut marked = None;
            for (time, message) in partition {
                assert!(marked < Some(*time), "seed {seed}: {topic}: {marked:?} was closed before {time}");
                if message == MARK {
                    marked = Some(*time);
                } else {
                    last = last.max(*time);
                }
            }
            closed = closed.min(marked.unwrap_or(0));
        }
    }
    assert!(closed >= last, "seed {seed}: closed up to {closed}, of {last}");
}

fn check(world: &World, seed: u64) {
    let inputs: Vec<Vec<Reading>> = {
        let kept = world.kept();
        let parse = |payload: &Bytes| serde_json::from_slice(payload).unwrap();
        kept.inputs.iter().map(|partition| partition.iter().map(parse).collect()).collect()
    };
    let plain = |reading: &Value| (reading["sensor"].as_u64().unwrap(), reading["value"].as_i64().unwrap());

    for (number, partition) in read(world, "echo").iter().enumerate() {
        let echo: Vec<_> = partition.iter().map(|(_, reading)| plain(reading)).collect();
        // Of the inputs, every second one goes into each partition of the output, one after the other within a time.
        for input in inputs.iter().skip(number).step_by(2) {
            let of: Vec<_> = input.iter().map(|r| (r.sensor, r.value)).collect();
            let first = input.first().map(|reading| reading.sensor % 4);
            let read: Vec<_> = echo.iter().filter(|(sensor, _)| Some(sensor % 4) == first).copied().collect();
            assert_eq!(read, of, "seed {seed}: every event once, in the order of its partition");
        }
    }
    let keyed: usize = read(world, "by-sensor").iter().map(Vec::len).sum();
    assert_eq!(keyed, inputs.iter().map(Vec::len).sum::<usize>(), "seed {seed}: every event once");

    let mut updates: BTreeMap<Time, [Vec<Value>; 2]> = BTreeMap::new();
    for (which, topic) in ["sums", "by-depot"].into_iter().enumerate() {
        for partition in read(world, topic) {
            assert!(partition.is_sorted_by_key(|(time, _)| *time), "seed {seed}: {topic} is in order");
            for (time, change) in partition {
                assert_eq!(change["time"].as_u64(), Some(time));
                updates.entry(time).or_default()[which].push(change);
            }
        }
    }
    let mut sums: BTreeMap<String, Value> = BTreeMap::new();
    let mut depots: BTreeMap<String, Value> = BTreeMap::new();
    for (time, both) in updates {
        for (into, changes) in [&mut sums, &mut depots].into_iter().zip(both) {
            for change in changes {
                let key = change["key"].to_string();
                let before = into.remove(&key).unwrap_or(Value::Null);
                assert_eq!(before, change["before"], "seed {seed}: chains are unbroken: {change}");
                assert_ne!(change["before"], change["after"], "seed {seed}: only what changed");
                if !change["after"].is_null() {
                    into.insert(key, change["after"].clone());
                }
            }
        }
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for view in sums.values() {
            *expected.entry(view[0].to_string()).or_default() += view[2].as_i64().unwrap();
        }
        expected.retain(|_, sum| *sum != 0);
        let depots: BTreeMap<_, _> =
            depots.iter().map(|(depot, sum)| (depot.clone(), sum.as_i64().unwrap())).collect();
        assert_eq!(depots, expected, "seed {seed}: the outputs agree at time {time}");
    }
    // What timers added aside, agents are what a pass over the inputs makes them.
    let mut naive: BTreeMap<u64, Sensor> = BTreeMap::new();
    for reading in inputs.iter().flatten() {
        let sensor = naive.entry(reading.sensor).or_default();
        *sensor = Sensor { depot: reading.depot, count: sensor.count + 1, sum: sensor.sum + reading.value };
        if reading.value == 13 {
            naive.remove(&reading.sensor);
        }
    }
    let of = |view: &Value| (view[0].as_u64(), view[1].as_i64(), view[2].as_i64().map(|sum| sum % 1_000));
    let shown: BTreeMap<_, _> = sums.iter().map(|(sensor, view)| (sensor.clone(), of(view))).collect();
    let naive: BTreeMap<_, _> = naive
        .iter()
        .map(|(sensor, s)| (sensor.to_string(), (Some(s.depot), Some(s.count), Some(s.sum % 1_000))))
        .collect();
    assert_eq!(shown, naive, "seed {seed}");
}

fn one(seed: u64) {
    let mut random = Random::new(seed);
    let inputs = 1 + random.below(4);
    let world = World {
        kept: Arc::default(),
        fuse: Arc::default(),
        random: Arc::new(Mutex::new(Random::new(seed + 1))),
    };
    world.kept().inputs = vec![Vec::new(); inputs as usize];
    let publish = |random: &mut Random| {
        for partition in 0..inputs {
            for _ in 0..random.below(40) {
                // A sensor's readings are in one partition, and so in order.
                let sensor = random.below(8) * 4 + partition;
                let reading = Reading { sensor, depot: random.below(3), value: random.below(20) as i64 };
                let payload = serde_json::to_vec(&reading).unwrap().into();
                world.kept().inputs[partition as usize].push(payload);
            }
        }
    };
    for _ in 0..3 + random.below(8) {
        publish(&mut random);
        world.fuse.store(1 + random.below(120), Ordering::SeqCst);
        job(&world, 1 + random.below(3) as usize);
    }
    world.fuse.store(u64::MAX, Ordering::SeqCst);
    let last = marked_job(&world, 1 + random.below(3) as usize, Some(Duration::from_millis(1)));
    assert!(last, "seed {seed}: nothing stops the last run");
    check(&world, seed);
    check_marks(&world, seed);
    let count = world.kept().outputs.values().flatten().map(Vec::len).sum::<usize>();
    assert!(job(&world, 1 + random.below(3) as usize));
    let again = world.kept().outputs.values().flatten().map(Vec::len).sum::<usize>();
    assert_eq!(count, again, "seed {seed}: there is nothing left to do");
    // Old checkpoints go, and what crashed runs have left.
    let manifests = world.list("crashes/manifests/").unwrap().len();
    assert!(manifests <= 5, "seed {seed}: {manifests} manifests are kept");
}

#[test]
fn a_job_that_crashes_at_any_write_goes_on_exactly() {
    if let Ok(seed) = std::env::var("NEKTON_SEED") {
        return one(seed.parse().unwrap());
    }
    let seeds = std::env::var("NEKTON_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        one(seed);
    }
}

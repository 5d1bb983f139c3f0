//! The job that is run in the simulated world, and what a naive model says of its outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nekton_engine::{Agent, Context, JobConfig, Result, Summary, Time, changes, keyed, run};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::world::{MARK, World, Written};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Its place in its partition.
    pub number: u64,
    pub sensor: u64,
    pub depot: u64,
    pub value: i64,
}

/// What a sensor becomes with each reading, for the job and for the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sensor {
    depot: u64,
    count: i64,
    /// Depends on the order of all that happened.
    digest: i64,
}

const MODULUS: i64 = 1_000_003;
/// What the timer adds.
const RUNG: i64 = 77;

/// What a reading asks for.
#[derive(PartialEq)]
enum Wish {
    Nothing,
    Timer(Time),
    Leave,
    Tell,
}

impl Sensor {
    fn note(&mut self, value: i64) {
        self.digest = (self.digest * 31 + value + 1) % MODULUS;
    }
    fn read(&mut self, reading: &Reading) -> Wish {
        self.depot = reading.depot;
        self.count += 1;
        self.note(reading.value);
        match reading.value {
            13 => Wish::Leave,
            0 | 1 => Wish::Timer(1 + (self.digest % 20) as Time),
            5 => Wish::Tell,
            _ => Wish::Nothing,
        }
    }
}

impl Agent for Sensor {
    type Key = u64;
    type Event = Reading;
    type View = (u64, i64, i64);
    type Emit = (u64, i64);
    fn create(_sensor: &u64) -> Self {
        Sensor::default()
    }
    fn on_event(&mut self, reading: &Reading, context: &mut Context<'_, Self>) {
        match self.read(reading) {
            Wish::Nothing => {}
            Wish::Timer(delay) => context.set_timer(context.time() + delay),
            Wish::Leave => context.leave(),
            Wish::Tell => context.emit((reading.sensor, self.digest)),
        }
    }
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        self.note(RUNG);
        context.emit((*context.key(), self.digest));
    }
    fn view(&self) -> Option<(u64, i64, i64)> {
        Some((self.depot, self.count, self.digest))
    }
}

/// One run of the job.
pub fn job(world: &World, workers: usize) -> Result<Summary> {
    let marks = [None, Some(Duration::ZERO), Some(Duration::from_millis(3))];
    let progress_marks = marks[world.simulator.below(3) as usize];
    let config = JobConfig { progress_marks, ..world.config(workers, "simulated") };
    run(config, Arc::new(world.clone()), |flow| {
        let readings = flow.events::<Reading>("readings");
        let sensors = readings.agents::<Sensor>("sensors", |reading| reading.sensor);
        let newest = readings.map(|reading| (reading.sensor % 7, Some(reading.number))).table("newest");
        let by_depot = sensors.views().map(|(_, (depot, ..))| depot).count();
        flow.sink("echo", &readings);
        flow.sink("by-sensor", keyed(&readings, |reading| reading.sensor));
        flow.sink("told", &sensors.emitted());
        flow.sink("sensors", changes(&sensors.views()));
        flow.sink("by-depot", changes(&by_depot));
        flow.sink("newest", changes(&newest));
    })
}

/// A topic's partitions, each in its order: times and values.
pub fn read(world: &World, topic: &str) -> Vec<Vec<(Time, Value)>> {
    let kept = world.kept();
    let parse = |(time, value): &(Time, Bytes)| (*time, serde_json::from_slice(value).unwrap());
    let messages = |partition: &Written| {
        partition.messages.iter().filter(|(_, message)| message != MARK).map(parse).collect()
    };
    kept.outputs[topic].iter().map(messages).collect()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap()
}

/// By time: the readings of that time, by input partition.
pub type Timed = BTreeMap<Time, BTreeMap<usize, Vec<Reading>>>;

/// Checks that `echo` and `by-sensor` hold each reading once, in order, and returns which got which time.
pub fn timed(world: &World) -> Timed {
    let inputs: Vec<Vec<Reading>> = {
        let kept = world.kept();
        let parse = |payload: &Bytes| serde_json::from_slice(payload).unwrap();
        kept.inputs.iter().map(|partition| partition.iter().map(parse).collect()).collect()
    };
    let mut times: BTreeMap<(u64, u64), Time> = BTreeMap::new();
    for topic in ["echo", "by-sensor"] {
        let mut count = 0;
        for partition in read(world, topic) {
            assert!(partition.is_sorted_by_key(|(time, _)| *time), "{topic}: times go back");
            let mut last: BTreeMap<u64, u64> = BTreeMap::new();
            for (time, value) in partition {
                let reading: Reading = serde_json::from_value(value).unwrap();
                let of = reading.sensor % 4;
                // In `by-sensor`, those of one sensor are in order.
                let order = if topic == "echo" { of } else { 1_000 + reading.sensor };
                if let Some(before) = last.insert(order, reading.number) {
                    assert!(before < reading.number, "{topic}: {reading:?} after number {before}");
                }
                let known = *times.entry((of, reading.number)).or_insert(time);
                assert_eq!(known, time, "{topic}: {reading:?} has two times");
                count += 1;
            }
        }
        assert_eq!(count, inputs.iter().map(Vec::len).sum::<usize>(), "{topic}: every event once");
    }
    let mut timed = Timed::new();
    for (partition, readings) in inputs.into_iter().enumerate() {
        for reading in readings {
            let time = times.get(&(partition as u64, reading.number));
            let time = *time.unwrap_or_else(|| panic!("{reading:?} of partition {partition} is lost"));
            timed.entry(time).or_default().entry(partition).or_default().push(reading);
        }
    }
    timed
}

/// The naive model of the agents: one after the other, all that happened until a time.
#[derive(Default)]
struct Model {
    sensors: BTreeMap<u64, Sensor>,
    timers: BTreeMap<u64, Time>,
    newest: BTreeMap<u64, u64>,
    /// What was told at the last time.
    told: Vec<(u64, i64)>,
}

impl Model {
    /// The next time at which a timer is due.
    fn due(&self) -> Option<Time> {
        self.timers.values().min().copied()
    }

    fn step(&mut self, time: Time, readings: Option<&BTreeMap<usize, Vec<Reading>>>) {
        self.told.clear();
        let due: Vec<u64> =
            self.timers.iter().filter(|(_, due)| **due == time).map(|(key, _)| *key).collect();
        for key in due {
            self.timers.remove(&key);
            let sensor = self.sensors.get_mut(&key).unwrap();
            sensor.note(RUNG);
            self.told.push((key, sensor.digest));
        }
        for reading in readings.into_iter().flat_map(BTreeMap::values).flatten() {
            self.newest.insert(reading.sensor % 7, reading.number);
            let sensor = self.sensors.entry(reading.sensor).or_default();
            match sensor.read(reading) {
                Wish::Nothing => {}
                Wish::Timer(delay) => drop(self.timers.insert(reading.sensor, time + delay)),
                Wish::Tell => self.told.push((reading.sensor, sensor.digest)),
                Wish::Leave => {
                    self.sensors.remove(&reading.sensor);
                    self.timers.remove(&reading.sensor);
                }
            }
        }
    }
}

/// Follows a topic of `changes`: applies what came at each time.
pub struct Follower {
    topic: &'static str,
    pub updates: BTreeMap<Time, Vec<Value>>,
    now: BTreeMap<String, Value>,
}

impl Follower {
    pub fn new(world: &World, topic: &'static str) -> Self {
        let mut updates: BTreeMap<Time, Vec<Value>> = BTreeMap::new();
        for partition in read(world, topic) {
            assert!(partition.is_sorted_by_key(|(time, _)| *time), "{topic}: times go back");
            for (time, change) in partition {
                assert_eq!(number(&change, "time"), time, "{topic}");
                updates.entry(time).or_default().push(change);
            }
        }
        Follower { topic, updates, now: BTreeMap::new() }
    }

    pub fn step(&mut self, time: Time) {
        let mut keys = BTreeSet::new();
        for change in self.updates.remove(&time).unwrap_or_default() {
            let key = change["key"].to_string();
            assert!(keys.insert(key.clone()), "{}: {key} changes twice at {time}", self.topic);
            let before = self.now.remove(&key).unwrap_or(Value::Null);
            assert_eq!(before, change["before"], "{}: the chain is broken by {change}", self.topic);
            let after = &change["after"];
            assert_ne!(&before, after, "{}: {change} changes nothing", self.topic);
            if !after.is_null() {
                self.now.insert(key, after.clone());
            }
        }
    }

    pub fn is<K: ToString, V: Serialize>(&self, time: Time, model: impl Iterator<Item = (K, V)>) {
        let model: BTreeMap<String, Value> =
            model.map(|(key, value)| (key.to_string(), serde_json::to_value(value).unwrap())).collect();
        if self.now != model {
            let differs = |key: &&String| self.now.get(*key) != model.get(*key);
            let keys: BTreeSet<&String> = self.now.keys().chain(model.keys()).filter(differs).collect();
            let of = |values: &BTreeMap<String, Value>| {
                keys.iter().map(|key| format!("{key}: {:?}", values.get(*key))).collect::<Vec<_>>().join(", ")
            };
            let next: Vec<String> = self
                .updates
                .values()
                .flatten()
                .filter(|change| keys.contains(&change["key"].to_string()))
                .take(5)
                .map(Value::to_string)
                .collect();
            panic!("{} at {time}: is {}; should be {}; then {next:?}", self.topic, of(&self.now), of(&model));
        }
    }
}

/// What marks say is true.
pub fn check_marks(world: &World) {
    for (topic, partitions) in &world.kept().outputs {
        for partition in partitions {
            let mut marked = None;
            for (time, message) in &partition.messages {
                assert!(marked < Some(*time), "{topic}: {marked:?} was closed before {time}");
                marked = marked.max((message == MARK).then_some(*time));
            }
        }
    }
}

/// What was told at each time.
pub fn told(world: &World) -> BTreeMap<Time, Vec<(u64, i64)>> {
    let mut told: BTreeMap<Time, Vec<(u64, i64)>> = BTreeMap::new();
    for partition in read(world, "told") {
        assert!(partition.is_sorted_by_key(|(time, _)| *time), "told: times go back");
        for (time, value) in partition {
            told.entry(time).or_default().push(serde_json::from_value(value).unwrap());
        }
    }
    told
}

/// Panics if anything that the job has written, up to its end, is not what the model says.
pub fn check(world: &World) {
    check_marks(world);
    let timed = timed(world);
    let mut sensors = Follower::new(world, "sensors");
    let mut depots = Follower::new(world, "by-depot");
    let mut newest = Follower::new(world, "newest");
    let mut told = told(world);
    let followers = [&sensors, &depots, &newest];
    let mut times: BTreeSet<Time> =
        followers.iter().flat_map(|follower| follower.updates.keys()).chain(told.keys()).copied().collect();
    times.extend(timed.keys());
    let mut model = Model::default();
    while let Some(time) = times.first().copied().into_iter().chain(model.due()).min() {
        times.remove(&time);
        model.step(time, timed.get(&time));
        for follower in [&mut sensors, &mut depots, &mut newest] {
            follower.step(time);
        }
        let mut said = told.remove(&time).unwrap_or_default();
        said.sort_unstable();
        model.told.sort_unstable();
        assert_eq!(said, model.told, "told at {time}");
        let views = model.sensors.iter().map(|(key, s)| (key, (s.depot, s.count, s.digest)));
        sensors.is(time, views);
        let mut count: BTreeMap<u64, i64> = BTreeMap::new();
        model.sensors.values().for_each(|sensor| *count.entry(sensor.depot).or_default() += 1);
        depots.is(time, count.iter());
        newest.is(time, model.newest.iter());
    }
}

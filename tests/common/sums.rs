//! A job whose outputs tell whether each event was applied exactly once, and what they must say in the end.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use std::sync::OnceLock;
use std::time::Duration;

use nekton::changes;
use nekton::prelude::*;
use serde_json::Value;

use super::program::command;

#[derive(Clone, Serialize, Deserialize)]
pub struct Reading {
    pub sensor: u64,
    pub depot: u64,
    pub value: i64,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Sensor {
    depot: u64,
    count: i64,
    sum: i64,
    /// How often its timer has fired.
    fired: i64,
}

/// After how many milliseconds timers are due.
fn timer() -> u64 {
    static TIMER: OnceLock<u64> = OnceLock::new();
    *TIMER.get_or_init(|| std::env::var("NEKTON_TEST_TIMER").map_or(7, |timer| timer.parse().unwrap()))
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
        self.depot = reading.depot;
        self.count += 1;
        self.sum += reading.value;
        if self.count % 3 == 0 {
            context.set_timer(context.time() + timer());
        }
    }
    fn on_timer(&mut self, _context: &mut Context<'_, Self>) {
        self.fired += 1;
        self.sum += 1_000;
    }
    fn view(&self) -> Option<(u64, i64, i64)> {
        Some((self.depot, self.count, self.sum))
    }
}

/// The job, in a process of its own.
pub fn program() {
    super::program::run("sums", |flow| {
        let readings = flow.events::<Reading>("readings");
        let sensors = readings.agents::<Sensor>("sensors", |reading| reading.sensor);
        let by_depot = sensors.views().explode(|(_, (depot, _, sum))| Some((depot, sum as isize))).count();
        flow.sink("echo", &readings);
        flow.sink("sums", changes(&sensors.views()));
        flow.sink("by-depot", changes(&by_depot));
    });
}

/// Runs the job to its end.
pub fn ended(flags: &str) -> Output {
    command(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

/// The messages of a topic in files, and progress marks.
pub fn marked_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The time that a progress mark closes.
pub fn mark(line: &Value) -> Option<u64> {
    line.get("nekton.closed")?.as_u64()
}

/// The messages of a topic in files.
pub fn lines(path: &Path) -> Vec<Value> {
    marked_lines(path).into_iter().filter(|line| mark(line).is_none()).collect()
}

/// A source of numbers that is the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Some readings for a partition.
pub fn readings(partition: u64, random: &mut Random) -> Vec<Reading> {
    // A sensor's readings are in one partition, and so in order.
    let reading = |random: &mut Random| Reading {
        sensor: random.below(50) * 2 + partition,
        depot: random.below(5),
        value: random.below(100) as i64,
    };
    (0..1 + random.below(40)).map(|_| reading(random)).collect()
}

/// Appends some readings to a partition, sometimes in two pieces.
pub fn append(folder: &Path, partition: u64, random: &mut Random, written: &mut Vec<Reading>) {
    let mut text = String::new();
    for reading in readings(partition, random) {
        text.push_str(&serde_json::to_string(&reading).unwrap());
        text.push('\n');
        written.push(reading);
    }
    let path = folder.join(format!("{partition}.jsonl"));
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let cut = random.below(text.len() as u64) as usize;
    file.write_all(&text.as_bytes()[..cut]).unwrap();
    std::thread::sleep(Duration::from_micros(random.below(2_000)));
    file.write_all(&text.as_bytes()[cut..]).unwrap();
}

/// What all outputs must say in the end, and about one another at every time.
pub fn check(messages: impl Fn(&str) -> Vec<Value>, written: &[Vec<Reading>; 2]) {
    // Every event once, in the order of its partition.
    let key = |value: &Value| (value["sensor"].as_u64().unwrap(), value["value"].as_i64().unwrap());
    let echo: Vec<_> = messages("echo").iter().map(key).collect();
    for (partition, written) in written.iter().enumerate() {
        let read: Vec<_> = echo.iter().filter(|(sensor, _)| sensor % 2 == partition as u64).collect();
        let expected: Vec<_> = written.iter().map(|r| (r.sensor, r.value)).collect();
        let expected: Vec<_> = expected.iter().collect();
        let first = read.iter().zip(&expected).position(|(read, expected)| read != expected);
        assert_eq!((first, read.len()), (None, expected.len()), "partition {partition}: every event once");
    }

    // Both collections, time by time.
    let mut updates: BTreeMap<u64, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    let mut last = 0;
    for line in messages("sums") {
        let time = line["time"].as_u64().unwrap();
        assert!(time >= last, "times never go back: {line}");
        last = time;
        updates.entry(time).or_default().0.push(line);
    }
    last = 0;
    for line in messages("by-depot") {
        let time = line["time"].as_u64().unwrap();
        assert!(time >= last, "times never go back: {line}");
        last = time;
        updates.entry(time).or_default().1.push(line);
    }
    let mut sums: BTreeMap<String, (u64, i64, i64)> = BTreeMap::new();
    let mut by_depot: BTreeMap<String, i64> = BTreeMap::new();
    for (time, (sensors, depots)) in updates {
        for line in sensors {
            let view = |of: &Value| Some((of[0].as_u64()?, of[1].as_i64()?, of[2].as_i64()?));
            let (before, after) = (view(&line["before"]), view(&line["after"]));
            assert_ne!(before, after, "only what changed: {line}");
            assert_eq!(
                sums.insert(line["key"].to_string(), after.unwrap()),
                before,
                "chains are unbroken: {line}"
            );
        }
        for line in depots {
            let key = line["key"].to_string();
            assert_eq!(by_depot.remove(&key), line["before"].as_i64(), "chains are unbroken: {line}");
            if let Some(after) = line["after"].as_i64() {
                by_depot.insert(key, after);
            }
        }
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for (depot, _, sum) in sums.values() {
            *expected.entry(depot.to_string()).or_default() += sum;
        }
        expected.retain(|_, sum| *sum != 0);
        assert_eq!(by_depot, expected, "the outputs agree at time {time}");
    }
    let mut naive: BTreeMap<u64, Sensor> = BTreeMap::new();
    for reading in written.iter().flatten() {
        let sensor = naive.entry(reading.sensor).or_default();
        (sensor.depot, sensor.count, sensor.sum) =
            (reading.depot, sensor.count + 1, sensor.sum + reading.value);
    }
    for (sensor, of) in &naive {
        let (depot, count, sum) = sums[&sensor.to_string()];
        assert_eq!((depot, count), (of.depot, of.count), "sensor {sensor}");
        // Two rounds of three may share a timer.
        let fired = (sum - of.sum) / 1_000;
        assert!(
            (sum - of.sum) % 1_000 == 0 && fired <= of.count / 3 && (of.count < 3 || fired >= 1),
            "sensor {sensor}: {sum}"
        );
    }
}

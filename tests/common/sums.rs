//! A job that keeps sums of readings, in a process of its own, and what it reads.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nekton::changes;
use nekton::prelude::*;

#[derive(Clone, Serialize, Deserialize)]
pub struct Reading {
    pub sensor: u64,
    pub depot: u64,
    pub value: i64,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Sensor {
    pub depot: u64,
    pub count: i64,
    pub sum: i64,
    /// How often its timer has fired.
    pub fired: i64,
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
            context.set_timer(context.time() + 7);
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

/// The job, with the flags that [`start`] has put into the environment. Called by a test named `program`.
pub fn program() {
    #[derive(clap::Parser)]
    struct Bare {
        #[command(flatten)]
        runner: Runner,
    }
    let flags = std::env::var("NEKTON_TEST_FLAGS").unwrap();
    let bare = <Bare as clap::Parser>::parse_from(std::iter::once("sums").chain(flags.split_whitespace()));
    let outcome = bare.runner.run("sums", |flow| {
        let readings = flow.events::<Reading>("readings");
        let sensors = readings.agents::<Sensor>("sensors", |reading| reading.sensor);
        let by_depot = sensors.views().explode(|(_, (depot, _, sum))| Some((depot, sum as isize))).count();
        flow.sink("echo", &readings);
        flow.sink("sums", changes(&sensors.views()));
        flow.sink("by-depot", changes(&by_depot));
    });
    if let Err(error) = outcome {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

pub fn start(flags: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "program", "--ignored", "--nocapture"]);
    command.env("NEKTON_TEST_FLAGS", flags).stdout(Stdio::null()).stderr(Stdio::inherit());
    command.spawn().unwrap()
}

/// Runs the job to its end.
pub fn ended(flags: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "program", "--ignored", "--nocapture"]);
    command.env("NEKTON_TEST_FLAGS", flags).output().unwrap()
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

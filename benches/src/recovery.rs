//! Recovery: from the start of a job to its first new output, with the state of many agents in a checkpoint.
//! Agents have a u64 key and 8 bytes of state; some of them are seen, with the smallest of views (`()`), and counted
//! by parent (key / 1,000). The checkpoint is made by one process and read by another, from files that are still in
//! memory: how quick a disk is, is not measured.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nekton::connect::Store;
use nekton::differential_dataflow::operators::CountTotal;
use nekton::{Agent, Checkpoints, Context, Flow, JobConfig, Result, changes, engine::run as run_job};
use nekton_connectors::file::open_store;
use serde::{Deserialize, Serialize};

use crate::again::{Again, Input, Sample, sample};
use crate::checkpoints::parts;
use crate::process;
use crate::report::{Report, median};

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Numbers of agents.
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    agents: Vec<u64>,
    /// Percent of the agents that are seen: how many, whoever asks.
    #[arg(long, value_delimiter = ',', default_value = "20,100")]
    seen: Vec<u64>,
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// Starts from the same checkpoint; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What a child process does.
    #[arg(long, hide = true)]
    child: Option<PathBuf>,
    /// Whether it makes the checkpoint, or goes on from it.
    #[arg(long, hide = true)]
    make: bool,
}

/// What a start took, in seconds and bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    /// To the first part that is read: the program, the log, the manifest.
    opening: f64,
    /// Waiting for the store, of the worker that waits longest.
    reading: f64,
    /// From the first part that is read to the last agent, without that.
    decoding: f64,
    /// From the last agent to the first new output: views into differential, and one event.
    deriving: f64,
    all: f64,
    resident: u64,
    peak: u64,
}

/// The last value of 32 bits, and how often it came.
#[derive(Serialize, Deserialize)]
struct Gauge {
    value: u32,
    count: u32,
}

thread_local! {
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

/// When an agent was last looked at, exact to 1,024 of them.
static LOOKED: Mutex<Option<Instant>> = Mutex::new(None);

impl Agent for Gauge {
    type Key = u64;
    type Event = Sample;
    type View = ();
    type Emit = ();
    fn create(_key: &u64) -> Self {
        Gauge { value: 0, count: 0 }
    }
    fn on_event(&mut self, &(_, value): &Sample, _context: &mut Context<'_, Self>) {
        *self = Gauge { value, count: self.count + 1 };
    }
    fn view(&self) -> Option<()> {
        SEEN.set(SEEN.get().wrapping_add(1));
        if SEEN.get().is_multiple_of(1_024) {
            *LOOKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        (self.value > 0).then_some(())
    }
}

/// A store that says when it was asked for parts.
struct Watched {
    store: Arc<dyn Store>,
    gets: Mutex<Vec<(ThreadId, Instant, Duration)>>,
}

impl Store for Watched {
    fn put(&self, name: &str, content: Bytes) -> Result<()> {
        self.store.put(name, content)
    }
    fn create(&self, name: &str, content: Bytes) -> Result<bool> {
        self.store.create(name, content)
    }
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let begun = Instant::now();
        let got = self.store.get(name);
        if name.contains("/parts/") {
            let mut gets = self.gets.lock().unwrap_or_else(PoisonError::into_inner);
            gets.push((std::thread::current().id(), begun, begun.elapsed()));
        }
        got
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.store.list(prefix)
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.store.delete(name)
    }
    fn describe(&self) -> String {
        self.store.describe()
    }
}

/// One event for each agent, in scattered order, and `more` events that change whether one is seen.
fn input(partition: u64, partitions: u64, agents: u64, seen: u64, more: usize) -> Input {
    let count = (agents + partitions - 1 - partition) / partitions;
    let value = move |agent: u64| u32::from(agent.wrapping_mul(0x9e37_79b9) % 100 < seen);
    let at = move |number: usize| {
        let scattered = (u128::from(number as u64) * 2_654_435_761 % u128::from(count)) as u64;
        let agent = partition + partitions * scattered;
        (agent, if number < count as usize { value(agent) } else { 1 - value(agent) })
    };
    Input { count: count as usize + more, at: Arc::new(at) }
}

fn program(flow: &mut Flow<'_>) {
    let seen = flow
        .events_with("samples", sample)
        .agents::<Gauge>("gauges", |&(agent, _)| agent)
        .map(|(agent, ())| agent / 1_000)
        .count_total();
    flow.sink("seen", changes(&seen));
}

/// Makes a checkpoint, or goes on from it and says what that took.
fn child(options: &Options, folder: &Path) {
    let (agents, seen, workers) = (options.agents[0], options.seen[0], options.workers[0]);
    let inputs = (0..workers as u64).map(|partition| {
        let more = usize::from(!options.make);
        input(partition, workers as u64, agents, seen, more)
    });
    let topics = Again::new(inputs.collect(), folder.to_owned());
    let store = Arc::new(Watched { store: open_store(&folder.join("checkpoints")), gets: Mutex::default() });
    let mut config = JobConfig::new("recovery");
    config.workers = workers;
    config.until_end = true;
    config.checkpoints = Some(Checkpoints { store: store.clone(), every: Duration::from_secs(3_600) });
    let (before, started) = (process::resident(), Instant::now());
    let (of, resident) = (
        topics.clone(),
        std::thread::spawn({
            let topics = topics.clone();
            move || {
                // The job goes on to its last checkpoint meanwhile, which takes longer than to look.
                while topics.first().is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                process::resident()
            }
        }),
    );
    run_job(config, Arc::new(topics), program).expect("the job runs");
    if options.make {
        return;
    }
    let gets = store.gets.lock().unwrap_or_else(PoisonError::into_inner);
    let mut waited: HashMap<ThreadId, Duration> = HashMap::new();
    for &(thread, _, took) in gets.iter() {
        *waited.entry(thread).or_default() += took;
    }
    let reading = waited.values().max().copied().unwrap_or_default();
    let asked = gets.iter().map(|&(_, begun, _)| begun).min().expect("there is a checkpoint");
    let looked = LOOKED.lock().unwrap_or_else(PoisonError::into_inner).expect("there are agents");
    let first = of.first().expect("there is new output");
    let found = Found {
        opening: (asked - started).as_secs_f64(),
        reading: reading.as_secs_f64(),
        decoding: (looked - asked).saturating_sub(reading).as_secs_f64(),
        deriving: first.saturating_duration_since(looked).as_secs_f64(),
        all: (first - started).as_secs_f64(),
        resident: resident.join().expect("it only looks").saturating_sub(before),
        peak: process::peak(),
    };
    println!("{}", serde_json::to_string(&found).expect("plain data"));
}

/// A child process on a folder.
fn spawn(folder: &Path, agents: u64, seen: u64, workers: usize, make: bool) -> Option<Found> {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["recovery", "--agents", &agents.to_string(), "--seen", &seen.to_string()]);
    command.args(["--workers", &workers.to_string(), "--child"]).arg(folder);
    if make {
        command.arg("--make");
    }
    let output = command.output().expect("this program can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the job fails: {} {errors}", output.status);
    serde_json::from_slice(&output.stdout).ok()
}

/// Runs the measurement; `None` in a child process, which says what it found by itself.
pub fn run(options: &Options) -> Option<Report> {
    if let Some(folder) = &options.child {
        child(options, folder);
        return None;
    }
    let mut report = Report::new("recovery");
    for &agents in &options.agents {
        let millions = agents as f64 / 1e6;
        for &seen in &options.seen {
            for &workers in &options.workers {
                let folder = tempfile::tempdir().expect("a folder for temporary files");
                spawn(folder.path(), agents, seen, workers, true);
                let size: u64 = parts(folder.path(), "recovery").iter().map(|(_, bytes)| bytes).sum();
                // Each starts from a copy: a run leaves a checkpoint of its own.
                let starts: Vec<Found> = (0..options.rounds)
                    .map(|_| {
                        let copy = tempfile::tempdir().expect("a folder for temporary files");
                        copy_folder(folder.path(), copy.path());
                        spawn(copy.path(), agents, seen, workers, false).expect("it says what it found")
                    })
                    .collect();
                let name = format!("{millions} M agents, {seen} % seen, {workers} worker(s)");
                let of = |get: fn(&Found) -> f64| median(&mut starts.iter().map(get).collect::<Vec<_>>());
                report.figure(format!("{name}: to the first new output"), of(|found| found.all), "s");
                report.figure(format!("{name}: opening"), of(|found| found.opening), "s");
                report.figure(format!("{name}: reading"), of(|found| found.reading), "s");
                report.figure(format!("{name}: decoding"), of(|found| found.decoding), "s");
                report.figure(format!("{name}: deriving"), of(|found| found.deriving), "s");
                report.figure(format!("{name}: checkpoint"), size as f64 / agents as f64, "bytes each");
                let each = |bytes: u64| bytes as f64 / agents as f64;
                report.figure(
                    format!("{name}: in memory then"),
                    each(median(&mut starts.iter().map(|found| found.resident as f64).collect::<Vec<_>>())
                        as u64),
                    "bytes each",
                );
                report.figure(
                    format!("{name}: peak"),
                    each(median(&mut starts.iter().map(|found| found.peak as f64).collect::<Vec<_>>()) as u64),
                    "bytes each",
                );
                if agents == 10_000_000 && workers == 2 {
                    report.at_most(format!("{name} in s, at most"), 2.0, of(|found| found.all));
                }
            }
        }
    }
    Some(report)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a file can be copied");
        }
    }
}

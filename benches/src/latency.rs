//! Latency: from the moment an event is due to the moment the sink has the change that it caused, through a source
//! (JSON in memory), agents, a differential count and a sink (JSON in memory).
//!
//! The load is an open loop: when each event is due is fixed beforehand, and a generator that falls behind,
//! or an engine that reads late, does not make events due later (no coordinated omission: Gil Tene, "How NOT to measure
//! latency", 2015). Every event changes its agent's view and thereby the count of its group, so that every
//! event has a change: a group's n-th event has arrived when the count of the group is at least n.
//!
//! The baseline says how quick the machine is at all, in the same minute: one thread that is woken by the same
//! generator, reads the same JSON, counts in two hash tables and writes each changed count as JSON.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use nekton::connect::{Message, Polled, Sink, Source, Start, Waker, WriteBatch};
use nekton::hash::FixedState;
use nekton::{Agent, Checkpoints, Context, Flow, JobConfig, Runner, changes, engine::run as run_job};
use serde::{Deserialize, Serialize};

use crate::live::Live;
use crate::process;
use crate::random::Random;
use crate::report::Report;

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Events a second.
    #[arg(long, value_delimiter = ',', default_value = "1000,50000,200000")]
    pub rates: Vec<u64>,
    /// How long a rate is kept up in a round, in seconds; the first second does not count, nor the last tenth of one, in which
    /// the job begins to end.
    #[arg(long, default_value_t = 6)]
    pub seconds: u64,
    /// Rounds at each rate, baseline and engine in turn; the medians of their quantiles count.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Agents.
    #[arg(long, default_value_t = 100_000)]
    pub agents: u64,
    /// Groups of agents that are counted.
    #[arg(long, default_value_t = 100)]
    pub groups: u64,
    /// Workers, and partitions of the input.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// How long an idle job is watched, in seconds; 0 to leave it out.
    #[arg(long, default_value_t = 5)]
    pub idle_seconds: u64,
}

/// The generator hands over what has become due in this time at once, as a connector does.
const HAND_OVER: Duration = Duration::from_micros(100);

#[derive(Clone, Serialize, Deserialize)]
struct Call {
    agent: u64,
}

/// How often an agent was called.
#[derive(Serialize, Deserialize)]
struct Called(u64);

impl Agent for Called {
    type Key = u64;
    type Event = Call;
    type View = u64;
    type Emit = ();
    fn create(_agent: &u64) -> Self {
        Called(0)
    }
    fn on_event(&mut self, _call: &Call, _context: &mut Context<'_, Self>) {
        self.0 += 1;
    }
    fn view(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// Calls by group, each agent weighing as many as it got.
fn program(groups: u64) -> impl for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static {
    move |flow| {
        let called = flow.events::<Call>("calls").agents::<Called>("called", |call| call.agent);
        let calls =
            called.views().explode(move |(agent, calls)| Some((agent % groups, calls as isize))).count();
        flow.sink("calls-by-group", changes(&calls));
    }
}

/// What a round gave.
pub struct Measured {
    /// In nanoseconds, rising.
    latencies: Vec<u64>,
    /// Epochs of the engine in a second.
    epochs: f64,
    /// Processor time of the whole process, in seconds a second.
    cpu: f64,
}

/// Which quantiles are told.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("worst", 1.0)];

impl Measured {
    /// A quantile in milliseconds.
    pub fn at(&self, quantile: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let index = ((self.latencies.len() as f64 * quantile) as usize).min(last);
        self.latencies.get(index).map_or(0.0, |&nanoseconds| nanoseconds as f64 / 1e6)
    }
}

fn payload(agent: u64) -> Bytes {
    Bytes::from(format!("{{\"agent\":{agent}}}"))
}

/// A job that runs on a thread, and what it says at its end: the epochs it had.
pub type Job = JoinHandle<u64>;

fn engine(live: &Live, options: &Options) -> Job {
    engine_with(live, options, None)
}

/// The job, with checkpoints or without.
pub fn engine_with(live: &Live, options: &Options, checkpoints: Option<Checkpoints>) -> Job {
    let mut config = JobConfig::new("latency");
    config.workers = options.workers;
    config.until_end = true;
    config.checkpoints = checkpoints;
    let (topics, program) = (Arc::new(live.clone()), program(options.groups));
    spawn(move || run_job(config, topics, program).expect("the job runs").epochs)
}

/// The baseline.
fn bare(live: &Live, options: &Options) -> Job {
    let (live, groups) = (live.clone(), options.groups);
    spawn(move || {
        let thread = std::thread::current();
        let waker: Waker = Arc::new(move || thread.unpark());
        let open = |partition| Source::open(&live, partition, Start::Earliest, waker.clone());
        let mut readers: Vec<_> =
            (0..Source::partitions(&live)).map(|number| open(number).expect("it opens")).collect();
        let mut writer = Sink::open(&live, 0, waker.clone()).expect("it opens");
        let mut calls_of: HashMap<u64, u64, FixedState> = HashMap::default();
        let mut count_of: HashMap<u64, u64, FixedState> = HashMap::default();
        let (mut records, mut time) = (Vec::new(), 0);
        loop {
            let polled: Vec<_> = readers
                .iter_mut()
                .map(|reader| reader.poll(usize::MAX, &mut records).expect("memory can be read"))
                .collect();
            let mut changed = BTreeMap::new();
            for record in records.drain(..) {
                let call: Call = serde_json::from_slice(&record.payload).expect("a call");
                *calls_of.entry(call.agent).or_default() += 1;
                let count = count_of.entry(call.agent % groups).or_default();
                *count += 1;
                changed.insert(call.agent % groups, *count);
            }
            if !changed.is_empty() {
                time += 1;
                let messages = changed.into_iter().map(|(key, after)| {
                    let value =
                        serde_json::to_vec(&Change { key, after: after as usize }).expect("plain data");
                    Message { key: None, value: Some(value.into()) }
                });
                writer
                    .write(WriteBatch { time, first: 0, messages: messages.collect() })
                    .expect("memory can be written");
            }
            if polled.iter().all(|polled| *polled == Polled::End) {
                return 0;
            }
            if polled.iter().all(|polled| *polled != Polled::More) {
                std::thread::park();
            }
        }
    })
}

/// A round. With `filled`, every agent has been called once before it begins.
pub fn measure(
    rate: u64,
    options: &Options,
    live: &Live,
    filled: bool,
    job: impl FnOnce(&Live, &Options) -> Job,
) -> Measured {
    let job = job(live, options);
    wait_until(|| live.is_read());
    let arrived = if filled { fill(live, options) } else { vec![0; options.groups as usize] };

    // A group's events are in one partition, and so in order.
    let mut random = Random(11);
    let count = rate * options.seconds;
    let mut due_by_group: Vec<Vec<u64>> = vec![Vec::new(); options.groups as usize];
    let mut handed: Vec<Vec<Bytes>> = vec![Vec::new(); options.workers];
    let cpu = process::cpu();
    let begun = Instant::now();
    let mut next = 0;
    while next < count {
        let now = begun.elapsed().as_nanos() as u64;
        while next < count && next * 1_000_000_000 / rate <= now {
            let agent = random.next() % options.agents;
            let group = (agent % options.groups) as usize;
            due_by_group[group].push(next * 1_000_000_000 / rate);
            handed[group % options.workers].push(payload(agent));
            next += 1;
        }
        for (partition, payloads) in
            handed.iter_mut().enumerate().filter(|(_, payloads)| !payloads.is_empty())
        {
            live.publish(partition, payloads.drain(..));
        }
        let until_due = Duration::from_nanos(next * 1_000_000_000 / rate).saturating_sub(begun.elapsed());
        sleep(until_due.max(HAND_OVER));
    }
    let cpu = (process::cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    live.end();
    let epochs = job.join().expect("the job does not panic") as f64 / options.seconds as f64;
    let counted = 1_000_000_000..(options.seconds * 10).saturating_sub(1) * 100_000_000;
    Measured { latencies: latencies(live, begun, &due_by_group, &arrived, counted), epochs, cpu }
}

/// Calls every agent once, and waits until that has arrived; how many calls each group got.
fn fill(live: &Live, options: &Options) -> Vec<usize> {
    let mut arrived = vec![0; options.groups as usize];
    for begin in (0..options.agents).step_by(100_000) {
        let agents = begin..(begin + 100_000).min(options.agents);
        let sent = agents.end as usize;
        for partition in 0..options.workers as u64 {
            let of = |agent: &u64| agent % options.groups % options.workers as u64 == partition;
            live.publish(partition as usize, agents.clone().filter(of).map(payload));
        }
        wait_until(|| {
            for message in live.take().iter().flat_map(|(_, batch)| &batch.messages) {
                let value = message.value.as_deref().unwrap_or_default();
                let change: Change = serde_json::from_slice(value).expect("a change of a count");
                arrived[change.key as usize] = change.after;
            }
            arrived.iter().sum::<usize>() == sent
        });
    }
    arrived
}

#[derive(Serialize, Deserialize)]
struct Change {
    key: u64,
    after: usize,
}

/// Of the events that are due at `counted`, in nanoseconds; `before`: how many of each group had arrived before it began.
fn latencies(
    live: &Live,
    begun: Instant,
    due_by_group: &[Vec<u64>],
    before: &[usize],
    counted: Range<u64>,
) -> Vec<u64> {
    let mut arrived = vec![0; due_by_group.len()];
    let mut latencies = Vec::new();
    for (received, batch) in live.take() {
        let received = received.duration_since(begun).as_nanos() as u64;
        for message in &batch.messages {
            let value = message.value.as_deref().unwrap_or_default();
            // The topic of dead letters is empty, so all that comes are changes.
            let change: Change = serde_json::from_slice(value).expect("a change of a count");
            let group = change.key as usize;
            let after = change.after - before[group];
            for &due in &due_by_group[group][arrived[group]..after] {
                assert!(due < received, "nothing arrives before it is due");
                if counted.contains(&due) {
                    latencies.push(received - due);
                }
            }
            arrived[group] = after;
        }
    }
    let due: Vec<_> = due_by_group.iter().map(Vec::len).collect();
    assert_eq!(arrived, due, "every event is counted in the end");
    latencies.sort_unstable();
    latencies
}

/// The processor time of a job that has nothing to do any more, in percent of one core.
fn idle_in_memory(options: &Options) -> f64 {
    let live = Live::new(options.workers);
    let mut config = JobConfig::new("idle");
    config.workers = options.workers;
    let stop = config.stop.clone();
    let (topics, program) = (Arc::new(live.clone()), program(options.groups));
    let job = spawn(move || run_job(config, topics, program).expect("the job runs"));
    wait_until(|| live.is_read());
    live.publish(0, (0..1_000).map(payload));
    wait_until(|| live.batches() > 0);
    let percent = watch(options.idle_seconds);
    stop.request();
    job.join().expect("the job does not panic");
    percent
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    runner: Runner,
}

/// The same of a job that follows a topic in files, run as a program is.
fn idle_on_files(options: &Options) -> f64 {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let calls = folder.path().join("calls");
    std::fs::create_dir(&calls).expect("a folder can be made");
    std::fs::write(calls.join("0.jsonl"), "{\"agent\":1}\n").expect("a file can be written");
    let url = format!("file:{}", folder.path().display());
    let workers = options.workers.to_string();
    let flags = Flags::parse_from(["idle", "--topics", &url, "--workers", &workers, "--checkpoints", "none"]);
    let (stop, program) = (flags.runner.stop_handle(), program(options.groups));
    let job = spawn(move || flags.runner.run("idle", program).expect("the job runs"));
    let output = folder.path().join("calls-by-group/0.jsonl");
    wait_until(|| std::fs::metadata(&output).is_ok_and(|meta| meta.len() > 0));
    let percent = watch(options.idle_seconds);
    stop.request();
    job.join().expect("the job does not panic");
    percent
}

fn watch(seconds: u64) -> f64 {
    sleep(Duration::from_secs(1));
    let (cpu, begun) = (process::cpu(), Instant::now());
    sleep(Duration::from_secs(seconds));
    (process::cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "the job does not begin");
        sleep(Duration::from_millis(1));
    }
}

/// Runs the measurement.
pub fn run(options: &Options) -> Report {
    let mut report = Report::new("latency");
    for &rate in &options.rates {
        let (mut bares, mut engines) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            bares.push(measure(rate, options, &Live::new(options.workers), false, bare));
            engines.push(measure(rate, options, &Live::new(options.workers), false, engine));
        }
        for (name, rounds) in [("bare thread", &bares), ("engine", &engines)] {
            for (quantile, of) in QUANTILES {
                let got = median(rounds.iter().map(|round| round.at(of)));
                report.figure(format!("{rate} events/s, {name}, {quantile}"), got, "ms");
            }
            let cpu = median(rounds.iter().map(|round| round.cpu));
            report.figure(format!("{rate} events/s, {name}, with generator"), cpu, "cores");
        }
        let epochs = median(engines.iter().map(|round| round.epochs));
        report.figure(format!("{rate} events/s, engine"), epochs, "epochs a second");
        if rate == 200_000 {
            let got = median(engines.iter().map(|round| round.at(0.99)));
            report.at_most("p99 at 200000 events/s in ms, at most", 2.0, got);
        }
    }
    if options.idle_seconds > 0 {
        report.at_most("idle job in memory, % of a core, at most", 2.0, idle_in_memory(options));
        report.at_most("idle job on files, % of a core, at most", 2.0, idle_on_files(options));
    }
    report
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

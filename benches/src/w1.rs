//! W1: 20 M events of 1 M agents, each a u64 and a value below 100. An agent's state is its last value
//! and status (red from 80, amber from 50); the result is the count of red agents of each parent (key /
//! 1,000), as changes. The baseline is a loop over the same events in one thread with hash tables,
//! which keeps the counts and writes no changes at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nekton::connect::{Polled, Position};
use nekton::differential_dataflow::VecCollection;
use nekton::differential_dataflow::operators::CountTotal;
use nekton::hash::FixedState;
use nekton::{
    Agent, Block, Context, Events, Feed, Flow, JobConfig, Order, Reading, Result, Time,
    engine::run as run_job,
};

use serde::{Deserialize, Serialize};

use crate::again::Sample;
use crate::nowhere::Nowhere;
use crate::random::Random;
use crate::report::{Report, median};

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Events.
    #[arg(long, default_value_t = 20_000_000)]
    events: usize,
    /// Agents.
    #[arg(long, default_value_t = 1_000_000)]
    agents: u64,
    /// Rounds; the median of their ratios counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of workers to measure.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
}

/// Events in the order of arrival.
pub fn samples(count: usize, agents: u64) -> Vec<Sample> {
    let mut random = Random(7);
    (0..count).map(|_| (random.next() % agents, (random.next() % 100) as u32)).collect()
}

/// The samples by partition, in their order.
pub fn partition(samples: &[Sample], partitions: usize) -> Vec<Arc<Vec<Sample>>> {
    let of = |number| move |sample: &&Sample| sample.0 as usize % partitions == number;
    (0..partitions).map(|number| Arc::new(samples.iter().filter(of(number)).copied().collect())).collect()
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    #[default]
    Green,
    Amber,
    Red,
}

fn status(value: u32) -> Status {
    match value {
        80.. => Status::Red,
        50.. => Status::Amber,
        _ => Status::Green,
    }
}

/// The baseline.
fn hash_loop(samples: &[Sample]) -> HashMap<u64, isize> {
    let mut states: HashMap<u64, (u32, Status), FixedState> = HashMap::default();
    let mut reds: HashMap<u64, isize, FixedState> = HashMap::default();
    for &(agent, value) in samples {
        let state = states.entry(agent).or_default();
        let after = status(value);
        if (state.1 == Status::Red) != (after == Status::Red) {
            *reds.entry(agent / 1_000).or_default() += if after == Status::Red { 1 } else { -1 };
        }
        *state = (value, after);
    }
    reds.into_iter().filter(|&(_, count)| count != 0).collect()
}

/// The agent.
#[derive(Default, Serialize, Deserialize)]
pub struct Lamp {
    value: u32,
    status: Status,
}

impl Agent for Lamp {
    type Key = u64;
    type Event = Sample;
    /// Only red ones are seen.
    type View = ();
    type Emit = ();
    fn create(_key: &u64) -> Self {
        Lamp::default()
    }
    fn on_event(&mut self, &(_, value): &Sample, _context: &mut Context<'_, Self>) {
        *self = Lamp { value, status: status(value) };
    }
    fn view(&self) -> Option<()> {
        debug_assert!(self.status == status(self.value));
        (self.status == Status::Red).then_some(())
    }
}

/// The count of red agents of each parent.
pub fn red_lamps<'s>(samples: &Events<'s, Sample>) -> VecCollection<'s, Time, (u64, isize), isize> {
    samples.agents::<Lamp>("lamps", |&(agent, _)| agent).map(|(agent, ())| agent / 1_000).count_total()
}

/// A job that works through all its samples.
pub fn config(name: &str, workers: usize) -> JobConfig {
    JobConfig { workers, until_end: true, ..JobConfig::new(name) }
}

/// Hands out one partition's samples in blocks.
struct Samples {
    samples: Arc<Vec<Sample>>,
    partition: u32,
    at: usize,
}

impl Feed<Sample> for Samples {
    fn poll(&mut self, budget: usize, into: &mut Reading<Sample>) -> Result<Polled> {
        let count = (budget / size_of::<Sample>()).min(self.samples.len() - self.at);
        let mut left = count;
        while left > 0 {
            let size = left.min(10_000);
            let position = Position { entry: self.at as u64, ..Position::default() };
            let order = Order { source: 0, partition: self.partition, position };
            into.blocks.push(Block { order, events: self.samples[self.at..self.at + size].to_vec() });
            self.at += size;
            left -= size;
        }
        Ok(if self.at == self.samples.len() { Polled::End } else { Polled::More })
    }
}

/// The whole engine: source, epochs, exchange, agents, differential's count, a sink to memory.
/// A partition for each worker; those of an agent are in one partition, which need not be its worker's.
fn engine(partitions: &[Arc<Vec<Sample>>]) -> (HashMap<u64, isize>, u64, usize) {
    let changes: Arc<Mutex<Vec<((u64, isize), isize)>>> = Arc::default();
    let (partitions, sink) = (partitions.to_vec(), changes.clone());
    let workers = partitions.len();
    let program = move |flow: &mut Flow<'_>| {
        let events = flow.feed("samples", |worker, _, _| Samples {
            samples: partitions[worker].clone(),
            partition: worker as u32,
            at: 0,
        });
        let reds = red_lamps(&events);
        let sink = sink.clone();
        flow.each_time(&reds, move |_, updates| sink.lock().expect("no worker panicked").extend(updates));
    };
    let summary = run_job(config("w1", workers), Arc::new(Nowhere), program).expect("the job runs");
    let changes = std::mem::take(&mut *changes.lock().expect("no worker panicked"));
    let mut counts = HashMap::new();
    let written = changes.len();
    for ((parent, count), diff) in changes {
        *counts.entry((parent, count)).or_insert(0) += diff;
    }
    let counts =
        counts.into_iter().filter(|&(_, times)| times != 0).map(|((parent, count), _)| (parent, count));
    (counts.collect(), summary.epochs, written)
}

/// Runs the measurement.
pub fn run(options: &Options) -> Report {
    let samples = samples(options.events, options.agents);
    let rate = |seconds: f64| options.events as f64 / seconds / 1e6;
    let partitions: Vec<_> = options.workers.iter().map(|&workers| partition(&samples, workers)).collect();
    let mut report = Report::new("w1");
    let mut loops = Vec::new();
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); options.workers.len()];
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); options.workers.len()];
    let (mut epochs, mut written) = (0, 0);
    for _ in 0..options.rounds {
        let started = Instant::now();
        let expected = hash_loop(&samples);
        let bare = started.elapsed().as_secs_f64();
        loops.push(rate(bare));
        for (index, &workers) in options.workers.iter().enumerate() {
            let started = Instant::now();
            let (counts, of_epochs, changes) = engine(&partitions[index]);
            let took = started.elapsed().as_secs_f64();
            assert!(counts == expected, "on {workers} workers the engine counts what the loop counts");
            ratios[index].push(bare / took);
            rates[index].push(rate(took));
            (epochs, written) = (of_epochs, changes);
        }
    }
    report.figure("hash-table loop, one thread", median(&mut loops), "M events/s");
    for (index, &workers) in options.workers.iter().enumerate() {
        report.figure(format!("engine, {workers} worker(s)"), median(&mut rates[index]), "M events/s");
    }
    report.figure("epochs (last run)", epochs as f64, "");
    report.figure("changes written (last run)", written as f64, "");
    for (index, &workers) in options.workers.iter().enumerate() {
        let aim = match workers {
            1 => 0.85,
            2 => 1.6,
            _ => continue,
        };
        let name = format!("engine / loop, {workers} worker(s), at least");
        report.at_least(name, aim, median(&mut ratios[index]));
    }
    report
}

//! Durability: what checkpoints and bindings cost. The same job on the same input, with them (log and store in
//! files) and without, in turn: events of `w1` a second; latency as `latency` has it; and the worst latency with
//! many agents, every one of which a checkpoint copies.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nekton::{Checkpoints, Flow, JobConfig, changes, engine::run as run_job};
use nekton_connectors::file::open_store;

use crate::again::{Again, Input, Sample, sample};
use crate::latency::{self, Measured};
use crate::live::Live;
use crate::report::{Report, median};
use crate::w1::{self, partition, samples};

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Events; 0 to leave throughput out.
    #[arg(long, default_value_t = 20_000_000)]
    events: usize,
    /// Agents of these events.
    #[arg(long, default_value_t = 1_000_000)]
    agents: u64,
    /// Rounds; the median of their ratios counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of workers to measure.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "1,2")]
    workers: Vec<usize>,
    /// The time between two checkpoints, in seconds.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "10,1")]
    every: Vec<u64>,
    /// Events a second for latency; none to leave it out.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "50000,200000")]
    rates: Vec<u64>,
    /// How long a rate is kept up, in seconds; the first second does not count, nor the last tenth of one.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Numbers of agents for the longest pause, at 50,000 events a second; none to leave it out.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_value = "1000000,10000000")]
    pause_agents: Vec<u64>,
}

/// The time between two checkpoints where latency is measured, so that there are some.
const OFTEN: Duration = Duration::from_secs(2);

/// Checkpoints in a folder.
pub fn checkpoints_in(folder: &Path, every: Duration) -> Checkpoints {
    Checkpoints { store: open_store(&folder.join("checkpoints")), every }
}

/// The job of `w1` on topics that can be read again.
pub fn red_lamps(flow: &mut Flow<'_>) {
    let reds = w1::red_lamps(&flow.events_with("samples", sample));
    flow.sink("reds", changes(&reds));
}

/// Seconds a run takes, and the changes that it wrote.
fn throughput(partitions: &[Arc<Vec<Sample>>], every: Option<Duration>) -> (f64, u64) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let input = |samples: &Arc<Vec<Sample>>| {
        let samples = samples.clone();
        Input { count: samples.len(), at: Arc::new(move |number| samples[number]) }
    };
    let topics = Again::new(partitions.iter().map(input).collect(), folder.path().to_owned());
    let checkpoints = every.map(|every| checkpoints_in(folder.path(), every));
    let config = JobConfig { checkpoints, ..w1::config("w1", partitions.len()) };
    let started = Instant::now();
    let summary = run_job(config, Arc::new(topics.clone()), red_lamps).expect("the job runs");
    let took = started.elapsed().as_secs_f64();
    assert_eq!(summary.events as usize, partitions.iter().map(|of| of.len()).sum::<usize>());
    (took, topics.messages())
}

fn measure_throughput(options: &Options, report: &mut Report) {
    let samples = samples(options.events, options.agents);
    for &workers in &options.workers {
        let partitions = partition(&samples, workers);
        let mut off = Vec::new();
        let mut ratios = vec![Vec::new(); options.every.len()];
        for _ in 0..options.rounds {
            let (bare, _) = throughput(&partitions, None);
            off.push(options.events as f64 / bare / 1e6);
            for (ratios, &every) in ratios.iter_mut().zip(&options.every) {
                let (took, changes) = throughput(&partitions, Some(Duration::from_secs(every)));
                assert!(changes > 0, "the job writes changes");
                ratios.push(bare / took);
            }
        }
        report.figure(format!("{workers} worker(s), without"), median(&mut off), "M events/s");
        for (ratios, every) in ratios.iter_mut().zip(&options.every) {
            let name = format!("{workers} worker(s), every {every} s / without, at least");
            report.at_least(name, 0.9, median(ratios));
        }
    }
}

/// A round at a rate, with checkpoints or without.
fn round(rate: u64, options: &latency::Options, filled: bool, every: Option<Duration>) -> Measured {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let live = Live::with_log(options.workers, Some(folder.path().to_owned()));
    let checkpoints = every.map(|every| checkpoints_in(folder.path(), every));
    latency::measure(rate, options, &live, filled, |live, options| {
        latency::engine_with(live, options, checkpoints)
    })
}

/// Rounds at a rate without checkpoints and with them, in turn; reports their quantiles as those of `what`.
fn in_turn(
    rate: u64,
    options: &latency::Options,
    filled: bool,
    quantiles: &[(&str, f64)],
    what: &str,
    report: &mut Report,
) -> [Vec<Measured>; 2] {
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        off.push(round(rate, options, filled, None));
        on.push(round(rate, options, filled, Some(OFTEN)));
    }
    for (name, rounds) in [("without", &off), ("with", &on)] {
        for &(quantile, at) in quantiles {
            let mut got: Vec<_> = rounds.iter().map(|round| round.at(at)).collect();
            report.figure(format!("{what}, {name}, {quantile}"), median(&mut got), "ms");
        }
    }
    [off, on]
}

impl Options {
    /// How latency is measured with so many agents.
    fn latency(&self, agents: u64, rounds: usize) -> latency::Options {
        latency::Options {
            rates: Vec::new(),
            seconds: self.seconds,
            rounds,
            agents,
            groups: 100,
            workers: 1,
            idle_seconds: 0,
        }
    }
}

fn measure_latency(options: &Options, report: &mut Report) {
    let of = options.latency(100_000, options.rounds);
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
    for &rate in &options.rates {
        let what = format!("{rate} events/s");
        let [off, on] = in_turn(rate, &of, false, &quantiles, &what, report);
        let mut ratios: Vec<_> = off.iter().zip(&on).map(|(off, on)| on.at(0.99) / off.at(0.99)).collect();
        report.figure(format!("{what}, p99 with / without"), median(&mut ratios), "");
    }
}

fn measure_pauses(options: &Options, report: &mut Report) {
    for &agents in &options.pause_agents {
        let of = options.latency(agents, options.rounds.min(3));
        let what = format!("{} M agents", agents as f64 / 1e6);
        let [_, on] = in_turn(50_000, &of, true, &[("p99", 0.99), ("worst", 1.0)], &what, report);
        let mut worst: Vec<_> = on.iter().map(|round| round.at(1.0)).collect();
        report.at_most(format!("{what}, worst in ms, at most"), 10.0, median(&mut worst));
    }
}

/// Runs the measurement.
pub fn run(options: &Options) -> Report {
    let mut report = Report::new("durability");
    if options.events > 0 {
        measure_throughput(options, &mut report);
    }
    measure_latency(options, &mut report);
    measure_pauses(options, &mut report);
    report
}

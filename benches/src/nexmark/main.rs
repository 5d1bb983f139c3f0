//! NEXMark's queries, through the whole engine: events that are in memory, already decoded, to rows that are looked at and
//! dropped. The baseline is a loop of its own for each query, in one thread over the same events, with hash tables: it gives the
//! rows of queries whose rows stay as it goes, and those of others once, at the end.

mod baseline;
#[path = "../../../examples/nexmark/generate.rs"]
mod generate;
#[path = "../nowhere.rs"]
mod nowhere;
#[path = "../../../examples/nexmark/queries/mod.rs"]
#[allow(missing_docs, dead_code)]
mod queries;
#[path = "../report.rs"]
#[allow(dead_code)]
mod report;

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nekton::agents::Key;
use nekton::connect::{Polled, Position};
use nekton::hash::fixed_hash;
use nekton::prelude::*;
use nekton::timely::dataflow::operators::InspectCore;
use nekton::{Block, Feed, JobConfig, Order, Reading, Result, engine::run as run_job};

use self::queries::{Event, Outlet, Query, Rows};
use crate::nowhere::Nowhere;
use crate::report::Report;

/// Measures NEXMark's queries against a loop for each.
#[derive(clap::Parser)]
#[command(name = "nexmark")]
struct Options {
    /// Print one JSON object with all figures on the last line.
    #[arg(long)]
    json: bool,
    /// Events.
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// How many of them happen in a second of their own time.
    #[arg(long, default_value_t = 10_000)]
    rate: usize,
    /// Queries.
    #[arg(long, value_delimiter = ',', default_values_t = all())]
    queries: Vec<String>,
    /// Numbers of workers to measure.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

fn name(query: Query) -> String {
    format!("{query:?}").to_lowercase()
}

fn all() -> Vec<String> {
    clap::ValueEnum::value_variants().iter().map(|query| name(*query)).collect()
}

/// Adds up to the same for the same rows, in whatever order they came and went.
fn digest<R: Hash + ?Sized>(row: &R) -> u64 {
    fixed_hash(row) | 1
}

/// How many events are in a block.
const BLOCK: usize = 1_000;

/// What a worker reads, block by block.
struct Blocks(VecDeque<Block<Event>>);

impl Feed<Event> for Blocks {
    fn poll(&mut self, budget: usize, into: &mut Reading<Event>) -> Result<Polled> {
        // An event takes some 250 bytes.
        let count = (budget / 250 / BLOCK).max(1).min(self.0.len());
        into.blocks.extend(self.0.drain(..count));
        Ok(if self.0.is_empty() { Polled::End } else { Polled::More })
    }
}

/// The events of each partition, of which there are as many as workers.
fn partition(events: &[Event], partitions: usize) -> Vec<VecDeque<Block<Event>>> {
    let mut parts = vec![VecDeque::new(); partitions];
    for (number, events) in events.chunks(BLOCK).enumerate() {
        let partition = number % partitions;
        let position = Position { entry: (number * BLOCK) as u64, ..Position::default() };
        let order = Order { source: 0, partition: partition as u32, position };
        parts[partition].push_back(Block { order, events: events.to_vec() });
    }
    parts
}

/// Looks at each row.
#[derive(Clone, Default)]
struct Look {
    sum: Arc<AtomicU64>,
    rows: Arc<AtomicU64>,
}

impl Look {
    fn add(&self, sum: u64, rows: usize) {
        self.sum.fetch_add(sum, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

impl<'s> Outlet<'s> for Look {
    fn events<R: Key>(&mut self, _flow: &mut Flow<'s>, rows: &Events<'s, R>) {
        let look = self.clone();
        let _ = rows.blocks().inspect_container(move |seen| {
            if let Ok((_, blocks)) = seen {
                for block in blocks {
                    let sum = block.events.iter().fold(0_u64, |sum, row| sum.wrapping_add(digest(row)));
                    look.add(sum, block.events.len());
                }
            }
        });
    }
    fn collection<R: Key>(&mut self, _flow: &mut Flow<'s>, rows: &Rows<'s, R>) {
        let look = self.clone();
        let _ = rows.inner.clone().inspect_container(move |seen| {
            if let Ok((_, changes)) = seen {
                let digest = |(row, _, count): &(R, Time, isize)| digest(row).wrapping_mul(*count as u64);
                look.add(changes.iter().map(digest).fold(0, u64::wrapping_add), changes.len());
            }
        });
    }
}

/// What came of a run.
struct Ran {
    seconds: f64,
    digest: u64,
    /// How many rows came or went.
    rows: u64,
}

fn engine(query: Query, events: &[Event], workers: usize) -> Ran {
    let parts = Arc::new(Mutex::new(partition(events, workers)));
    let look = Look::default();
    let outlet = look.clone();
    let program = move |flow: &mut Flow<'_>| {
        let events = flow.feed("nexmark", |worker, _, _| {
            Blocks(std::mem::take(&mut parts.lock().expect("no worker panicked")[worker]))
        });
        queries::build(query, flow, workers as u32, &events, &mut outlet.clone());
    };
    let mut config = JobConfig::new("nexmark");
    config.workers = workers;
    config.until_end = true;
    let started = Instant::now();
    run_job(config, Arc::new(Nowhere), program).expect("the job runs");
    let seconds = started.elapsed().as_secs_f64();
    Ran { seconds, digest: look.sum.load(Ordering::Relaxed), rows: look.rows.load(Ordering::Relaxed) }
}

/// Whether the rows at the end are the same, whatever the clock said and however many partitions there were.
fn comparable(query: Query, workers: usize) -> bool {
    match query {
        // The windows are those of the clock.
        Query::Q12 => false,
        // What has left by the end depends on the watermark, and that on the partitions.
        Query::Q5 | Query::Q7 | Query::Q8 | Query::Q11 => workers == 1,
        _ => true,
    }
}

/// Runs the measurement.
fn main() {
    let options = <Options as clap::Parser>::parse();
    let mut report = Report::new("nexmark");
    let started = Instant::now();
    let events: Vec<Event> = generate::events(0..options.events, options.rate, 1).collect();
    let rate = |seconds: f64| options.events as f64 / seconds / 1e6;
    report.figure("the generator, not in what follows", rate(started.elapsed().as_secs_f64()), "M events/s");
    let queries: &[Query] = clap::ValueEnum::value_variants();
    for query in queries.iter().filter(|query| options.queries.contains(&name(**query))) {
        let mut loops = Vec::new();
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); options.workers.len()];
        let mut rows = 0;
        for _ in 0..options.rounds {
            let started = Instant::now();
            let expected = baseline::run(*query, &events);
            loops.push(rate(started.elapsed().as_secs_f64()));
            for (rates, workers) in rates.iter_mut().zip(&options.workers) {
                let ran = engine(*query, &events, *workers);
                if comparable(*query, *workers) {
                    assert_eq!(
                        ran.digest, expected,
                        "{query:?} on {workers} workers has the rows of the loop"
                    );
                }
                rates.push(rate(ran.seconds));
                rows = ran.rows;
            }
        }
        let query = name(*query);
        report.beside_loop(&query, &mut loops, options.workers.iter().zip(&mut rates));
        report.figure(format!("{query}: rows that came or went (last run)"), rows as f64, "");
    }
    report.print(options.json);
}

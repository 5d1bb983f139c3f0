//! Every query of NEXMark says, at every time, what a plain pass over all that came until then says: whatever comes in
//! whichever order and batch, on any number of workers.

#[path = "../examples/nexmark/generate.rs"]
mod generate;
#[path = "nexmark/oracle.rs"]
mod oracle;
#[path = "../examples/nexmark/queries/mod.rs"]
mod queries;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use clap::ValueEnum;
use nekton::agents::Key;
use nekton::connect::{Position, Sink, SinkSettings, Source, Topics};
use nekton::hash::fixed_hash;
use nekton::prelude::*;
use nekton::timely::dataflow::operators::InspectCore;
use nekton::{Block, Error, JobConfig, Kind, Order, Result, Script};

use oracle::{Bag, Came, Known, expected, json};
use queries::{Event, Outlet, Query, Rows};

const PARTITIONS: u32 = 3;

/// A number below `below`, by chance.
fn chance(seed: u64, number: usize, below: u64) -> u64 {
    (fixed_hash(&(seed, number)) >> 16) % below
}

/// A minute of an auction house, shuffled by up to six seconds, so that some of it is too late for windows; up to forty
/// events at a time. It begins after what some auctions and people did before.
fn a_minute(seed: u64) -> Vec<Came> {
    let (mut time, mut left) = (1_000, 0);
    let first = 5_000 * seed as usize;
    let events = generate::events(first..first + 600, 10, 64);
    let came = events.enumerate().map(|(number, event)| {
        if left == 0 {
            left = 1 + chance(seed, number, 40);
            time += 1 + chance(seed + 1, number, 5_000);
        }
        left -= 1;
        Came { time, partition: chance(seed + 2, number, PARTITIONS.into()) as u32, event }
    });
    came.collect()
}

/// What came out: when, of which query, which row, and how often more.
type Changes = Arc<Mutex<Vec<(Time, Query, String, isize)>>>;

struct Capture {
    query: Query,
    changes: Changes,
}

impl<'s> Outlet<'s> for Capture {
    fn events<R: Key>(&mut self, _flow: &mut Flow<'s>, rows: &Events<'s, R>) {
        let (query, changes) = (self.query, self.changes.clone());
        let _ = rows.blocks().inspect_container(move |seen| {
            if let Ok((time, blocks)) = seen {
                let rows = blocks.iter().flat_map(|block: &Block<R>| &block.events);
                changes.lock().unwrap().extend(rows.map(|row| (*time, query, json(row), 1)));
            }
        });
    }
    fn collection<R: Key>(&mut self, flow: &mut Flow<'s>, rows: &Rows<'s, R>) {
        let (query, changes) = (self.query, self.changes.clone());
        flow.each_time(rows, move |time, rows| {
            let rows = rows.into_iter().map(|(row, count)| (time, query, json(&row), count));
            changes.lock().unwrap().extend(rows);
        });
    }
}

/// There are no topics.
struct NoTopics;

impl Topics for NoTopics {
    fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
        Err(Error::new(Kind::Missing, name))
    }
    fn sink(&self, name: &str, _settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        Err(Error::new(Kind::Missing, name))
    }
}

/// All queries in one job.
fn run(came: &[Came], workers: usize, seed: u64) -> BTreeMap<Query, Vec<(Time, String, isize)>> {
    let changes = Changes::default();
    let (came, captured) = (came.to_vec(), changes.clone());
    let config = JobConfig { workers, until_end: true, ..JobConfig::new("nexmark") };
    let program = move |flow: &mut Flow<'_>| {
        let events = flow.feed("nexmark", |worker, workers, _waker| script(&came, (worker, workers), seed));
        for query in Query::value_variants() {
            let mut capture = Capture { query: *query, changes: captured.clone() };
            queries::build(*query, flow, PARTITIONS, &events, &mut capture);
        }
    };
    nekton::engine::run(config, Arc::new(NoTopics), program).unwrap();
    let mut of_query: BTreeMap<Query, Vec<_>> = BTreeMap::new();
    for (time, query, row, count) in std::mem::take(&mut *changes.lock().unwrap()) {
        of_query.entry(query).or_default().push((time, row, count));
    }
    of_query
}

/// What a worker reads: its partitions, in blocks of up to twenty events.
fn script(came: &[Came], (worker, workers): (usize, usize), seed: u64) -> Script<Event> {
    let mut times: BTreeMap<Time, Vec<Block<Event>>> = BTreeMap::new();
    for partition in (0..PARTITIONS).filter(|partition| *partition as usize % workers == worker) {
        let of_partition: Vec<&Came> = came.iter().filter(|came| came.partition == partition).collect();
        let mut entry = 0;
        for at_once in of_partition.chunk_by(|one, next| one.time == next.time) {
            for events in at_once.chunks(1 + chance(seed + 3, entry, 20) as usize) {
                let position = Position { entry: entry as u64, ..Position::default() };
                entry += events.len();
                times.entry(at_once[0].time).or_default().push(Block {
                    order: Order { source: 0, partition, position },
                    events: events.iter().map(|came| came.event.clone()).collect(),
                });
            }
        }
    }
    Script::new(times)
}

#[test]
fn every_query_says_at_every_time_what_a_plain_pass_says() {
    let mut silent: BTreeSet<Query> = Query::value_variants().iter().copied().collect();
    for seed in [1, 2] {
        let came = a_minute(seed);
        let mut times: Vec<Time> = came.iter().map(|came| came.time).collect();
        times.dedup();
        // When everything is over, with all timers.
        times.push(Time::MAX / 2);
        let known: Vec<Known<'_>> = times.iter().map(|time| Known::at(&came, PARTITIONS, *time)).collect();
        let runs: Vec<_> = (1..=3).map(|workers| run(&came, workers, seed + workers as u64)).collect();
        for query in Query::value_variants() {
            let expected: Vec<Bag> = known.iter().map(|known| expected(*query, known)).collect();
            if expected.iter().any(|bag| !bag.is_empty()) {
                silent.remove(query);
            }
            for (changes, workers) in runs.iter().zip(1..) {
                let mut changes = changes.get(query).cloned().unwrap_or_default();
                changes.sort_by_key(|(time, ..)| *time);
                let mut changes = changes.into_iter().peekable();
                let mut rows = Bag::new();
                for (time, expected) in times.iter().zip(&expected) {
                    while let Some((_, row, count)) = changes.next_if(|(changed, ..)| changed <= time) {
                        *rows.entry(row).or_default() += count;
                    }
                    rows.retain(|_, count| *count != 0);
                    assert_eq!(rows, *expected, "{query:?} at {time} on {workers} workers, seed {seed}");
                }
            }
        }
    }
    assert!(silent.is_empty(), "these have nothing to say: {silent:?}");
}

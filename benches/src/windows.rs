//! Windows in event time, through the whole engine: a count for each key and window, of events a tenth of which come late, though never
//! too late. The baseline is a loop in one thread with a hash table for each window (for sessions: a table of
//! keys), which goes by the same watermark, says each result once, when it is final, and cannot be corrected by anything but an event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nekton::agents::Key;
use nekton::connect::{Polled, Position};
use nekton::hash::{FixedState, fixed_hash};
use nekton::operators::{EventTime, Sessions, Watermark, Window, Windowed, Windows};
use nekton::prelude::*;
use nekton::timely::dataflow::operators::InspectCore;
use nekton::{Block, Feed, JobConfig, Order, Reading, Result, engine::run as run_job};

use crate::nowhere::Nowhere;
use crate::random::Random;
use crate::report::Report;

/// How much to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Events.
    #[arg(long, default_value_t = 5_000_000)]
    events: usize,
    /// How many of them happen in a second of their own time.
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Numbers of keys.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    keys: Vec<u64>,
    /// How many of a hundred events come behind the watermark.
    #[arg(long, default_value_t = 10)]
    late: u64,
    /// Kinds of windows.
    #[arg(long, value_delimiter = ',', default_value = "tumbling,hopping,session")]
    kinds: Vec<Kind>,
    /// Numbers of workers to measure.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Kind {
    /// Of 10 s.
    Tumbling,
    /// Of 10 s, one every 5 s.
    Hopping,
    /// With a gap of 2 s.
    Session,
}

/// A key, and when it happened.
type Click = (u64, Time);

const SIZE: Time = 10_000;
const HOP: Time = 5_000;
const GAP: Time = 2_000;
/// By how much events come out of order.
const BEHIND: Time = 1_000;
/// How far behind that late ones may be.
const LATE: Time = 5_000;
/// How long a result stays when it is final.
const KEEP: Time = 5_000;
const STEP: Time = 100;

fn clicks(options: &Options, keys: u64) -> Vec<Click> {
    let mut random = Random(7);
    let click = |number: usize| {
        let now = 1_000_000 + number as u64 * 1_000 / options.rate;
        // In order, or so late that the watermark is past it, by less than what is allowed.
        let late = random.next() % 100 < options.late;
        let behind = if late { BEHIND + STEP + random.next() % (LATE - 1_000) } else { 0 };
        (random.next() % keys, now - behind)
    };
    (0..options.events).map(click).collect()
}

/// How many events are in a block.
const BLOCK: usize = 10_000;

/// What a worker reads: every so manieth block.
struct Clicks {
    clicks: Arc<Vec<Click>>,
    worker: usize,
    workers: usize,
    block: usize,
}

impl Feed<Click> for Clicks {
    fn poll(&mut self, budget: usize, into: &mut Reading<Click>) -> Result<Polled> {
        for _ in 0..(budget / size_of::<Click>() / BLOCK).max(1) {
            let start = (self.block * self.workers + self.worker) * BLOCK;
            let Some(events) = self.clicks.get(start..(start + BLOCK).min(self.clicks.len())) else {
                return Ok(Polled::End);
            };
            let position = Position { entry: start as u64, ..Position::default() };
            let order = Order { source: 0, partition: self.worker as u32, position };
            into.blocks.push(Block { order, events: events.to_vec() });
            self.block += 1;
        }
        Ok(Polled::More)
    }
}

/// Adds up to the same for the same results in any order.
fn digest(key: u64, window: Window, count: isize) -> u64 {
    fixed_hash(&(key, window, count)) | 1
}

/// What was said.
#[derive(Clone, Default)]
struct Said {
    closed: Arc<AtomicU64>,
    digest: Arc<AtomicU64>,
    changes: Arc<AtomicU64>,
    late: Arc<AtomicU64>,
}

impl Said {
    fn hear<K: Key>(&self, windowed: &Windowed<'_, K, Click, isize>, key: impl Fn(&K) -> u64 + 'static) {
        let said = self.clone();
        let _ = windowed.closed.blocks().inspect_container(move |seen| {
            for ((of, window), count) in
                seen.iter().flat_map(|(_, blocks)| blocks.iter()).flat_map(|block: &Block<_>| &block.events)
            {
                said.closed.fetch_add(1, Ordering::Relaxed);
                said.digest.fetch_add(digest(key(of), *window, *count), Ordering::Relaxed);
            }
        });
        let said = self.clone();
        let _ = windowed.results.inner.clone().inspect_container(move |seen| {
            if let Ok((_, changes)) = seen {
                said.changes.fetch_add(changes.len() as u64, Ordering::Relaxed);
            }
        });
        let said = self.clone();
        windowed.late.inspect(move |_| {
            said.late.fetch_add(1, Ordering::Relaxed);
        });
    }
}

struct Ran {
    seconds: f64,
    closed: u64,
    digest: u64,
    changes: u64,
}

fn engine(kind: Kind, clicks: &Arc<Vec<Click>>, workers: usize) -> Ran {
    let said = Said::default();
    let (hear, clicks) = (said.clone(), clicks.clone());
    let program = move |flow: &mut Flow<'_>| {
        let events = flow.feed("clicks", |worker, workers, _| Clicks {
            clicks: clicks.clone(),
            worker,
            workers,
            block: 0,
        });
        let watermark = Watermark::behind(BEHIND).partitions(workers as u32).step(STEP).never_idle();
        let events = events.event_time(|(_, at)| *at, watermark);
        let pair = |(key, _): &Click| (*key, ());
        let windowed = match kind {
            Kind::Tumbling => {
                events.windows("windows", Windows::tumbling(SIZE).late(LATE).keep(KEEP), pair, Count)
            }
            Kind::Hopping => {
                events.windows("windows", Windows::hopping(SIZE, HOP).late(LATE).keep(KEEP), pair, Count)
            }
            Kind::Session => {
                events.sessions("windows", Sessions::gap(GAP).late(LATE).keep(KEEP), pair, Count)
            }
        };
        hear.hear(&windowed, |key| *key);
    };
    let mut config = JobConfig::new("windows");
    config.workers = workers;
    config.until_end = true;
    let started = Instant::now();
    run_job(config, Arc::new(Nowhere), program).expect("the job runs");
    let seconds = started.elapsed().as_secs_f64();
    let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
    assert_eq!(of(&said.late), 0, "nothing is too late");
    Ran { seconds, closed: of(&said.closed), digest: of(&said.digest), changes: of(&said.changes) }
}

type Table<V> = HashMap<u64, V, FixedState>;

/// The loop: how many results were final, and their digest.
fn bare(kind: Kind, clicks: &[Click]) -> (u64, u64) {
    match kind {
        Kind::Tumbling => fixed(clicks, SIZE),
        Kind::Hopping => fixed(clicks, HOP),
        Kind::Session => sessions(clicks),
    }
}

fn watermark(latest: Time) -> Time {
    (latest - BEHIND) / STEP * STEP
}

fn fixed(clicks: &[Click], every: Time) -> (u64, u64) {
    let mut windows: BTreeMap<Time, Table<isize>> = BTreeMap::new();
    let (mut closed, mut sum, mut latest, mut before) = (0, 0_u64, 0, 0);
    for &(key, at) in clicks {
        let mut start = at - at % every;
        while at < start + SIZE {
            *windows.entry(start).or_default().entry(key).or_default() += 1;
            start -= every;
        }
        latest = at.max(latest);
        let now = watermark(latest);
        if now > before {
            before = now;
            while let Some(first) = windows.first_entry()
                && first.key() + SIZE + LATE <= now
            {
                let (start, counts) = first.remove_entry();
                for (key, count) in counts {
                    closed += 1;
                    sum = sum.wrapping_add(digest(key, Window { start, end: start + SIZE }, count));
                }
            }
        }
    }
    (closed, sum)
}

/// A session of a key: from, until, and how many.
type Session = (Time, Time, isize);

fn sessions(clicks: &[Click]) -> (u64, u64) {
    let mut keys: Table<Vec<Session>> = Table::default();
    // Who has to be looked at when the watermark is there.
    let mut waiting: BTreeMap<Time, Vec<u64>> = BTreeMap::new();
    let (mut closed, mut sum, mut latest, mut before) = (0, 0_u64, 0, 0);
    for &(key, at) in clicks {
        let sessions = keys.entry(key).or_default();
        let mut merged = (at, at + GAP, 1);
        sessions.retain(|session| {
            let apart = session.1 <= merged.0 || merged.1 <= session.0;
            if !apart {
                merged = (session.0.min(merged.0), session.1.max(merged.1), session.2 + merged.2);
            }
            apart
        });
        sessions.push(merged);
        waiting.entry((at + GAP + LATE).div_ceil(STEP) * STEP).or_default().push(key);
        latest = at.max(latest);
        let now = watermark(latest);
        if now > before {
            before = now;
            while let Some(first) = waiting.first_entry()
                && *first.key() <= now
            {
                for key in first.remove() {
                    let Some(sessions) = keys.get_mut(&key) else { continue };
                    sessions.retain(|&(start, end, count)| {
                        let open = now < end + LATE;
                        if !open {
                            closed += 1;
                            sum = sum.wrapping_add(digest(key, Window { start, end }, count));
                        }
                        open
                    });
                    if sessions.is_empty() {
                        keys.remove(&key);
                    }
                }
            }
        }
    }
    (closed, sum)
}

/// Runs the measurement.
pub fn run(options: &Options) -> Report {
    let mut report = Report::new("windows");
    let rate = |seconds: f64| options.events as f64 / seconds / 1e6;
    for &keys in &options.keys {
        let clicks = Arc::new(clicks(options, keys));
        for &kind in &options.kinds {
            let name = format!("{kind:?}, {keys} keys").to_lowercase();
            let mut loops = Vec::new();
            let mut rates: Vec<Vec<f64>> = vec![Vec::new(); options.workers.len()];
            let mut changes = 0;
            for _ in 0..options.rounds {
                let started = Instant::now();
                let expected = bare(kind, &clicks);
                loops.push(rate(started.elapsed().as_secs_f64()));
                for (rates, &workers) in rates.iter_mut().zip(&options.workers) {
                    let ran = engine(kind, &clicks, workers);
                    // Several partitions have another watermark at the end.
                    if workers == 1 {
                        assert_eq!((ran.closed, ran.digest), expected, "{name}: the results of the loop");
                    }
                    rates.push(rate(ran.seconds));
                    changes = ran.changes;
                }
            }
            report.beside_loop(&name, &mut loops, options.workers.iter().zip(&mut rates));
            report.figure(format!("{name}: changes (last run)"), changes as f64, "");
        }
    }
    report
}

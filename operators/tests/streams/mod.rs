//! The oracle of operators on events: random streams of several partitions, on several workers and in several
//! batches, against a naive computation from all that came, at every time.
#![allow(dead_code)] // not every test uses all of it

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use differential_dataflow::VecCollection;
use nekton_engine::agents::Record;
use nekton_engine::connect::{Position, SinkSettings, Topics};
use nekton_engine::{Block, Error, Event, Events, Flow, JobConfig, Kind, Order, Result, Script, Time, run};
use nekton_operators::Watermark;
use proptest::prelude::*;
use timely::dataflow::operators::InspectCore;

/// The latest time at which an event comes.
pub const LAST: Time = 80;
/// After this, nothing happens any more.
pub const END: Time = LAST + 100;
pub const PARTITIONS: u32 = 3;

/// An event, when and where it comes, and when it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent<E> {
    pub time: Time,
    pub partition: u32,
    pub at: Time,
    pub event: E,
}

pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// Up to `most` events, most of which come soon after they happened, in their order in each partition.
pub fn stream<E: std::fmt::Debug + Clone>(
    event: impl Strategy<Value = E>,
    most: usize,
) -> impl Strategy<Value = Vec<Sent<E>>> {
    let delay = prop_oneof![3 => 0..5_u64, 2 => 0..25_u64, 1 => 0..80_u64];
    // Times of the dataflow at which several partitions have something.
    let sent = (1..=LAST / 4, 0..PARTITIONS, delay, event).prop_map(|(time, partition, delay, event)| {
        let time = time * 4;
        Sent { time, partition, at: (time + 5).saturating_sub(delay), event }
    });
    prop::collection::vec(sent, 0..most).prop_map(|mut sent| {
        sent.sort_by_key(|sent| (sent.time, sent.partition));
        sent
    })
}

/// A watermark in all its variants, with what the model knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub behind: Time,
    pub idle: Option<Time>,
    pub partitions: u32,
    pub step: Time,
}

impl Settings {
    pub fn watermark(self) -> Watermark {
        let watermark = Watermark::behind(self.behind).partitions(self.partitions).step(self.step);
        self.idle.map_or(watermark.never_idle(), |idle| watermark.idle_after(idle))
    }
}

pub fn settings() -> impl Strategy<Value = Settings> {
    let idle = prop_oneof![1 => Just(None), 2 => (1..40_u64).prop_map(Some)];
    let step = prop_oneof![Just(1_u64), Just(7), Just(10)];
    (0..20_u64, idle, 1..=PARTITIONS, step).prop_map(|(behind, idle, partitions, step)| Settings {
        behind,
        idle,
        partitions,
        step,
    })
}

/// An event of a side, without what it says: time, side and partition, event time.
pub type Mark = (Time, (u8, u32), Time);

pub fn marks<E>(side: u8, sent: &[Sent<E>]) -> Vec<Mark> {
    sent.iter().map(|sent| (sent.time, (side, sent.partition), sent.at)).collect()
}

/// The watermark at the end of `time`, from everything that came until then.
pub fn watermark_at(marks: &[Mark], of: &[Settings], time: Time) -> Time {
    (0..=time).filter_map(|time| complete(marks, of, time)).max().unwrap_or(0)
}

fn complete(marks: &[Mark], of: &[Settings], now: Time) -> Option<Time> {
    let step = of.iter().map(|of| of.step).max()?;
    let marks: Vec<&Mark> = marks.iter().filter(|(time, ..)| *time <= now).collect();
    let began = marks.iter().map(|(time, ..)| *time).min()?;
    let idle = |since: Time, idle: Option<Time>| idle.is_some_and(|idle| now >= since + idle);
    let mut partitions: BTreeMap<(u8, u32), (Time, Time)> = BTreeMap::new();
    for (time, partition, at) in &marks {
        let known = partitions.entry(*partition).or_default();
        *known = (known.0.max(*time), known.1.max(*at));
    }
    for (side, of) in of.iter().enumerate() {
        let known = partitions.keys().filter(|(other, _)| usize::from(*other) == side).count();
        if known < of.partitions as usize && !idle(began, of.idle) {
            return None;
        }
    }
    let active = partitions.iter().filter_map(|((side, _), (came, latest))| {
        let of = of[usize::from(*side)];
        (!idle(*came, of.idle)).then(|| latest.saturating_sub(of.behind) / step * step)
    });
    let all = partitions.values().map(|(_, latest)| (latest / step + 1) * step).max();
    active.min().or(all)
}

/// The feed of a stream: each worker has its partitions; blocks have up to `batch` events.
pub fn feed<'s, E: Event>(
    flow: &mut Flow<'s>,
    name: &str,
    sent: &[Sent<E>],
    batch: usize,
) -> Events<'s, (E, Time)> {
    let sent = sent.to_vec();
    flow.feed(name, move |worker, workers, _waker| {
        let mut times: BTreeMap<Time, Vec<Block<(E, Time)>>> = BTreeMap::new();
        for partition in (0..PARTITIONS).filter(|partition| *partition as usize % workers == worker) {
            let of: Vec<&Sent<E>> = sent.iter().filter(|sent| sent.partition == partition).collect();
            let mut entry = 0;
            for same in of.chunk_by(|a, b| a.time == b.time) {
                for events in same.chunks(batch) {
                    let position = Position { entry, ..Position::default() };
                    let order = Order { source: 0, partition, position };
                    entry += events.len() as u64;
                    let events = events.iter().map(|sent| (sent.event.clone(), sent.at)).collect();
                    times.entry(same[0].time).or_default().push(Block { order, events });
                }
            }
        }
        Script::new(times)
    })
}

/// What came out, with its time; shared by the workers.
pub struct Out<O>(Arc<Mutex<Vec<(Time, O)>>>);

impl<O> Clone for Out<O> {
    fn clone(&self) -> Self {
        Out(self.0.clone())
    }
}
impl<O> Default for Out<O> {
    fn default() -> Self {
        Out(Arc::default())
    }
}

impl<O: Record> Out<O> {
    pub fn events(&self, events: &Events<'_, O>) {
        let out = self.0.clone();
        let _ = events.blocks().inspect_container(move |seen| {
            if let Ok((time, blocks)) = seen {
                let events = blocks.iter().flat_map(|block: &Block<O>| &block.events);
                out.lock().unwrap().extend(events.map(|event| (*time, event.clone())));
            }
        });
    }
    /// What came at a time, in order.
    pub fn at(&self, time: Time) -> Vec<O> {
        let mut at: Vec<O> = self
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|(came, _)| *came == time)
            .map(|(_, out)| out.clone())
            .collect();
        at.sort();
        at
    }
}

impl<D: Record> Out<(D, isize)> {
    pub fn changes<'s>(&self, flow: &mut Flow<'s>, collection: &VecCollection<'s, Time, D, isize>) {
        let out = self.0.clone();
        flow.each_time(collection, move |time, changes| {
            out.lock().unwrap().extend(changes.into_iter().map(|change| (time, change)));
        });
    }
    /// What is there at a time.
    pub fn there(&self, time: Time) -> BTreeMap<D, isize> {
        let mut there = BTreeMap::new();
        for (_, (record, diff)) in self.0.lock().unwrap().iter().filter(|(changed, _)| *changed <= time) {
            *there.entry(record.clone()).or_default() += diff;
        }
        there.retain(|_, count| *count != 0);
        there
    }
}

/// There are no topics.
struct NoTopics;

impl Topics for NoTopics {
    fn source(&self, name: &str) -> Result<Arc<dyn nekton_engine::connect::Source>> {
        Err(Error::new(Kind::Missing, name))
    }
    fn sink(&self, name: &str, _settings: &SinkSettings) -> Result<Arc<dyn nekton_engine::connect::Sink>> {
        Err(Error::new(Kind::Missing, name))
    }
}

/// Runs a program to its end.
pub fn job(workers: usize, program: impl for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static) {
    let config = JobConfig { workers, until_end: true, ..JobConfig::new("test") };
    run(config, Arc::new(NoTopics), program).unwrap();
}

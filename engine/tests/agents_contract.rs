//! The contract of agents, against a naive model at every closed time.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use nekton_engine::connect::{Position, Sink, SinkSettings, Source, Topics};
use nekton_engine::{Agent, Block, Context, Error, Flow, JobConfig, Order, Result, Script, Time, run};
use proptest::prelude::*;

/// No topics at all.
struct Nowhere;

impl Topics for Nowhere {
    fn source(&self, name: &str) -> Result<Arc<dyn Source>> {
        Err(Error::config(format!("no topic {name}")))
    }
    fn sink(&self, name: &str, _settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
        Err(Error::config(format!("no topic {name}")))
    }
}

/// What can happen to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Act {
    /// Appends to the log; the view is the log's digest, so that order matters.
    Note(u8),
    /// Forgets the log in so many milliseconds, from a timer.
    ForgetIn(u8),
    ClearTimer,
    Leave,
    /// Emits the digest.
    Tell,
}

/// An agent whose view depends on the order of all that happened to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Log {
    digest: u64,
    notes: u32,
}

impl Log {
    fn note(&mut self, note: u64) {
        self.digest = self.digest.wrapping_mul(31).wrapping_add(note + 1);
        self.notes += 1;
    }
}

impl Agent for Log {
    type Key = u8;
    type Event = (u8, Act);
    type View = (u64, u32);
    type Emit = (u8, u64);

    fn create(_key: &u8) -> Self {
        Log::default()
    }
    fn on_event(&mut self, &(_, act): &(u8, Act), context: &mut Context<'_, Self>) {
        match act {
            Act::Note(note) => self.note(u64::from(note)),
            Act::ForgetIn(delay) => context.set_timer(context.time() + Time::from(delay)),
            Act::ClearTimer => context.clear_timer(),
            Act::Leave => context.leave(),
            Act::Tell => context.emit((*context.key(), self.digest)),
        }
    }
    fn on_timer(&mut self, context: &mut Context<'_, Self>) {
        let time = context.time();
        *self = Log::default();
        self.note(1_000 + time);
        context.emit((*context.key(), self.digest));
    }
    fn view(&self) -> Option<(u64, u32)> {
        (self.notes > 0).then_some((self.digest, self.notes))
    }
}

/// An event at a time, in a partition; its place in the list is its offset.
type Happening = (Time, u32, u8, Act);

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let act = prop_oneof![
        6 => any::<u8>().prop_map(Act::Note),
        2 => (0..20_u8).prop_map(Act::ForgetIn),
        1 => Just(Act::ClearTimer),
        1 => Just(Act::Leave),
        2 => Just(Act::Tell),
    ];
    prop::collection::vec((1..40_u64, 0..4_u32, 0..6_u8, act), 0..120).prop_map(|mut all| {
        all.sort_by_key(|&(time, ..)| time);
        all
    })
}

/// Everything that a run shows: the contents of the views and the emitted events at every time at
/// which there were some changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    views: BTreeMap<Time, BTreeMap<u8, (u64, u32)>>,
    told: BTreeMap<Time, BTreeMap<u8, Vec<u64>>>,
}

/// The naive model: everything in one thread, one event after the other, recomputed from the start.
fn model(happenings: &[Happening]) -> Seen {
    let mut ordered: Vec<(Time, u32, usize, u8, Act)> = happenings
        .iter()
        .enumerate()
        .map(|(at, &(time, partition, key, act))| (time, partition, at, key, act))
        .collect();
    ordered.sort_by_key(|&(time, partition, at, ..)| (time, partition, at));
    let mut logs: BTreeMap<u8, Log> = BTreeMap::new();
    let mut timers: BTreeMap<u8, Time> = BTreeMap::new();
    let mut seen = Seen::default();
    let mut shown: BTreeMap<u8, (u64, u32)> = BTreeMap::new();
    for time in 0..100 {
        let due: Vec<u8> = timers.iter().filter(|(_, due)| **due == time).map(|(key, _)| *key).collect();
        for key in due {
            timers.remove(&key);
            if let Some(log) = logs.get_mut(&key) {
                *log = Log::default();
                log.note(1_000 + time);
                seen.told.entry(time).or_default().entry(key).or_default().push(log.digest);
            }
        }
        for &(_, _, _, key, act) in ordered.iter().filter(|(at, ..)| *at == time) {
            let log = logs.entry(key).or_default();
            match act {
                Act::Note(note) => log.note(u64::from(note)),
                Act::ForgetIn(delay) => {
                    timers.insert(key, (time + Time::from(delay)).max(time + 1));
                }
                Act::ClearTimer => {
                    timers.remove(&key);
                }
                Act::Leave => {
                    logs.remove(&key);
                    timers.remove(&key);
                }
                Act::Tell => seen.told.entry(time).or_default().entry(key).or_default().push(log.digest),
            }
        }
        let now: BTreeMap<u8, (u64, u32)> = logs
            .iter()
            .filter(|(_, log)| log.notes > 0)
            .map(|(key, log)| (*key, (log.digest, log.notes)))
            .collect();
        if now != shown {
            shown = now.clone();
            seen.views.insert(time, now);
        }
    }
    seen
}

/// A view that came or went.
type Update = ((u8, (u64, u32)), isize);

/// The engine, on so many workers; `cut` cuts each partition's events of a time into blocks.
fn engine(happenings: &[Happening], workers: usize, cut: usize) -> Seen {
    let changes: Arc<Mutex<BTreeMap<Time, Vec<Update>>>> = Arc::default();
    let told: Arc<Mutex<BTreeMap<Time, BTreeMap<u8, Vec<u64>>>>> = Arc::default();
    let (changes_in, told_in) = (changes.clone(), told.clone());
    let happenings = happenings.to_vec();
    let program = move |flow: &mut Flow<'_>| {
        let happenings = happenings.clone();
        let events = flow.feed("acts", move |worker, peers, _| {
            let mut readings: BTreeMap<Time, Vec<Block<(u8, Act)>>> = BTreeMap::new();
            let of_worker = happenings.iter().enumerate().filter(|(_, h)| h.1 as usize % peers == worker);
            for (offset, &(time, partition, key, act)) in of_worker {
                let blocks = readings.entry(time).or_default();
                match blocks.iter_mut().rfind(|block| block.order.partition == partition) {
                    Some(block) if block.events.len() < cut => block.events.push((key, act)),
                    _ => {
                        let position = Position { entry: offset as u64, ..Position::default() };
                        blocks.push(Block {
                            order: Order { source: 0, partition, position },
                            events: vec![(key, act)],
                        });
                    }
                }
            }
            // Arrival within a time must not matter.
            for blocks in readings.values_mut() {
                blocks.reverse();
            }
            Script::new(readings)
        });
        let logs = events.agents::<Log>("logs", |&(key, _)| key);
        let changes = changes_in.clone();
        flow.each_time(&logs.views(), move |time, updates| {
            changes.lock().unwrap().entry(time).or_default().extend(updates);
        });
        // The emitted events reach another root in the order in which they were emitted.
        let heard = logs.emitted().agents::<Hearer>("hearers", |&(key, _)| key);
        let told = told_in.clone();
        flow.each_time(&heard.views(), move |time, updates| {
            for ((key, heard), diff) in updates {
                if diff > 0 {
                    told.lock().unwrap().entry(time).or_default().insert(key, heard);
                }
            }
        });
    };
    let mut config = JobConfig::new("test");
    config.workers = workers;
    config.until_end = true;
    run(config, Arc::new(Nowhere), program).unwrap();

    let mut seen = Seen::default();
    let mut shown: BTreeMap<u8, (u64, u32)> = BTreeMap::new();
    for (time, mut updates) in std::mem::take(&mut *changes.lock().unwrap()) {
        updates.sort_by_key(|&(_, diff)| diff);
        for ((key, view), diff) in updates {
            match diff {
                -1 => assert_eq!(shown.remove(&key), Some(view), "what is retracted was there, at {time}"),
                1 => assert_eq!(shown.insert(key, view), None, "one view an agent, at {time}"),
                _ => panic!("a view came {diff} times at {time}"),
            }
        }
        seen.views.insert(time, shown.clone());
    }
    seen.told = std::mem::take(&mut *told.lock().unwrap());
    seen
}

/// Keeps what it heard at the last time at which it heard something.
#[derive(Serialize, Deserialize)]
struct Hearer {
    time: Time,
    heard: Vec<u64>,
}

impl Agent for Hearer {
    type Key = u8;
    type Event = (u8, u64);
    type View = Vec<u64>;
    type Emit = ();
    fn create(_key: &u8) -> Self {
        Hearer { time: 0, heard: Vec::new() }
    }
    fn on_event(&mut self, &(_, digest): &(u8, u64), context: &mut Context<'_, Self>) {
        if context.time() != self.time {
            self.heard.clear();
            self.time = context.time();
            // So that hearing the same twice is a change.
            self.heard.push(self.time);
        }
        self.heard.push(digest);
    }
    fn view(&self) -> Option<Vec<u64>> {
        Some(self.heard.clone())
    }
}

fn expected(happenings: &[Happening]) -> Seen {
    let mut seen = model(happenings);
    for (time, of_time) in &mut seen.told {
        for heard in of_time.values_mut() {
            heard.insert(0, *time);
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Views, timers, leaving and emitted events agree with the model at every closed time, whatever
    /// the number of workers, the batching and the arrival.
    #[test]
    fn agents_agree_with_the_model_at_every_time(happenings in happenings(), cut in 1..5_usize) {
        let expected = expected(&happenings);
        for workers in 1..=3 {
            prop_assert_eq!(&engine(&happenings, workers, cut), &expected, "on {} workers", workers);
        }
    }
}

/// A large epoch takes another way through the root than a small one.
#[test]
fn a_large_epoch_keeps_the_order_of_each_agent() {
    let happenings: Vec<Happening> = (0..60_000_u32)
        .map(|n| {
            (
                u64::from(n / 30_000) + 1,
                n % 4,
                (n.wrapping_mul(2_654_435_761) >> 13) as u8,
                Act::Note(n as u8),
            )
        })
        .collect();
    let expected = expected(&happenings);
    for workers in 1..=3 {
        assert_eq!(engine(&happenings, workers, 7_777), expected, "on {workers} workers");
    }
}

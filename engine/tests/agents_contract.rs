//! The contract of agents, against a naive model at every closed time.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use nekton_engine::connect::{Polled, Position, Sink, SinkSettings, Source, Topics};
use nekton_engine::{
    Agent, Block, Context, Error, Feed, Flow, JobConfig, Order, Reading, Reads, Result, Script, Time, run,
};
use proptest::prelude::*;

#[path = "common/gossip.rs"]
mod gossip;

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

/// The contents of cells and groups, and what cells told, at every time at which anything changed.
type Gossip = BTreeMap<Time, (Cells, Groups, Vec<(u64, i64)>)>;
type Cells = BTreeMap<u64, (i64, i64, i64)>;
type Groups = BTreeMap<u64, (i64, i64, i64, Time)>;

/// What happens at a time, in a partition.
type Timed = Vec<(Time, u32, gossip::Happening)>;

fn gossip() -> impl Strategy<Value = Timed> {
    let happening = (0..12_u64, 0..3_u64, 0..20_i64);
    prop::collection::vec((1..60_u64, 0..4_u32, happening), 0..80).prop_map(|mut all| {
        all.sort_by_key(|(time, partition, _)| (*time, *partition));
        all
    })
}

/// The naive model, round by round.
fn gossip_model(happenings: &Timed) -> Gossip {
    let mut model = gossip::Model::default();
    let mut times: std::collections::BTreeSet<Time> = happenings.iter().map(|(time, ..)| *time).collect();
    let mut seen = Gossip::new();
    while let Some(time) = times.first().copied().into_iter().chain(model.due()).min() {
        times.remove(&time);
        model.step(time, happenings.iter().filter(|(at, ..)| *at == time).map(|(.., happening)| *happening));
        model.told.sort_unstable();
        seen.insert(time, (model.cells(), model.groups(), model.told.clone()));
    }
    seen
}

/// The engine, asked for the same times; `cut` cuts each partition's events of a time into blocks.
fn gossip_engine(happenings: &Timed, workers: usize, cut: usize, times: &[Time]) -> Gossip {
    type Seen<T> = Arc<Mutex<BTreeMap<Time, Vec<(T, isize)>>>>;
    let (cells, groups): (Seen<(u64, _)>, Seen<(u64, _)>) = Default::default();
    let told: Arc<Mutex<BTreeMap<Time, Vec<(u64, i64)>>>> = Arc::default();
    let (of_cells, of_groups, of_told) = (cells.clone(), groups.clone(), told.clone());
    let happenings = happenings.clone();
    let program = move |flow: &mut Flow<'_>| {
        let happenings = happenings.clone();
        let events = flow.feed("happenings", move |worker, peers, _| {
            let mut readings: BTreeMap<Time, Vec<Block<gossip::Happening>>> = BTreeMap::new();
            let of_worker = happenings.iter().enumerate().filter(|(_, h)| h.1 as usize % peers == worker);
            for (offset, &(time, partition, happening)) in of_worker {
                let blocks = readings.entry(time).or_default();
                match blocks.iter_mut().rfind(|block| block.order.partition == partition) {
                    Some(block) if block.events.len() < cut => block.events.push(happening),
                    _ => {
                        let position = Position { entry: offset as u64, ..Position::default() };
                        let order = Order { source: 0, partition, position };
                        blocks.push(Block { order, events: vec![happening] });
                    }
                }
            }
            readings.values_mut().for_each(|blocks| blocks.reverse());
            Script::new(readings)
        });
        let (cells, groups) = gossip::build(&events);
        let (of_cells, of_groups, of_told) = (of_cells.clone(), of_groups.clone(), of_told.clone());
        flow.each_time(&cells.views(), move |time, updates| {
            of_cells.lock().unwrap().entry(time).or_default().extend(updates);
        });
        flow.each_time(&groups.views(), move |time, updates| {
            of_groups.lock().unwrap().entry(time).or_default().extend(updates);
        });
        let heard = cells.emitted().agents::<Listener>("listeners", |&(key, _)| key);
        flow.each_time(&heard.views(), move |time, updates| {
            let new = updates.into_iter().filter(|(_, diff)| *diff > 0);
            let new =
                new.flat_map(|((key, (_, heard)), _)| heard.into_iter().map(move |digest| (key, digest)));
            of_told.lock().unwrap().entry(time).or_default().extend(new);
        });
    };
    let config = JobConfig { workers, until_end: true, ..JobConfig::new("test") };
    run(config, Arc::new(Nowhere), program).unwrap();

    fn follow<V: Clone + PartialEq + std::fmt::Debug>(
        now: &mut BTreeMap<u64, V>,
        mut of: Vec<((u64, V), isize)>,
    ) {
        of.sort_by_key(|(_, diff)| *diff);
        for ((key, view), diff) in of {
            match diff {
                -1 => assert_eq!(now.remove(&key), Some(view), "what is retracted was there"),
                1 => assert_eq!(now.insert(key, view), None, "one view an agent"),
                _ => panic!("a view came {diff} times"),
            }
        }
    }
    let (mut cells, mut groups, mut told) =
        (cells.lock().unwrap(), groups.lock().unwrap(), told.lock().unwrap());
    let all: std::collections::BTreeSet<Time> =
        times.iter().chain(cells.keys()).chain(groups.keys()).chain(told.keys()).copied().collect();
    let (mut cells_now, mut groups_now) = (Cells::new(), Groups::new());
    let mut seen = Gossip::new();
    for time in all {
        follow(&mut cells_now, cells.remove(&time).unwrap_or_default());
        follow(&mut groups_now, groups.remove(&time).unwrap_or_default());
        let mut told = told.remove(&time).unwrap_or_default();
        told.sort_unstable();
        seen.insert(time, (cells_now.clone(), groups_now.clone(), told));
    }
    seen
}

/// Keeps what it heard at the last time at which it heard something.
#[derive(Serialize, Deserialize)]
struct Listener {
    time: Time,
    heard: Vec<i64>,
}

impl Agent for Listener {
    type Key = u64;
    type Event = (u64, i64);
    type View = (Time, Vec<i64>);
    type Emit = ();
    fn create(_key: &u64) -> Self {
        Listener { time: 0, heard: Vec::new() }
    }
    fn on_event(&mut self, &(_, digest): &(u64, i64), context: &mut Context<'_, Self>) {
        if context.time() != self.time {
            self.heard.clear();
            self.time = context.time();
        }
        self.heard.push(digest);
    }
    fn view(&self) -> Option<(Time, Vec<i64>)> {
        Some((self.time, self.heard.clone()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Agents that read one another along links that change, and agents that read those, agree with the model at
    /// every time.
    #[test]
    fn agents_read_what_the_model_says_at_every_time(happenings in gossip(), cut in 1..5_usize) {
        let expected = gossip_model(&happenings);
        let times: Vec<Time> = expected.keys().copied().collect();
        for workers in 1..=3 {
            let seen = gossip_engine(&happenings, workers, cut, &times);
            prop_assert_eq!(&seen, &expected, "on {} workers", workers);
        }
    }
}

/// Changes each time it reads, so that a ring of them never settles.
#[derive(Default, Serialize, Deserialize)]
struct Restless {
    rounds: u64,
}

impl Agent for Restless {
    type Key = u64;
    type Event = u64;
    type View = u64;
    type Emit = ();
    fn create(_key: &u64) -> Self {
        Restless::default()
    }
    fn on_event(&mut self, _event: &u64, _context: &mut Context<'_, Self>) {}
    fn view(&self) -> Option<u64> {
        Some(self.rounds)
    }
}

impl Reads for Restless {
    type Linked = u64;
    fn on_linked(&mut self, _linked: &[u64], _context: &mut Context<'_, Self>) {
        self.rounds += 1;
    }
}

/// Creates the ring, on the first worker, and ends then or never.
struct Once {
    ends: bool,
    given: bool,
}

impl Feed<u64> for Once {
    fn poll(&mut self, _budget: usize, into: &mut Reading<u64>) -> Result<Polled> {
        if !std::mem::replace(&mut self.given, true) {
            let order = Order { source: 0, partition: 0, position: Position::default() };
            into.blocks.push(Block { order, events: (0..RING).collect() });
        }
        Ok(if self.ends { Polled::End } else { Polled::Idle })
    }
}

const RING: u64 = 16;

/// Runs a ring; it is stopped after so many rounds if its input does not end. How many rounds each has made, by how many.
fn ring(workers: usize, ends: bool, stop_after: u64) -> BTreeMap<u64, usize> {
    let config = JobConfig { workers, until_end: true, ..JobConfig::new("ring") };
    let (stop, last) = (config.stop.clone(), Arc::new(Mutex::new(BTreeMap::new())));
    let seen = last.clone();
    let program = move |flow: &mut Flow<'_>| {
        let begin = flow.feed("begin", |worker, _, _| Once { ends, given: worker > 0 });
        let ring = begin.agents_in_loop::<Restless>(
            "ring",
            |key| *key,
            |ring| ring.map(|(key, rounds)| ((key + 1) % RING, rounds)),
        );
        let (stop, seen) = (stop.clone(), seen.clone());
        flow.each_time(&ring.views(), move |_, changes| {
            for ((key, rounds), _) in changes.into_iter().filter(|(_, diff)| *diff > 0) {
                seen.lock().unwrap().insert(key, rounds);
                if !ends && rounds >= stop_after {
                    stop.request();
                }
            }
        });
    };
    run(config, Arc::new(Nowhere), program).unwrap();
    let mut rounds = BTreeMap::new();
    last.lock().unwrap().values().for_each(|made| *rounds.entry(*made).or_default() += 1);
    rounds
}

#[test]
fn a_loop_that_never_settles_ends_at_one_time_on_all_workers() {
    for workers in 1..=3 {
        let stopped = ring(workers, false, 20);
        assert_eq!(
            stopped.values().collect::<Vec<_>>(),
            [&(RING as usize)],
            "{stopped:?} on {workers} workers"
        );
        let ended = ring(workers, true, 0);
        // All sources have ended at about the time of the only event.
        let rounds: Vec<_> = ended.keys().map(|rounds| rounds / 100).collect();
        assert_eq!(rounds, [10], "{ended:?} on {workers} workers");
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

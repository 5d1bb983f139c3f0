//! Windows, sessions and joins survive crashes: in a simulated world that ends runs at any moment and goes on with another
//! number of workers, each event counts once, and what is final is final once.

#[path = "../../engine/tests/world/mod.rs"]
#[allow(dead_code)]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nekton_engine::{Kind, Result, Simulator, Summary, changes, run};
use nekton_operators::{Bounds, Count, Deduplicate, EventTime, Sessions, Sum, Watermark, Window, Windows};
use serde_json::{Value, json};
use world::{MARK, World};

/// Key, number, event time.
type Reading = (u64, u64, u64);
const SIZE: u64 = 20;
const GAP: u64 = 4;

fn job(world: &World, workers: usize) -> Result<Summary> {
    run(world.config(workers, "simulated"), Arc::new(world.clone()), |flow| {
        let readings = flow.events::<Reading>("readings");
        let once = readings.deduplicate("once", 1_000_000, |(_, number, _)| number / 2 * 2);
        // No event is too late: what there is to be said at the end does not depend on when each came.
        let timed = readings.event_time(|(.., at)| *at, Watermark::behind(10).step(5).idle_after(20));
        let windows = Windows::tumbling(SIZE).late(1_000_000);
        let counts = timed.windows("windows", windows, |(key, number, _)| (*key, *number), (Count, Sum));
        let sessions =
            timed.sessions("sessions", Sessions::gap(GAP).late(1_000_000), |(key, ..)| (*key, ()), Count);
        // Here some are, and that depends on when they came.
        let strict = timed.windows("strict", Windows::tumbling(SIZE), |(key, ..)| (*key, ()), Count);
        let joined = timed.interval_join(
            "joined",
            &timed,
            Bounds::after(0, 2).late(1_000_000),
            |(key, ..)| *key,
            |(key, ..)| *key,
        );
        flow.sink("once", &once);
        flow.sink("windows", changes(&counts.results));
        flow.sink("sessions", changes(&sessions.results));
        flow.sink("strict", changes(&strict.results));
        flow.sink("strict-closed", &strict.closed);
        flow.sink("strict-late", &strict.late);
        flow.sink("joined", &joined.pairs.map(|(left, right)| (left.1, right.1)));
    })
}

/// All messages of a topic.
fn read(world: &World, topic: &str) -> Vec<Value> {
    let kept = world.kept();
    let messages = kept.outputs[topic].iter().flat_map(|partition| &partition.messages);
    messages
        .filter(|(_, message)| message != MARK)
        .map(|(_, message)| serde_json::from_slice(message).unwrap())
        .collect()
}

/// What a topic of changes comes to; panics if a chain of them is broken.
fn now(world: &World, topic: &str) -> BTreeMap<String, Value> {
    let mut now: BTreeMap<String, Value> = BTreeMap::new();
    for change in read(world, topic) {
        let key = change["key"].to_string();
        let before = now.remove(&key).unwrap_or(Value::Null);
        assert_eq!(before, change["before"], "{topic}: the chain is broken by {change}");
        if !change["after"].is_null() {
            now.insert(key, change["after"].clone());
        }
    }
    now
}

fn shown<K: serde::Serialize, V: serde::Serialize>(
    of: impl IntoIterator<Item = (K, V)>,
) -> BTreeMap<String, Value> {
    of.into_iter().map(|(key, value)| (json!(key).to_string(), json!(value))).collect()
}

fn check(world: &World, seed: u64) {
    let readings: Vec<Reading> =
        world.kept().inputs.iter().flatten().map(|record| serde_json::from_slice(record).unwrap()).collect();
    let window = |at: u64| Window { start: at / SIZE * SIZE, end: at / SIZE * SIZE + SIZE };

    let mut windows: BTreeMap<(u64, Window), (u64, u64)> = BTreeMap::new();
    for (key, number, at) in &readings {
        let total = windows.entry((*key, window(*at))).or_default();
        *total = (total.0 + 1, total.1 + number);
    }
    assert_eq!(now(world, "windows"), shown(windows), "seed {seed}");

    let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    readings.iter().for_each(|(key, _, at)| by_key.entry(*key).or_default().push(*at));
    let mut sessions = Vec::new();
    for (key, mut times) in by_key {
        times.sort();
        for session in times.chunk_by(|a, b| b - a < GAP) {
            sessions.push((
                (key, Window { start: session[0], end: session[session.len() - 1] + GAP }),
                session.len(),
            ));
        }
    }
    assert_eq!(now(world, "sessions"), shown(sessions), "seed {seed}");

    // Every event is in a window or late, once; what has closed is what is shown in the end.
    let strict = now(world, "strict");
    let late: Vec<Reading> =
        read(world, "strict-late").into_iter().map(|late| serde_json::from_value(late).unwrap()).collect();
    let mut expected: BTreeMap<(u64, Window), u64> = BTreeMap::new();
    for (key, _, at) in readings.iter().filter(|reading| !late.contains(reading)) {
        *expected.entry((*key, window(*at))).or_default() += 1;
    }
    assert_eq!(strict, shown(expected), "seed {seed}");
    assert_eq!(late.iter().collect::<BTreeSet<_>>().len(), late.len(), "seed {seed}: late once");
    let mut closed = BTreeSet::new();
    for result in read(world, "strict-closed") {
        assert!(closed.insert(result[0].to_string()), "seed {seed}: {result} closes twice");
        assert_eq!(strict[&result[0].to_string()], result[1], "seed {seed}: {result} was not final");
    }
    // All inputs are idle in the end.
    assert_eq!(
        closed.len(),
        strict.len() - open(&readings, &strict),
        "seed {seed}: all that is over has closed"
    );

    let mut joined: Vec<(u64, u64)> =
        read(world, "joined").into_iter().map(|pair| serde_json::from_value(pair).unwrap()).collect();
    let fits = |a: &Reading, b: &Reading| a.0 == b.0 && (a.2..=a.2 + 2).contains(&b.2);
    let mut pairs: Vec<(u64, u64)> = readings
        .iter()
        .flat_map(|a| readings.iter().filter(move |b| fits(a, b)).map(move |b| (a.1, b.1)))
        .collect();
    joined.sort_unstable();
    pairs.sort_unstable();
    assert_eq!(joined, pairs, "seed {seed}");

    let once: Vec<Value> = read(world, "once");
    let keys: BTreeSet<u64> = once.iter().map(|reading| reading[1].as_u64().unwrap() / 2).collect();
    let all: BTreeSet<u64> = readings.iter().map(|(_, number, _)| number / 2).collect();
    assert_eq!((once.len(), keys), (all.len(), all), "seed {seed}: each pair of numbers once");
}

/// How many windows end after everything that has come.
fn open(readings: &[Reading], strict: &BTreeMap<String, Value>) -> usize {
    let latest = readings.iter().map(|(.., at)| *at).max().unwrap_or(0);
    let end = |key: &String| serde_json::from_str::<Value>(key).unwrap()[1]["end"].as_u64().unwrap();
    strict.keys().filter(|key| end(key) > (latest / 5 + 1) * 5).count()
}

#[test]
fn whatever_crashes_each_event_counts_once() {
    let mut were_late = 0;
    for seed in 0..10 {
        let random = Simulator::new(seed ^ 0x5A5A);
        let mut world = World::new(seed, None).with_inputs(2);
        let mut number = 0;
        for crash in 0..6 {
            {
                let mut kept = world.kept();
                for input in &mut kept.inputs {
                    for _ in 0..random.below(30) {
                        // Ever later, in no order.
                        let at = 100 + number / 2 - random.below(60).min(number / 2);
                        let reading: Reading = (random.below(3), number, at);
                        input.push(serde_json::to_vec(&reading).unwrap().into());
                        number += 1;
                    }
                }
            }
            let this = world.next_run(seed * 100 + crash, 0);
            this.crash_at(1 + random.below(3_000));
            if let Err(error) = job(&this, 1 + random.below(3) as usize) {
                assert!(matches!(error.kind(), Kind::Io | Kind::Unavailable), "seed {seed}: {error}");
            }
        }
        for last in 6.. {
            let this = world.next_run(seed * 100 + last, 0);
            match job(&this, 1 + random.below(3) as usize) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "seed {seed}: {error}"),
            }
        }
        check(&world, seed);
        were_late += read(&world, "strict-late").len();
    }
    assert!(were_late > 0, "some were late");
}

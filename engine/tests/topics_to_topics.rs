//! From topics through agents and tables to topics, in every envelope; bad input; back-pressure; a clean end.
#![expect(clippy::disallowed_methods, reason = "real threads and clocks are tested here")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Memory, eventually};
use nekton_engine::connect::Position;
use nekton_engine::{
    Agent, Block, Context, Flow, JobConfig, Kind, OnBadInput, Order, Script, Stop, Summary, changes, diffs,
    keyed, run, upsert,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    value: i64,
}

/// The last value of a sensor; one below zero lets it leave.
#[derive(Default, Serialize, Deserialize)]
struct Sensor(i64);

impl Agent for Sensor {
    type Key = String;
    type Event = Reading;
    type View = i64;
    type Emit = ();
    fn create(_key: &String) -> Self {
        Sensor::default()
    }
    fn on_event(&mut self, reading: &Reading, context: &mut Context<'_, Self>) {
        self.0 = reading.value;
        if reading.value < 0 {
            context.leave();
        }
    }
    fn view(&self) -> Option<i64> {
        Some(self.0)
    }
}

fn job(workers: usize) -> JobConfig {
    let mut config = JobConfig::new("test");
    config.workers = workers;
    config.until_end = true;
    config
}

fn start(
    config: JobConfig,
    memory: &Memory,
    program: impl for<'s> Fn(&mut Flow<'s>) + Send + Sync + 'static,
) -> nekton_engine::Result<Summary> {
    run(config, Arc::new(memory.clone()), program)
}

const READINGS: &[&[&str]] = &[
    &[r#"{"sensor":"a","value":1}"#, r#"{"sensor":"b","value":2}"#, r#"{"sensor":"a","value":3}"#],
    &[r#"{"sensor":"c","value":4}"#, r#"{"sensor":"d","value":5}"#, r#"{"sensor":"c","value":-1}"#],
];

#[test]
fn every_envelope_says_what_changed() {
    for workers in 1..=3 {
        let memory = Memory::default();
        memory.input("readings", READINGS);
        let summary = start(job(workers), &memory, |flow| {
            let readings = flow.events::<Reading>("readings");
            let sensors = readings.agents::<Sensor>("sensors", |reading| reading.sensor.clone());
            flow.sink("plain", &sensors);
            flow.sink("changes", changes(&sensors.views()));
            flow.sink("upsert", upsert(&sensors.views()));
            flow.sink("diffs", diffs(&sensors.map(|(_, value)| value)));
            flow.sink("doubled", &readings.map(|reading| reading.value * 2).filter(|value| *value > 4));
            flow.sink("keyed", keyed(&readings, |reading| reading.sensor.clone()));
        })
        .unwrap();
        assert_eq!((summary.events, summary.dead_letters), (6, 0), "on {workers} workers");

        // Both partitions may be read in one epoch or in several: fold what was written.
        let mut folded = std::collections::BTreeMap::new();
        for (_, key, value) in memory.lines("upsert") {
            match value {
                Some(value) => folded.insert(key.unwrap(), value),
                None => folded.remove(&key.unwrap()),
            };
        }
        let expected = [("\"a\"", "3"), ("\"b\"", "2"), ("\"d\"", "5")];
        assert_eq!(folded, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());

        for topic in ["changes", "plain"] {
            let mut shown = std::collections::BTreeMap::new();
            for (time, _, line) in memory.lines(topic) {
                let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
                assert_eq!(line["time"], time);
                let before = shown.insert(line["key"].to_string(), line["after"].clone());
                assert_eq!(before.unwrap_or(serde_json::Value::Null), line["before"], "chains are unbroken");
                assert_ne!(line["before"], line["after"], "only what changed leaves");
            }
            shown.retain(|_, value| !value.is_null());
            assert_eq!(shown.len(), 3);
        }

        let mut count = std::collections::BTreeMap::new();
        for (_, _, line) in memory.lines("diffs") {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            *count.entry(line["data"].as_i64().unwrap()).or_insert(0) += line["diff"].as_i64().unwrap();
        }
        count.retain(|_, count| *count != 0);
        assert_eq!(count, [(2, 1), (3, 1), (5, 1)].into());

        let mut doubled: Vec<_> =
            memory.lines("doubled").into_iter().map(|(_, _, value)| value.unwrap()).collect();
        doubled.sort();
        assert_eq!(doubled, ["10", "6", "8"]);
        let of_a: Vec<_> =
            memory.lines("keyed").into_iter().filter(|(_, key, _)| key.as_deref() == Some("\"a\"")).collect();
        assert_eq!(of_a.len(), 2);
        assert!(of_a[0].2.as_ref().unwrap().contains(":1"), "a key's events stay in order");
    }
}

/// Differential's operators work on several times at once when they come fast: their changes must leave at
/// their own times all the same, together with those of collections that went another way.
#[test]
fn what_is_derived_leaves_at_the_time_of_what_it_is_derived_from() {
    for workers in 1..=3 {
        let memory = Memory::default();
        start(job(workers), &memory, |flow| {
            let readings = flow.feed("script", |worker, _, _| {
                let count = if worker == 0 { 500 } else { 0 };
                Script::new((1..=count).map(|n: u64| {
                    let position = Position { entry: n, ..Position::default() };
                    let events = vec![Reading { sensor: format!("s{}", n % 7), value: n as i64 }];
                    (n * 10, vec![Block { order: Order { source: 0, partition: 0, position }, events }])
                }))
            });
            let sensors = readings.agents::<Sensor>("sensors", |reading| reading.sensor.clone());
            let sums = sensors.views().reduce(|_, values, sum| sum.push((*values[0].0, 1)));
            flow.sink("direct", upsert(&sensors.views()));
            flow.sink("derived", upsert(&sums));
        })
        .unwrap();
        let (direct, derived) = (memory.lines("direct"), memory.lines("derived"));
        assert_eq!((direct.len(), derived.len()), (500, 500), "on {workers} workers");
        let other = direct.iter().zip(&derived).find(|(direct, derived)| direct != derived);
        assert_eq!(other, None, "on {workers} workers");
    }
}

#[test]
fn a_table_keeps_the_newest_value_of_each_key() {
    let memory = Memory::default();
    memory.input(
        "depots",
        &[&[
            r#"{"key":"x","value":1,"time":1}"#,
            r#"{"key":"y","value":2,"time":1}"#,
            r#"{"key":"x","value":null,"time":2}"#,
            r#"{"key":"y","before":2,"after":3,"time":2}"#,
        ]],
    );
    start(job(2), &memory, |flow| {
        let depots = flow.table::<String, u64>("depots");
        flow.sink("out", upsert(&depots));
    })
    .unwrap();
    let last = memory.lines("out").pop().unwrap();
    assert_eq!((last.1.as_deref(), last.2.as_deref()), (Some("\"y\""), Some("3")));
}

#[test]
fn a_partition_is_ordered_whatever_the_number_of_workers() {
    let lines: Vec<String> =
        (0..5_000).map(|n| format!(r#"{{"sensor":"s{}","value":{n}}}"#, n % 7)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for workers in 1..=3 {
        let memory = Memory::default();
        memory.new_partitions(3);
        memory.input("readings", &[&lines, &lines]);
        start(job(workers), &memory, |flow| {
            let readings = flow.events::<Reading>("readings");
            flow.sink("copy", &readings);
        })
        .unwrap();
        let partitions = memory.output("copy");
        let counts: Vec<usize> =
            partitions.iter().map(|batches| batches.iter().map(|batch| batch.messages.len()).sum()).collect();
        assert_eq!(counts, [5_000, 5_000, 0], "on {workers} workers");
        for batches in &partitions[..2] {
            let values: Vec<&[u8]> = batches
                .iter()
                .flat_map(|batch| &batch.messages)
                .map(|m| &m.value.as_ref().unwrap()[..])
                .collect();
            assert!(values.iter().zip(&lines).all(|(value, line)| *value == line.as_bytes()));
        }
    }
}

#[test]
fn bad_input_goes_to_the_dead_letter_topic_with_its_place_and_reason() {
    let memory = Memory::default();
    memory.input("readings", &[&[r#"{"sensor":"a","value":1}"#, r#"{"sensor":"b"}"#, "not json"], &[]]);
    memory.push_defect("readings", 1, &[0xff, 0xfe], "too long");
    let summary = start(job(2), &memory, |flow| {
        let readings = flow.events::<Reading>("readings");
        flow.sink("out", &readings);
    })
    .unwrap();
    assert_eq!((summary.events, summary.dead_letters), (1, 3));
    let mut letters: Vec<nekton_engine::DeadLetter> = memory
        .lines("readings.dead-letter")
        .into_iter()
        .map(|(_, _, value)| serde_json::from_str(&value.unwrap()).unwrap())
        .collect();
    letters.sort_by_key(|letter| (letter.partition, letter.position.clone()));
    assert_eq!(letters.len(), 3);
    assert_eq!((letters[0].partition, letters[0].position.as_str()), (0, "0:1:0"));
    assert!(letters[0].reason.contains("value"), "{}", letters[0].reason);
    assert_eq!(letters[1].text.as_deref(), Some("not json"));
    assert_eq!((letters[2].reason.as_str(), letters[2].hex.as_deref()), ("too long", Some("fffe")));
}

#[test]
fn bad_input_stops_the_job_when_it_shall() {
    let memory = Memory::default();
    memory.input("readings", &[&["not json"]]);
    let mut config = job(2);
    config.on_bad_input = OnBadInput::Fail;
    let error = start(config, &memory, |flow| {
        flow.events::<Reading>("readings");
    })
    .unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput);
    assert!(
        error.to_string().contains("memory:readings partition 0") && error.to_string().contains("0:0:0"),
        "{error}"
    );
}

#[test]
fn a_missing_topic_ends_the_job_with_its_sentence() {
    let error = start(job(3), &Memory::default(), |flow| {
        flow.events::<Reading>("readings");
    })
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Missing);
}

#[test]
fn a_key_with_two_values_is_refused() {
    let memory = Memory::default();
    memory.input("readings", &[&[r#"{"sensor":"a","value":1}"#, r#"{"sensor":"b","value":2}"#]]);
    let error = start(job(1), &memory, |flow| {
        let sensors =
            flow.events::<Reading>("readings").agents::<Sensor>("sensors", |reading| reading.sensor.clone());
        flow.sink("out", upsert(&sensors.map(|(_, value)| ("all".to_owned(), value))));
    })
    .unwrap_err();
    assert!(error.to_string().contains("more than one value"), "{error}");
}

#[test]
fn a_panic_in_the_program_is_an_error() {
    let memory = Memory::default();
    memory.input("readings", READINGS);
    let error = start(job(2), &memory, |flow| {
        let readings = flow.events::<Reading>("readings");
        flow.sink("out", &readings.map(|reading| assert!(reading.value != 3, "three")));
    })
    .unwrap_err();
    assert!(error.to_string().contains("three"), "{error}");
}

/// A stopped sink stops the source after the epochs that may be in flight; nothing is lost.
#[test]
fn a_slow_sink_slows_the_source() {
    let lines: Vec<String> =
        (0..400_000).map(|n| format!(r#"{{"sensor":"s{}","value":{n}}}"#, n % 100)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let memory = Memory::default();
    memory.input("readings", &[&lines]);
    memory.hold_sinks();
    let thread = std::thread::spawn({
        let memory = memory.clone();
        move || {
            start(job(2), &memory, |flow| {
                let readings = flow.events::<Reading>("readings");
                flow.sink("copy", &readings);
            })
        }
    });
    eventually("a batch", || !memory.output("copy").iter().flatten().collect::<Vec<_>>().is_empty());
    // The source stands still: it has read no more after a while than before.
    let mut before = memory.read("readings", 0);
    let mut still = 0;
    eventually("a standstill", || {
        std::thread::sleep(Duration::from_millis(10));
        let now = memory.read("readings", 0);
        still = if now == before { still + 1 } else { 0 };
        before = now;
        still > 20
    });
    assert!(before < lines.len(), "the source read all {before} records while the sink stood still");
    assert!(memory.output("copy")[0].len() <= nekton_engine::MAX_IN_FLIGHT);
    assert_eq!(memory.released("readings", 0), None, "nothing is done with before it is written");
    memory.let_go();
    assert_eq!(thread.join().unwrap().unwrap().events, lines.len() as u64);
    let written: usize = memory.output("copy")[0].iter().map(|batch| batch.messages.len()).sum();
    assert_eq!(written, lines.len());
    let last = Position { entry: lines.len() as u64 - 1, ..Position::default() };
    assert_eq!(memory.released("readings", 0), Some(last));
}

#[test]
fn a_stop_works_through_what_was_read_and_ends() {
    let memory = Memory::default();
    memory.input("readings", READINGS);
    memory.keep_open("readings");
    let stop = Stop::default();
    let mut config = job(3);
    config.until_end = false;
    config.stop = stop.clone();
    let thread = std::thread::spawn({
        let memory = memory.clone();
        move || {
            start(config, &memory, |flow| {
                let sensors =
                    flow.events::<Reading>("readings").agents::<Sensor>("sensors", |r| r.sensor.clone());
                flow.sink("out", upsert(&sensors.views()));
            })
        }
    });
    eventually("three sensors", || memory.lines("out").len() >= 3);
    memory.push("readings", 1, r#"{"sensor":"late","value":9}"#);
    eventually("the late one", || {
        memory.lines("out").iter().any(|(_, key, _)| key.as_deref() == Some("\"late\""))
    });
    stop.request();
    let summary = thread.join().unwrap().unwrap();
    assert_eq!(summary.events, 7);
}

/// A partition that is silent does not hold back one that is busy.
#[test]
fn an_idle_worker_does_not_hold_back_a_busy_one() {
    let memory = Memory::default();
    memory.input("readings", &[&[], &[], &[]]);
    memory.keep_open("readings");
    let stop = Stop::default();
    let mut config = job(3);
    config.until_end = false;
    config.stop = stop.clone();
    let thread = std::thread::spawn({
        let memory = memory.clone();
        move || {
            start(config, &memory, |flow| {
                let readings = flow.events::<Reading>("readings");
                let sensors = readings.agents::<Sensor>("sensors", |r| r.sensor.clone());
                flow.sink("out", changes(&sensors.views()));
            })
        }
    });
    for n in 1..=20 {
        memory.push("readings", n % 3, &format!(r#"{{"sensor":"s","value":{n}}}"#));
        eventually("its change", || memory.lines("out").len() == n);
    }
    stop.request();
    thread.join().unwrap().unwrap();
    let times: Vec<_> = memory.lines("out").into_iter().map(|(time, ..)| time).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

#[test]
fn a_view_is_read_at_one_time() {
    let memory = Memory::default();
    memory.input("readings", READINGS);
    let seen = Arc::new(std::sync::Mutex::new(None));
    let handle = seen.clone();
    start(job(2), &memory, move |flow| {
        let sensors = flow.events::<Reading>("readings").agents::<Sensor>("sensors", |r| r.sensor.clone());
        *handle.lock().unwrap() = Some(flow.view("sensors", &sensors));
    })
    .unwrap();
    let view = seen.lock().unwrap().take().unwrap();
    let snapshot = view.snapshot().unwrap();
    assert_eq!(snapshot.before, u64::MAX);
    let expected = [("a", 3), ("b", 2), ("d", 5)].map(|(key, value)| ((key.to_owned(), value), 1));
    assert_eq!(snapshot.records, expected);
}

#[test]
fn a_view_that_outgrows_its_bound_says_so() {
    let memory = Memory::default();
    memory.input("readings", READINGS);
    let seen = Arc::new(std::sync::Mutex::new(None));
    let handle = seen.clone();
    let mut config = job(1);
    config.view_limit = 2;
    start(config, &memory, move |flow| {
        let sensors = flow.events::<Reading>("readings").agents::<Sensor>("sensors", |r| r.sensor.clone());
        *handle.lock().unwrap() = Some(flow.view("sensors", &sensors));
    })
    .unwrap();
    let error = seen.lock().unwrap().take().unwrap().snapshot().unwrap_err();
    assert!(error.to_string().contains("more than 2 records"), "{error}");
}

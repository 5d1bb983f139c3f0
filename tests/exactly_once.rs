//! A job with checkpoints is killed again and again, and goes on each time where it was: every output holds each
//! change once, in order, and agrees with the others at every time.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use common::broker::{broker, fresh};
use common::sums::{Random, Reading, Sensor, append, readings, start};
use common::topics::{Reading as Topic, Writer, message};
use nekton::connect::Start;
use nekton_connectors::pulsar::{Pulsar, PulsarSettings};
use serde_json::Value;

/// The job, in a process of its own: this test program calls itself. Its flags are in the environment.
#[test]
#[ignore = "called by the other tests, in processes of their own"]
fn program() {
    common::sums::program();
}

/// The messages of a topic in files, and progress marks.
fn marked_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn mark(line: &Value) -> Option<u64> {
    line.get("nekton.closed")?.as_u64()
}

/// The messages of a topic in files.
fn lines(path: &Path) -> Vec<Value> {
    marked_lines(path).into_iter().filter(|line| mark(line).is_none()).collect()
}

/// What all outputs must say in the end, and about one another at every time.
fn check(messages: impl Fn(&str) -> Vec<Value>, written: &[Vec<Reading>; 2]) {
    // Every event once, in the order of its partition.
    let key = |value: &Value| (value["sensor"].as_u64().unwrap(), value["value"].as_i64().unwrap());
    let echo: Vec<_> = messages("echo").iter().map(key).collect();
    for (partition, written) in written.iter().enumerate() {
        let read: Vec<_> = echo.iter().filter(|(sensor, _)| sensor % 2 == partition as u64).collect();
        let expected: Vec<_> = written.iter().map(|r| (r.sensor, r.value)).collect();
        let expected: Vec<_> = expected.iter().collect();
        let first = read.iter().zip(&expected).position(|(read, expected)| read != expected);
        assert_eq!((first, read.len()), (None, expected.len()), "partition {partition}: every event once");
    }

    // Both collections, time by time.
    let mut updates: BTreeMap<u64, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    let mut last = 0;
    for line in messages("sums") {
        let time = line["time"].as_u64().unwrap();
        assert!(time >= last, "times never go back: {line}");
        last = time;
        updates.entry(time).or_default().0.push(line);
    }
    last = 0;
    for line in messages("by-depot") {
        let time = line["time"].as_u64().unwrap();
        assert!(time >= last, "times never go back: {line}");
        last = time;
        updates.entry(time).or_default().1.push(line);
    }
    let mut sums: BTreeMap<String, (u64, i64, i64)> = BTreeMap::new();
    let mut by_depot: BTreeMap<String, i64> = BTreeMap::new();
    for (time, (sensors, depots)) in updates {
        for line in sensors {
            let view = |of: &Value| Some((of[0].as_u64()?, of[1].as_i64()?, of[2].as_i64()?));
            let (before, after) = (view(&line["before"]), view(&line["after"]));
            assert_ne!(before, after, "only what changed: {line}");
            assert_eq!(
                sums.insert(line["key"].to_string(), after.unwrap()),
                before,
                "chains are unbroken: {line}"
            );
        }
        for line in depots {
            let key = line["key"].to_string();
            assert_eq!(by_depot.remove(&key), line["before"].as_i64(), "chains are unbroken: {line}");
            if let Some(after) = line["after"].as_i64() {
                by_depot.insert(key, after);
            }
        }
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for (depot, _, sum) in sums.values() {
            *expected.entry(depot.to_string()).or_default() += sum;
        }
        expected.retain(|_, sum| *sum != 0);
        assert_eq!(by_depot, expected, "the outputs agree at time {time}");
    }
    let mut naive: BTreeMap<u64, Sensor> = BTreeMap::new();
    for reading in written.iter().flatten() {
        let sensor = naive.entry(reading.sensor).or_default();
        (sensor.depot, sensor.count, sensor.sum) =
            (reading.depot, sensor.count + 1, sensor.sum + reading.value);
    }
    for (sensor, of) in &naive {
        let (depot, count, sum) = sums[&sensor.to_string()];
        assert_eq!((depot, count), (of.depot, of.count), "sensor {sensor}");
        // Two rounds of three may share a timer.
        let fired = (sum - of.sum) / 1_000;
        assert!(
            (sum - of.sum) % 1_000 == 0 && fired <= of.count / 3 && (of.count < 3 || fired >= 1),
            "sensor {sensor}: {sum}"
        );
    }
}

#[test]
fn a_job_that_is_killed_goes_on_and_every_output_has_each_change_once() {
    killed_on_files("");
}

#[test]
fn with_progress_marks_too_a_killed_job_has_each_change_once_and_no_mark_lies() {
    let topics = killed_on_files("--progress-marks 15ms");
    let mut last = 0;
    let mut closed = u64::MAX;
    for topic in ["sums", "by-depot"] {
        let mut marked = 0;
        for line in marked_lines(&topics.path().join("topics").join(topic).join("0.jsonl")) {
            let time = mark(&line).or(line["time"].as_u64()).unwrap();
            assert!(time > marked, "{topic}: {marked} was closed before {line}");
            last = last.max(time);
            marked = mark(&line).unwrap_or(marked);
        }
        closed = closed.min(marked);
    }
    assert_eq!(closed, last, "in the end, all is closed");
}

/// Kills a job on files again and again, and checks what it has written.
fn killed_on_files(more: &str) -> tempfile::TempDir {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills = std::env::var("NEKTON_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ seed);
    let folder = tempfile::tempdir().unwrap();
    let (topics, checkpoints) = (folder.path().join("topics"), folder.path().join("checkpoints"));
    let input = topics.join("readings");
    std::fs::create_dir_all(&input).unwrap();
    let mut written = [Vec::new(), Vec::new()];
    for partition in 0..2 {
        append(&input, partition, &mut random, &mut written[partition as usize]);
    }
    let flags = |workers: u64| {
        format!(
            "--topics file:{} --checkpoints file:{} --checkpoint-every 60ms --workers {workers} {more}",
            topics.display(),
            checkpoints.display()
        )
    };
    for _ in 0..kills {
        let mut job = start(&flags(1 + random.below(3)));
        let until = Instant::now() + Duration::from_millis(100 + random.below(600));
        while Instant::now() < until {
            let partition = random.below(2);
            append(&input, partition, &mut random, &mut written[partition as usize]);
            std::thread::sleep(Duration::from_millis(random.below(8)));
        }
        assert!(job.try_wait().unwrap().is_none(), "it runs until it is killed");
        job.kill().unwrap();
        job.wait().unwrap();
    }
    let mut job = start(&format!("{} --until-end", flags(2)));
    assert!(job.wait().unwrap().success());
    check(|topic| lines(&topics.join(topic).join("0.jsonl")), &written);
    // And once more: there is nothing left to do.
    let size = |topic: &str| std::fs::metadata(topics.join(topic).join("0.jsonl")).unwrap().len();
    let before = ["echo", "sums", "by-depot"].map(size);
    assert!(start(&format!("{} --until-end", flags(1))).wait().unwrap().success());
    assert_eq!(["echo", "sums", "by-depot"].map(size), before);
    folder
}

#[test]
fn on_pulsar_too_a_job_that_is_killed_has_each_change_once() {
    let seed = std::env::var("NEKTON_SEED").map_or(1, |seed| seed.parse().unwrap());
    let kills = std::env::var("NEKTON_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut random = Random(0x2545_F491_4F6C_DD1D ^ seed);
    let folder = tempfile::tempdir().unwrap();
    let name = fresh("exactly");
    broker().admin("PUT", &format!("namespaces/public/{name}"), "");
    // Outputs that nobody reads are deleted otherwise.
    let kept = "{\"retentionTimeInMinutes\":-1,\"retentionSizeInMB\":-1}";
    broker().admin("POST", &format!("namespaces/public/{name}/retention"), kept);
    let topics = broker().base().replace("/default", &format!("/{name}"));
    let pulsar = Pulsar::new(PulsarSettings { until_end: true, ..broker().settings("publisher") }).unwrap();
    let input = format!("{topics}/readings");
    let mut writers: Vec<_> = (0..2).map(|p| Writer::open(&pulsar, &input, p, 2).unwrap()).collect();
    let mut written = [Vec::new(), Vec::new()];
    let mut publish = |random: &mut Random| {
        let partition = random.below(2);
        let readings = readings(partition, random);
        let lines = readings.iter().map(|reading| message(serde_json::to_string(reading).unwrap()));
        writers[partition as usize].write(lines.collect()).unwrap();
        written[partition as usize].extend(readings);
    };
    publish(&mut random);
    let flags = |workers: u64| {
        let folder = folder.path().display();
        format!(
            "--topics {topics} --checkpoints file:{folder} --checkpoint-every 100ms --workers {workers} \
             --progress-marks 50ms"
        )
    };
    for _ in 0..kills {
        let mut job = start(&flags(1 + random.below(3)));
        let until = Instant::now() + Duration::from_millis(500 + random.below(1_500));
        while Instant::now() < until {
            publish(&mut random);
            std::thread::sleep(Duration::from_millis(random.below(8)));
        }
        assert!(job.try_wait().unwrap().is_none(), "it runs until it is killed");
        job.kill().unwrap();
        job.wait().unwrap();
    }
    for writer in &mut writers {
        writer.wait(0).unwrap();
    }
    let mut job = start(&format!("{} --until-end", flags(2)));
    assert!(job.wait().unwrap().success());
    let messages = |topic: &str| {
        let url = format!("{topics}/{topic}");
        let records = Topic::open(&pulsar, &url, Start::Earliest).unwrap().read_to_the_end().unwrap();
        records.iter().map(|(_, record)| serde_json::from_slice(&record.payload).unwrap()).collect()
    };
    check(messages, &written);
}
